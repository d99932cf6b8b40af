// What all poolings of token states share: the shape, and the writer of the states' gradient.

import CFastLossKernels

/// The shape of token states: L tokens for each of B cells, D numbers for each token.
///
/// State (b, l, d) stands at (b·`tokens` + l)·`width` + d. A shape is checked by the call that uses it, which
/// throws ``LossError/invalidShape(rows:columns:)`` for negative sides, with the tokens of all cells together
/// as rows.
public struct TokenShape: Equatable, Sendable {
    /// B.
    public var cells: Int
    /// L, padding included.
    public var tokens: Int
    /// D.
    public var width: Int

    public init(cells: Int, tokens: Int, width: Int) {
        self.cells = cells
        self.tokens = tokens
        self.width = width
    }
}

extension TokenShape {
    /// The number of states, or the error that there is no such number.
    func checkedCount() throws(LossError) -> Int {
        let tokensOfAllCells = try MatrixShape(rows: cells, columns: tokens).checkedCount()
        return try MatrixShape(rows: tokensOfAllCells, columns: width).checkedCount()
    }

    /// B·D, of a shape that is possible as a whole.
    func checkedEmbeddingCount() throws(LossError) -> Int {
        _ = try checkedCount()
        return try MatrixShape(rows: cells, columns: width).checkedCount()
    }

    /// L·D, the distance between two cells. Of a shape with elements.
    var statesPerCell: Int { tokens * width }

    /// One pass over the states on one worker, at 16 GB/s: see ``WeightedTokens``.
    var nanosecondsPerPass: Double { Double(cells) * Double(tokens) * Double(width) / 4 }
}

/// Writes the gradient of the states of one weighting, cell by cell. Of a shape with elements.
struct StatesGradientWriter {
    private let shape: TokenShape
    private let mode: fastloss_write_mode
    private let streaming: Bool

    /// Bytes of gradient from which it is written past the caches.
    ///
    /// Measured on a Zen 4 core with 32 MiB of last-level cache, both ways in turns: 7.8 ms past the caches
    /// against 11.7 through them for 157 MB of gradient, 1.5 against 2.5 for 34 MB, no difference for 10 MB.
    /// What fits the cache is left there for its reader.
    private static let streamingThreshold = 32 << 20

    init(_ shape: TokenShape, mode: fastloss_write_mode) {
        self.shape = shape
        self.mode = mode
        streaming = shape.cells * shape.statesPerCell * MemoryLayout<Float>.stride >= Self.streamingThreshold
    }

    /// gradient_ld = weights_l·x_d, or x_d without weights.
    func write(
        _ x: UnsafePointer<Float>, weights: UnsafePointer<Float>?, to gradient: UnsafeMutablePointer<Float>
    ) {
        kernels.weighted_row_sum_gradient(x, shape.width, weights, shape.tokens, gradient, mode, streaming)
    }
}
