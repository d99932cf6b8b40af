// The outcome of a comparison: findings, exit code and table.

import ArgumentParser

/// The comparison of one row.
package struct Finding: Equatable, Sendable {
    /// The row's name.
    package let benchmark: String
    /// The later revision's time over the earlier one's.
    package let slowdown: Interval
    /// The earlier revision's time over its own.
    package let control: Interval
    package let verdict: Verdict

    package init(benchmark: String, slowdown: Interval, control: Interval, tolerance: Double) {
        self.benchmark = benchmark
        self.slowdown = slowdown
        self.control = control
        verdict = Verdict(slowdown: slowdown, control: control, tolerance: tolerance)
    }
}

/// All findings of a comparison.
package struct ComparisonOutcome: Equatable, Sendable {
    package var findings: [Finding] = []
    /// Rows that failed in a run of the later revision.
    package var failures: [Failure] = []
    /// Rows that only the earlier revision has: a lost row fails the comparison.
    package var lostRows: [String] = []
    /// Rows that only the later revision has.
    package var newRows: [String] = []

    package init() {}

    package var slowerRows: [String] { findings.filter { $0.verdict == .slower }.map(\.benchmark) }
    package var noisyRows: [String] { findings.filter { $0.verdict == .tooNoisy }.map(\.benchmark) }

    /// A regular expression that matches exactly the names of the rows that are slower or too noisy; empty
    /// without such rows.
    package var filterOfDoubtfulRows: String {
        let names = findings.filter { $0.verdict != .notSlower }.map(\.benchmark)
        guard !names.isEmpty else { return "" }
        let escaped = names.map { $0.replacing(#/[^A-Za-z0-9\/_]/#) { match in "\\\(match.output)" } }
        return "^(\(escaped.joined(separator: "|")))$"
    }

    /// The most certain problem decides.
    package var exitCode: ComparisonExit {
        if !failures.isEmpty { return .notMeasured }
        if !slowerRows.isEmpty { return .slower }
        if !lostRows.isEmpty || findings.isEmpty { return .unfitRuns }
        return noisyRows.isEmpty ? .notSlower : .tooNoisy
    }
}

/// The exit codes of `compare`.
package enum ComparisonExit: Int32, CaseIterable, Sendable {
    case notSlower = 0
    case notMeasured = 1
    case slower = 3
    case tooNoisy = 4
    case unfitRuns = 5

    /// For the command's help.
    package static let help = """
        EXIT CODES:
          0    no row is slower beyond the tolerance
          1    a row failed its check, or a file could not be read or written
          3    a row is slower: its whole 95 % interval lies beyond the tolerance
          4    no row is known to be slower, but noise hides the answer for some
          5    the runs cannot be compared, or the later revision lost a row
          64   the command line is wrong
        """

    var code: ExitCode { ExitCode(rawValue) }
}

extension ComparisonOutcome {
    /// A table of the rows, then one line per problem and a summary.
    package func rendered(tolerance: Double) -> String {
        let table = TextTable(
            header: ["row", "time after / before", "95 %", "control 95 %", "verdict"], leading: 1,
            rows: findings.map { finding in
                [
                    finding.benchmark, percentage(finding.slowdown.median), bounds(finding.slowdown),
                    bounds(finding.control), finding.verdict.text,
                ]
            })
        var lines = findings.isEmpty ? [] : table.lines() + [""]
        lines += failures.map { "NOT MEASURED \($0.benchmark): \($0.message)" }
        lines += lostRows.map { "LOST \($0): the later revision lacks this row" }
        lines += newRows.map { "NEW \($0): the earlier revision lacks this row; not compared" }
        lines += slowerRows.map { "SLOWER \($0)" }
        lines.append(
            "\(findings.count) rows: \(slowerRows.count) slower by more than \(percentage(tolerance)), "
                + "\(noisyRows.count) too noisy to tell.")
        return lines.joined(separator: "\n")
    }

    private func bounds(_ interval: Interval) -> String {
        interval.bounds.map { "\(percentage($0.lowerBound))...\(percentage($0.upperBound))" } ?? "-"
    }

    private func percentage(_ share: Double) -> String {
        share.isFinite ? "\(Int((100 * share).rounded())) %" : "-"
    }
}

extension Verdict {
    fileprivate var text: String {
        switch self {
        case .notSlower: "ok"
        case .slower: "SLOWER"
        case .tooNoisy: "too noisy"
        }
    }
}
