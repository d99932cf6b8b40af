// The right operand of products, such as a layer's weight: packed once, then used by every block of rows.

/// The right operand B of products A·B, in panels of ``TileProducts/panelColumns`` columns.
///
/// A product reads a panel as one stream, whatever the stride of the original: the rows of a 512 × 512 weight
/// are 2 KiB apart and would share two sets of a first-level cache. With sgemm, which packs its operands in
/// every call, nothing is packed here.
package struct PackedOperand {
    /// Where the original is.
    private enum Source {
        case memory(MatrixPointer)
        case scratch(ScratchMatrix, rows: Int)
        /// Rows of selections.
        case masks(UnsafePointer<Bool>, rows: Int, columns: Int)
    }

    private var source: Source
    private let isTransposed: Bool
    private let format: Panels
    private let panelMemory: ScratchArray<Float>
    /// The elements of one copy.
    private let panelCount: Int
    private let copies: WorkerCopies
    /// The rows of B.
    package var depth: Int { format.depth }
    /// The columns of B.
    package let columns: Int

    /// B or its transpose, as it is in memory when ``pack(on:)`` runs.
    ///
    /// - Parameters:
    ///   - source: B; or Bᵀ if `transposed`, such as the weight of a layer in the forward pass.
    package init(
        _ source: MatrixPointer, transposed: Bool, scale: ProductScale = .tiles,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        try self.init(
            .memory(source), rows: source.rows, columns: source.columns, transposed: transposed, scale: scale,
            in: &layout)
    }

    /// The first rows of a scratch matrix, or their transpose.
    package init(
        _ source: ScratchMatrix, rows: Int, transposed: Bool, scale: ProductScale = .tiles,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        try self.init(
            .scratch(source, rows: rows), rows: rows, columns: source.columns, transposed: transposed,
            scale: scale, in: &layout)
    }

    /// The transpose of a matrix of `rows` × `columns` selections, as zeros and ones. For ``pack(on:)`` and
    /// ``multiply(_:into:stride:accumulates:worker:on:)``. Each worker packs a small one for itself.
    package init(
        masks: UnsafePointer<Bool>, rows: Int, columns: Int, in layout: inout ScratchLayout
    ) throws(LossError) {
        try self.init(
            .masks(masks, rows: rows, columns: columns), rows: rows, columns: columns, transposed: true,
            copiesSmall: true, in: &layout)
    }

    /// - Parameter copiesSmall: whether each worker has a copy of a small operand.
    private init(
        _ source: Source, rows: Int, columns: Int, transposed: Bool, scale: ProductScale = .tiles,
        copiesSmall: Bool = false, in layout: inout ScratchLayout
    ) throws(LossError) {
        self.source = source
        isTransposed = transposed
        self.columns = transposed ? rows : columns
        format = Panels(depth: transposed ? columns : rows, scale: scale)
        var count = 0
        if TileProducts.packs {
            count = try format.checkedCount(columns: self.columns)
        } else if case .masks = source {
            // sgemm multiplies floats: the masks become numbers, but not panels.
            count = try MatrixShape(rows: rows, columns: columns).checkedCount()
        }
        panelCount = count
        copies = try WorkerCopies(
            oneForEachWorker: copiesSmall && TileProducts.packs
                && (1...WorkerCopies.mostFloats).contains(count),
            in: &layout)
        panelMemory = try layout.add(copies.count, by: count, of: Float.self)
    }

    /// The same memory for another matrix of the same shape, which replaces this one when it is packed.
    package func replaced(by source: MatrixPointer) -> PackedOperand {
        var operand = self
        operand.source = .memory(source)
        return operand
    }

    private func original(on execution: Execution) -> MatrixPointer {
        switch source {
        case .memory(let matrix): matrix
        case .scratch(let matrix, let rows): matrix.matrix(rows: 0..<rows, on: execution)
        case .masks(_, let rows, let columns):
            MatrixPointer(execution.pointer(panelMemory), rows: rows, columns: columns)
        }
    }
}

// MARK: - Packing

