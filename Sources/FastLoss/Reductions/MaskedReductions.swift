// Sums and means of every row under several masks, in one product instead of one pass for each mask.

import CFastLossKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Masked sums or means of B rows of L values. All rows share the K masks of L positions.
///
///     sum_bk = Σ_l m_kl x_bl        mean_bk = sum_bk / Σ_l m_kl
///     ∂/∂x_bl = Σ_k m_kl g_bk       with g the outputs' gradient, for the mean divided by Σ_l m_kl
///
/// It is one product (B×L)·(L×K), with the masks as zeros and ones. Typical masks are gene sets, pathways, or
/// the masked and the unmasked genes of a panel.
///
/// **Masks select**, although the product multiplies: a NaN or an infinity outside a mask has no effect on
/// that mask's output, and a NaN in the gradient of an output reaches the positions of its mask alone. Inside
/// a mask, NaN and infinity propagate as IEEE arithmetic says. An infinity stays one, even if finite elements
/// of the other sign overflow.
///
/// **Empty masks** follow ``whenEmpty``, for sums and for means; the error's `row` is the index of the mask.
/// With ``EmptySelectionRule/zero`` and ``EmptySelectionRule/nan`` the output is 0 or NaN, and no position
/// receives a gradient. Without rows (B = 0) or masks (K = 0) there are no outputs and no error.
///
/// Time is 2·B·L·K flops in one read of the values; extra memory is 4·K·L bytes with K rounded up to a multiple
/// of 32, for the gradient 4·K·L and 4·B·K bytes. Up to 256 KiB, each worker has its own 4·K·L bytes. Each output
/// is a sum of L terms in single precision, as PyTorch's product is; results are bitwise the same for any number
/// of workers.
public struct MaskedReductions: Equatable, Sendable {
    /// Whether outputs are means or sums.
    public var reduction: LossReduction
    /// The output of a mask that selects nothing.
    public var whenEmpty: EmptySelectionRule

    /// Means or sums, with this rule for empty masks.
    public init(reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error) {
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }
}

// MARK: - Value and gradient

extension MaskedReductions {
    /// The sum or mean of every row under every mask.
    ///
    /// - Parameters:
    ///   - values: B·L values, one row after the other.
    ///   - masks: K·L selections, one mask after the other.
    ///   - shape: B rows of L columns.
    ///   - maskCount: K.
    ///   - outputs: receives B×K values, row-major; may not overlap an input.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: counts that disagree; overlap; an empty mask, if ``whenEmpty`` is `.error`; L
    ///   or K beyond the 32-bit integers of BLAS.
    public func value(
        values: Span<Float>, masks: Span<Bool>, shape: MatrixShape, maskCount: Int,
        outputs: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try ValuePlan(
            self, values: values, masks: masks, shape: shape, maskCount: maskCount, outputs: outputs.memory,
            in: &layout)
        try workspace.run(plan, layout)
    }

    /// Propagates a gradient of the outputs back to the values.
    ///
    /// - Parameters:
    ///   - outputGradient: B·K derivatives of the objective with respect to the outputs.
    ///   - masks: K·L selections, one mask after the other.
    ///   - shape: B rows of L columns.
    ///   - maskCount: K.
    ///   - gradient: receives B·L derivatives with respect to the values; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(values:masks:shape:maskCount:outputs:workspace:)``; a scale that is
    ///   not finite.
    public func gradient(
        outputGradient: Span<Float>, masks: Span<Bool>, shape: MatrixShape, maskCount: Int,
        gradient: inout MutableSpan<Float>, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try GradientPlan(
            self, outputGradient: outputGradient, masks: masks, shape: shape, maskCount: maskCount,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update), in: &layout)
        try workspace.run(plan, layout)
    }
}

// MARK: - Arrays

extension MaskedReductions {
    /// The sum or mean of every row under every mask, from arrays. Makes a workspace of its own.
    public func value(
        values: [Float], masks: [Bool], shape: MatrixShape, maskCount: Int
    ) throws(LossError) -> [Float] {
        let count = try MaskSet(masks.span, count: maskCount, shape: shape).outputShape.checkedCount()
        var outputs = try zeros(count, for: Self.name)
        var span = outputs.mutableSpan
        try value(
            values: values.span, masks: masks.span, shape: shape, maskCount: maskCount, outputs: &span,
            workspace: Workspace())
        return outputs
    }

