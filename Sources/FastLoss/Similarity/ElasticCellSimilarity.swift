// Elastic cell similarity (ECS, ESC): the loss, and the epilogue that computes it from blocks of
// similarities.

import CFastLossKernels

/// Elastic cell similarity of B cell embeddings (scGPT: ECS; scFormer: ESC): pushes similar cells together
/// and dissimilar ones apart.
///
///     N = E / max(‖E‖₂, 10⁻¹²) row by row,   S = N·Nᵀ,   C = relu(S) with C_ii = 0
///     L = Σ_ij [1 − (C_ij − β)²] / B²
///     G_ij = −(2/B²)(C_ij − β) for i ≠ j and S_ij > 0, else 0;   dN = 2·G·N
///     dE_i = (dN_i − N_i(N_i·dN_i)) / ‖E_i‖
///
/// The denominator counts the diagonal, as upstream does: the diagonal and every pair without a positive
/// similarity contribute 1 − β². A row shorter than 10⁻¹² is divided by 10⁻¹², and dE_i = dN_i / 10⁻¹²: the
/// raised norm is a constant, as in PyTorch's `normalize`. A zero row has no positive similarity, so its
/// gradient is 0. With B = 1 the loss is 1 − β² and the gradient 0. NaN and infinite embeddings propagate. A
/// batch without rows is an empty selection.
///
/// Embeddings are `Float`, ``BFloat16`` or `Float16`, and the gradient has their type. Rows are widened before
/// they are normalised, and the gradient is rounded once.
///
/// Half of the B×B matrix is computed: 3·B²·D flops for value and gradient, B²·D for the value alone.
///
/// - Up to 1,024 rows the gradient needs the matrix in scratch memory, which takes about B·(2·D + B) floats:
///   8 MiB at most for D = 512. Up to 128 rows each worker has its own 2·B·D of them. A gradient that
///   accumulates or is 16-bit needs another 64·D for each worker. The value alone needs 64·B for each worker
///   instead of the matrix.
/// - Beyond 1,024 rows the matrix is never stored. A tile is multiplied, turned into its part of the loss and
///   into factors while it is in cache, and multiplied into the gradients of its rows and of its columns.
///   Scratch memory is about B·(D + 48) floats, and a tile for each worker: 34 MiB at B =
///   16,384, D = 512. A gradient that accumulates or is 16-bit needs another B·D.
/// - Pairs of row blocks whose similarities are proved to be all positive, or all negative, need no
///   similarities: see ``certificate``. A batch in one cone takes 3·B·D² flops. The sums need up to nine
///   matrices of D² floats.
///
/// Source: `loss_ecs` in scGPT's `TransformerModel`; the threshold is upstream's `ecs_threshold`. In the
/// total objective it has the weight 10.
public struct ElasticCellSimilarity: Sendable {
    /// β, in [−1, 1]. Upstream: 0.3 by constructor, 0.8 for integration; scFormer 0.5 or 0.85.
    public var threshold: Float
    /// What a batch without rows gives.
    public var whenEmpty: EmptySelectionRule
    /// Whether pairs whose signs can be proved are left out of the products.
    public var certificate: Certificate

    /// Whether ECS looks for pairs of row blocks whose similarities are all positive, or all negative, before
    /// it computes any.
    ///
    /// Such pairs need no similarities: see <doc:ElasticSimilarityInClosedForm>. Their number is
    /// ``LossValue/certifiedPairs``.
    public enum Certificate: Equatable, Sendable {
        /// Looks for them where they would save time: beyond 1,024 rows, and with at least twice as many rows
        /// as columns. Uses them if the errors remain those of the computed pairs.
        case automatic
        /// Computes every pair.
        case never
    }

    /// Creates the loss.
    ///
    /// - Parameters:
    ///   - threshold: β, in [−1, 1].
    ///   - whenEmpty: what a batch without rows gives.
    ///   - certificate: whether pairs whose signs can be proved are left out of the products.
    public init(
        threshold: Float = 0.8, whenEmpty: EmptySelectionRule = .error, certificate: Certificate = .automatic
    ) {
        self.threshold = threshold
        self.whenEmpty = whenEmpty
        self.certificate = certificate
    }

