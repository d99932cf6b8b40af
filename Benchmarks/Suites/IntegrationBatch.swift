// A model's outputs for a batch of integration, with a buffer for every gradient, and the objective on them
// as a whole and in parts.

import BenchmarkData
import FastLoss
import FastLossReference

/// A buffer for every gradient of integration. Buffers are addresses, because six mutable spans of one
/// struct's arrays would be overlapping accesses.
final class IntegrationGradients {
    enum Slot: Int, CaseIterable {
        case genePredictions, geneNonzero, cellPredictions, cellNonzero, cellEmbedding, batchLogits
    }

    private let buffers: [UnsafeMutableBufferPointer<Float>]

    init(_ batch: IntegrationBatch) {
        buffers = Slot.allCases.map { slot in
            let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: batch.input(slot).count)
            buffer.initialize(repeating: 0)
            return buffer
        }
    }

    deinit { buffers.forEach { $0.deallocate() } }

    /// The buffer of a gradient, for one call.
    @_lifetime(borrow self)
    func span(_ slot: Slot) -> MutableSpan<Float> {
        _overrideLifetime(MutableSpan(_unsafeElements: buffers[slot.rawValue]), borrowing: self)
    }

    /// The largest error of any gradient that the truth has, norm-wise relative to that gradient.
    func largestRelativeError(to truth: Reference.TotalObjective.Gradients<Double>) -> Double {
        Slot.allCases.map { slot in
            let expected =
                switch slot {
                case .genePredictions: truth.genePredictions
                case .geneNonzero: truth.geneNonzeroProbabilities
                case .cellPredictions: truth.cellPredictions
                case .cellNonzero: truth.cellNonzeroProbabilities
                case .cellEmbedding: truth.cellEmbedding
                case .batchLogits: truth.batchLogits
                }
            return expected.map { normwiseRelativeError(of: Array(buffers[slot.rawValue]), to: $0) } ?? 0
        }.max() ?? 0
    }
}

/// A model's outputs for a batch of integration.
struct IntegrationBatch {
    private let shape: ProblemShape
    private let batch: TrainingBatch
    private let genePredictions: [Float]
    private let geneNonzero: [Float]
    private let cellPredictions: [Float]
    private let cellNonzero: [Float]
    private let cellEmbedding: [Float]
    private let batchLogits: [Float]
    private let batchCount: Int

    init(_ context: BenchmarkContext, _ shape: ProblemShape) {
        self.shape = shape
        batch = context.cells.batch(cells: shape.rows, tokens: shape.columns)
        genePredictions = batch.predictions(seed: 2)
        cellPredictions = batch.predictions(seed: 12)
        geneNonzero = batch.nonZeroProbabilities(seed: 3)
        cellNonzero = batch.nonZeroProbabilities(seed: 13)
        cellEmbedding = context.cells.embeddings(cells: shape.rows, depth: shape.depth)
        batchCount = context.cells.gemWellCount
        batchLogits = batch.classLogits(labels: batch.gemWells, classes: batchCount)
    }

    /// The four value terms: 3 flops an element for each MSE and each NLL and 4 for the relative error, and
    /// of the gradients 1 and 2 more; of each element the targets, four predictions and a Bool are read, 21
    /// bytes, and four gradients written, 16. With `pairs` ECS as in its own suite; the batch labels do not
    /// count.
    func work(withGradient: Bool, pairs: Bool) -> Work {
        let elementwise = (withGradient ? 22 : 16) * batch.maskedCount
        let pairFlops = pairs ? (withGradient ? 3 : 1) * shape.rows * shape.rows * shape.depth : 0
        let embeddings = pairs ? (withGradient ? 8 : 4) * shape.rows * shape.depth : 0
        return Work(
            flops: elementwise + pairFlops,
            bytes: (withGradient ? 37 : 21) * shape.rows * shape.columns + embeddings, limitedBy: .memory)
    }