    /// The gradient with respect to the values, from arrays. Makes a workspace of its own.
    public func gradient(
        outputGradient: [Float], masks: [Bool], shape: MatrixShape, maskCount: Int, gradientScale: Float = 1
    ) throws(LossError) -> [Float] {
        var gradient = [Float](repeating: 0, count: try shape.checkedCount())
        var span = gradient.mutableSpan
        try self.gradient(
            outputGradient: outputGradient.span, masks: masks.span, shape: shape, maskCount: maskCount,
            gradient: &span, gradientScale: gradientScale, workspace: Workspace())
        return gradient
    }
}

// MARK: - Plans

extension MaskedReductions {
    /// The name of the plans in messages.
    private static let name = "MaskedReductions"

    /// The sum or mean of every row under every mask.
    package struct ValuePlan: Plan {
        private let reductions: MaskedReductions
        private let values: UnsafePointer<Float>
        private let masks: MaskSet
        private let outputs: UnsafeMutableBufferPointer<Float>
        private let indicators: PackedOperand
        private let factors: ScratchArray<Double>

        package var name: String { MaskedReductions.name }

        package init(
            _ reductions: MaskedReductions, values: Span<Float>, masks selections: Span<Bool>,
            shape: MatrixShape, maskCount: Int, outputs: UnsafeMutableBufferPointer<Float>,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            masks = try MaskSet(selections, count: maskCount, shape: shape)
            try checkCount("values", values.count, is: shape.checkedCount())
            try checkCount("outputs", outputs.count, is: masks.outputShape.checkedCount())
            try checkNoOverlap(NamedMemory("outputs", outputs), NamedMemory("values", values.memory))
            try checkNoOverlap(NamedMemory("outputs", outputs), NamedMemory("masks", selections.memory))
            try masks.checkSelections(reductions.whenEmpty)
            TileProducts.prepare(in: &layout)
            // Without outputs there is no product.
            indicators = try PackedOperand(
                masks: selections.pointer, rows: outputs.isEmpty ? 0 : maskCount, columns: shape.columns,
                in: &layout)
            factors = try layout.add(outputs.isEmpty ? 0 : maskCount, of: Double.self)
            self.reductions = reductions
            self.values = values.pointer
            self.outputs = outputs
        }

        package func run(on execution: Execution) {
            guard outputs.count > 0, let outputs = outputs.baseAddress else { return }
            let factors = execution.pointer(factors)
            masks.writeFactors(
                of: reductions.reduction, empty: reductions.whenEmpty == .nan ? .nan : 0, to: factors)
            indicators.pack(on: execution)
            masks.forEachBlockOfRows(on: execution) { rows, worker in
                let values = values + rows.lowerBound * masks.shape.columns
                let outputs = outputs + rows.lowerBound * masks.count
                indicators.multiply(
                    MatrixPointer(values, rows: rows.count, columns: masks.shape.columns), into: outputs,
                    stride: masks.count, worker: worker, on: execution)
                for row in 0..<rows.count {
                    finish(
                        outputs + row * masks.count, row: values + row * masks.shape.columns,
                        factors: factors)
                }
            }
        }

        /// Turns the products of one row into outputs.
        ///
        /// Zero times NaN or infinity is NaN, so an element outside the mask can only turn a product into
        /// NaN. A NaN is therefore computed again by selection, unless the mask is empty and NaN is its output.
        /// All other products equal the selected sum.
        private func finish(
            _ products: UnsafeMutablePointer<Float>, row: UnsafePointer<Float>,
            factors: UnsafePointer<Double>
        ) {
            for mask in 0..<masks.count { products[mask] = Float(Double(products[mask]) * factors[mask]) }
            for mask in 0..<masks.count where products[mask].isNaN && !factors[mask].isNaN {
                products[mask] = Float(masks.selectingSum(of: row, under: mask) * factors[mask])
            }
        }
    }

