// The batches that ranks share in tests, and how their results are compared with those of one process.

import FastLoss
import RankThreads
import Testing

extension RankBatch {
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
func relativeDistance(_ a: [Float], _ b: [Float]) -> Double { relativeDistance(a.doubles, b.doubles) }

/// ‖a − b‖ / ‖b‖.
func relativeDistance(_ a: [Double], _ b: [Double]) -> Double {
    let difference = zip(a, b).map { $0 - $1 }
    return difference.norm / max(b.norm, .leastNormalMagnitude)
}

/// Value and gradient are those of one process.
func expectOneProcess(
    _ result: RankResult, value: Double, gradient: [Float], second: [Float] = [], _ label: String,
    sourceLocation: SourceLocation = #_sourceLocation
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
            distance <= Tolerances.acrossRanksGradient, "\(label): gradient", sourceLocation: sourceLocation)
    }
}
