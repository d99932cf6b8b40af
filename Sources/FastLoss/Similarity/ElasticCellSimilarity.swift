// Elastic cell similarity (ECS, ESC): the loss, and the epilogue that computes it from blocks of similarities.

import CFastLossKernels

/// Elastic cell similarity of B cell embeddings (scGPT: ECS; scFormer: ESC): pushes similar cells together and dissimilar
/// ones apart.
///
///     N = E / max(‖E‖₂, 10⁻¹²) row by row,   S = N·Nᵀ,   C = relu(S) with C_ii = 0
///     L = Σ_ij [1 − (C_ij − β)²] / B²
///     G_ij = −(2/B²)(C_ij − β) for i ≠ j and S_ij > 0, else 0;   dN = 2·G·N
///     dE_i = (dN_i − N_i(N_i·dN_i)) / ‖E_i‖
///
/// As upstream has it, the denominator counts the diagonal: the diagonal and every pair that is not positive contribute 1 − β².
/// Where ‖E_i‖ < 10⁻¹² the row is divided by 10⁻¹² and dE_i = dN_i / 10⁻¹²: the raised norm is a constant, as in PyTorch's
/// `normalize`. A zero row has no positive similarity, hence gradient 0. With B = 1 the loss is 1 − β² and its
/// gradient 0. NaN and infinite embeddings propagate. No rows at all is an empty selection.
///
/// Half of the B×B matrix is computed, and beyond 1,024 rows none of it is stored: a tile is multiplied, turned into its
/// part of the loss and of the gradient while it is in cache, and multiplied into both of its row blocks. That is 3·B²·D
/// flops for value and gradient (B²·D for the value alone) and about B·(D + 48) floats of scratch memory, beside a tile and a
/// panel of 32·D for each worker: 34 MiB at B = 16,384, D = 512. Up to 1,024 rows it is about B·(2·D + B) of them, 8 MiB at
/// most for D = 512, where up to 128 rows each worker has its own 2·B·D. Where the gradient accumulates, another B·D
/// beyond 1,024 rows and 64·D for each worker up to there.
///
/// Source: `loss_ecs` in scGPT's `TransformerModel`; the threshold is upstream's `ecs_threshold`. In the total objective
/// it has the weight 10.
public struct ElasticCellSimilarity: Sendable {
    /// β, in [−1, 1]. Upstream: 0.3 by constructor, 0.8 for integration; scFormer 0.5 or 0.85.
    public var threshold: Float
    public var whenEmpty: EmptySelectionRule

    public init(threshold: Float = 0.8, whenEmpty: EmptySelectionRule = .error) {
        self.threshold = threshold
        self.whenEmpty = whenEmpty
    }

