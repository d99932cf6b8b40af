// What the task heads read in one step of scGPT's integration: states, embeddings, genes, batches, parameters.

import BenchmarkData
import FastLoss
import FastLossHeads

/// The inputs of all heads for a batch of real cells, B × L × D, with explicit zeros and two batches.
struct HeadBatch {
    /// The batches that the embeddings are of: 10x wells in two halves, as in an integration of two samples.
    static let batchCount = 2
    /// The root mean square of the embeddings of cells and batches.
    private static let embeddingSize: Float = 0.25

    let shape: ProblemShape
    let targets: [Float]
    var mask: [Bool]
    let states: [Float]
    let cellEmbeddings: [Float]
    let batchLabels: [Int32]
    let batchEmbeddings: [Float]

    init(_ shape: ProblemShape, _ context: BenchmarkContext) {
        self.shape = shape
        let batch = context.cells.batch(cells: shape.rows, tokens: shape.columns)
        // Bins scaled to the size of an untrained decoder's outputs, so that the check is not one of targets.
        targets = batch.targets.map { $0 / Float(context.cells.binCount) }
        mask = batch.mask
        states = batch.tokenStates(depth: shape.depth, genes: context.cells.geneCount)
        // Cells of the size that keeps logits below 15.9, where upstream's clamp begins.
        let cells = context.cells.embeddings(cells: shape.rows, depth: shape.depth)
        let size = (cells.reduce(0) { $0 + $1 * $1 } / Float(cells.count)).squareRoot()
        cellEmbeddings = cells.map { Self.embeddingSize / size * $0 }
        batchLabels = batch.gemWells.map { $0 % Int32(Self.batchCount) }
        var generator = SeededGenerator(seed: 11)
        batchEmbeddings = (0..<Self.batchCount * shape.depth).map { _ in
            Self.embeddingSize * generator.normal()
        }
    }

    /// The tokens of `shape` as heads take it.
    var tokenShape: TokenShape {
        TokenShape(cells: shape.rows, tokens: shape.columns, width: shape.depth)
    }

    /// The losses of the predictions and of the logits of a value that is not zero, with their gradients.
    func losses(
        predictions: [Float], logits: [Float], _ workspace: Workspace
    ) throws -> (value: Float, gradients: [[Float]]) {
        var predictionGradient = [Float](repeating: 0, count: predictions.count)
        var logitGradient = predictionGradient
        var span = predictionGradient.mutableSpan
        let squaredError = try MaskedMSE().valueAndGradient(
            predictions: predictions.span, targets: targets.span, mask: mask.span, gradient: &span,
            workspace: workspace)
        var logitSpan = logitGradient.mutableSpan
        let nonzero = try BernoulliNLL(from: .logits).valueAndGradient(
            predictions: logits.span, targets: targets.span, mask: mask.span, gradient: &logitSpan,
            workspace: workspace)
        return (Float(squaredError.value + nonzero.value), [predictionGradient, logitGradient])
    }

    /// Each row of D values followed by the embedding of its cell's batch.
    func joinedToBatches(_ rows: [Float], rowsPerCell: Int) -> [Float] {
        let width = shape.depth
        var joined: [Float] = []
        joined.reserveCapacity(2 * rows.count)
        for row in 0..<rows.count / width {
            let label = Int(batchLabels[row / rowsPerCell])
            joined += rows[row * width..<(row + 1) * width]
            joined += batchEmbeddings[label * width..<(label + 1) * width]
        }
        return joined
    }

    /// Parameters of a head, drawn as PyTorch draws them.
    static func parameters(_ layout: ParameterLayout, seed: UInt64 = 12) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        return layout.initialValues(using: &generator)
    }
}
