// What a check or a comparison found, the exit code that it ends with, and the table of it.

import ArgumentParser

/// One row of a check or a comparison.
package struct Finding: Equatable, Sendable {
    /// The row's name.
    package let benchmark: String
    package let slowdown: Slowdown
    package let control: Slowdown
    package let verdict: Verdict

    package init(benchmark: String, slowdown: Slowdown, control: Slowdown, tolerance: Double) {
        self.benchmark = benchmark
        self.slowdown = slowdown
        self.control = control
        verdict = Verdict(slowdown: slowdown, control: control, tolerance: tolerance)
    }
}

/// Everything that a check or a comparison found.
package struct RegressionOutcome: Equatable, Sendable {
    package var findings: [Finding] = []
    /// Rows that could not be measured.
    package var failures: [Failure] = []
    /// Rows that the baseline has and the program has not: a gate that has lost them would be silent.
    package var unknownRows: [String] = []
    /// Rows that the program has and the baseline has not.
    package var missingRows: [String] = []

    package init() {}

    package var slowerRows: [String] { findings.filter { $0.verdict == .slower }.map(\.benchmark) }
    package var noisyRows: [String] { findings.filter { $0.verdict == .tooNoisy }.map(\.benchmark) }

    /// A regular expression that finds the names of the rows that are slower or too noisy to tell, and no
    /// others; empty where there are none.
    package var filterOfDoubtfulRows: String {
        let names = findings.filter { $0.verdict != .notSlower }.map(\.benchmark)
        guard !names.isEmpty else { return "" }
        let escaped = names.map { $0.replacing(#/[^A-Za-z0-9\/_]/#) { match in "\\\(match.output)" } }
        return "^(\(escaped.joined(separator: "|")))$"
    }

    /// The exit code: what is certain comes before what is not.
    package var exitCode: RegressionExit {
        if !failures.isEmpty { return .notMeasured }
        if !slowerRows.isEmpty { return .slower }
        if !unknownRows.isEmpty || findings.isEmpty { return .unfitBaseline }
        return noisyRows.isEmpty ? .notSlower : .tooNoisy
    }
}

/// The exit codes of `baseline`, `check` and `compare`.
package enum RegressionExit: Int32, CaseIterable, Sendable {
    case notSlower = 0
    case notMeasured = 1
    case slower = 3
    case tooNoisy = 4
    case unfitBaseline = 5

    /// For the help of the commands.
    package static let help = """
        EXIT CODES:
          0    no row is slower beyond the tolerance
          1    a row could not be measured, or a file not be read or written
          3    a row is slower: its whole 95 % interval lies beyond the tolerance
          4    no row is known to be slower, but the machine was too noisy to tell for all of them
          5    the baseline or the runs do not fit: another instruction set, format or machine, or rows that
               are unknown
          64   the command line is wrong
        """

    var code: ExitCode { ExitCode(rawValue) }
}

extension RegressionOutcome {
    /// The table, and beneath it a line for everything that is not as it should be.
    ///
    /// - Parameter before: what the rows are held against, in a word or two.
    package func rendered(against before: String, tolerance: Double) -> String {
        let table = TextTable(
            header: ["row", "time now / \(before)", "95 %", "control 95 %", "verdict"], leading: 1,
            rows: findings.map { finding in
                [
                    finding.benchmark, percentage(finding.slowdown.median), interval(finding.slowdown),
                    interval(finding.control), finding.verdict.text,
                ]
            })
        var lines = findings.isEmpty ? [] : table.lines() + [""]
        lines += failures.map { "NOT MEASURED \($0.benchmark): \($0.message)" }
        lines += unknownRows.map { "UNKNOWN \($0): \(before) has this row, and this program does not" }
        lines += missingRows.map { "NEW \($0): not in \(before), hence not checked" }
        lines += slowerRows.map { "SLOWER \($0)" }
        lines.append(
            "\(findings.count) rows: \(slowerRows.count) slower by more than \(percentage(tolerance)), "
                + "\(noisyRows.count) too noisy to tell.")
        return lines.joined(separator: "\n")
    }

    private func interval(_ slowdown: Slowdown) -> String {
        slowdown.interval.map { "\(percentage($0.lowerBound))...\(percentage($0.upperBound))" } ?? "-"
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
