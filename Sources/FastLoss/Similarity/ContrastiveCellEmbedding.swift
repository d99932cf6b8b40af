// Contrastive cell embedding (CCE), streamed over slabs of rows of the similarity matrix.

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
/// Only rows of A are normalised, so the loss is not symmetric in its arguments. NaN and infinite embeddings propagate. No
/// rows at all is an empty selection.
///
/// Where ‖E_i‖ < 10⁻⁸ the value divides the row by 10⁻⁸, N_i = E_i/10⁻⁸, and dE_i = (dN_i − u_i(N_i·dN_i)) / 10⁻⁸ with
/// u_i = E_i/‖E_i‖: the gradient projects as if the norm had not been raised, as that of PyTorch's `cosine_similarity` does. A
/// zero row has N_i = 0 and dE_i = dN_i / 10⁻⁸, which need not be 0.
///
/// The B×B matrix is never stored: a slab of 256 whole rows is multiplied, its rows turned into their loss and their
/// probabilities, and the slab multiplied into both gradients. That is 6·B²·D flops for value and gradients (2·B²·D for the
/// value alone) with nothing computed twice, and about (3·D + 256)·B floats of scratch memory, D rounded up to whole cache
/// lines and B to whole panels of 32 rows (another 2·D·B where gradients accumulate). Up to 128 rows each worker has its own
/// 3·D·B of them.
///
/// Source: `Similarity` and `loss_cce` in scGPT's and scFormer's `TransformerModel`, after SimCSE (Gao, Yao & Chen 2021). In the
/// total objective it has the weight 10.
public struct ContrastiveCellEmbedding: Sendable {
    /// τ, above 0. Upstream's is 0.5.
    public var temperature: Float
    public var whenEmpty: EmptySelectionRule

    public init(temperature: Float = 0.5, whenEmpty: EmptySelectionRule = .error) {
        self.temperature = temperature
        self.whenEmpty = whenEmpty
    }

