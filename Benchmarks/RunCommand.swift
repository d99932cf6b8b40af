// `Benchmarks run`, the default: checks every result, times it unless told not to, prints the table.

import ArgumentParser
import BenchmarkData
import FastLoss
import Foundation

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Check every kernel against the reference, time it against the naive loop, print a table.",
        discussion: """
            A row whose result differs from the reference by more than its tolerance fails: it is not timed, and \
            the exit code is 1. Progress appears if standard error is a terminal.
            """)

    @Option(
        help: ArgumentHelp(
            "Run the benchmarks whose name contains a match; case is ignored.",
            valueName: "regex"))
    var filter: String?

    @Flag(help: "Omit the large shapes, and time each row for a fraction of a second.")
    var quick = false

    @Flag(help: "Check the result of each row, and time nothing.")
    var checkOnly = false

    @Option(help: ArgumentHelp("Write the results to this file as JSON.", valueName: "file"))
    var json: String?

    @Flag(help: "List the names of the benchmarks and exit.")
    var list = false

    func validate() throws {
        if checkOnly, json != nil {
            throw ValidationError("--check-only has no results for --json.")
        }
    }

    func run() throws {
        let benchmarks = try Suites.all.selected(by: filter, quick: quick)
        if list {
            for benchmark in benchmarks { print(benchmark.name) }
            return
        }
        let reportFile = try json.map { try ReportFile(path: $0) }
        try ReleaseBuild.handOverIfDebug()
        if checkOnly {
            try check(benchmarks)
        } else {
            try measure(benchmarks, reportFile: reportFile)
        }
    }

    /// Checks every row without timing it.
    private func check(_ benchmarks: [Benchmark]) throws {
        let runtime = RuntimeDescription.current
        let context = BenchmarkContext(cells: try RealCells.bundled(), workers: runtime.workers)
        let progress = ProgressLine()
        let (errors, failures) = attempt(benchmarks, progress) { try $0.check(in: context, stage: $1) }
        progress.clear()
        print(
            """
            \(runtime)
            \(errors.count) of \(benchmarks.count) rows agree with the reference, on one worker and on all.
            """)
        try report(failures)
    }

    /// Calls `body` for every benchmark, and goes on where it throws.
    private func attempt<Result>(
        _ benchmarks: [Benchmark], _ progress: ProgressLine,
        body: (Benchmark, _ stage: (String) -> Void) throws -> Result
    ) -> (results: [Result], failures: [Failure]) {
        var results: [Result] = []
        var failures: [Failure] = []
        for (index, benchmark) in benchmarks.enumerated() {
            do {
                results.append(
                    try body(benchmark) { stage in
                        progress.show("[\(index + 1)/\(benchmarks.count)] \(benchmark.name): \(stage)")
                    })
            } catch {
                failures.append(Failure(benchmark: benchmark.name, message: "\(error)"))
            }
        }
        return (results, failures)
    }

    /// Prints the failures and ends the program with an error if there are any.
    private func report(_ failures: [Failure]) throws {
        for failure in failures { Terminal.warn("FAILED \(failure.benchmark): \(failure.message)") }
        if !failures.isEmpty { throw ExitCode.failure }
    }

    private func measure(_ benchmarks: [Benchmark], reportFile: ReportFile?) throws {
        let start = Date()
        let runtime = RuntimeDescription.current
        let cells = try RealCells.bundled()
        let context = BenchmarkContext(
            cells: cells, workers: runtime.workers, streams: .ofThisMachine(),
            peakLoop: multiplyAddLoop)
        let progress = ProgressLine()
        progress.show("measuring the machine's ceilings")
        func ceilingsNow() -> Ceilings { .measured(workers: runtime.workers, plan: quick ? .quick : .full) }
        var ceilings = ceilingsNow()
        let (measurements, failures) = attempt(benchmarks, progress) { benchmark, stage in
            try benchmark.run(
                in: context, plan: quick ? .quick : .full, clock: ContinuousClock(), stage: stage)
        }
        // Measured again: other load at the beginning would lower the ceilings and raise every share.
        if !quick {
            progress.show("measuring the machine's ceilings again")
            ceilings = ceilings.better(ceilingsNow())
        }
        progress.clear()

        let report = Report(
            date: start, quick: quick, machine: .current(), runtime: RuntimeFacts(runtime),
            ceilings: ceilings,
            measurements: measurements, failures: failures)
        print(
            """
            \(report.machine.summary)
            \(runtime)
            \(ceilings)
            Data: \(cells.count) real cells × \(cells.geneCount) genes; larger batches repeat them.

            \(ResultTable(report.rows).rendered(width: Terminal.width))

            \(ReportRow.legend.wrapped(to: 110))
            """)
        try reportFile?.write(report)
        try self.report(failures)
    }
}
