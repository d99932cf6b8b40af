// The whole integration objective in one call, against the reference's term after term.

import FastLoss
import FastLossReference

extension Suites {
    static var totalObjective: [Benchmark] {
        // Integration with the pretrained model and from scratch; pretraining's global batch.
        [ProblemShape(64, 1201, 512), ProblemShape(64, 1201, 128), ProblemShape(512, 1200, 512)].flatMap {
            [totalObjective($0, .value), totalObjective($0, .valueAndGradient)]
        }
    }

    private static func totalObjective(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        Benchmark(
            kernel: "TotalObjective", variant: "integration", mode: mode, shape: shape, tolerance: 5e-6,
            isQuick: shape.rows == 64
        ) { context in
            let model = ModelOutputs(context, shape)
            let reference = model.referenceInputs(Float.self)
            let withGradient = mode == .valueAndGradient
            let work = model.work(withGradient: withGradient)
            var gradients = withGradient ? model.gradientBuffers : nil
            let fastloss = { Float(try model.run(into: &gradients).total) }
            return Prepared(
                maxRelativeError: {
                    let actual = try model.run(into: &gradients)
                    let truth = Reference.TotalObjective.evaluate(
                        inputs: model.referenceInputs(Double.self), configuration: .integration)
                    let valueError = model.valueError(actual, truth)
                    return gradients.map { max(valueError, model.gradientError($0, truth)) } ?? valueError
                },
                fastloss: Implementation(work: work, threads: context.workers, call: fastloss),
                // The reference always computes both, so it stands beside the value alone too.
                naive: Implementation(work: work) {
                    Reference.TotalObjective.evaluate(inputs: reference, configuration: .integration).total
                },
                workspace: model.workspace)
        }
    }
}

/// A buffer for every gradient of integration.
private struct ModelGradients {
    var genePredictions: [Float]
    var geneNonzero: [Float]
    var cellPredictions: [Float]
    var cellNonzero: [Float]
    var cellEmbedding: [Float]
    var batchLogits: [Float]
}

/// What a model gives for a batch of integration.
private struct ModelOutputs {
    private let shape: ProblemShape
    private let batch: TrainingBatch
    private let genePredictions: [Float]
    private let geneNonzero: [Float]
    private let cellPredictions: [Float]
    private let cellNonzero: [Float]
    private let cellEmbedding: [Float]
    private let batchLogits: [Float]
    private let batchCount: Int
    let workspace: Workspace

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
        workspace = Workspace(workers: context.workers)
    }

    /// Buffers of the right sizes.
    var gradientBuffers: ModelGradients {
        ModelGradients(
            genePredictions: genePredictions, geneNonzero: geneNonzero, cellPredictions: cellPredictions,
            cellNonzero: cellNonzero, cellEmbedding: cellEmbedding, batchLogits: batchLogits)
    }

    /// The objective, and its gradients where there are buffers for them.
    func run(into gradients: inout ModelGradients?) throws -> ObjectiveValue {
        let inputs = ObjectiveInputs(
            shape: MatrixShape(rows: shape.rows, columns: shape.columns), targets: batch.targets.span,
            mask: batch.mask.span, genePredictions: genePredictions.span, geneNonzero: geneNonzero.span,
            cellPredictions: cellPredictions.span, cellNonzero: cellNonzero.span, width: shape.depth,
            cellEmbedding: cellEmbedding.span,
            batches: Classification(logits: batchLogits.span, labels: batch.gemWells.span, classes: batchCount))
        guard let memory = gradients.take() else {
            return try TotalObjective.integration().value(inputs, workspace: workspace)
        }
        // Variables of their own, because six spans of one struct would be six claims on the whole of it.
        var (gene, geneZero) = (memory.genePredictions, memory.geneNonzero)
        var (cell, cellZero) = (memory.cellPredictions, memory.cellNonzero)
        var (embedding, logits) = (memory.cellEmbedding, memory.batchLogits)
        _ = consume memory
        defer {
            gradients = ModelGradients(
                genePredictions: gene, geneNonzero: geneZero, cellPredictions: cell, cellNonzero: cellZero,
                cellEmbedding: embedding, batchLogits: logits)
        }
        var buffers = ObjectiveGradients(
            genePredictions: gene.mutableSpan, geneNonzero: geneZero.mutableSpan, cellPredictions: cell.mutableSpan,
            cellNonzero: cellZero.mutableSpan, cellEmbedding: embedding.mutableSpan, batchLogits: logits.mutableSpan)
        return try TotalObjective.integration().valueAndGradient(inputs, gradients: &buffers, workspace: workspace)
    }

    /// The four value terms: 3 flops an element for each MSE and each NLL and 4 for the relative error, and of the
    /// gradients 1 and 2 more; ECS as in its own suite; the batch labels do not count. Of each element the targets, four
    /// predictions and a Bool are read, and four gradients written.
    func work(withGradient: Bool) -> Work {
        let elementwise = (withGradient ? 22 : 16) * batch.maskedCount
        let pairs = (withGradient ? 3 : 1) * shape.rows * shape.rows * shape.depth
        let embeddings = (withGradient ? 8 : 4) * shape.rows * shape.depth
        return Work(
            flops: elementwise + pairs, bytes: (withGradient ? 37 : 21) * shape.rows * shape.columns + embeddings,
            limitedBy: .memory)
    }

    func referenceInputs<T: ReferenceScalar>(_ type: T.Type) -> Reference.TotalObjective.Inputs<T> {
        var inputs = Reference.TotalObjective.Inputs<T>(cells: shape.rows, tokens: shape.columns, width: shape.depth)
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

    /// The largest relative error of the total, of any term and of the metric.
    func valueError(_ actual: ObjectiveValue, _ truth: Reference.TotalObjective.Evaluation<Double>) -> Double {
        let terms = ObjectiveTerm.allCases.map { term in
            let expected = Reference.TotalObjective.Term(rawValue: term.rawValue).flatMap { truth.values[$0] }
            return relativeError(of: actual.values[term] ?? 0, to: expected ?? 0)
        }
        return max(
            relativeError(of: actual.total, to: truth.total),
            relativeError(of: actual.relativeError ?? 0, to: truth.relativeError ?? 0),
            terms.max() ?? 0)
    }

    /// The largest error of any gradient, norm-wise relative to that gradient.
    func gradientError(
        _ gradients: ModelGradients, _ truth: Reference.TotalObjective.Evaluation<Double>
    ) -> Double {
        let actual = [
            gradients.genePredictions, gradients.geneNonzero, gradients.cellPredictions, gradients.cellNonzero,
            gradients.cellEmbedding, gradients.batchLogits,
        ]
        let expected = [
            truth.gradients.genePredictions, truth.gradients.geneNonzeroProbabilities, truth.gradients.cellPredictions,
            truth.gradients.cellNonzeroProbabilities, truth.gradients.cellEmbedding, truth.gradients.batchLogits,
        ]
        return zip(actual, expected).reduce(0) { error, pair in
            let expected = pair.1 ?? []
            return max(error, normwiseRelativeError(of: pair.0, to: expected))
        }
    }
}
