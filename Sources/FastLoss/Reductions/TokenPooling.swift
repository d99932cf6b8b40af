// From token states to one embedding per cell: the first token's states, or their mean.

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

/// Pools token states h, B×L×D, into one embedding of D numbers per cell.
///
///     cls        e_b = h_b0            dh_b0 = g_b, dh_bl = 0 for l > 0
///     average    e_b = Σ_l h_bl / L    dh_bl = g_b / L
///
/// `average` counts every token, padding included, as upstream does. There is no mask: NaN and infinity
/// propagate as IEEE arithmetic says. Without tokens (L = 0) there is no embedding, which is an error.
///
/// Time is one read of the states that count, or one write of their gradient; extra memory is 4·D bytes per
/// worker for the gradients. Sums are carried in double; results are bitwise the same for any number of
/// workers.
///
/// Source: scGPT's `_get_cell_emb_from_layer`, styles `cls` and `avg-pool`. Its `w-pool` is
/// ``NormalizedWeightedTokenPooling``.
public enum TokenPooling: Sendable, CaseIterable {
    /// The states of the token at position 0.
    case cls
    /// The mean over all L tokens.
    case average
}

// MARK: - Value and gradient

extension TokenPooling {
    /// The cells' embeddings.
    ///
    /// - Parameters:
    ///   - states: B·L·D token states.
    ///   - shape: B cells of L ≥ 1 tokens of D numbers.
    ///   - embeddings: receives B·D numbers; may not overlap `states`.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree; no tokens; overlap.
    public func value(
        states: Span<Float>, shape: TokenShape, embeddings: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) {
        try checkCounts(shape, states: states.count, "embeddings", embeddings.count)
        let output = embeddings.memory
        try checkNoOverlap(NamedMemory("embeddings", output), NamedMemory("states", states.memory))

        let states = states.pointer
        guard let output = output.baseAddress else { return }
        switch self {
        case .cls:
            for cell in 0..<shape.cells {
                (output + cell * shape.width).update(
                    from: states + cell * shape.statesPerCell, count: shape.width)
            }
        case .average:
            workspace.forEachTask(shape.cells, estimatedNanoseconds: shape.nanosecondsPerPass) { cell, _ in
                kernels.weighted_row_sum(
                    states + cell * shape.statesPerCell, shape.tokens, shape.width, nil,
                    1 / Double(shape.tokens), output + cell * shape.width)
            }
        }
    }

    /// Carries a gradient of the embeddings back to the states.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·D derivatives of the objective by the embeddings.
    ///   - shape: B cells of L ≥ 1 tokens of D numbers.
    ///   - gradient: receives B·L·D derivatives by the states; may not overlap `embeddingGradient`.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(states:shape:embeddings:workspace:)``, and where the scale is not finite.
    public func gradient(
        embeddingGradient: Span<Float>, shape: TokenShape, gradient: inout MutableSpan<Float>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        try checkCounts(
            shape, statesNamed: output.name, states: gradient.count, "embeddingGradient",
            embeddingGradient.count)
        try checkGradientScale(gradientScale)
        try checkNoOverlap(output.named, NamedMemory("embeddingGradient", embeddingGradient.memory))

        var layout = Workspace.Layout()
        let scaledScratch = try layout.add(
            MatrixShape(rows: workspace.workers, columns: shape.width).checkedCount(), of: Float.self)
        try workspace.reserve(layout)
        let scaled = workspace.pointer(scaledScratch)

        let upstream = embeddingGradient.pointer
        guard let gradient = output.memory.baseAddress else { return }
        let writer = StatesGradientWriter(shape, mode: output.mode)
        workspace.forEachTask(shape.cells, estimatedNanoseconds: shape.nanosecondsPerPass) { cell, worker in
            let upstream = upstream + cell * shape.width
            let gradient = gradient + cell * shape.statesPerCell
            switch self {
            case .cls:
                kernels.scale(upstream, shape.width, Double(gradientScale), gradient, output.mode)
                if update == .overwrite {
                    (gradient + shape.width).update(repeating: 0, count: shape.statesPerCell - shape.width)
                }
            case .average:
                let scaled = scaled + worker * shape.width
                kernels.scale(
                    upstream, shape.width, Double(gradientScale) / Double(shape.tokens), scaled,
                    FASTLOSS_GRADIENT_OVERWRITE)
                writer.write(scaled, weights: nil, to: gradient)
            }
        }
    }

    private func checkCounts(
        _ shape: TokenShape, statesNamed states: String = "states", states statesCount: Int,
        _ embeddings: String, _ embeddingsCount: Int
    ) throws(LossError) {
        try checkCount(states, statesCount, is: try shape.checkedCount())
        try checkCount(embeddings, embeddingsCount, is: try shape.checkedEmbeddingCount())
        try checkParameter("shape.tokens", Float(shape.tokens), "at least 1") { $0 >= 1 }
    }
}

// MARK: - Arrays

extension TokenPooling {
    /// The cells' embeddings, from an array; a thin wrapper that makes its own workspace.
    public func value(states: [Float], shape: TokenShape) throws(LossError) -> [Float] {
        var embeddings = [Float](repeating: 0, count: try shape.checkedEmbeddingCount())
        var span = embeddings.mutableSpan
        try value(states: states.span, shape: shape, embeddings: &span, workspace: Workspace())
        return embeddings
    }

    /// The gradient by the states, from an array; a thin wrapper that makes its own workspace.
    public func gradient(
        embeddingGradient: [Float], shape: TokenShape, gradientScale: Float = 1
    ) throws(LossError) -> [Float] {
        var gradient = [Float](repeating: 0, count: try shape.checkedCount())
        var span = gradient.mutableSpan
        try self.gradient(
            embeddingGradient: embeddingGradient.span, shape: shape, gradient: &span,
            gradientScale: gradientScale, workspace: Workspace())
        return gradient
    }
}

// MARK: - Shared with the weighted poolings

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

    /// L·D, the distance between two cells.
    var statesPerCell: Int { tokens * width }

    /// One pass over the states on one worker, at 16 GB/s: see ``WeightedTokens``.
    var nanosecondsPerPass: Int { cells * statesPerCell / 4 }
}

/// Writes the gradient of the states of one weighting, cell by cell.
struct StatesGradientWriter {
    private let shape: TokenShape
    private let mode: fastloss_gradient_mode
    private let streaming: Bool

    /// Bytes of gradient from which it is written past the caches.
    ///
    /// Measured on a Zen 4 core with 32 MiB of last-level cache, both ways in turns: 7.8 ms past the caches
    /// against 11.7 through them for 157 MB of gradient, 1.5 against 2.5 for 34 MB, no difference for 10 MB.
    /// What fits the cache is left there for its reader.
    private static let streamingThreshold = 32 << 20

    init(_ shape: TokenShape, mode: fastloss_gradient_mode) {
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
