// One row: prepared, checked, timed; and every way in which it fails.

import Benchmarks
import FastLoss
import Testing

@Suite struct RunnerTests {
    @Test func `a row is checked before it is timed`() throws {
        var events: [String] = []
        let clock = ManualClock()
        let measurement = try sampleBenchmark(relativeError: 1e-7, clock: clock).run(
            in: .test, plan: .test, clock: clock
        ) { events.append($0) }
        #expect(events == ["preparing", "checking", "timing"])
        #expect(measurement.maxRelativeError == 1e-7)
        #expect(measurement.note == nil)
    }

    @Test(arguments: [2e-6, .infinity, .nan])
    func `a result beyond the tolerance is not timed`(error: Double) throws {
        var events: [String] = []
        #expect {
            try sampleBenchmark(relativeError: error).run(
                in: .test, plan: .test, clock: ManualClock()
            ) { events.append($0) }
        } throws: {
            "\($0)" == "the result differs from the reference by \(error) relatively; the tolerance is 1e-06"
        }
        #expect(events == ["preparing", "checking"])
    }

    @Test func `rates follow from the work and the median`() throws {
        let clock = ManualClock()
        let measurement = try sampleBenchmark(clock: clock).run(
            in: .test, plan: .test, clock: clock, stage: { _ in })
        // 3,000,000 FLOPs and 8,000,000 bytes in 2 ms; the naive loop takes 6 ms.
        #expect(abs(measurement.fastloss.time.p50 - 2e6) < 1)
        #expect(abs(measurement.fastloss.gflops - 1.5) < 1e-6)
        #expect(abs(measurement.fastloss.gigabytesPerSecond - 4) < 1e-6)
        let ratio = try #require(measurement.ratioToNaive)
        #expect(abs(ratio.median - 3) < 1e-9)
        #expect(measurement.fastloss.threads == 2)
        #expect(measurement.naive?.threads == 1)
    }

    @Test func `a naive loop timed elsewhere gives no ratio and a note`() throws {
        let clock = ManualClock()
        let measurement = try sampleBenchmark(naiveTimedAt: ProblemShape(256, 512), clock: clock).run(
            in: .test, plan: .test, clock: clock, stage: { _ in })
        #expect(measurement.naive == nil)
        #expect(measurement.ratioToNaive == nil)
        #expect(measurement.note == "naive loop too slow here; see its ratio at 256x512")
    }

    @Test func `a row without a naive loop must say where there is one`() {
        #expect(throws: BenchmarkError.noNaiveLoop) {
            try sampleBenchmark(hasNaive: false).run(
                in: .test, plan: .test, clock: ManualClock(), stage: { _ in })
        }
        #expect(
            "\(BenchmarkError.noNaiveLoop)" == "has no naive loop, and names no shape at which one is timed")
    }
}

extension BenchmarkContext {
    /// For benchmarks that use no cells.
    static var test: BenchmarkContext {
        get throws { BenchmarkContext(cells: try .bundled(), workers: 2) }
    }
}

/// A workspace of at least `bytes`.
private func workspaceHolding(_ bytes: Int) throws -> Workspace {
    let workspace = Workspace(workers: 1)
    var layout = Workspace.Layout()
    _ = try layout.add(bytes, of: UInt8.self)
    try workspace.reserve(layout)
    return workspace
}

/// A row whose calls advance `clock` by 2 ms (FastLoss) and 6 ms (naive).
func sampleBenchmark(
    kernel: String = "Sample", variant: String? = nil, mode: Mode = .valueAndGradient,
    shape: ProblemShape = ProblemShape(64, 1201),
    relativeError: Double = 0, naiveTimedAt: ProblemShape? = nil, hasNaive: Bool = true, isQuick: Bool = true,
    limit: Work.Limit = .memory, bytes: Int = 8_000_000, workspaceBytes: Int? = nil,
    clock: ManualClock = ManualClock()
) -> Benchmark {
    Benchmark(
        kernel: kernel, variant: variant, mode: mode, shape: shape, tolerance: 1e-6,
        naiveTimedAt: naiveTimedAt, isQuick: isQuick
    ) { context in
        let work = Work(flops: 3_000_000, bytes: bytes, limitedBy: limit)
        func call(_ milliseconds: Int) -> () -> Float {
            {
                clock.advance(by: .milliseconds(milliseconds))
                return 0
            }
        }
        return Prepared(
            maxRelativeError: { relativeError },
            fastloss: Implementation(work: work, threads: context.workers, call: call(2)),
            naive: hasNaive && naiveTimedAt == nil ? Implementation(work: work, call: call(6)) : nil,
            workspace: try workspaceBytes.map(workspaceHolding))
    }
}
