// The shape of a row-major matrix.

/// The shape of a row-major matrix: element (i, j) stands at i · `columns` + j.
///
/// A shape holds whatever it is given; it is checked by the call that uses it, which throws
/// ``LossError/invalidShape(rows:columns:)`` for negative sides.
public struct MatrixShape: Equatable, Sendable {
    public var rows: Int
    public var columns: Int

    public init(rows: Int, columns: Int) {
        self.rows = rows
        self.columns = columns
    }
}

extension MatrixShape {
    /// The number of elements, or the error that there is no such number.
    package func checkedCount() throws(LossError) -> Int {
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        guard rows >= 0, columns >= 0, !overflow else { throw .invalidShape(rows: rows, columns: columns) }
        return count
    }
}
