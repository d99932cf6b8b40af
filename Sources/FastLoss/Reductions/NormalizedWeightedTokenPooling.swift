// Weighted sums of token states, K per cell, each normalised to length 1.

import CFastLossKernels

/// Pools token states h, B×L×D, into K weighted sums per cell, each normalised to length 1 (scGPT: `w-pool`,
/// with K = 1).
///
///     u_bk = Σ_l v_bkl h_bl        e_bk = u_bk / max(‖u_bk‖₂, 1e-12)
///     du_bk = (g_bk − e_bk (e_bk · g_bk)) / ‖u_bk‖, or g_bk / 1e-12 if ‖u_bk‖ < 1e-12
///     dh_bl = Σ_k v_bkl du_bk      dv_bkl = h_bl · du_bk
///
/// `value` also returns the norms ‖u‖. From them, the gradients are computed without another read of the
/// states for the sums. Norms are accumulated in double precision, so that states scaled by 1e±18 work.
///
/// Weights multiply and do not select: a NaN or infinite state times a weight of 0 is NaN. The embedding of a
/// sum of 0, for example without tokens, is 0.
///
/// Time and memory are those of ``WeightedTokenPooling``.
///
/// Source: scGPT's `_get_cell_emb_from_layer`, style `w-pool`, with PyTorch's `normalize`.
public struct NormalizedWeightedTokenPooling: Equatable, Sendable {
    /// A pooling without parameters.
    public init() {}

    /// The smallest divisor of a sum, the same as in PyTorch's `normalize`.
    public static let normFloor = 1e-12
}

// MARK: - Value and gradients

extension NormalizedWeightedTokenPooling {
    /// The normalised sums, and the norms that the gradients need.
    ///
    /// - Parameters:
    ///   - states: B·L·D token states.
    ///   - weights: B×K×L weights, row-major.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K, the number of weightings of each cell.
    ///   - embeddings: receives B×K×D numbers, row-major; may not overlap an input.
    ///   - norms: receives the B·K norms of the sums, also those below ``normFloor``; may not overlap an
    ///     input or `embeddings`.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: counts that disagree; overlap; K, L or D beyond the 32-bit integers of BLAS.
    public func value(
        states: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int = 1,
        embeddings: inout MutableSpan<Float>, norms: inout MutableSpan<Double>, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try ValuePlan(
            states: states, weights: weights, shape: shape, weightings: weightings,
            embeddings: embeddings.memory,
            norms: norms.memory, in: &layout)
        try workspace.run(plan, layout)
    }

    /// Propagates a gradient of the normalised sums back to the states.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective with respect to the embeddings.
    ///   - embeddings: the B·K·D embeddings from `value`.
    ///   - norms: the B·K norms from `value`.
    ///   - weights: B·K·L weights.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K, the number of weightings of each cell.
    ///   - gradient: receives B·L·D derivatives with respect to the states; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(states:weights:shape:weightings:embeddings:norms:workspace:)``; a
    ///   scale that is not finite.
    public func statesGradient(
        embeddingGradient: Span<Float>, embeddings: Span<Float>, norms: Span<Double>, weights: Span<Float>,
        shape: TokenShape, weightings: Int = 1, gradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try Self.statesGradientPlan(
            embeddingGradient: embeddingGradient, embeddings: embeddings, norms: norms, weights: weights,
            shape: shape,
            weightings: weightings,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update),
            in: &layout)
        try workspace.run(plan, layout)
    }

    /// Propagates a gradient of the normalised sums back to the weights.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective with respect to the embeddings.
    ///   - embeddings: the B·K·D embeddings from `value`.
    ///   - norms: the B·K norms from `value`.
    ///   - states: B·L·D token states.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K, the number of weightings of each cell.
    ///   - gradient: receives B·K·L derivatives with respect to the weights; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(states:weights:shape:weightings:embeddings:norms:workspace:)``; a
    ///   scale that is not finite.
    public func weightsGradient(
        embeddingGradient: Span<Float>, embeddings: Span<Float>, norms: Span<Double>, states: Span<Float>,
        shape: TokenShape, weightings: Int = 1, gradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try Self.weightsGradientPlan(
            embeddingGradient: embeddingGradient, embeddings: embeddings, norms: norms, states: states,
            shape: shape,
            weightings: weightings,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update),
            in: &layout)
        try workspace.run(plan, layout)
    }
}

// MARK: - Arrays

extension NormalizedWeightedTokenPooling {
    /// The normalised sums and their norms, from arrays. Makes a workspace of its own.
    public func value(
        states: [Float], weights: [Float], shape: TokenShape, weightings: Int = 1
    ) throws(LossError) -> (embeddings: [Float], norms: [Double]) {
        let tokens = try WeightedTokens(shape, weightings, of: Self.name)
        var embeddings = try zeros(tokens.checkedEmbeddingCount(), for: Self.name)
        var norms = [Double](repeating: 0, count: try tokens.checkedRowCount())
        var span = embeddings.mutableSpan
        var normSpan = norms.mutableSpan
        try value(
            states: states.span, weights: weights.span, shape: shape, weightings: weightings,
            embeddings: &span, norms: &normSpan, workspace: Workspace())
        return (embeddings, norms)
    }