extension PackedOperand {
    /// Packs B as its original is now. Workers that have copies pack them when they need them.
    package func pack(on execution: Execution) {
        guard TileProducts.packs else {
            if case .masks(let masks, let rows, let columns) = source {
                kernels.mask_indicators(masks, rows * columns, execution.pointer(panelMemory))
            }
            return
        }
        copies.forget(on: execution)
        guard copies.areShared else { return }
        let original = original(on: execution)
        execution.forEachTask(panels, estimatedNanoseconds: packingNanoseconds) { panel, _ in
            pack(panel: panel, of: original, into: 0, on: execution)
        }
    }

    /// The number of panels.
    private var panels: Int { (columns + TileProducts.panelColumns - 1) / TileProducts.panelColumns }

    /// The panels of a copy.
    private func panels(ofCopy copy: Int, on execution: Execution) -> UnsafeMutablePointer<Float> {
        execution.pointer(panelMemory) + copy * panelCount
    }

    /// The estimated time to pack B on one worker.
    private var packingNanoseconds: Double { Double(depth) * Double(columns) / 4 }

    private func pack(panel: Int, of original: MatrixPointer, into copy: Int, on execution: Execution) {
        let first = panel * TileProducts.panelColumns
        let count = min(TileProducts.panelColumns, columns - first)
        let target = panels(ofCopy: copy, on: execution) + format.offset(ofColumn: first)
        if case .masks(let masks, _, _) = source {
            kernels.transposed_mask_indicators(
                masks + first * depth, count, depth, target, TileProducts.panelColumns)
        } else if isTransposed {
            format.pack(rows: original.rows(first..<first + count), into: target)
        } else {
            format.pack(columns: original.columns(first..<first + count), into: target)
        }
    }
}

// MARK: - Products

extension PackedOperand {
    /// C = A·B or C += A·B, with B packed.
    ///
    /// - Parameter worker: the worker that calls. Without copies for each worker it does not matter.
    package func multiply(
        _ a: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int, accumulates: Bool = false,
        worker: Int = 0, on execution: Execution
    ) {
        guard TileProducts.packs else {
            let original = original(on: execution)
            guard isTransposed else {
                return TileProducts.multiply(a, original, into: c, stride: stride, accumulates: accumulates)
            }
            return TileProducts.multiplyTransposedRight(
                a, original, into: c, stride: stride, accumulates: accumulates)
        }
        let copy = copies.copy(of: worker, on: execution) { copy in
            let original = original(on: execution)
            for panel in 0..<panels { pack(panel: panel, of: original, into: copy, on: execution) }
        }
        format.multiply(
            a, panels(ofCopy: copy, on: execution), columns: columns, into: c, stride: stride,
            accumulates: accumulates)
    }
}

// MARK: - One product

extension PackedOperand {
    /// C = A·B or C += A·B, for an operand of which a call forms this product alone.
    ///
    /// Workers share the panels: a task packs one and multiplies all rows by it while it is in cache. So the
    /// operand need not be packed before. For up to some hundred rows.
    package func multiplyOnce(
        _ a: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int, accumulates: Bool = false,
        on execution: Execution
    ) {
        let original = original(on: execution)
        execution.forEachTask(
            panels,
            estimatedNanoseconds: packingNanoseconds
                + TileProducts.nanoseconds(rows: a.rows, columns: columns, depth: depth)
        ) { panel, _ in
            let first = panel * TileProducts.panelColumns
            let count = min(TileProducts.panelColumns, columns - first)
            guard TileProducts.packs else {
                return multiplyPlainly(
                    a, original, columns: first..<first + count, into: c, stride: stride,
                    accumulates: accumulates)
            }
            pack(panel: panel, of: original, into: 0, on: execution)
            format.multiply(
                a, panels(ofCopy: 0, on: execution) + format.offset(ofColumn: first), columns: count,
                into: c + first, stride: stride, accumulates: accumulates)
        }
    }

    /// Some columns of the product, by sgemm.
    private func multiplyPlainly(
        _ a: MatrixPointer, _ original: MatrixPointer, columns: Range<Int>,
        into c: UnsafeMutablePointer<Float>, stride: Int, accumulates: Bool
    ) {
        guard isTransposed else {
            return TileProducts.multiply(
                a, original.columns(columns), into: c + columns.lowerBound, stride: stride,
                accumulates: accumulates)
        }
        TileProducts.multiplyTransposedRight(
            a, original.rows(columns), into: c + columns.lowerBound, stride: stride, accumulates: accumulates)
    }
}