    /// The gradient with respect to the values.
    package struct GradientPlan: Plan {
        private let reductions: MaskedReductions
        private let upstream: UnsafePointer<Float>
        private let masks: MaskSet
        private let output: GradientOutput
        /// The masks as zeros and ones, for each worker that has a copy.
        private let indicators: ScratchMatrix
        private let copies: WorkerCopies
        private let factors: ScratchArray<Double>
        /// The outputs' gradient times the factor of its mask, B×K.
        private let scaled: ScratchArray<Float>

        package var name: String { MaskedReductions.name }

        package init(
            _ reductions: MaskedReductions, outputGradient: Span<Float>, masks selections: Span<Bool>,
            shape: MatrixShape, maskCount: Int, into output: GradientOutput, in layout: inout ScratchLayout
        ) throws(LossError) {
            masks = try MaskSet(selections, count: maskCount, shape: shape)
            let outputCount = try masks.outputShape.checkedCount()
            try checkCount("outputGradient", outputGradient.count, is: outputCount)
            try output.check(count: shape.checkedCount())
            try checkNoOverlap(output.named, NamedMemory("outputGradient", outputGradient.memory))
            try checkNoOverlap(output.named, NamedMemory("masks", selections.memory))
            try masks.checkSelections(reductions.whenEmpty)
            TileProducts.prepare(in: &layout)
            // Without values there is no product.
            let isNeeded = !output.memory.isEmpty
            copies = try WorkerCopies(
                oneForEachWorker: isNeeded && selections.count <= WorkerCopies.mostFloats, in: &layout)
            indicators = try ScratchMatrix(
                rows: isNeeded ? copies.count * maskCount : 0, columns: shape.columns, in: &layout)
            factors = try layout.add(isNeeded ? maskCount : 0, of: Double.self)
            scaled = try layout.add(isNeeded ? outputCount : 0, of: Float.self)
            self.reductions = reductions
            upstream = outputGradient.pointer
            self.output = output
        }

        package func run(on execution: Execution) {
            guard output.memory.count > 0, let gradient = output.memory.baseAddress else { return }
            let factors = execution.pointer(factors)
            masks.writeFactors(of: reductions.reduction, empty: 0, to: factors)
            copies.forget(on: execution)
            if copies.areShared { writeIndicators(copy: 0, on: execution) }
            masks.forEachBlockOfRows(on: execution) { rows, worker in
                let copy = copies.copy(of: worker, on: execution) { writeIndicators(copy: $0, on: execution) }
                let operand = indicators.matrix(
                    rows: copy * masks.count..<(copy + 1) * masks.count, on: execution)
                let scaled = execution.pointer(scaled) + rows.lowerBound * masks.count
                let gradient = gradient + rows.lowerBound * masks.shape.columns
                var allFinite = true
                for row in 0..<rows.count {
                    allFinite =
                        scale(
                            upstream + (rows.lowerBound + row) * masks.count, by: factors,
                            into: scaled + row * masks.count) && allFinite
                }
                TileProducts.multiply(
                    MatrixPointer(scaled, rows: rows.count, columns: masks.count), operand, into: gradient,
                    stride: masks.shape.columns, accumulates: output.mode == FASTLOSS_ACCUMULATE)
                if !allFinite { addNonFinite(of: rows, factors: factors, to: gradient) }
            }
        }

        private func writeIndicators(copy: Int, on execution: Execution) {
            for mask in 0..<masks.count {
                masks.writeIndicators(
                    of: mask, to: indicators.row(copy * masks.count + mask, on: execution))
            }
        }

        /// Writes the gradient of each element that a mask selects, for the outputs of one row. Values that
        /// are not finite become 0, as the product would multiply them by the zeros of the mask.
        ///
        /// - Returns: Whether all values are finite.
        private func scale(
            _ upstream: UnsafePointer<Float>, by factors: UnsafePointer<Double>,
            into scaled: UnsafeMutablePointer<Float>
        ) -> Bool {
            var allFinite = true
            for mask in 0..<masks.count {
                let value = elementGradient(upstream[mask], factor: factors[mask])
                allFinite = allFinite && value.isFinite
                scaled[mask] = value.isFinite ? value : 0
            }
            return allFinite
        }

        /// The gradient of each element that the mask selects, from that of one output; 0 for an empty mask.
        private func elementGradient(_ outputGradient: Float, factor: Double) -> Float {
            factor == 0 ? 0 : Float(output.scale * Double(outputGradient) * factor)
        }

        /// Adds what ``scale(_:by:into:)`` has left out, to the selected elements alone.
        private func addNonFinite(
            of rows: Range<Int>, factors: UnsafePointer<Double>, to gradient: UnsafeMutablePointer<Float>
        ) {
            for row in rows {
                for mask in 0..<masks.count {
                    let value = elementGradient(upstream[row * masks.count + mask], factor: factors[mask])
                    guard !value.isFinite else { continue }
                    masks.add(
                        value, under: mask, to: gradient + (row - rows.lowerBound) * masks.shape.columns)
                }
            }
        }
    }
}

