// The terms of the objective as a training loop without it would compute them: one public call for each loss.

import FastLoss

/// Every term of an objective by its own loss, and every gradient, scaled by the term's weight.
struct SingleLosses {
    private(set) var values: [ObjectiveTerm: Double] = [:]
    private(set) var relativeError = 0.0
    private(set) var gradients: [ObjectiveSlot: [Float]] = [:]

    /// All terms must be on and all inputs given.
    init(_ objective: TotalObjective, _ batch: ObjectiveBatch, gradientScale: Float) throws {
        gradients = batch.untouchedGradients
        try evaluateValues(objective, batch, gradientScale)
        try evaluateClassifications(objective, batch, gradientScale)
        try evaluateEmbeddings(objective, batch, gradientScale)
    }

    private mutating func evaluateValues(
        _ objective: TotalObjective, _ batch: ObjectiveBatch, _ gradientScale: Float
    ) throws {
        let nll = BernoulliNLL(from: objective.nonzeroForm)
        let losses: [(ObjectiveTerm, ObjectiveSlot, any MaskedLoss)] = [
            (.maskedGene, .genePredictions, MaskedMSE()), (.maskedGeneZero, .geneNonzero, nll),
            (.cellGene, .cellPredictions, MaskedMSE()), (.cellGeneZero, .cellNonzero, nll),
            (.generation, .generatedPredictions, MaskedMSE()),
        ]
        for (term, slot, loss) in losses {
            let result = try loss.valueAndGradient(
                predictions: batch.inputs[slot] ?? [], targets: batch.targets, mask: batch.mask,
                gradientScale: (objective.weights[term] ?? 0) * gradientScale)
            values[term] = result.loss.value
            gradients[slot] = result.gradient
        }
        relativeError = try MaskedRelativeError().value(
            predictions: batch.inputs[.genePredictions] ?? [], targets: batch.targets, mask: batch.mask
        ).value
    }

    private mutating func evaluateClassifications(
        _ objective: TotalObjective, _ batch: ObjectiveBatch, _ gradientScale: Float
    ) throws {
        let cellTypes = try objective.cellTypes.valueAndGradient(
            logits: batch.inputs[.cellTypeLogits] ?? [], labels: batch.cellTypeLabels,
            classes: batch.cellTypeCount,
            gradientScale: (objective.weights.cellType ?? 0) * gradientScale)
        values[.cellType] = cellTypes.loss.value
        gradients[.cellTypeLogits] = cellTypes.gradient

        let logits = batch.inputs[.batchLogits] ?? []
        var discriminator = [Float](repeating: 0, count: logits.count)
        var embedding = discriminator
        var discriminatorSpan = discriminator.mutableSpan
        var embeddingSpan = embedding.mutableSpan
        values[.batch] = try objective.domainAdversarial.valueAndGradient(
            logits: logits.span, labels: batch.batchLabels.span, classes: batch.batchCount,
            discriminatorGradient: &discriminatorSpan, embeddingGradient: &embeddingSpan,
            gradientScale: (objective.weights.batch ?? 0) * gradientScale, workspace: Workspace()
        ).value
        gradients[.batchLogits] = discriminator
        gradients[.reversedBatchLogits] = embedding
    }

    private mutating func evaluateEmbeddings(
        _ objective: TotalObjective, _ batch: ObjectiveBatch, _ gradientScale: Float
    ) throws {
        let shape = MatrixShape(rows: batch.shape.rows, columns: batch.width)
        let first = batch.inputs[.cellEmbedding] ?? []
        let second = batch.inputs[.secondCellEmbedding] ?? []
        var firstGradient = [Float](repeating: 0, count: first.count)
        var secondGradient = firstGradient
        var firstSpan = firstGradient.mutableSpan
        values[.elastic] = try objective.elasticCellSimilarity.valueAndGradient(
            embeddings: first.span, shape: shape, gradient: &firstSpan,
            gradientScale: (objective.weights.elastic ?? 0) * gradientScale, workspace: Workspace()
        ).value
        // CCE adds to what ECS left. What its second gradient adds to is 0.
        var secondSpan = secondGradient.mutableSpan
        values[.contrastive] = try objective.contrastiveCellEmbedding.valueAndGradient(
            first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
            secondGradient: &secondSpan, gradientScale: (objective.weights.contrastive ?? 0) * gradientScale,
            update: .accumulate, workspace: Workspace()
        ).value
        gradients[.cellEmbedding] = firstGradient
        gradients[.secondCellEmbedding] = secondGradient
    }
}
