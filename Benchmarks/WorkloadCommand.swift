// `Benchmarks workload`: fixed work for scripts/count-instructions.

import ArgumentParser
import BenchmarkData

struct WorkloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workload",
        abstract: "Call FastLoss a fixed number of times per row: work to count instructions of.",
        discussion: """
            Nothing is checked or timed, and one worker is used. The repeated calls of each row lie between \
            two calls of the function workloadBoundary, so that an emulator can tell them from the inputs' \
            preparation. scripts/count-instructions runs this under valgrind.
            """)

    @Argument(help: "Whole names of rows, as --list shows them.")
    var names: [String] = []

    @Option(name: .customLong("repeat"), help: "The number of calls per row.")
    var times = 1

    @Flag(help: "Show the rows whose instructions are counted: the smallest of each kernel and mode.")
    var list = false

    func validate() throws {
        guard times >= 0 else { throw ValidationError("--repeat \(times) is negative") }
        guard list || !names.isEmpty else { throw ValidationError("name a row, or ask for --list") }
    }

    func run() throws {
        if list {
            for benchmark in Suites.all.workloads { print(benchmark.name) }
            return
        }
        let benchmarks = try names.map { name in
            guard let benchmark = Suites.all.first(where: { $0.name == name }) else {
                throw ValidationError("there is no row '\(name)'; 'Benchmarks --list' shows all")
            }
            return benchmark
        }
        try ReleaseBuild.handOverIfDebug()
        let cells = try RealCells.bundled()
        for benchmark in benchmarks {
            try benchmark.callFastLoss(times: times, cells: cells)
            print(benchmark.name)
        }
    }
}
