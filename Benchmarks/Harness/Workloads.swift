// Fixed work for counting instructions: equal calls on equal inputs, independent of clocks and cores.

import BenchmarkData
import FastLoss
import Foundation

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

    /// Calls FastLoss once to settle its workspace, then `times` times between two calls of
    /// ``workloadBoundary()``, on one worker.
    package func callFastLoss(times: Int, cells: RealCells) throws {
        let prepared = try prepare(BenchmarkContext(cells: cells, workers: 1))
        let workspace = Workspace(workers: 1)
        let first = try prepared.fastloss(workspace)
        workloadBoundary()
        for _ in 0..<times {
            let value = try prepared.fastloss(workspace)
            guard value.bitPattern == first.bitPattern else {
                throw TimingError.unstableValue(first: first, later: value)
            }
        }
        workloadBoundary()
    }
}

/// The function whose entry makes the emulator write its counts.
///
/// Flushes the output: the compiler may remove calls of a function without effects.
@inline(never)
package func workloadBoundary() {
    fflush(nil)
}