// MARK: - The masks of one call

/// K masks and the shape of the values.
private struct MaskSet {
    let selections: UnsafeBufferPointer<Bool>
    let count: Int
    let shape: MatrixShape

    /// The most rows of one task.
    private static let mostRows = 32

    init(_ masks: Span<Bool>, count: Int, shape: MatrixShape) throws(LossError) {
        _ = try shape.checkedCount()
        try checkCount(
            "masks", masks.count, is: try MatrixShape(rows: count, columns: shape.columns).checkedCount())
        try BLAS.checkDimension("shape.columns", shape.columns)
        try BLAS.checkDimension("maskCount", count)
        selections = masks.memory
        self.count = count
        self.shape = shape
    }

    /// B×K.
    var outputShape: MatrixShape { MatrixShape(rows: shape.rows, columns: count) }

    /// Throws if a mask selects nothing, unless `whenEmpty` permits it.
    func checkSelections(_ whenEmpty: EmptySelectionRule) throws(LossError) {
        guard whenEmpty == .error else { return }
        for mask in 0..<count {
            // The first true byte decides, and most masks have one near their start.
            guard let selection = selection(mask), memchr(selection, 1, shape.columns) != nil else {
                throw .emptySelection(loss: "MaskedReductions.masks", row: mask)
            }
        }
    }

    /// Writes the factor of each mask's sum: 1 for a sum, 1/(selected positions) for a mean, and `empty` for
    /// a mask that selects nothing.
    func writeFactors(of reduction: LossReduction, empty: Double, to factors: UnsafeMutablePointer<Double>) {
        for mask in 0..<count {
            let selected = selection(mask).map { kernels.count_selected($0, shape.columns) } ?? 0
            factors[mask] = selected == 0 ? empty : reduction == .mean ? 1 / Double(selected) : 1
        }
    }

    /// Writes the selections of one mask as zeros and ones.
    func writeIndicators(of mask: Int, to row: UnsafeMutablePointer<Float>) {
        if let selection = selection(mask) { kernels.mask_indicators(selection, shape.columns, row) }
    }

    /// Runs `body` for blocks of rows.
    func forEachBlockOfRows(on execution: Execution, _ body: (_ rows: Range<Int>, _ worker: Int) -> Void) {
        let shares = EvenShares(of: shape.rows, most: Self.mostRows)
        let estimate = TileProducts.nanoseconds(rows: shape.rows, columns: count, depth: shape.columns)
        execution.forEachTask(shares.tasks, estimatedNanoseconds: estimate) { task, worker in
            body(shares[task], worker)
        }
    }

    /// The sum of the selected elements of `row`; the others are not read.
    ///
    /// The kernel adds blocks in single precision. Finite elements may overflow there, and cancel an infinity
    /// of the other sign. In double precision they cannot, so a NaN of the kernel is computed again.
    func selectingSum(of row: UnsafePointer<Float>, under mask: Int) -> Double {
        guard let selection = selection(mask) else { return 0 }
        let sum = kernels.masked_sum(row, selection, shape.columns)
        guard sum.isNaN else { return sum }
        var exact = 0.0
        for column in 0..<shape.columns where selection[column] { exact += Double(row[column]) }
        return exact
    }

    /// Adds `value` to the selected elements of `row`.
    func add(_ value: Float, under mask: Int, to row: UnsafeMutablePointer<Float>) {
        guard let selection = selection(mask) else { return }
        for column in 0..<shape.columns where selection[column] { row[column] += value }
    }

    /// The L selections of one mask; nil if L is 0.
    private func selection(_ mask: Int) -> UnsafePointer<Bool>? {
        selections.baseAddress.map { $0 + mask * shape.columns }
    }
}
