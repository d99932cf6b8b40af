// The example of every input of `TotalObjective.integration()`, as the documentation quotes it.

import FastLoss

func integrate(
    cells: Int, genes: Int, width: Int, batchCount: Int, _ model: IntegrationOutput, _ batch: CellBatch
) throws -> (value: ObjectiveValue, gradients: ObjectiveGradientArrays) {
    // example:begin IntegrationInputs
    let inputs = ObjectiveArrays(
        shape: MatrixShape(rows: cells, columns: genes),
        targets: batch.targets,  // cells · genes expression values
        mask: batch.mask,  // cells · genes: true where the value was hidden from the model
        genePredictions: model.genes,  // cells · genes: MSE
        geneNonzero: model.genesNonzero,  // cells · genes probabilities: NLL
        cellPredictions: model.fromCell,  // cells · genes: MSE of GEPC
        cellNonzero: model.fromCellNonzero,  // cells · genes probabilities: NLL of GEPC
        width: width,
        cellEmbedding: model.embedding,  // cells · width: ECS
        batches: ClassificationArrays(
            logits: model.batchLogits,  // cells · batchCount, of the discriminator: DAB
            labels: batch.batchLabels,  // one of 0..<batchCount for each cell
            classes: batchCount))
    var gradients = ObjectiveGradientArrays(zerosFor: inputs)
    let value = try TotalObjective.integration().valueAndGradient(
        inputs, gradients: &gradients, workspace: Workspace())
    print("loss \(value.total), ECS \(value.logged.elastic ?? 0), error \(value.relativeError ?? 0)")
    // gradients.cellEmbedding is that of ECS. gradients.batchLogits is for the discriminator's parameters,
    // gradients.reversedBatchLogits for everything before the gradient reversal.
    // example:end
    return (value, gradients)
}

/// What a model for integration returns for one batch.
struct IntegrationOutput {
    var genes: [Float]
    var genesNonzero: [Float]
    var fromCell: [Float]
    var fromCellNonzero: [Float]
    var embedding: [Float]
    var batchLogits: [Float]
}
