// The training loop of the landing page, compiled. DocumentationTests compares and runs it.

import FastLoss

/// What the example's model puts out.
struct ExampleOutput {
    var genes: [Float]
    var embedding: [Float]
}

/// One batch of cells.
struct ExampleBatch {
    let shape: MatrixShape
    let targets: [Float]
    let mask: [Bool]
}

/// A stand-in for a model: its outputs are its parameters, so that a step down the gradient is all of its
/// backward pass.
struct ExampleModel {
    let width: Int
    var parameters: ExampleOutput

    func forward(_ batch: ExampleBatch) -> ExampleOutput { parameters }

    mutating func backward(_ genes: [Float], _ embedding: [Float]) {
        func descend(_ parameters: inout [Float], _ gradient: [Float]) {
            for index in parameters.indices { parameters[index] -= 0.05 * gradient[index] }
        }
        descend(&parameters.genes, genes)
        descend(&parameters.embedding, embedding)
    }
}

func trainExample(
    _ model: inout ExampleModel, on batches: [ExampleBatch], report: (ObjectiveValue) -> Void
) throws(LossError) {
    // example:begin TrainingLoop
    let objective = TotalObjective(weights: TermValues(maskedGene: 1, elastic: 10))  // MSE + 10 ECS
    let workspace = Workspace()
    for batch in batches {
        let output = model.forward(batch)
        let inputs = ObjectiveInputs(
            shape: batch.shape, targets: batch.targets.span, mask: batch.mask.span,
            genePredictions: output.genes.span, width: model.width, cellEmbedding: output.embedding.span)
        var (genes, embedding) = (output.genes, output.embedding)
        var gradients = ObjectiveGradients(
            genePredictions: genes.mutableSpan, cellEmbedding: embedding.mutableSpan)
        report(try objective.valueAndGradient(inputs, gradients: &gradients, workspace: workspace))
        model.backward(genes, embedding)  // now the gradients
    }
    // example:end
}
