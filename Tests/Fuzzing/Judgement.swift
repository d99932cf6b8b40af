// When a result is wrong: the rule of accuracy, of NaN and infinity, and of errors.

import FastLoss

/// One wrong result, with what was expected.
struct Wrong: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// One number against the oracle.
///
/// - Parameters:
///   - truth: the oracle in double.
///   - naive: the same loop in float. Where it overflows, an intermediate result of a call may, too.
///   - allowed: the largest error of a result whose float intermediates are finite.
func judge(
    _ name: @autoclosure () -> String, _ actual: Double, truth: Double, naive: Double, allowed: Double
) throws {
    func wrong() -> Wrong {
        Wrong("\(name()) is \(actual), but the oracle is \(truth), naive \(naive), allowed \(allowed)")
    }
    if truth.isNaN {
        guard actual.isNaN else { throw wrong() }
    } else if truth.isInfinite {
        guard actual == truth || (naive.isNaN && actual.isNaN) else { throw wrong() }
    } else if !naive.isFinite || !allowed.isFinite {
        // Either the overflow, or an order of operations that avoids it.
        return
    } else {
        guard abs(actual - truth) <= allowed else { throw wrong() }
    }
}

/// The rounding of a float result, with room for `ulps` of it, and for subnormal ones.
func rounding(_ truth: Double, ulps: Double) -> Double { ulps * (abs(truth) * 0x1p-23 + 0x1p-149) }

/// Runs a call and compares its error with the expected one: the same case, whatever its values.
///
/// - Returns: whether the call succeeded, as expected.
func succeeds(expecting expected: ExpectedError?, _ body: () throws(LossError) -> Void) throws -> Bool {
    try succeeds(expectingOneOf: expected.map { [$0] } ?? [], body)
}

/// Runs a call that makes some mistakes, and compares its error with them: the call must report one of them.
///
/// - Parameters:
///   - expected: the mistakes; empty for a right call.
///   - possible: errors that the call may report, and need not.
/// - Returns: whether the call succeeded, as expected.
func succeeds(
    expectingOneOf expected: Set<ExpectedError>, possible: Set<ExpectedError> = [],
    _ body: () throws(LossError) -> Void
) throws -> Bool {
    var actual: LossError?
    do throws(LossError) { try body() } catch { actual = error }
    let isExpected =
        if let error = actual.map(ExpectedError.init) {
            expected.contains(error) || possible.contains(error)
        } else { expected.isEmpty }
    guard isExpected else {
        throw Wrong("the error is '\(actual?.description ?? "none")', but one of \(expected) is expected")
    }
    return actual == nil
}

/// The case of an error.
enum ExpectedError: Equatable {
    case shape, parameter, empty, label, index, probability, missing, withoutInput, disagreement, other

    init(_ error: LossError) {
        self =
            switch error {
            case .shapeMismatch: .shape
            case .invalidParameter: .parameter
            case .emptySelection: .empty
            case .labelOutOfRange: .label
            case .indexOutOfRange: .index
            case .probabilityOutOfRange: .probability
            case .missingInput: .missing
            case .gradientWithoutInput: .withoutInput
            case .ranksDisagree: .disagreement
            default: .other
            }
    }
}
