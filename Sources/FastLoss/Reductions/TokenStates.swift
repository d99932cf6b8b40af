// The parts that all poolings of token states share: the shape, and the writer of the states' gradient.

import CFastLossKernels

/// The shape of token states: L tokens for each of B cells, D numbers for each token.
///
/// State (b, l, d) has index (b·`tokens` + l)·`width` + d. The call that uses a shape checks it, and throws
/// ``LossError/invalidShape(rows:columns:)`` for negative sides; its `rows` are then the tokens of all cells.
public struct TokenShape: Equatable, Sendable {
    /// B, the number of cells.
    public var cells: Int
    /// L, the number of tokens of a cell, padding included.
    public var tokens: Int
    /// D, the width of a state.
    public var width: Int

    /// A shape of `cells`·`tokens`·`width` states.
    public init(cells: Int, tokens: Int, width: Int) {
        self.cells = cells
        self.tokens = tokens
        self.width = width
    }
}

extension TokenShape {
    /// B·L·D. Throws if a side is negative or the product exceeds `Int`.
    func checkedCount() throws(LossError) -> Int {
        let tokensOfAllCells = try MatrixShape(rows: cells, columns: tokens).checkedCount()
        return try MatrixShape(rows: tokensOfAllCells, columns: width).checkedCount()
    }

    /// B·D. Throws as `checkedCount`.
    func checkedEmbeddingCount() throws(LossError) -> Int {
        _ = try checkedCount()
        return try MatrixShape(rows: cells, columns: width).checkedCount()
    }

    /// L·D, the elements from one cell to the next. Requires a checked shape.
    var statesPerCell: Int { tokens * width }

    /// The time of one pass over the states on one worker, at 16 GB/s; see ``WeightedTokens``.
    var nanosecondsPerPass: Double { Double(cells) * Double(tokens) * Double(width) / 4 }
}

/// Writes the gradient of the states of one weighting, cell by cell.
struct StatesGradientWriter {
    private let shape: TokenShape
    private let mode: fastloss_write_mode
    private let streaming: Bool

    /// The bytes of gradient from which non-temporal stores bypass the caches: about a last-level cache. A
    /// smaller gradient stays in the cache for its reader. Measured: the article Tuning.
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
