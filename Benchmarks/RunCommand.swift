// `Benchmarks run`, the default: checks every result, times it, prints the table.

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

    @Option(help: ArgumentHelp("Write the results to this file as JSON.", valueName: "file"))
    var json: String?

    @Flag(help: "List the names of the benchmarks and exit.")
    var list = false

    func run() throws {
        let benchmarks = try Suites.all.selected(by: filter, quick: quick)
        if list {
            for benchmark in benchmarks { print(benchmark.name) }
            return
        }
        let reportFile = try json.map { try ReportFile(path: $0) }
        try ReleaseBuild.handOverIfDebug()
        try measure(benchmarks, reportFile: reportFile)
    }

    private func measure(_ benchmarks: [Benchmark], reportFile: ReportFile?) throws {
        let start = Date()
        let runtime = RuntimeDescription.current
        let cells = try RealCells.bundled()
        let context = BenchmarkContext(
            cells: cells, workers: runtime.workers, streams: .ofThisMachine())
        let progress = ProgressLine()
        progress.show("measuring the machine's ceilings")
        func ceilingsNow() -> Ceilings { .measured(workers: runtime.workers, plan: quick ? .quick : .full) }
        var ceilings = ceilingsNow()
        var measurements: [Measurement] = []
        var failures: [Failure] = []
        for (index, benchmark) in benchmarks.enumerated() {
            do {
                let measurement = try benchmark.run(
                    in: context, plan: quick ? .quick : .full, clock: ContinuousClock()
                ) { stage in
                    progress.show("[\(index + 1)/\(benchmarks.count)] \(benchmark.name): \(stage)")
                }
                measurements.append(measurement)
            } catch {
                failures.append(Failure(benchmark: benchmark.name, message: "\(error)"))
            }
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
        for failure in failures { Terminal.warn("FAILED \(failure.benchmark): \(failure.message)") }
        try reportFile?.write(report)
        if !failures.isEmpty { throw ExitCode.failure }
    }
}
