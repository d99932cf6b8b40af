// Comparisons for numerical tests: equality, distances, and failures that show where.

import Synchronization
import Testing

/// How many units in the last place of `oracle`, rounded to Float, `actual` is away from `oracle`.
///
/// Zero for two NaNs and for equal infinities, infinite if only one of them is NaN or infinite. An oracle too
/// large for Float counts as the infinity it rounds to.
func ulpDistance(_ actual: Float, oracle: Double) -> Double {
    let rounded = Float(oracle)
    if actual.isNaN && oracle.isNaN || actual == rounded && actual.isInfinite { return 0 }
    guard actual.isFinite, rounded.isFinite else { return .infinity }
    return abs(Double(actual) - oracle) / Double(rounded.ulp)
}

/// The Euclidean norm of `a` − `b`, where two NaNs or two equal infinities have distance 0.
func differenceNorm<A: BinaryFloatingPoint, B: BinaryFloatingPoint>(_ a: [A], _ b: [B]) -> Double {
    zip(a, b).map { pair in
        let (a, b) = (Double(pair.0), Double(pair.1))
        return a == b || a.isNaN && b.isNaN ? 0 : a - b
    }.norm
}

extension Sequence where Element: BinaryFloatingPoint {
    /// The Euclidean norm, in Double, scaled so that squares neither overflow nor vanish.
    var norm: Double {
        var largest = 0.0
        for element in self {
            if element.isNaN { return .nan }
            largest = Swift.max(largest, abs(Double(element)))
        }
        guard largest > 0, largest.isFinite else { return largest }
        var squares = 0.0
        for element in self { squares += (Double(element) / largest) * (Double(element) / largest) }
        return largest * squares.squareRoot()
    }
}

/// Every element within `tolerance` of the expected one; NaN matches NaN alone.
func expectClose<A: BinaryFloatingPoint, B: BinaryFloatingPoint>(
    _ actual: [A], _ expected: [B], _ tolerance: Tolerance, _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    expectElements(actual, expected, label, sourceLocation) { actual, expected in
        actual == expected || actual.isNaN && expected.isNaN
            || abs(actual - expected) <= tolerance.allowed(for: expected)
    }
}

/// One number within `tolerance` of the expected one; NaN matches NaN alone.
func expectClose<A: BinaryFloatingPoint, B: BinaryFloatingPoint>(
    _ actual: A, _ expected: B, _ tolerance: Tolerance, _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    expectClose([actual], [expected], tolerance, label, sourceLocation: sourceLocation)
}

/// Every element within so many units in the last place of the oracle, or within `floor` of it.
func expectWithinUlps(
    actual: [Float], oracle: [Double], ulps: Double = Tolerances.elementwiseUlps,
    floor: Double = Tolerances.elementwiseFloor, _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    expectElements(actual, oracle, label, sourceLocation) { actual, oracle in
        ulpDistance(Float(actual), oracle: oracle) <= ulps || abs(actual - oracle) <= floor
    }
}

/// One number within so many units in the last place of the oracle, or within `floor` of it.
func expectWithinUlps(
    actual: Float, oracle: Double, ulps: Double = Tolerances.elementwiseUlps,
    floor: Double = Tolerances.elementwiseFloor, _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    expectWithinUlps(
        actual: [actual], oracle: [oracle], ulps: ulps, floor: floor, label, sourceLocation: sourceLocation)
}

/// ‖actual − oracle‖ ≤ tolerance · scale, where the scale is the oracle's own norm unless given.
func expectNormwise<A: BinaryFloatingPoint>(
    actual: [A], oracle: [Double], scale: Double? = nil, tolerance: Double, _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard expectSameCount(actual, oracle, label, sourceLocation) else { return }
    let error = differenceNorm(actual, oracle)
    let allowed = tolerance * (scale ?? oracle.filter(\.isFinite).norm)
    if error <= allowed { return }
    record(
        "error norm \(error), allowed \(allowed)", actual, oracle, at: largestDifferences(actual, oracle),
        label, sourceLocation)
}

/// The same for every single row, so that large rows do not hide errors of small ones.
///
/// `scales` has one scale per row; without it, a row's scale is the norm of the oracle's row.
func expectRowsNormwise<A: BinaryFloatingPoint>(
    actual: [A], oracle: [Double], columns: Int, scales: [Double]? = nil, tolerance: Double,
    _ label: String = "", sourceLocation: SourceLocation = #_sourceLocation
) {
    guard expectSameCount(actual, oracle, label, sourceLocation) else { return }
    for row in 0..<(columns == 0 ? 0 : oracle.count / columns) {
        let range = row * columns..<(row + 1) * columns
        expectNormwise(
            actual: Array(actual[range]), oracle: Array(oracle[range]), scale: scales?[row],
            tolerance: tolerance, "\(label) row \(row)", sourceLocation: sourceLocation)
    }
}

