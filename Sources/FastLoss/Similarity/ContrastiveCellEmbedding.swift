// Contrastive cell embedding (CCE): the loss, and the epilogue that computes it from rows of similarities.

import CFastLossKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Contrastive loss between two encodings of the same B cells (scGPT, scFormer: CCE).
///
///     A_ij = cos(E₁ᵢ, E₂ⱼ) / τ,   norms raised to 10⁻⁸
///     L = mean over i of (log Σⱼ exp A_ij − A_ii)
///     dA = (softmax of each row of A − I) / B;   dN₁ = dA·N₂ / τ;   dN₂ = dAᵀ·N₁ / τ
///     dE_i = (dN_i − N_i(N_i·dN_i)) / ‖E_i‖ on both sides
///
/// The softmax runs over rows of A alone, so the loss is not symmetric in its arguments. NaN and infinite
/// embeddings propagate. A batch without rows is an empty selection.
///
/// A row shorter than 10⁻⁸ is divided by 10⁻⁸: N_i = E_i/10⁻⁸. Its gradient is dE_i = (dN_i − u_i(N_i·dN_i))
/// / 10⁻⁸ with u_i = E_i/‖E_i‖. It projects as if the norm had not been raised, as PyTorch's
/// `cosine_similarity` does. A zero row has N_i = 0 and dE_i = dN_i / 10⁻⁸, which need not be 0.
///
/// Embeddings are `Float`, ``BFloat16`` or `Float16`, both of one type, and the gradients have it. Rows are
/// widened before they are normalised, and each gradient is rounded once.
///
/// The B×B matrix is never stored. A slab of 256 whole rows is multiplied, its rows become their loss and
/// their probabilities, and the slab is multiplied into both gradients. That is 6·B²·D flops for value and
/// gradients (2·B²·D for the value alone); nothing is computed twice. Scratch memory is about (3·D + 256)·B
/// floats, D rounded up to whole cache lines and B to whole panels of 32 rows. Gradients that accumulate or are
/// 16-bit need another D·B, and 64·D for each worker. Up to 128 rows each worker has its own 3·D·B. The value alone needs
/// 64·B for each worker instead of 256·B.
///
/// Source: `Similarity` and `loss_cce` in scGPT's and scFormer's `TransformerModel`, after SimCSE (Gao, Yao &
/// Chen 2021). In the total objective it has the weight 10.
public struct ContrastiveCellEmbedding: Sendable {
    /// τ, above 0. Upstream uses 0.5.
    public var temperature: Float
    /// What a batch without rows gives.
    public var whenEmpty: EmptySelectionRule

    /// Creates the loss.
    ///
    /// - Parameters:
    ///   - temperature: τ, above 0.
    ///   - whenEmpty: what a batch without rows gives.
    public init(temperature: Float = 0.5, whenEmpty: EmptySelectionRule = .error) {
        self.temperature = temperature
        self.whenEmpty = whenEmpty
    }

    /// Computes the loss. Its count is B.
    ///
    /// - Parameters:
    ///   - first: B·D values, row-major.
    ///   - second: B·D values; row i encodes the same cell as row i of `first`.
    ///   - shape: B rows (cells) of D columns.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` if shapes disagree or are too large for BLAS, if the temperature is not above
    ///   0, or if there are no rows and ``whenEmpty`` is `.error`.
    @specialized(where Element == Float)
    public func value<Element: ModelOutputElement>(
        first: Span<Element>, second: Span<Element>, shape: MatrixShape, workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try Plan(
            self, first: ModelElements(first), second: ModelElements(second), shape: shape, into: nil, nil,
            in: &layout)
        return try workspace.run(plan, layout)
    }

