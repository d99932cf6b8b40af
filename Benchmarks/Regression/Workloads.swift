// Fixed work for counting instructions: the same calls on the same inputs every time, and nothing that
// depends on a clock or on the machine's cores.

extension [Benchmark] {
    /// The smallest row of each kernel, variant and mode: a counting emulator is some fifty times slower than
    /// the machine, and the instructions per element are the same at every size.
    package var workloads: [Benchmark] {
        var smallest: [String: Benchmark] = [:]
        for benchmark in self {
            let other = smallest[benchmark.family]
            if benchmark.shape.count < other?.shape.count ?? .max { smallest[benchmark.family] = benchmark }
        }
        return filter { smallest[$0.family]?.name == $0.name }
    }
}

extension Benchmark {
    fileprivate var family: String { "\(kernel)/\(variant ?? "")/\(mode.rawValue)" }

    /// Calls FastLoss once to settle its workspace, then `times` times, on one worker.
    ///
    /// What precedes the counted calls costs the same whatever their number, so that the counts of two
    /// numbers of calls differ by the calls alone.
    ///
    /// - Returns: the value of the last call.
    package func callFastLoss(times: Int, cells: RealCells) throws -> Float {
        let prepared = try prepare(BenchmarkContext(cells: cells, workers: 1))
        var value = try prepared.fastloss.call()
        for _ in 0..<times { value = try prepared.fastloss.call() }
        return value
    }
}
