// `Benchmarks run`, the default: checks every result, times it, prints the table.

import ArgumentParser
import FastLoss
import Foundation

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Check every kernel against the reference, time it against the naive loop, print a table.",
        discussion: """
            A row whose result differs from the reference by more than its tolerance is not timed, and the \
            exit code is 1. Progress is shown where standard error is a terminal.
            """)

    @Option(
        help: ArgumentHelp(
            "Run the benchmarks whose name, as --list shows it, matches in part; case is ignored.",
            valueName: "regex"))
    var filter: String?

    @Flag(help: "Leave out the large shapes, and time each row for a fraction of a second.")
    var quick = false

    @Option(help: ArgumentHelp("Write the results to this file as JSON.", valueName: "file"))
    var json: String?

    @Flag(help: "Show the names of the benchmarks, and run none.")
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
        // Once more: a neighbour that was busy at the beginning would have lowered the ceilings, and raised
        // every share.
        if !quick {
            progress.show("measuring the machine's ceilings once more")
            ceilings = ceilings.better(ceilingsNow())
        }
        progress.clear()

        let machine = MachineDescription.current()
        print(
            """
            \(machine.cpu), \(machine.cores) cores; \(machine.operatingSystem); Swift \(machine.swiftVersion)
            \(runtime)
            \(ceilings)
            Data: \(cells.count) real cells x \(cells.geneCount) genes; larger batches repeat them.

            \(ResultTable(measurements, ceilings: ceilings).rendered(width: Terminal.width))

            fastloss, naive: median time per call. ratio: naive / fastloss, the median over interleaved pairs
            of samples, with its 95 % interval. 1 worker: the time on one worker over that on all. of ceiling: the
            row's rate over what all workers reach together of what limits it; for arithmetic sgemm, and the peak of
            multiply-adds in registers; beside it: of a plain stream of as many bytes through memory, timed in pairs
            with the row. error: largest relative error against the reference in double precision.
            """)
        for failure in failures { Terminal.warn("FAILED \(failure.benchmark): \(failure.message)") }
        try reportFile?.write(
            Report(
                date: start, quick: quick, machine: machine, runtime: RuntimeFacts(runtime),
                ceilings: ceilings,
                measurements: measurements, failures: failures))
        if !failures.isEmpty { throw ExitCode.failure }
    }
}
