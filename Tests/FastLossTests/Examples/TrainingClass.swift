// The example of a class that owns the buffers of its training loop, as the documentation quotes it.

import FastLoss

// example:begin TrainingClass
final class Trainer {
    let objective = TotalObjective(weights: TermValues(maskedGene: 1, elastic: 10))  // MSE + 10 ECS
    let workspace = Workspace()
    var model: ToyModel
    var inputs: ObjectiveArrays
    var gradients: ObjectiveGradientArrays

    init(model: ToyModel) {
        self.model = model
        inputs = ObjectiveArrays(
            shape: MatrixShape(rows: model.cells, columns: model.genes),
            genePredictions: [Float](repeating: 0, count: model.cells * model.genes),
            width: model.width,
            cellEmbedding: [Float](repeating: 0, count: model.cells * model.width))
        gradients = ObjectiveGradientArrays(zerosFor: inputs)
    }

    /// One step of training.
    func step(on batch: CellBatch) throws -> ObjectiveValue {
        let output = model.forward(batch)
        inputs.targets = batch.targets  // shares the elements, copies none
        inputs.mask = batch.mask
        inputs.genePredictions = output.genes
        inputs.cellEmbedding = output.embedding
        let value = try objective.valueAndGradient(inputs, gradients: &gradients, workspace: workspace)
        if let genes = gradients.genePredictions, let embedding = gradients.cellEmbedding {
            model.descend(genes: genes, embedding: embedding)
        }
        return value
    }
}
// example:end
