// Compares alternating runs of two revisions on one machine.
//
// Each round runs the earlier revision, the later one, and the earlier one again as the control. A round
// gives one ratio per row, so drift from round to round cancels.

/// Runs of two revisions: element i of each array belongs to round i.
package struct RunComparison {
    package let before: [Report]
    package let after: [Report]
    /// Further runs of the earlier revision.
    package let control: [Report]
    /// The accepted additional time as a share.
    package let tolerance: Double

    /// - Throws: ``ComparisonError`` if the runs cannot be compared.
    package init(
        before: [Report], after: [Report], control: [Report], tolerance: Double
    ) throws(ComparisonError) {
        let counts = [before.count, after.count, control.count]
        guard Set(counts).count == 1 else { throw .unequalRounds(counts) }
        guard medianIntervalRank(count: before.count, confidence: 0.95) != nil else {
            throw .tooFewRounds(before.count)
        }
        let conditions = (before + after + control).map(Self.conditions(of:))
        if let other = conditions.first(where: { $0 != conditions[0] }) {
            throw .otherConditions(conditions[0], other)
        }
        self.before = before
        self.after = after
        self.control = control
        self.tolerance = tolerance
    }

    /// What must agree before two times may be compared.
    private static func conditions(of report: Report) -> String {
        let (machine, runtime) = (report.machine, report.runtime)
        return "\(machine.cpu), \(machine.cores) cores, \(runtime.instructionSet), "
            + "OpenBLAS core \(runtime.blasCore), \(runtime.workers) workers, "
            + (report.quick ? "quick plan" : "full plan")
    }

    /// Compares the rows that all runs have.
    package func run() -> ComparisonOutcome {
        let (before, after, control) = (before.map(times), after.map(times), control.map(times))
        func isInAll(_ runs: [[String: Double]], _ row: String) -> Bool {
            runs.allSatisfy { $0[row] != nil }
        }
        let rowsBefore = rows(of: self.before[0])
        let rowsAfter = rows(of: self.after[0])
        var outcome = ComparisonOutcome()
        outcome.findings = rowsAfter.filter { isInAll(before + after + control, $0) }.map { row in
            let earlier = before.map { $0[row]! }
            return Finding(
                benchmark: row, slowdown: Interval(of: after.map { $0[row]! }, over: earlier),
                control: Interval(of: control.map { $0[row]! }, over: earlier), tolerance: tolerance)
        }
        for failure in self.after.flatMap(\.failures) where !outcome.failures.contains(failure) {
            outcome.failures.append(failure)
        }
        outcome.lostRows = rowsBefore.filter { !isInAll(after, $0) }
        outcome.newRows = rowsAfter.filter { !isInAll(before, $0) }
        return outcome
    }

    private func rows(of report: Report) -> [String] {
        report.measurements.filter { $0.provider == .fastloss }.map(\.row.name)
    }

    /// FastLoss's time per row: the 20th percentile, because interruptions only ever add time.
    private func times(of report: Report) -> [String: Double] {
        let records = report.measurements.filter { $0.provider == .fastloss }
        return Dictionary(records.map { ($0.row.name, $0.time.p20) }) { first, _ in first }
    }
}

/// Why runs cannot be compared.
package enum ComparisonError: Error, Equatable, CustomStringConvertible {
    /// The numbers of runs before, after and of the control differ.
    case unequalRounds([Int])
    case tooFewRounds(Int)
    case otherConditions(String, String)

    package var description: String {
        switch self {
        case .unequalRounds(let counts):
            "each round needs one run before, one after and one control; "
                + "got \(counts[0]), \(counts[1]) and \(counts[2])"
        case .tooFewRounds(let count):
            "\(count) rounds give no 95 % interval; at least 6 do"
        case .otherConditions(let first, let second):
            "the runs were made under different conditions: \(first); \(second)"
        }
    }
}
