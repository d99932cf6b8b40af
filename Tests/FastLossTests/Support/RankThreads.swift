// Runs every rank of a group on a thread of its own, and the batches that ranks share.

import FastLoss
import Foundation
import Synchronization
import Testing

/// Runs `body` for each rank of a new group, each on a thread, and returns what it returned or threw.
func onRanks<Value: Sendable>(
    _ size: Int, timeout: Double = 120, bytesPerSecond: Double? = nil,
    _ body: @escaping @Sendable (ThreadCommunicator) throws -> Value
) -> [Result<Value, any Error>] {
    let ranks = ThreadCommunicator.group(size: size, timeout: timeout, bytesPerSecond: bytesPerSecond)
    let results = Mutex<[Result<Value, any Error>?]>(Array(repeating: nil, count: size))
    let done = DispatchSemaphore(value: 0)
    for rank in ranks {
        let thread = Thread {
            let result = Result { try body(rank) }
            results.withLock { $0[rank.rank] = result }
            done.signal()
        }
        thread.stackSize = 8 << 20
        thread.start()
    }
    for _ in ranks { done.wait() }
    return results.withLock { $0.map { $0! } }
}

/// A batch cut into the rows of ranks.
struct RankBatch: Sendable {
    let counts: [Int]
    let columns: Int

    var rows: Int { counts.reduce(0, +) }
    var shape: MatrixShape { MatrixShape(rows: rows, columns: columns) }

    func shape(of rank: Int) -> MatrixShape { MatrixShape(rows: counts[rank], columns: columns) }

    func part<Element>(_ rank: Int, of elements: [Element], width: Int? = nil) -> [Element] {
        let width = width ?? columns
        let first = counts[..<rank].reduce(0, +)
        return Array(elements[first * width..<(first + counts[rank]) * width])
    }

    /// Even, odd, unequal and empty numbers of rows for some ranks.
    static func all(ranks: Int) -> [RankBatch] {
        let equal = Array(repeating: 32, count: ranks)
        let odd = (0..<ranks).map { 7 + 6 * $0 }
        let unequal = (0..<ranks).map { [1, 70, 33, 2, 129][($0 + ranks) % 5] }
        let empty = (0..<ranks).map { $0 % 2 == 0 ? 41 : 0 }
        let late = (0..<ranks).map { $0 == ranks - 1 ? 37 : 0 }
        return [
            RankBatch(counts: equal, columns: 64), RankBatch(counts: odd, columns: 33),
            RankBatch(counts: unequal, columns: 16), RankBatch(counts: empty, columns: 20),
            RankBatch(counts: late, columns: 9),
        ]
    }
}

/// What the ranks computed: the value of each, and their gradients put together.
struct RankResult: Equatable {
    var values: [Double]
    var gradient: [Float]
    var second: [Float] = []
}

/// ‖a − b‖ / ‖b‖.
func relativeDistance(_ a: [Float], _ b: [Float]) -> Double {
    let difference = zip(a, b).map { Double($0) - Double($1) }
    return difference.norm / max(b.norm, .leastNormalMagnitude)
}

/// Value and gradient are those of one process.
func expectOneProcess(
    _ result: RankResult, value: Double, gradient: [Float], second: [Float] = [], _ label: String,
    tolerance: Double = Tolerances.acrossRanksGradient, sourceLocation: SourceLocation = #_sourceLocation
) {
    for (rank, own) in result.values.enumerated() {
        #expect(
            own.bitPattern == result.values[0].bitPattern, "\(label): the value of rank \(rank)",
            sourceLocation: sourceLocation)
    }
    expectClose(
        result.values[0], value, Tolerances.acrossRanksValue, "\(label): value",
        sourceLocation: sourceLocation)
    #expect(result.gradient.count == gradient.count, sourceLocation: sourceLocation)
    let distances = [
        relativeDistance(result.gradient, gradient), relativeDistance(result.second, second),
    ]
    for distance in distances {
        #expect(
            distance <= tolerance, "\(label): gradient", sourceLocation: sourceLocation)
    }
}
