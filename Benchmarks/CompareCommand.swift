// `Benchmarks compare`: compares the runs that scripts/check-performance makes of two revisions.

import ArgumentParser
import Foundation

struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Compare runs of two revisions, made in turns: what scripts/check-performance does.",
        discussion: """
            Each file is what 'Benchmarks --json' wrote, each round one file of every kind. Compared are \
            FastLoss's own times, round by round; the naive loop plays no part. The control is the earlier \
            revision once more. The rules are those of 'check'.

            \(RegressionExit.help)
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

    @Option(help: ArgumentHelp("The additional time that is accepted, as a share.", valueName: "share"))
    var tolerance = 0.15

    @Option(
        help: ArgumentHelp(
            "Write a --filter to this file that selects the rows that are slower or too noisy to tell.",
            valueName: "file"))
    var doubtful: String?

    func validate() throws {
        try checkShare(tolerance, option: "--tolerance")
    }

    func run() throws {
        let comparison: RunComparison
        do {
            comparison = try RunComparison(
                before: try before.map(report), after: try after.map(report),
                control: try control.map(report), tolerance: tolerance)
        } catch let error as ComparisonError {
            throw end("compare", error, .unfitBaseline)
        }
        let outcome = comparison.run()
        print(outcome.rendered(against: "before", tolerance: tolerance))
        if let doubtful {
            try Data(outcome.filterOfDoubtfulRows.utf8).write(to: URL(filePath: doubtful), options: .atomic)
        }
        throw outcome.exitCode.code
    }

    private func report(_ path: String) throws -> Report {
        do {
            return try Report(reading: path)
        } catch {
            throw end("compare", error, .unfitBaseline)
        }
    }
}