    /// Computes the loss. Its count is B.
    ///
    /// - Parameters:
    ///   - embeddings: B·D values, row-major.
    ///   - shape: B rows (cells) of D columns.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` if shapes disagree or are too large for BLAS, if the threshold is out of
    ///   range, or if there are no rows and ``whenEmpty`` is `.error`.
    @specialized(where Element == Float)
    public func value<Element: ModelOutputElement>(
        embeddings: Span<Element>, shape: MatrixShape, workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try Plan(
            self, embeddings: ModelElements(embeddings), shape: shape, into: nil, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// Computes the loss and its gradient with respect to the embeddings.
    ///
    /// - Parameters:
    ///   - embeddings: B·D values, row-major.
    ///   - shape: B rows (cells) of D columns.
    ///   - gradient: receives B·D gradients. It may not overlap the embeddings.
    ///   - gradientScale: a finite factor of the gradient. The loss does not depend on it.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` as ``value(embeddings:shape:workspace:)`` does, and if the buffers overlap.
    @specialized(where Element == Float)
    public func valueAndGradient<Element: ModelOutputElement>(
        embeddings: Span<Element>, shape: MatrixShape, gradient: inout MutableSpan<Element>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        var layout = workspace.layout
        let plan = try Plan(
            self, embeddings: ModelElements(embeddings), shape: shape, into: output, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// Computes the loss of an array, in a workspace of its own.
    public func value(embeddings: [Float], shape: MatrixShape) throws(LossError) -> LossValue {
        try value(embeddings: embeddings.span, shape: shape, workspace: Workspace())
    }

    /// Computes the loss of an array and its gradient, in a workspace of its own.
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
    /// The loss of one batch, and its gradient if it has an output.
    package struct Plan: FastLoss.Plan {
        /// How Σ (C_ij − β)² over all i and j is computed.
        private enum Way {
            /// There are no rows.
            case empty(value: Double)
            /// There are no columns: all similarities are 0.
            case withoutElements
            case similarities(
                BlockedSimilarities, sums: ScratchArray<Double>, certified: CertifiedPairs.Scratch?)
        }

        private let threshold: Float
        private let rows: Int
        private let way: Way

        package var name: String { "ElasticCellSimilarity" }

        /// - Parameters:
        ///   - argument: the name of the embeddings in messages.
        ///   - sum: floats that take the gradient in place of the output. The caller writes them there.
        package init(
            _ loss: ElasticCellSimilarity, embeddings: ModelElements, named argument: String = "embeddings",
            shape: MatrixShape, into output: GradientOutput?, summedIn sum: ScratchArray<Float>? = nil,
            in layout: inout ScratchLayout
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
            let schedule = Self.schedule(rows: rows)
            var side = ElasticCellSimilarity.side(embeddings, shape: shape, batch: rows, gradient: output)
            side.sum = sum
            let similarities = try BlockedSimilarities(side, schedule: schedule, in: &layout)
            let sums = try layout.add(similarities.blocks, of: Double.self)
            var certified: CertifiedPairs.Scratch?
            if case .tiles(let pairs, _) = schedule, loss.certificate == .automatic {
                certified = try CertifiedPairs.Scratch(pairs, columns: shape.columns, in: &layout)
            }
            way = .similarities(similarities, sums: sums, certified: certified)
        }

        /// Up to 1,024 rows the whole matrix of factors (4 MiB) stays in the last-level cache. Its strips are
        /// independent tasks, whereas workers on tiles would wait at the end of each round.
        ///
        /// Beyond, tiles keep the memory proportional to B. A tile of 256 × 256 floats (272 KiB) stays in the
        /// second-level cache between its three products. Measured: the article Tuning.
        static func schedule(rows: Int) -> BlockedSimilarities.Schedule {
            rows <= 1024
                ? .strips(RowStrips(upperTriangleOf: rows))
                : .tiles(TilePairs(rows: rows, largestBlock: 256), inRounds: true)
        }

        package func run(on execution: Execution) -> LossValue {
            let pairs = Double(rows) * Double(rows)
            var sum: Double
            var certifiedPairs = 0
            switch way {
            case .empty(let value): return LossValue(value: value, selectedCount: 0)
            case .withoutElements: sum = pairs * Double(threshold) * Double(threshold)
            case .similarities(let similarities, let sums, let certified):
                let epilogue = ElasticEpilogue(
                    threshold: threshold, sums: execution.pointer(sums),
                    needsFactors: similarities.formsGradients)
                sum = 0
                if let certified {
                    similarities.runTiles(epilogue, on: execution) { block, rows in
                        certified.sum(block, of: rows, on: execution)
                    } replacing: { rows, gradient in
                        let pairs = CertifiedPairs(certified, of: rows, threshold: threshold, on: execution)
                        guard let contribution = pairs.contribution(gradient: gradient) else { return nil }
                        sum = contribution.sum
                        certifiedPairs = contribution.pairs
                        epilogue.sums.update(repeating: 0, count: similarities.blocks)
                        return pairs.replaced
                    }
                } else {
                    similarities.run(epilogue, on: execution)
                }
                sum += (0..<similarities.blocks).reduce(0) { $0 + epilogue.sums[$1] }
            }
            return LossValue(value: 1 - sum / pairs, selectedCount: rows, certifiedPairs: certifiedPairs)
        }
    }

    /// Norms below 10⁻¹² are raised to it, as in PyTorch's `normalize`.
    static let normFloor = NormalizedRows.Floor(norm: 1e-12, gradient: .constantNorm)

    /// Some rows of a batch of `batch` rows.
    package static func side(
        _ embeddings: ModelElements, shape: MatrixShape, firstRow: Int = 0, batch: Int,
        gradient output: GradientOutput?
    ) -> SimilaritySide {
        // dL/dN_i = −4/B² · Σ_j (C_ij − β)·N_j: a factor 2 is the square's, the other stems from the pairs
        // (i, j) and (j, i).
        SimilaritySide(
            embeddings: embeddings, shape: shape, floor: normFloor, firstRow: firstRow,
            gradient: output.map { ($0, -4 * $0.scale / (Double(batch) * Double(batch))) })
    }
}

// MARK: - Epilogue

/// Sums (C_ij − β)² over a block and its mirror image. Element (i, j) becomes C_ij − β if S_ij > 0 and i ≠ j,
/// else 0.
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
        // An element of 0 adds β² and has no gradient, as the loss defines the diagonal.
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
