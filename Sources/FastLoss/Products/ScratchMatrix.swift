// A matrix in scratch memory whose rows begin at a stride that suits products.

/// A row-major scratch matrix. Its stride is ``TileProducts/stride(forColumns:)``, so it may be either operand
/// of a product.
package struct ScratchMatrix {
    package let columns: Int
    /// The elements from the start of one row to the next.
    package let stride: Int
    private let array: ScratchArray<Float>

    package init(rows: Int, columns: Int, in layout: inout ScratchLayout) throws(LossError) {
        self.columns = columns
        stride = TileProducts.stride(forColumns: columns)
        array = try layout.add(rows, by: stride, of: Float.self)
    }

    /// The first element of a row.
    package func row(_ row: Int, on execution: Execution) -> UnsafeMutablePointer<Float> {
        execution.pointer(array) + row * stride
    }

    /// Some rows, as an operand: `count` of their columns from `column` on, all by default.
    package func matrix(
        rows: Range<Int>, column: Int = 0, columns count: Int? = nil, on execution: Execution
    ) -> MatrixPointer {
        MatrixPointer(
            row(rows.lowerBound, on: execution) + column, rows: rows.count, columns: count ?? columns,
            stride: stride)
    }
}
