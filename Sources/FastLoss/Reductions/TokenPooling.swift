// One embedding per cell from its token states: that of the first token, or the mean.

import CFastLossKernels

/// Pools token states h, B×L×D, into one embedding of D numbers per cell.
///
///     cls        e_b = h_b0            dh_b0 = g_b, dh_bl = 0 for l > 0
///     average    e_b = Σ_l h_bl / L    dh_bl = g_b / L
///
/// `average` includes every token, also padding, as upstream does. There is no mask: NaN and infinity
/// propagate as IEEE arithmetic says. Cells without tokens (L = 0) are an error.
///
/// Time is one read of the pooled states, or one write of their gradient; extra memory is 4·D bytes per
/// worker for the gradient. Sums are in double precision; results are bitwise the same for any number of
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
    /// - Throws: ``LossError``: counts that disagree; no tokens; overlap.
    public func value(
        states: Span<Float>, shape: TokenShape, embeddings: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try ValuePlan(
            self, states: states, shape: shape, embeddings: embeddings.memory, in: &layout)
        try workspace.run(plan, layout)
    }

    /// Propagates a gradient of the embeddings back to the states.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·D derivatives of the objective with respect to the embeddings.
    ///   - shape: B cells of L ≥ 1 tokens of D numbers.
    ///   - gradient: receives B·L·D derivatives with respect to the states; may not overlap
    ///     `embeddingGradient`.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(states:shape:embeddings:workspace:)``; a scale that is not finite.
    public func gradient(
        embeddingGradient: Span<Float>, shape: TokenShape, gradient: inout MutableSpan<Float>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try GradientPlan(
            self, embeddingGradient: embeddingGradient, shape: shape,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update), in: &layout)
        try workspace.run(plan, layout)
    }
}

// MARK: - Arrays

extension TokenPooling {
    /// The cells' embeddings, from an array. Makes a workspace of its own.
    public func value(states: [Float], shape: TokenShape) throws(LossError) -> [Float] {
        var embeddings = try zeros(shape.checkedEmbeddingCount(), for: Self.name)
        var span = embeddings.mutableSpan
        try value(states: states.span, shape: shape, embeddings: &span, workspace: Workspace())
        return embeddings
    }

    /// The gradient with respect to the states, from an array. Makes a workspace of its own.
    public func gradient(
        embeddingGradient: [Float], shape: TokenShape, gradientScale: Float = 1
    ) throws(LossError) -> [Float] {
        var gradient = try zeros(shape.checkedCount(), for: Self.name)
        var span = gradient.mutableSpan
        try self.gradient(
            embeddingGradient: embeddingGradient.span, shape: shape, gradient: &span,
            gradientScale: gradientScale, workspace: Workspace())
        return gradient
    }
}

// MARK: - Plans

extension TokenPooling {
    /// The name of the plans in messages.
    private static let name = "TokenPooling"

    /// The cells' embeddings.
    package struct ValuePlan: Plan {
        private let pooling: TokenPooling
        private let states: UnsafePointer<Float>
        private let shape: TokenShape
        private let embeddings: UnsafeMutableBufferPointer<Float>

        package var name: String { TokenPooling.name }

        package init(
            _ pooling: TokenPooling, states: Span<Float>, shape: TokenShape,
            embeddings: UnsafeMutableBufferPointer<Float>, in layout: inout ScratchLayout
        ) throws(LossError) {
            try checkCount("states", states.count, is: shape.checkedCount())
            try checkCount("embeddings", embeddings.count, is: shape.checkedEmbeddingCount())
            try shape.checkTokens()
            try checkNoOverlap(NamedMemory("embeddings", embeddings), NamedMemory("states", states.memory))
            self.pooling = pooling
            self.states = states.pointer
            self.shape = shape
            self.embeddings = embeddings
        }

        package func run(on execution: Execution) {
            guard embeddings.count > 0, let output = embeddings.baseAddress else { return }
            switch pooling {
            case .cls:
                for cell in 0..<shape.cells {
                    (output + cell * shape.width).update(
                        from: states + cell * shape.statesPerCell, count: shape.width)
                }
            case .average:
                execution.forEachTask(shape.cells, estimatedNanoseconds: shape.nanosecondsPerPass) {
                    cell, _ in
                    kernels.weighted_row_sum(
                        states + cell * shape.statesPerCell, shape.tokens, shape.width, nil,
                        1 / Double(shape.tokens), output + cell * shape.width)
                }
            }
        }
    }

    /// The gradient with respect to the states.
    package struct GradientPlan: Plan {
        private let pooling: TokenPooling
        private let upstream: UnsafePointer<Float>
        private let shape: TokenShape
        private let output: GradientOutput
        /// The scaled gradient of one cell for each worker.
        private let scaled: ScratchArray<Float>

        package var name: String { TokenPooling.name }

        package init(
            _ pooling: TokenPooling, embeddingGradient: Span<Float>, shape: TokenShape,
            into output: GradientOutput,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            try output.check(count: shape.checkedCount())
            try checkCount("embeddingGradient", embeddingGradient.count, is: shape.checkedEmbeddingCount())
            try shape.checkTokens()
            try checkNoOverlap(output.named, NamedMemory("embeddingGradient", embeddingGradient.memory))
            self.pooling = pooling
            upstream = embeddingGradient.pointer
            self.shape = shape
            self.output = output
            scaled = try layout.add(min(layout.workers, shape.cells), by: shape.width, of: Float.self)
        }

        package func run(on execution: Execution) {
            guard output.memory.count > 0, let gradient = output.memory.baseAddress else { return }
            let scaled = execution.pointer(scaled)
            let writer = StatesGradientWriter(shape, mode: output.mode)
            execution.forEachTask(shape.cells, estimatedNanoseconds: shape.nanosecondsPerPass) {
                cell, worker in
                let upstream = upstream + cell * shape.width
                let gradient = gradient + cell * shape.statesPerCell
                switch pooling {
                case .cls:
                    kernels.scale(upstream, shape.width, output.scale, gradient, output.mode)
                    if output.mode == FASTLOSS_OVERWRITE {
                        (gradient + shape.width).update(
                            repeating: 0, count: shape.statesPerCell - shape.width)
                    }
                case .average:
                    let scaled = scaled + worker * shape.width
                    kernels.scale(
                        upstream, shape.width, output.scale / Double(shape.tokens), scaled,
                        FASTLOSS_OVERWRITE)
                    writer.write(scaled, weights: nil, to: gradient)
                }
            }
        }
    }
}

extension TokenShape {
    /// Throws if there are no tokens.
    fileprivate func checkTokens() throws(LossError) {
        try checkParameter("shape.tokens", Float(tokens), "at least 1") { $0 >= 1 }
    }
}
