// The operands of products.

/// A row-major matrix in memory, possibly a block of a larger one.
package struct MatrixPointer {
    package let base: UnsafePointer<Float>
    package let rows: Int
    package let columns: Int
    /// The elements from the start of one row to the next.
    package let stride: Int

    package init(_ base: UnsafePointer<Float>, rows: Int, columns: Int, stride: Int? = nil) {
        self.base = base
        self.rows = rows
        self.columns = columns
        self.stride = stride ?? columns
    }

    /// Some of the rows.
    package func rows(_ range: Range<Int>) -> MatrixPointer {
        MatrixPointer(base + range.lowerBound * stride, rows: range.count, columns: columns, stride: stride)
    }

    /// Some of the columns.
    package func columns(_ range: Range<Int>) -> MatrixPointer {
        MatrixPointer(base + range.lowerBound, rows: rows, columns: range.count, stride: stride)
    }
}