    /// Computes the loss and its gradients with respect to both encodings.
    ///
    /// - Parameters:
    ///   - first: B·D values, row-major.
    ///   - second: B·D values; row i encodes the same cell as row i of `first`.
    ///   - shape: B rows (cells) of D columns.
    ///   - firstGradient: receives B·D gradients. It may not overlap any other argument.
    ///   - secondGradient: receives B·D gradients. It may not overlap any other argument.
    ///   - gradientScale: a finite factor of the gradients. The loss does not depend on it.
    ///   - update: whether the gradients replace the buffers' contents or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` as ``value(first:second:shape:workspace:)`` does, and if buffers overlap.
    @specialized(where Element == Float)
    public func valueAndGradient<Element: ModelOutputElement>(
        first: Span<Element>, second: Span<Element>, shape: MatrixShape,
        firstGradient: inout MutableSpan<Element>, secondGradient: inout MutableSpan<Element>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let outputs = (
            GradientOutput(
                firstGradient.memory, named: "firstGradient", scale: gradientScale, update: update),
            GradientOutput(
                secondGradient.memory, named: "secondGradient", scale: gradientScale, update: update)
        )
        var layout = workspace.layout
        let plan = try Plan(
            self, first: ModelElements(first), second: ModelElements(second), shape: shape, into: outputs.0,
            outputs.1, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// Computes the loss of arrays, in a workspace of its own.
    public func value(first: [Float], second: [Float], shape: MatrixShape) throws(LossError) -> LossValue {
        try value(first: first.span, second: second.span, shape: shape, workspace: Workspace())
    }

    /// Computes the loss of arrays and its gradients, in a workspace of its own.
    public func valueAndGradient(
        first: [Float], second: [Float], shape: MatrixShape, gradientScale: Float = 1
    ) throws(LossError) -> (loss: LossValue, firstGradient: [Float], secondGradient: [Float]) {
        var firstGradient = [Float](repeating: 0, count: first.count)
        var secondGradient = [Float](repeating: 0, count: second.count)
        var firstSpan = firstGradient.mutableSpan
        var secondSpan = secondGradient.mutableSpan
        let loss = try valueAndGradient(
            first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
            secondGradient: &secondSpan, gradientScale: gradientScale, workspace: Workspace())
        return (loss, firstGradient, secondGradient)
    }
}

// MARK: - Plan

extension ContrastiveCellEmbedding {
    /// The loss of one batch, and the gradients that have an output.
    package struct Plan: FastLoss.Plan {
        private let rows: Int
        private let temperature: Float
        /// The loss if there are no rows.
        private let emptyValue: Double
        /// Nil if the embeddings have no elements.
        private let similarities: BlockedSimilarities?
        private let losses: ScratchArray<Double>

        package var name: String { "ContrastiveCellEmbedding" }

        /// - Parameters:
        ///   - names: the names of the two encodings in messages.
        ///   - sum: floats that take the first gradient in place of its output. The caller writes them there.
        package init(
            _ loss: ContrastiveCellEmbedding, first: ModelElements, second: ModelElements,
            named names: (first: String, second: String) = ("first", "second"), shape: MatrixShape,
            into firstOutput: GradientOutput?, _ secondOutput: GradientOutput?,
            firstSummedIn sum: ScratchArray<Float>? = nil, in layout: inout ScratchLayout
        ) throws(LossError) {
            // A subnormal temperature would have an infinite reciprocal.
            try checkParameter("temperature", loss.temperature, "above 0 and finite") {
                $0 >= .leastNormalMagnitude && $0.isFinite
            }
            try checkEmbeddings(first, named: names.first, shape: shape)
            try checkEmbeddings(second, named: names.second, shape: shape)
            if let firstOutput {
                try checkGradient(firstOutput, of: first, named: names.first)
                try checkNoOverlap(firstOutput.named, second.named(names.second))
            }
            if let secondOutput {
                try checkGradient(secondOutput, of: second, named: names.second)
                try checkNoOverlap(secondOutput.named, first.named(names.first))
                try checkNoOverlap(secondOutput.named, firstOutput?.named)
            }
            rows = shape.rows
            temperature = loss.temperature
            emptyValue = rows > 0 ? 0 : try loss.whenEmpty.value(loss: "ContrastiveCellEmbedding", row: nil)
            guard rows > 0, shape.columns > 0 else {
                similarities = nil
                losses = try layout.add(0, of: Double.self)
                return
            }
            var firstSide = loss.side(first, shape: shape, batch: rows, gradient: firstOutput)
            firstSide.sum = sum
            similarities = try BlockedSimilarities(
                firstSide, loss.side(second, shape: shape, batch: rows, gradient: secondOutput),
                schedule: .strips(RowStrips(rows: rows, columns: rows)), in: &layout)
            losses = try layout.add(rows, of: Double.self)
        }

        package func run(on execution: Execution) -> LossValue {
            guard rows > 0 else { return LossValue(value: emptyValue, selectedCount: 0) }
            // Without columns all cosines are 0, and each row's loss is the logarithm of B equal terms.
            guard let similarities else { return LossValue(value: log(Double(rows)), selectedCount: rows) }
            let epilogue = ContrastiveEpilogue(
                temperature: temperature, losses: execution.pointer(losses),
                needsFactors: similarities.formsGradients)
            similarities.run(epilogue, on: execution)
            let sum = (0..<rows).reduce(0.0) { $0 + epilogue.losses[$1] }
            return LossValue(value: sum / Double(rows), selectedCount: rows)
        }
    }

    /// Norms below 10⁻⁸ are raised to it, as in PyTorch's `cosine_similarity`.
    private static let normFloor = NormalizedRows.Floor(norm: 1e-8, gradient: .unclampedDirection)

    /// Some rows of one of the encodings of `batch` cells.
    ///
    /// Similarities round alike, because a probability has their rounding 1/τ times: otherwise the gradients of
    /// confident cells would depend on how the batch is spread over ranks.
    package func side(
        _ embeddings: ModelElements, shape: MatrixShape, firstRow: Int = 0, batch: Int,
        gradient output: GradientOutput?
    ) -> SimilaritySide {
        let divisor = Double(batch) * Double(temperature) * Double(ContrastiveEpilogue.probabilityScale)
        return SimilaritySide(
            embeddings: embeddings, shape: shape, floor: Self.normFloor, firstRow: firstRow,
            roundsAlike: true,
            gradient: output.map { ($0, 1 / divisor * $0.scale) })
    }
}

// MARK: - Epilogue

/// The cross-entropy of each row of A = S/τ against the cell itself; the row becomes softmax(A) − I, times
/// ``probabilityScale``. Blocks have whole rows.
package struct ContrastiveEpilogue: SimilarityEpilogue {
    /// The factor that probabilities and dN carry until the gradient's factor, which is applied in double,
    /// divides by it. A probability may be subnormal in Float although its gradient is not. Sums of 2²⁷
    /// scaled probabilities are finite.
    package static let probabilityScale: Float = 0x1p100

    let inverseTemperature: Float
    /// One for each row of the left operand.
    let losses: UnsafeMutablePointer<Double>
    let needsFactors: Bool

    package init(temperature: Float, losses: UnsafeMutablePointer<Double>, needsFactors: Bool) {
        inverseTemperature = Float(1 / Double(temperature))
        self.losses = losses
        self.needsFactors = needsFactors
    }

    package func visit(_ block: SimilarityBlock) {
        for index in 0..<block.rows.count {
            let similarities = block.row(index)
            losses[block.rows.lowerBound + index] = kernels.softmax_cross_entropy(
                similarities, block.columns.count, block.diagonal + index, inverseTemperature,
                Self.probabilityScale, similarities, needsFactors ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT)
        }
    }
}