    /// The loss; its count is B.
    ///
    /// - Parameters:
    ///   - embeddings: B·D values, row-major.
    ///   - shape: B rows (cells) of D columns.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree or exceed BLAS, a threshold out of range, no rows.
    public func value(
        embeddings: Span<Float>, shape: MatrixShape, workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try Plan(self, embeddings: embeddings, shape: shape, into: nil, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The loss and its gradient with respect to the embeddings.
    ///
    /// - Parameters:
    ///   - embeddings: B·D values, row-major.
    ///   - shape: B rows (cells) of D columns.
    ///   - gradient: receives B·D gradients; may not overlap the embeddings.
    ///   - gradientScale: a finite factor of the gradient alone.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(embeddings:shape:workspace:)``, and overlap.
    public func valueAndGradient(
        embeddings: Span<Float>, shape: MatrixShape, gradient: inout MutableSpan<Float>,
        gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        var layout = workspace.layout
        let plan = try Plan(self, embeddings: embeddings, shape: shape, into: output, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The loss, from an array; a thin wrapper that makes its own workspace.
    public func value(embeddings: [Float], shape: MatrixShape) throws(LossError) -> LossValue {
        try value(embeddings: embeddings.span, shape: shape, workspace: Workspace())
    }

    /// The loss and its gradient, from an array; a thin wrapper that makes its own workspace.
    public func valueAndGradient(
        embeddings: [Float], shape: MatrixShape, gradientScale: Float = 1
    ) throws(LossError) -> (loss: LossValue, gradient: [Float]) {
        var gradient = [Float](repeating: 0, count: embeddings.count)
        var span = gradient.mutableSpan
        let loss = try valueAndGradient(
            embeddings: embeddings.span, shape: shape, gradient: &span, gradientScale: gradientScale,
            workspace: Workspace())
        return (loss, gradient)
    }
}

// MARK: - Plan

extension ElasticCellSimilarity {
    /// The loss of one batch and, where it is wanted, its gradient.
    package struct Plan: FastLoss.Plan {
        /// How Σ (C_ij − β)² over all i and j is computed.
        private enum Way {
            /// Nothing is: there are no rows.
            case empty(value: Double)
            /// Embeddings without elements have similarity 0 with each other.
            case withoutElements
            case similarities(BlockedSimilarities, sums: ScratchArray<Double>)
        }

        private let threshold: Float
        private let rows: Int
        private let way: Way

        package var name: String { "ElasticCellSimilarity" }

        /// - Parameter argument: what the embeddings are called in messages.
        package init(
            _ loss: ElasticCellSimilarity, embeddings: Span<Float>, named argument: String = "embeddings",
            shape: MatrixShape, into output: GradientOutput?, in layout: inout ScratchLayout
        ) throws(LossError) {
            threshold = loss.threshold
            rows = shape.rows
            try checkParameter("threshold", loss.threshold, "between -1 and 1") { $0 >= -1 && $0 <= 1 }
            try checkEmbeddings(embeddings, named: argument, shape: shape)
            if let output { try checkGradient(output, of: embeddings, named: argument) }
            guard rows > 0 else {
                way = .empty(value: try loss.whenEmpty.value(loss: "ElasticCellSimilarity", row: nil))
                return
            }
            guard shape.columns > 0 else {
                way = .withoutElements
                return
            }
            let similarities = try BlockedSimilarities(
                ElasticCellSimilarity.side(
                    embeddings.pointer, shape: shape, batch: rows, gradient: output),
                schedule: Self.schedule(rows: rows), in: &layout)
            way = .similarities(similarities, sums: try layout.add(similarities.blocks, of: Double.self))
        }

        /// Up to 1,024 rows, the whole matrix of factors stays in the last-level cache (4 MiB), and its strips are two stretches
        /// of independent tasks: with tiles, workers would spend their time between rounds. Beyond, memory grows with B, not
        /// with B². A tile of 256 × 256 floats (272 KiB) stays in the second-level cache between its three products; fewer rows
        /// visit the gradient more often, more gain nothing.
        private static func schedule(rows: Int) -> BlockedSimilarities.Schedule {
            rows <= 1024
                ? .strips(RowStrips(upperTriangleOf: rows))
                : .tiles(TilePairs(rows: rows, largestBlock: 256), inRounds: true)
        }

        package func run(on execution: Execution) -> LossValue {
            let pairs = Double(rows) * Double(rows)
            let sum: Double
            switch way {
            case .empty(let value): return LossValue(value: value, selectedCount: 0)
            case .withoutElements: sum = pairs * Double(threshold) * Double(threshold)
            case .similarities(let similarities, let sums):
                let epilogue = ElasticEpilogue(
                    threshold: threshold, sums: execution.pointer(sums),
                    needsFactors: similarities.formsGradients)
                similarities.run(epilogue, on: execution)
                sum = (0..<similarities.blocks).reduce(0) { $0 + epilogue.sums[$1] }
            }
            return LossValue(value: 1 - sum / pairs, selectedCount: rows)
        }
    }

    /// PyTorch's `normalize`: norms below 10⁻¹² are raised to it.
    static let normFloor = NormalizedRows.Floor(norm: 1e-12, gradient: .constantNorm)

    /// Some rows of a batch of `batch` rows.
    package static func side(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, firstRow: Int = 0, batch: Int,
        gradient output: GradientOutput?
    ) -> SimilaritySide {
        // dL/dN from Σ_j (C_ij − β)·N_j: L holds −(c − β)²/B² of each pair twice, −2/B² by the square and 2 by the symmetry.
        SimilaritySide(
            embeddings: embeddings, shape: shape, floor: normFloor, firstRow: firstRow,
            gradient: output.map { ($0, -4 * $0.scale / (Double(batch) * Double(batch))) })
    }
}

// MARK: - Epilogue

/// Σ (C_ij − β)² of each block, mirror images included; an element becomes C_ij − β where S_ij > 0 and i ≠ j, else 0.
package struct ElasticEpilogue: SimilarityEpilogue {
    let threshold: Float
    /// One for each block.
    let sums: UnsafeMutablePointer<Double>
    let needsFactors: Bool

    package init(threshold: Float, sums: UnsafeMutablePointer<Double>, needsFactors: Bool) {
        self.threshold = threshold
        self.sums = sums
        self.needsFactors = needsFactors
    }

    package func visit(_ block: SimilarityBlock) {
        // A zero counts β² and has no gradient, as the loss asks of the diagonal.
        for row in block.diagonalRows { block.row(row)[block.diagonal + row] = 0 }
        func sum(_ columns: Range<Int>) -> Double {
            kernels.elastic_cell_similarity(
                block.memory + columns.lowerBound, block.rows.count, columns.count, block.stride, threshold,
                needsFactors ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT)
        }
        let once = block.columns.count - block.mirroredColumns
        sums[block.number] = sum(0..<once) + 2 * sum(once..<block.columns.count)
    }
}
