// The README's training loop, compiled. ReadmeTests compares it with the README and runs it.

import FastLoss

/// What the example's model puts out.
struct ExampleOutput {
    var genes: [Float]
    var embedding: [Float]
    var batchLogits: [Float]
}

/// One batch of cells.
struct ExampleBatch {
    let shape: MatrixShape
    let targets: [Float]
    let mask: [Bool]
    let labels: [Int32]
}

/// A stand-in for a model: its outputs are its parameters, so that a step down the gradient is all of its
/// backward pass.
struct ExampleModel {
    let width: Int
    let batchCount: Int
    var parameters: ExampleOutput

    func forward(_ batch: ExampleBatch) -> ExampleOutput { parameters }

    mutating func backward(_ genes: [Float], _ embedding: [Float], _ batchLogits: [Float]) {
        func descend(_ parameters: inout [Float], _ gradient: [Float]) {
            for index in parameters.indices { parameters[index] -= 0.05 * gradient[index] }
        }
        descend(&parameters.genes, genes)
        descend(&parameters.embedding, embedding)
        descend(&parameters.batchLogits, batchLogits)
    }
}

func trainExample(
    _ model: inout ExampleModel, on batches: [ExampleBatch], report: (ObjectiveValue) -> Void
) throws(LossError) {
    // readme:begin
    let objective = TotalObjective.integration(explicitZeroProbability: false, cellEmbeddingPrediction: false)
    let workspace = Workspace()
    for batch in batches {
        let output = model.forward(batch)
        let inputs = ObjectiveInputs(
            shape: batch.shape, targets: batch.targets.span, mask: batch.mask.span,
            genePredictions: output.genes.span, width: model.width, cellEmbedding: output.embedding.span,
            batches: Classification(
                logits: output.batchLogits.span, labels: batch.labels.span, classes: model.batchCount))
        var (genes, embedding, batchLogits) = (output.genes, output.embedding, output.batchLogits)
        var gradients = ObjectiveGradients(
            genePredictions: genes.mutableSpan, cellEmbedding: embedding.mutableSpan,
            batchLogits: batchLogits.mutableSpan)
        let loss = try objective.valueAndGradient(inputs, gradients: &gradients, workspace: workspace)
        report(loss)  // loss.total, loss.logged.elastic, loss.relativeError, …
        model.backward(genes, embedding, batchLogits)  // now the gradients
    }
    // readme:end
}