    /// The loss; its count is B.
    ///
    /// - Parameters:
    ///   - first: B·D values, row-major.
    ///   - second: B·D values; row i encodes the same cell as row i of `first`.
    ///   - shape: B rows (cells) of D columns.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree or exceed BLAS, a temperature that is not above 0, no rows.
    public func value(
        first: Span<Float>, second: Span<Float>, shape: MatrixShape, workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try Plan(self, first: first, second: second, shape: shape, into: nil, nil, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The loss and its gradients with respect to both encodings.
    ///
    /// - Parameters:
    ///   - first: B·D values, row-major.
    ///   - second: B·D values; row i encodes the same cell as row i of `first`.
    ///   - shape: B rows (cells) of D columns.
    ///   - firstGradient: receives B·D gradients; may not overlap anything else.
    ///   - secondGradient: receives B·D gradients; may not overlap anything else.
    ///   - gradientScale: a finite factor of the gradients alone.
    ///   - update: whether the gradients replace what the buffers hold or are added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(first:second:shape:workspace:)``, and overlap.
    public func valueAndGradient(
        first: Span<Float>, second: Span<Float>, shape: MatrixShape, firstGradient: inout MutableSpan<Float>,
        secondGradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) -> LossValue {
        let outputs = (
            GradientOutput(
                firstGradient.memory, named: "firstGradient", scale: gradientScale, update: update),
            GradientOutput(
                secondGradient.memory, named: "secondGradient", scale: gradientScale, update: update)
        )
        var layout = workspace.layout
        let plan = try Plan(
            self, first: first, second: second, shape: shape, into: outputs.0, outputs.1, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The loss, from arrays; a thin wrapper that makes its own workspace.
    public func value(first: [Float], second: [Float], shape: MatrixShape) throws(LossError) -> LossValue {
        try value(first: first.span, second: second.span, shape: shape, workspace: Workspace())
    }

    /// The loss and its gradients, from arrays; a thin wrapper that makes its own workspace.
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
    /// What the slab and dN are multiplied by until the gradients' factor, which is applied in double, takes it back: a
    /// probability may be subnormal in Float where the gradient is not. Sums of 2²⁷ of them are finite.
    private static let probabilityScale: Float = 0x1p100

    /// Norms below it are raised to it (PyTorch's `cosine_similarity`).
    private static let normFloor = 1e-8

    /// Rows of A that are in memory at a time: the depth of the product that forms dN₂.
    private static let slabRows = 256

    /// Rows of a slab, and columns of its transposed product, that one task takes: few enough that two workers, or
    /// four, find equal shares, as many as B allows, for the reuse of the other operand.
    private static func rowsPerTask(forBatch rows: Int) -> Int {
        rows <= 64 ? 16 : rows <= 256 ? 32 : 64
    }

    /// The loss of one batch, and its gradients where they are wanted.
    package struct Plan: FastLoss.Plan {
        private let first: UnsafePointer<Float>
        private let second: UnsafePointer<Float>
        private let shape: MatrixShape
        private let temperature: Float
        private let firstOutput: GradientOutput?
        private let secondOutput: GradientOutput?
        /// The loss where there are no rows.
        private let emptyValue: Double

        private let firstRows: NormalizedRows.Scratch
        private let secondRows: NormalizedRows.Scratch
        private let slab: ScratchArray<Float>
        private let losses: ScratchArray<Double>
        // dN where a gradient accumulates. An overwritten gradient serves as its own accumulator.
        private let firstAside: ScratchArray<Float>
        private let secondAside: ScratchArray<Float>

        package var name: String { "ContrastiveCellEmbedding" }

        /// - Parameter names: what the two encodings are called in messages.
        package init(
            _ loss: ContrastiveCellEmbedding, first: Span<Float>, second: Span<Float>,
            named names: (first: String, second: String) = ("first", "second"), shape: MatrixShape,
            into firstOutput: GradientOutput?, _ secondOutput: GradientOutput?, in layout: inout ScratchLayout
        ) throws(LossError) {
            // A subnormal temperature would have an infinite reciprocal.
            try checkParameter("temperature", loss.temperature, "above 0 and finite") {
                $0 >= .leastNormalMagnitude && $0.isFinite
            }
            try checkEmbeddings(first, named: names.first, shape: shape)
            try checkEmbeddings(second, named: names.second, shape: shape)
            if let firstOutput {
                try checkGradient(firstOutput, of: first, named: names.first)
                try checkNoOverlap(firstOutput.named, NamedMemory(names.second, second.memory))
            }
            if let secondOutput {
                try checkGradient(secondOutput, of: second, named: names.second)
                try checkNoOverlap(secondOutput.named, NamedMemory(names.first, first.memory))
                try checkNoOverlap(secondOutput.named, firstOutput?.named)
            }
            let rows = shape.rows
            emptyValue = rows > 0 ? 0 : try loss.whenEmpty.value(loss: "ContrastiveCellEmbedding", row: nil)
            self.first = first.pointer
            self.second = second.pointer
            self.shape = shape
            self.firstOutput = firstOutput
            self.secondOutput = secondOutput
            temperature = loss.temperature

            // Embeddings without elements have the closed form of `run`.
            let needed = shape.columns > 0 ? shape : MatrixShape(rows: 0, columns: 0)
            let perTask = rowsPerTask(forBatch: rows)
            let copies = NormalizedRows.copies(
                needed, workers: min(layout.workers, (needed.rows + perTask - 1) / perTask))
            firstRows = try NormalizedRows.Scratch(needed, keepsPanels: false, copies: copies, in: &layout)
            secondRows = try NormalizedRows.Scratch(needed, keepsPanels: true, copies: copies, in: &layout)
            slab = try layout.add(
                min(needed.rows, slabRows), by: TileProducts.stride(forColumns: needed.rows), of: Float.self)
            losses = try layout.add(needed.rows, of: Double.self)
            let accumulates = (
                firstOutput?.mode == FASTLOSS_ACCUMULATE,
                secondOutput?.mode == FASTLOSS_ACCUMULATE
            )
            firstAside = try layout.add(accumulates.0 ? first.count : 0, of: Float.self)
            secondAside = try layout.add(accumulates.1 ? second.count : 0, of: Float.self)
        }

        package func run(on execution: Execution) -> LossValue {
            let rows = shape.rows
            guard rows > 0 else { return LossValue(value: emptyValue, selectedCount: 0) }
            // Without elements all cosines are 0, and every row's loss is the logarithm of B equal terms.
            guard shape.columns > 0 else { return LossValue(value: log(Double(rows)), selectedCount: rows) }

            let firstUnit = NormalizedRows.Copies(
                first, shape: shape, floor: normFloor, scratch: firstRows, on: execution)
            let secondUnit = NormalizedRows.Copies(
                second, shape: shape, floor: normFloor, scratch: secondRows, on: execution)
            func accumulator(
                _ output: GradientOutput?, _ aside: ScratchArray<Float>
            ) -> UnsafeMutablePointer<Float>? {
                output?.mode == FASTLOSS_ACCUMULATE
                    ? execution.pointer(aside) : output?.memory.baseAddress
            }
            let slab = Slab(
                memory: execution.pointer(slab), stride: TileProducts.stride(forColumns: rows), shape: shape,
                first: firstUnit, second: secondUnit, losses: execution.pointer(losses),
                inverseTemperature: Float(1 / Double(temperature)),
                firstGradient: accumulator(firstOutput, firstAside),
                secondGradient: accumulator(secondOutput, secondAside))
            for start in stride(from: 0, to: rows, by: slabRows) {
                slab.visit(start..<min(rows, start + slabRows), on: execution)
            }

            let factor = 1 / (Double(rows) * Double(temperature) * Double(probabilityScale))
            if let firstOutput {
                firstUnit.backward(
                    from: slab.firstGradient, factor: factor * firstOutput.scale,
                    belowFloor: .unclampedDirection,
                    into: firstOutput, on: execution)
            }
            if let secondOutput {
                secondUnit.backward(
                    from: slab.secondGradient, factor: factor * secondOutput.scale,
                    belowFloor: .unclampedDirection,
                    into: secondOutput, on: execution)
            }
            let sum = (0..<rows).reduce(0.0) { $0 + slab.losses[$1] }
            return LossValue(value: sum / Double(rows), selectedCount: rows)
        }
    }

    /// A slab of whole rows of A = N₁·N₂ᵀ / τ, which becomes softmax(A) − I in place, times ``probabilityScale``.
    private struct Slab {
        let memory: UnsafeMutablePointer<Float>
        let stride: Int
        let shape: MatrixShape
        let first: NormalizedRows.Copies
        let second: NormalizedRows.Copies
        let losses: UnsafeMutablePointer<Double>
        let inverseTemperature: Float
        let firstGradient: UnsafeMutablePointer<Float>?
        let secondGradient: UnsafeMutablePointer<Float>?

        private var batch: Int { shape.rows }
        private var depth: Int { shape.columns }
        private var needsGradient: Bool { firstGradient != nil || secondGradient != nil }

        /// The losses of these rows, their dN₁, and their part of dN₂.
        func visit(_ rows: Range<Int>, on execution: Execution) {
            let perTask = rowsPerTask(forBatch: batch)
            // Of one product, also where there are two: workers that fetch each other's slabs gain less than they compute.
            // Sharing the work at 64×64×128 would halve the speed where two processors share no cache.
            let cost = TileProducts.nanoseconds(rows: rows.count, columns: batch, depth: depth)

            let rowTasks = (rows.count + perTask - 1) / perTask
            execution.forEachTask(rowTasks, estimatedNanoseconds: cost) { task, worker in
                let start = rows.lowerBound + task * perTask
                visitRows(
                    start..<min(rows.upperBound, start + perTask), of: rows, first[worker], second[worker])
            }

            guard let secondGradient else { return }
            // dN₂ of different columns of the slab is written by different tasks; its sum over slabs is in their order.
            let columnTasks = (batch + perTask - 1) / perTask
            execution.forEachTask(columnTasks, estimatedNanoseconds: cost) { task, worker in
                let start = task * perTask
                let columns = start..<min(batch, start + perTask)
                TileProducts.multiplyTransposedLeft(
                    MatrixPointer(memory + start, rows: rows.count, columns: columns.count, stride: stride),
                    first[worker].block(rows), into: secondGradient + start * depth, stride: depth,
                    accumulates: rows.lowerBound > 0)
            }
        }

        private func visitRows(
            _ rows: Range<Int>, of slab: Range<Int>, _ first: NormalizedRows, _ second: NormalizedRows
        ) {
            let slice = memory + (rows.lowerBound - slab.lowerBound) * stride
            first.similarities(rows, second, 0..<batch, into: slice, stride: stride)
            for row in rows {
                let similarities = slice + (row - rows.lowerBound) * stride
                losses[row] = kernels.softmax_cross_entropy(
                    similarities, batch, row, inverseTemperature, probabilityScale, similarities,
                    needsGradient ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT)
            }
            guard let firstGradient else { return }
            TileProducts.multiply(
                MatrixPointer(slice, rows: rows.count, columns: batch, stride: stride),
                second.block(0..<batch),
                into: firstGradient + rows.lowerBound * depth, stride: depth)
        }
    }
}
