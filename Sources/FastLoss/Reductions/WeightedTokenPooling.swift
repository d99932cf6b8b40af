// Weighted sums of token states, K per cell.

/// Pools token states h, B×L×D, into K weighted sums per cell.
///
///     u_bk = Σ_l v_bkl h_bl        dh_bl = Σ_k v_bkl g_bk        dv_bkl = h_bl · g_bk
///
/// Weights multiply and do not select: a NaN or infinite state times a weight of 0 is NaN. Without tokens the
/// sums are 0.
///
/// Time is one pass over the states in each method for K = 1, else a product of 2·B·K·L·D flops; extra memory
/// is 4·K·D bytes per worker for the gradients. Sums are in double precision for K = 1, else in single.
/// Results are bitwise the same for any number of workers.
public struct WeightedTokenPooling: Equatable, Sendable {
    /// A pooling without parameters.
    public init() {}
}

// MARK: - Value and gradients

extension WeightedTokenPooling {
    /// The weighted sums.
    ///
    /// - Parameters:
    ///   - states: B·L·D token states.
    ///   - weights: B×K×L weights, row-major.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K, the number of weightings of each cell.
    ///   - embeddings: receives B×K×D numbers, row-major; may not overlap an input.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: counts that disagree; overlap; K, L or D beyond the 32-bit integers of BLAS.
    public func value(
        states: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int = 1,
        embeddings: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try ValuePlan(
            states: states, weights: weights, shape: shape, weightings: weightings,
            embeddings: embeddings.memory,
            in: &layout)
        try workspace.run(plan, layout)
    }

    /// Propagates a gradient of the sums back to the states.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective with respect to the sums.
    ///   - weights: B·K·L weights.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K, the number of weightings of each cell.
    ///   - gradient: receives B·L·D derivatives with respect to the states; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(states:weights:shape:weightings:embeddings:workspace:)``; a scale that
    ///   is not finite.
    public func statesGradient(
        embeddingGradient: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int = 1,
        gradient: inout MutableSpan<Float>, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try Self.statesGradientPlan(
            embeddingGradient: embeddingGradient, weights: weights, shape: shape,
            weightings: weightings,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update),
            in: &layout)
        try workspace.run(plan, layout)
    }

    /// Propagates a gradient of the sums back to the weights.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective with respect to the sums.
    ///   - states: B·L·D token states.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K, the number of weightings of each cell.
    ///   - gradient: receives B·K·L derivatives with respect to the weights; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(states:weights:shape:weightings:embeddings:workspace:)``; a scale that
    ///   is not finite.
    public func weightsGradient(
        embeddingGradient: Span<Float>, states: Span<Float>, shape: TokenShape, weightings: Int = 1,
        gradient: inout MutableSpan<Float>, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try Self.weightsGradientPlan(
            embeddingGradient: embeddingGradient, states: states, shape: shape,
            weightings: weightings,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update),
            in: &layout)
        try workspace.run(plan, layout)
    }
}

// MARK: - Arrays

extension WeightedTokenPooling {
    /// The weighted sums, from arrays. Makes a workspace of its own.
    public func value(
        states: [Float], weights: [Float], shape: TokenShape, weightings: Int = 1
    ) throws(LossError) -> [Float] {
        let count = try WeightedTokens(shape, weightings, of: Self.name).checkedEmbeddingCount()
        var embeddings = try zeros(count, for: Self.name)
        var span = embeddings.mutableSpan
        try value(
            states: states.span, weights: weights.span, shape: shape, weightings: weightings,
            embeddings: &span, workspace: Workspace())
        return embeddings
    }

    /// Both gradients, from arrays. Makes a workspace of its own.
    public func gradients(
        embeddingGradient: [Float], states: [Float], weights: [Float], shape: TokenShape, weightings: Int = 1,
        gradientScale: Float = 1
    ) throws(LossError) -> (states: [Float], weights: [Float]) {
        let workspace = Workspace()
        var statesGradient = [Float](repeating: 0, count: states.count)
        var statesSpan = statesGradient.mutableSpan
        try self.statesGradient(
            embeddingGradient: embeddingGradient.span, weights: weights.span, shape: shape,
            weightings: weightings, gradient: &statesSpan, gradientScale: gradientScale, workspace: workspace)
        var weightsGradient = [Float](repeating: 0, count: weights.count)
        var weightsSpan = weightsGradient.mutableSpan
        try self.weightsGradient(
            embeddingGradient: embeddingGradient.span, states: states.span, shape: shape,
            weightings: weightings, gradient: &weightsSpan, gradientScale: gradientScale, workspace: workspace
        )
        return (statesGradient, weightsGradient)
    }
}

// MARK: - Plans

extension WeightedTokenPooling {
    /// The name of the plans in messages.
    private static let name = "WeightedTokenPooling"

    /// The weighted sums.
    package struct ValuePlan: Plan {
        private let sums: WeightedTokens.Sums

        package var name: String { WeightedTokenPooling.name }

        package init(
            states: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int,
            embeddings: UnsafeMutableBufferPointer<Float>, in layout: inout ScratchLayout
        ) throws(LossError) {
            sums = try WeightedTokens.Sums(
                WeightedTokens(shape, weightings, of: WeightedTokenPooling.name), states: states,
                weights: weights, into: embeddings, in: &layout)
        }

        package func run(on execution: Execution) {
            sums.forEachCell(on: execution) { cell in sums.write(cell: cell) }
        }
    }

    /// The gradient with respect to the states.
    package static func statesGradientPlan(
        embeddingGradient: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int,
        into output: GradientOutput, in layout: inout ScratchLayout
    ) throws(LossError) -> WeightedTokens.StatesGradient {
        let upstream = try UpstreamGradient(
            embeddingGradient, of: WeightedTokens(shape, weightings, of: name), into: output)
        return try WeightedTokens.StatesGradient(upstream, weights: weights, into: output, in: &layout)
    }

    /// The gradient with respect to the weights.
    package static func weightsGradientPlan(
        embeddingGradient: Span<Float>, states: Span<Float>, shape: TokenShape, weightings: Int,
        into output: GradientOutput, in layout: inout ScratchLayout
    ) throws(LossError) -> WeightedTokens.WeightsGradient {
        let upstream = try UpstreamGradient(
            embeddingGradient, of: WeightedTokens(shape, weightings, of: name), into: output)
        return try WeightedTokens.WeightsGradient(upstream, states: states, into: output, in: &layout)
    }
}
