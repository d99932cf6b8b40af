// `Benchmarks compare`: compares the runs of two revisions that scripts/check-performance made.

import ArgumentParser
import Foundation

struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Compare alternating runs of two revisions; scripts/check-performance calls this.",
        discussion: """
            Each file is a report that 'Benchmarks --json' wrote; each round contributes one of each kind. The \
            command compares FastLoss's own times round by round, never against the naive loop.

            A row is slower if its whole 95 % interval lies beyond the tolerance. The control compares the \
            earlier revision with itself. If the control strays by more than the tolerance, a row must be slower \
            than tolerance and noise together, or it counts as too noisy to tell.

            \(ComparisonExit.help)
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Runs of the earlier revision, six or more.", valueName: "file"))
    var before: [String]

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("As many runs of the later revision.", valueName: "file"))
    var after: [String]

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("As many runs of the earlier revision as a control.", valueName: "file"))
    var control: [String]

    @Option(help: ArgumentHelp("The accepted additional time as a share.", valueName: "share"))
    var tolerance = 0.15

    @Option(
        help: ArgumentHelp(
            "Write to this file a --filter that selects the rows that are slower or too noisy to tell.",
            valueName: "file"))
    var doubtful: String?

    func validate() throws {
        guard (0...1).contains(tolerance) else {
            throw ValidationError("--tolerance \(tolerance) is not in 0...1")
        }
    }

    func run() throws {
        let comparison: RunComparison
        do {
            comparison = try RunComparison(
                before: try before.map(Report.init(reading:)), after: try after.map(Report.init(reading:)),
                control: try control.map(Report.init(reading:)), tolerance: tolerance)
        } catch {
            Terminal.warn("compare: \(error)")
            throw ComparisonExit.unfitRuns.code
        }
        let outcome = comparison.run()
        print(outcome.rendered(tolerance: tolerance))
        if let doubtful {
            try Data(outcome.filterOfDoubtfulRows.utf8).write(to: URL(filePath: doubtful), options: .atomic)
        }
        throw outcome.exitCode.code
    }
}
