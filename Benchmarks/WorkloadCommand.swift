// `Benchmarks workload`: fixed work for scripts/count-instructions.

import ArgumentParser

struct WorkloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workload",
        abstract: "Call one row's FastLoss function a fixed number of times: work to count instructions of.",
        discussion: """
            Nothing is checked or timed, and one worker is used. The inputs and one call to settle the \
            workspace come first; they cost the same whatever --repeat says, so that the counts of two runs \
            differ by the repeated calls alone. scripts/count-instructions does that under valgrind.
            """)

    @Argument(help: "The whole name of a row, as --list shows it.")
    var name: String?

    @Option(name: .customLong("repeat"), help: "The number of calls.")
    var times = 1

    @Flag(help: "Show the rows whose instructions are counted: the smallest of each kernel and mode.")
    var list = false

    func validate() throws {
        guard times >= 0 else { throw ValidationError("--repeat \(times) is negative") }
        guard list || name != nil else { throw ValidationError("name a row, or ask for --list") }
    }

    func run() throws {
        if list {
            for benchmark in Suites.all.workloads { print(benchmark.name) }
            return
        }
        guard let benchmark = Suites.all.first(where: { $0.name == name }) else {
            throw ValidationError("there is no row '\(name ?? "")'; 'Benchmarks --list' shows all")
        }
        try ReleaseBuild.handOverIfDebug()
        print(try benchmark.callFastLoss(times: times, cells: try RealCells.bundled()))
    }
}
