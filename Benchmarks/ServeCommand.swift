// `Benchmarks serve`: times FastLoss's Swift API on another program's request, so that both are timed in
// turns.

import ArgumentParser
import BenchmarkData
import FastLoss

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Time calls of FastLoss on request: one line in, one line out.",
        discussion: """
            Reads lines of the form '<row> <calls>', the row as --list names it, and answers each with the \
            nanoseconds that so many calls took. The inputs of a row are made when it is first named; before its \
            first calls one is made that is not counted. Ends with its input. scripts/compare-peers runs this.
            """)

    func run() throws {
        try ReleaseBuild.handOverIfDebug()
        let context = BenchmarkContext(
            cells: try RealCells.bundled(), workers: RuntimeDescription.current.workers)
        let workspace = Workspace(workers: context.workers)
        let clock = ContinuousClock()
        var current: (name: String, prepared: Prepared, wasCalled: Bool)?
        while let line = readLine() {
            let words = line.split(separator: " ")
            guard words.count == 2, let calls = Int(words[1]), calls >= 0 else {
                throw ValidationError("'\(line)' is not '<row> <calls>'")
            }
            let name = String(words[0])
            if current?.name != name {
                guard let benchmark = Suites.all.first(where: { $0.name == name }) else {
                    throw ValidationError("there is no row '\(name)'; 'Benchmarks --list' shows all")
                }
                current = nil  // Frees the last row's memory before the next one's is taken.
                current = (name, try benchmark.prepare(context), false)
            }
            guard let call = current?.prepared.fastloss else { return }
            if calls > 0, current?.wasCalled == false {
                _ = try call(workspace)
                current?.wasCalled = true
            }
            let elapsed = try clock.measure { for _ in 0..<calls { _ = try call(workspace) } }
            print(Int(elapsed / .nanoseconds(1)))
            workloadBoundary()  // Flushes the answer: the reader waits for it.
        }
    }
}