/// The accuracy rule of every fast kernel: ‖fast − truth‖ ≤ ‖naive − truth‖ + tolerance · scale, where the
/// scale is the truth's own norm unless given.
func expectAsAccurateAsNaive(
    fast: [Float], naive: [Float], truth: [Double], scale: Double? = nil,
    tolerance: Double = Tolerances.accuracyRule, _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard expectSameCount(fast, truth, label, sourceLocation),
        expectSameCount(naive, truth, label, sourceLocation)
    else { return }
    let error = differenceNorm(fast, truth)
    let naiveError = differenceNorm(naive, truth)
    // A naive loop that overflowed sets no standard: then the truth's own size must do.
    let standard = naiveError.isFinite ? naiveError : 0
    if error <= standard + tolerance * (scale ?? truth.filter(\.isFinite).norm) { return }
    record(
        "error norm \(error), naive Float's \(naiveError)", fast, truth, at: largestDifferences(fast, truth),
        label, sourceLocation)
}

/// The accuracy rule for one number.
func expectAsAccurateAsNaive(
    fast: Float, naive: Float, truth: Double, tolerance: Double = Tolerances.accuracyRule,
    _ label: String = "", sourceLocation: SourceLocation = #_sourceLocation
) {
    expectAsAccurateAsNaive(
        fast: [fast], naive: [naive], truth: [truth], tolerance: tolerance, label,
        sourceLocation: sourceLocation)
}

/// The same bits, element for element: for determinism and for values that must not be touched.
func expectSameBits(
    _ actual: [Float], _ expected: [Float], _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard expectSameCount(actual, expected, label, sourceLocation) else { return }
    let offending = actual.indices.filter { actual[$0].bitPattern != expected[$0].bitPattern }
    if offending.isEmpty { return }
    record("\(offending.count) elements differ", actual, expected, at: offending, label, sourceLocation)
}

// MARK: - Reporting

private let shownElements = 5

private func expectElements<A: BinaryFloatingPoint, B: BinaryFloatingPoint>(
    _ actual: [A], _ expected: [B], _ label: String, _ sourceLocation: SourceLocation,
    isClose: (Double, Double) -> Bool
) {
    guard expectSameCount(actual, expected, label, sourceLocation) else { return }
    let offending = actual.indices.filter { !isClose(Double(actual[$0]), Double(expected[$0])) }
    if offending.isEmpty { return }
    record(
        "\(offending.count) of \(actual.count) elements differ", actual, expected, at: offending, label,
        sourceLocation)
}

private func expectSameCount<A, B>(
    _ actual: [A], _ expected: [B], _ label: String, _ sourceLocation: SourceLocation
) -> Bool {
    if actual.count == expected.count { return true }
    Failures.report("\(label): \(actual.count) elements where \(expected.count) are expected", sourceLocation)
    return false
}

private func largestDifferences<A: BinaryFloatingPoint>(_ actual: [A], _ oracle: [Double]) -> [Int] {
    let differences = zip(actual, oracle).map { abs(Double($0) - $1) }
    return differences.indices
        .filter { !(differences[$0] <= 0) }
        .sorted { !(differences[$0] <= differences[$1]) }
}

private func record<A: BinaryFloatingPoint, B: BinaryFloatingPoint>(
    _ summary: String, _ actual: [A], _ expected: [B], at indices: [Int], _ label: String,
    _ sourceLocation: SourceLocation
) {
    let shown = indices.prefix(shownElements).map { index in
        let difference = Double(actual[index]) - Double(expected[index])
        return "[\(index)] \(actual[index]), expected \(expected[index]) (difference \(difference))"
    }
    let omitted = indices.count > shownElements ? ["…"] : []
    let message = (["\(label.isEmpty ? "" : label + ": ")\(summary)"] + shown + omitted).joined(
        separator: "\n  ")
    Failures.report(message, sourceLocation)
}

/// Where a comparison reports that it failed: to the test, unless somebody wants to know whether it would.
enum Failures {
    private final class Collector: Sendable {
        let messages = Mutex<[String]>([])
    }

    @TaskLocal private static var collector: Collector?

    /// The failures that the comparisons in `body` report, which then fail no test.
    static func of(_ body: () -> Void) -> [String] {
        let collector = Collector()
        $collector.withValue(collector) { body() }
        return collector.messages.withLock { $0 }
    }

    fileprivate static func report(_ message: String, _ sourceLocation: SourceLocation) {
        if let collector {
            collector.messages.withLock { $0.append(message) }
        } else {
            Issue.record(Comment(rawValue: message), sourceLocation: sourceLocation)
        }
    }
}
