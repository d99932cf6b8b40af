// Products whose rows are shared among workers, for matrices of which a call computes one or two.

import FastLoss

/// Packs one or two operands.
func packAll(_ operands: InlineArray<2, PackedOperand?>, on execution: Execution) {
    for index in operands.indices { operands[index]?.pack(on: execution) }
}

/// C = A·B or C += A·B, with the rows of A shared among workers.
func multiplyRows(
    _ a: MatrixPointer, _ b: PackedOperand, into c: UnsafeMutablePointer<Float>, stride: Int,
    accumulates: Bool = false, on execution: Execution
) {
    let rowsPerTask = 24
    execution.forEachTask(
        (a.rows + rowsPerTask - 1) / rowsPerTask,
        estimatedNanoseconds: TileProducts.nanoseconds(rows: a.rows, columns: b.columns, depth: b.depth)
    ) { task, _ in
        let start = task * rowsPerTask
        b.multiply(
            MatrixPointer(
                a.base + start * a.stride, rows: min(rowsPerTask, a.rows - start), columns: a.columns,
                stride: a.stride),
            into: c + start * stride, stride: stride, accumulates: accumulates, on: execution)
    }
}
