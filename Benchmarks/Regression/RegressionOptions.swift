// What the commands `baseline` and `check` share: the choice of rows, and a session to measure them in.

import ArgumentParser
import FastLoss
import Foundation

struct RowOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Take the rows whose name, as 'Benchmarks --list' shows it, matches in part; case is ignored.",
            valueName: "regex"))
    var filter: String?

    @Flag(help: "Leave out the large shapes, and time each row for a fraction of a second.")
    var quick = false

    /// Calls `body` with the rows that have a ratio and with a session that shows its progress.
    func measuring<Result>(
        workers: Int, _ body: ([Benchmark], RatioSession<ContinuousClock>) throws -> Result
    ) throws -> Result {
        let benchmarks = try Suites.all.selected(by: filter, quick: quick).filter(\.hasRatio)
        let line = ProgressLine()
        defer { line.clear() }
        let session = RatioSession(
            context: BenchmarkContext(cells: try RealCells.bundled(), workers: workers),
            plan: quick ? .quick : .full, clock: ContinuousClock(), progress: line.show)
        return try body(benchmarks, session)
    }
}

/// A share between 0 and 1 that is allowed, as `--tolerance` gives it.
func checkShare(_ share: Double, option: String) throws {
    guard share >= 0, share <= 1 else { throw ValidationError("\(option) \(share) is not in 0...1") }
}

/// Says on standard error why a command ends, and ends it.
func end(_ command: String, _ reason: some CustomStringConvertible, _ exit: RegressionExit) -> ExitCode {
    Terminal.warn("\(command): \(reason)")
    return exit.code
}
