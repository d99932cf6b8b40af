// The example of a loss over a batch that the model cannot hold, as the documentation quotes it.

import FastLoss

/// A model that makes embeddings of cells.
protocol EmbeddingModel {
    /// D, the width of an embedding.
    var width: Int { get }

    /// The embeddings of some cells.
    func embeddings(of cells: [Float]) -> [Float]

    /// Adds the gradients of the parameters, given those of the cells' embeddings. Repeats the forward pass.
    mutating func backward(_ cells: [Float], gradient: ArraySlice<Float>)
}

// example:begin GradientCaching
/// The loss of all micro-batches as one batch. The model holds the activations of one of them at a time.
func cachedStep(
    _ model: inout some EmbeddingModel, over microBatches: [[Float]], _ loss: ElasticCellSimilarity,
    workspace: Workspace
) throws -> LossValue {
    // All embeddings, without activations.
    let embeddings = microBatches.map { model.embeddings(of: $0) }
    let all = Array(embeddings.joined())
    var gradient = [Float](repeating: 0, count: all.count)
    var span = gradient.mutableSpan
    let value = try loss.valueAndGradient(
        embeddings: all.span, shape: MatrixShape(rows: all.count / model.width, columns: model.width),
        gradient: &span, workspace: workspace)

    // Each micro-batch again, with its slice of the gradient.
    var first = 0
    for (cells, own) in zip(microBatches, embeddings) {
        model.backward(cells, gradient: gradient[first..<first + own.count])
        first += own.count
    }
    return value
}
// example:end
