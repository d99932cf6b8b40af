// The shape of a row-major matrix.

/// The shape of a row-major matrix: element (i, j) has index i·`columns` + j.
///
/// The call that uses a shape checks it, and throws ``LossError/invalidShape(rows:columns:)`` for negative
/// sides.
public struct MatrixShape: Equatable, Sendable {
    /// The number of rows, at least 0.
    public var rows: Int
    /// The number of columns, at least 0.
    public var columns: Int

    /// A shape of `rows` times `columns` elements.
    public init(rows: Int, columns: Int) {
        self.rows = rows
        self.columns = columns
    }
}

extension MatrixShape {
    /// The number of elements. Throws if a side is negative or the number exceeds `Int`.
    package func checkedCount() throws(LossError) -> Int {
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        guard rows >= 0, columns >= 0, !overflow else { throw .invalidShape(rows: rows, columns: columns) }
        return count
    }
}
