// Products Aᵀ·B over many rows, such as the gradient of a layer's weight.

import CFastLossKernels

/// Products C = Aᵀ·B or C += Aᵀ·B, whose tasks take blocks of A's columns.
///
/// The rows of A are far apart, each on a page of its own, and the tile product reads one element after the
/// other of such a column. So each task first copies its columns of a few rows side by side, into memory of
/// its worker. Measured: the article Tuning.
package struct ColumnProducts {
    /// The rows that are copied at a time: whole blocks of the tile product's depth, and so few that the copy
    /// leaves most of the second-level cache to B and C.
    private static let rowsPerCopy = 256

    /// The elements of C that one worker writes in a nanosecond. Of a product of few rows it is most of the time.
    private static let elementsPerNanosecond = 8.0

    private let scale: ProductScale
    /// The most columns of one task. The copy of two steps of a tile product fits the first-level cache. A task
    /// of blocks has enough columns to pay for splitting B.
    private let mostColumns: Int
    private let copies: ScratchArray<Float>

    /// Lays out the copies for every worker.
    package init(scale: ProductScale = .tiles, in layout: inout ScratchLayout) throws(LossError) {
        self.scale = scale
        mostColumns = scale == .blocks ? 256 : 64
        copies = try layout.add(
            TileProducts.packs ? layout.workers : 0, by: Self.rowsPerCopy * mostColumns, of: Float.self)
    }

    /// A's columns, shared among the tasks.
    package func shares(columns: Int) -> EvenShares { EvenShares(of: columns, most: mostColumns) }

    /// One task: the product of some columns of A, one of ``shares(columns:)``.
    ///
    /// - Parameters:
    ///   - a: the columns of this task.
    ///   - b: as many rows as `a`, readable up to whole panels.
    ///   - c: the rows of C that belong to the columns.
    package func multiply(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool, worker: Int, on execution: Execution
    ) {
        guard TileProducts.packs, a.rows > 0 else {
            return TileProducts.multiplyTransposedLeft(
                a, b, into: c, stride: stride, accumulates: accumulates)
        }
        let copy = execution.pointer(copies) + worker * Self.rowsPerCopy * mostColumns
        for start in Swift.stride(from: 0, to: a.rows, by: Self.rowsPerCopy) {
            let rows = min(Self.rowsPerCopy, a.rows - start)
            kernels.copy_rows(a.base + start * a.stride, rows, a.columns, a.stride, copy)
            TileProducts.multiplyTransposedLeft(
                MatrixPointer(copy, rows: rows, columns: a.columns),
                MatrixPointer(b.base + start * b.stride, rows: rows, columns: b.columns, stride: b.stride),
                into: c, stride: stride, accumulates: accumulates || start > 0, scale: scale)
        }
    }

    /// The whole product, with the columns of A shared among workers.
    package func multiplyAll(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool, on execution: Execution
    ) {
        let shares = shares(columns: a.columns)
        execution.forEachTask(
            shares.tasks,
            estimatedNanoseconds: Double(a.columns) * Double(b.columns) / Self.elementsPerNanosecond
                + TileProducts.nanoseconds(rows: a.columns, columns: b.columns, depth: a.rows)
        ) { task, worker in
            let columns = shares[task]
            let block = MatrixPointer(
                a.base + columns.lowerBound, rows: a.rows, columns: columns.count, stride: a.stride)
            multiply(
                block, b, into: c + columns.lowerBound * stride, stride: stride, accumulates: accumulates,
                worker: worker, on: execution)
        }
    }
}
