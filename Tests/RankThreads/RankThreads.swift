// Runs every rank of a group on a thread of its own, and cuts batches into the rows of ranks: for the tests and the
// fuzzer.

import FastLoss

/// Runs `body` for each rank of a new group, with a time-out that suits tests.
public func onRanks<Value: Sendable>(
    _ size: Int, timeout: Double = 120, bytesPerSecond: Double? = nil,
    _ body: @escaping @Sendable (ThreadCommunicator) throws -> Value
) -> [Result<Value, any Error>] {
    ThreadCommunicator.onThreads(size, timeout: timeout, bytesPerSecond: bytesPerSecond, body)
}

/// A batch cut into the rows of ranks.
public struct RankBatch: Sendable {
    /// The number of rows of each rank.
    public let counts: [Int]
    public let columns: Int

    public init(counts: [Int], columns: Int) {
        self.counts = counts
        self.columns = columns
    }

    public var rows: Int { counts.reduce(0, +) }
    public var shape: MatrixShape { MatrixShape(rows: rows, columns: columns) }

    public func shape(of rank: Int) -> MatrixShape { MatrixShape(rows: counts[rank], columns: columns) }

    /// The elements of a rank, of `width` elements a row. If there are too few or too many elements, so are there
    /// of some rank.
    public func part<Element>(_ rank: Int, of elements: [Element], width: Int? = nil) -> [Element] {
        let width = width ?? columns
        let first = min(counts[..<rank].reduce(0, +) * width, elements.count)
        let isLast = rank == counts.count - 1
        return Array(
            elements[first..<(isLast ? elements.count : min(first + counts[rank] * width, elements.count))])
    }
}