    func input(_ slot: IntegrationGradients.Slot) -> [Float] {
        switch slot {
        case .genePredictions: genePredictions
        case .geneNonzero: geneNonzero
        case .cellPredictions: cellPredictions
        case .cellNonzero: cellNonzero
        case .cellEmbedding: cellEmbedding
        case .batchLogits: batchLogits
        }
    }

    /// An objective over the value terms, and ECS and DAB if it has them. Gradients are computed if they have
    /// buffers.
    func evaluate(
        _ objective: TotalObjective, into gradients: IntegrationGradients?, _ workspace: Workspace
    ) throws -> ObjectiveValue {
        let inputs = ObjectiveInputs(
            shape: MatrixShape(rows: shape.rows, columns: shape.columns), targets: batch.targets.span,
            mask: batch.mask.span, genePredictions: genePredictions.span, geneNonzero: geneNonzero.span,
            cellPredictions: cellPredictions.span, cellNonzero: cellNonzero.span, width: shape.depth,
            cellEmbedding: cellEmbedding.span,
            batches: Classification(
                logits: batchLogits.span, labels: batch.gemWells.span, classes: batchCount))
        guard let gradients else { return try objective.value(inputs, workspace: workspace) }
        var buffers = ObjectiveGradients(
            genePredictions: gradients.span(.genePredictions), geneNonzero: gradients.span(.geneNonzero),
            cellPredictions: gradients.span(.cellPredictions), cellNonzero: gradients.span(.cellNonzero))
        // The objective would clear buffers of terms that are off, which is not this row's work.
        if objective.weights.elastic != nil { buffers.cellEmbedding = gradients.span(.cellEmbedding) }
        if objective.weights.batch != nil { buffers.batchLogits = gradients.span(.batchLogits) }
        return try objective.valueAndGradient(inputs, gradients: &buffers, workspace: workspace)
    }

    /// Integration's parts, one call each: the value terms in one pass, ECS, and DAB.
    func evaluateParts(into gradients: IntegrationGradients, _ workspace: Workspace) throws -> Double {
        let values = try evaluate(.integrationValueTerms, into: gradients, workspace).total
        var embedding = gradients.span(.cellEmbedding)
        let elastic = try ElasticCellSimilarity(threshold: 0.8).valueAndGradient(
            embeddings: cellEmbedding.span, shape: MatrixShape(rows: shape.rows, columns: shape.depth),
            gradient: &embedding, gradientScale: 10, workspace: workspace)
        var logits = gradients.span(.batchLogits)
        let batches = try CrossEntropy().valueAndGradient(
            logits: batchLogits.span, labels: batch.gemWells.span, classes: batchCount, gradient: &logits,
            workspace: workspace)
        return values + 10 * elastic.value + batches.value
    }

    func referenceInputs<T: ReferenceScalar>(_ type: T.Type) -> Reference.TotalObjective.Inputs<T> {
        var inputs = Reference.TotalObjective.Inputs<T>(
            cells: shape.rows, tokens: shape.columns, width: shape.depth)
        inputs.targets = batch.targets.map { T($0) }
        inputs.mask = batch.mask
        inputs.genePredictions = genePredictions.map { T($0) }
        inputs.geneNonzeroProbabilities = geneNonzero.map { T($0) }
        inputs.cellPredictions = cellPredictions.map { T($0) }
        inputs.cellNonzeroProbabilities = cellNonzero.map { T($0) }
        inputs.cellEmbedding = cellEmbedding.map { T($0) }
        inputs.batchLogits = batchLogits.map { T($0) }
        inputs.batchLabels = batch.gemWells
        return inputs
    }
}

extension TotalObjective {
    /// Integration without ECS and DAB.
    static var integrationValueTerms: TotalObjective {
        var objective = TotalObjective.integration()
        objective.weights.elastic = nil
        objective.weights.batch = nil
        return objective
    }
}