    /// Both gradients, from arrays. Makes a workspace of its own.
    public func gradients(
        embeddingGradient: [Float], embeddings: [Float], norms: [Double], states: [Float], weights: [Float],
        shape: TokenShape, weightings: Int = 1, gradientScale: Float = 1
    ) throws(LossError) -> (states: [Float], weights: [Float]) {
        let workspace = Workspace()
        var statesGradient = [Float](repeating: 0, count: states.count)
        var statesSpan = statesGradient.mutableSpan
        try self.statesGradient(
            embeddingGradient: embeddingGradient.span, embeddings: embeddings.span, norms: norms.span,
            weights: weights.span, shape: shape, weightings: weightings, gradient: &statesSpan,
            gradientScale: gradientScale, workspace: workspace)
        var weightsGradient = [Float](repeating: 0, count: weights.count)
        var weightsSpan = weightsGradient.mutableSpan
        try self.weightsGradient(
            embeddingGradient: embeddingGradient.span, embeddings: embeddings.span, norms: norms.span,
            states: states.span, shape: shape, weightings: weightings, gradient: &weightsSpan,
            gradientScale: gradientScale, workspace: workspace)
        return (statesGradient, weightsGradient)
    }
}

// MARK: - Plans

extension NormalizedWeightedTokenPooling {
    /// The name of the plans in messages.
    private static let name = "NormalizedWeightedTokenPooling"

    /// The normalised sums and their norms.
    package struct ValuePlan: Plan {
        private let sums: WeightedTokens.Sums
        private let norms: UnsafeMutablePointer<Double>

        package var name: String { NormalizedWeightedTokenPooling.name }

        package init(
            states: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int,
            embeddings: UnsafeMutableBufferPointer<Float>, norms: UnsafeMutableBufferPointer<Double>,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            let tokens = try WeightedTokens(shape, weightings, of: NormalizedWeightedTokenPooling.name)
            sums = try WeightedTokens.Sums(
                tokens, states: states, weights: weights, into: embeddings, in: &layout)
            try tokens.checkNorms(norms.count)
            let output = NamedMemory("norms", norms)
            try checkNoOverlap(output, NamedMemory("states", states.memory))
            try checkNoOverlap(output, NamedMemory("weights", weights.memory))
            try checkNoOverlap(output, NamedMemory("embeddings", embeddings))
            self.norms =
                norms.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Double>.alignment)!
        }

        package func run(on execution: Execution) {
            let width = sums.tokens.shape.width
            // Sums without elements have norm 0.
            if width == 0 { norms.update(repeating: 0, count: sums.tokens.rowCount) }
            sums.forEachCell(on: execution) { cell in
                sums.write(cell: cell)
                for row in sums.tokens.rows(of: cell) {
                    let sum = sums.output + row * width
                    let norm = kernels.sum_of_squares(sum, width).squareRoot()
                    kernels.scale(sum, width, 1 / denominator(norm), sum, FASTLOSS_OVERWRITE)
                    norms[row] = norm
                }
            }
        }
    }

    /// The divisor of a sum of this norm. NaN stays NaN.
    static func denominator(_ norm: Double) -> Double { norm < normFloor ? normFloor : norm }

    /// The gradient with respect to the states.
    package static func statesGradientPlan(
        embeddingGradient: Span<Float>, embeddings: Span<Float>, norms: Span<Double>, weights: Span<Float>,
        shape: TokenShape, weightings: Int, into output: GradientOutput, in layout: inout ScratchLayout
    ) throws(LossError) -> WeightedTokens.StatesGradient {
        let upstream = try UpstreamGradient(
            embeddingGradient, through: embeddings, norms: norms,
            of: WeightedTokens(shape, weightings, of: name), into: output)
        return try WeightedTokens.StatesGradient(upstream, weights: weights, into: output, in: &layout)
    }

    /// The gradient with respect to the weights.
    package static func weightsGradientPlan(
        embeddingGradient: Span<Float>, embeddings: Span<Float>, norms: Span<Double>, states: Span<Float>,
        shape: TokenShape, weightings: Int, into output: GradientOutput, in layout: inout ScratchLayout
    ) throws(LossError) -> WeightedTokens.WeightsGradient {
        let upstream = try UpstreamGradient(
            embeddingGradient, through: embeddings, norms: norms,
            of: WeightedTokens(shape, weightings, of: name), into: output)
        return try WeightedTokens.WeightsGradient(upstream, states: states, into: output, in: &layout)
    }
}
