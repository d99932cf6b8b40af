// The example of a loss across ranks, as the documentation quotes it.

import FastLoss

/// The loss of all ranks' rows, and the gradient of this rank's.
func lossAcrossRanks(
    _ rows: [Float], _ shape: MatrixShape, across ranks: some Communicator, workspace: Workspace
) throws -> (LossValue, [Float]) {
    let similarity = ElasticCellSimilarity(threshold: 0.3)
    var buffer = [Float](repeating: 0, count: rows.count)
    let rows = rows.span
    var gradient = buffer.mutableSpan
    // example:begin AcrossRanks
    let value = try similarity.valueAndGradient(
        embeddings: rows, shape: shape, gradient: &gradient, across: ranks, workspace: workspace)
    // example:end
    return (value, buffer)
}
