// Compares runs of two revisions, made in turns on one machine.
//
// Each round runs both, and the earlier revision a second time as the control. A round gives one ratio per row, so that
// drift from round to round cancels, as drift from sample to sample does inside a run.

/// Runs of two revisions: element i of each array belongs to round i.
package struct RunComparison {
    package let before: [Report]
    package let after: [Report]
    /// The earlier revision once more.
    package let control: [Report]
    /// The additional time that is accepted, as a share.
    package let tolerance: Double

    /// - Throws: ``ComparisonError`` where the runs cannot be compared.
    package init(
        before: [Report], after: [Report], control: [Report], tolerance: Double
    ) throws(ComparisonError) {
        let counts = [before.count, after.count, control.count]
        guard Set(counts).count == 1 else { throw .unequalRounds(counts) }
        guard medianIntervalRank(count: before.count, confidence: 0.95) != nil else {
            throw .tooFewRounds(before.count)
        }
        let grounds = (before + after + control).map(Self.ground(of:))
        if let other = grounds.first(where: { $0 != grounds[0] }) {
            throw .otherGround(grounds[0], other)
        }
        self.before = before
        self.after = after
        self.control = control
        self.tolerance = tolerance
    }

    /// What must be the same for times to be comparable.
    private static func ground(of report: Report) -> String {
        let (machine, runtime) = (report.machine, report.runtime)
        return "\(machine.cpu), \(machine.cores) cores, \(runtime.instructionSet), "
            + "OpenBLAS core \(runtime.blasCore), \(runtime.workers) workers, "
            + (report.quick ? "quick plan" : "full plan")
    }

    /// Compares the rows that all runs have.
    package func run() -> RegressionOutcome {
        let (before, after, control) = (before.map(times), after.map(times), control.map(times))
        func inAll(_ runs: [[String: Double]], _ row: String) -> Bool {
            runs.allSatisfy { $0[row] != nil }
        }
        let rowsBefore = self.before[0].rowNames
        let rowsAfter = self.after[0].rowNames
        var outcome = RegressionOutcome()
        outcome.findings = rowsAfter.filter { inAll(before + after + control, $0) }.map { row in
            let earlier = before.map { $0[row]! }
            return Finding(
                benchmark: row, slowdown: Slowdown(of: after.map { $0[row]! }, over: earlier),
                control: Slowdown(of: control.map { $0[row]! }, over: earlier), tolerance: tolerance)
        }
        for failure in self.after.flatMap(\.failures) where !outcome.failures.contains(failure) {
            outcome.failures.append(failure)
        }
        outcome.unknownRows = rowsBefore.filter { !inAll(after, $0) }
        outcome.missingRows = rowsAfter.filter { !inAll(before, $0) }
        return outcome
    }

    /// FastLoss's time per row: the 20th percentile, because interruptions only ever add.
    private func times(of report: Report) -> [String: Double] {
        let rows = report.measurements.filter { $0.provider == .fastloss }
        return Dictionary(rows.map { ($0.rowName, $0.p20) }) { first, _ in first }
    }
}

extension Report {
    fileprivate var rowNames: [String] {
        measurements.filter { $0.provider == .fastloss }.map(\.rowName)
    }
}

extension Record {
    /// The name of the row, as `--list` shows it.
    package var rowName: String {
        Benchmark.name(
            kernel: kernel, variant: variant, mode: mode, shape: ProblemShape(rows, columns, depth))
    }
}

/// Why runs cannot be compared.
package enum ComparisonError: Error, Equatable, CustomStringConvertible {
    /// Of the runs before, after and of the control there are unequal numbers.
    case unequalRounds([Int])
    case tooFewRounds(Int)
    case otherGround(String, String)

    package var description: String {
        switch self {
        case .unequalRounds(let counts):
            "every round has one run before, one after and one of the control; "
                + "there are \(counts[0]), \(counts[1]) and \(counts[2])"
        case .tooFewRounds(let count):
            "\(count) rounds give no 95 % interval; 6 or more do"
        case .otherGround(let first, let second):
            "the runs were made under different conditions: \(first); \(second)"
        }
    }
}
