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
        #expect(events == ["preparing", "checking", "timing", "timing one worker"])
        #expect(measurement.maxRelativeError == 1e-7)
        #expect(measurement.note == nil)
    }

    @Test func `a row can be checked alone`() throws {
        var events: [String] = []
        let error = try sampleBenchmark(relativeError: 1e-7, clock: ManualClock()).check(in: .test) {
            events.append($0)
        }
        #expect(error == 1e-7)
        #expect(events == ["preparing", "checking"])
        #expect(throws: BenchmarkError.inaccurate(error: 2e-6, tolerance: 1e-6)) {
            try sampleBenchmark(relativeError: 2e-6).check(in: .test) { _ in }
        }
    }

    @Test func `a row of arithmetic is timed against multiply-adds in registers`() throws {
        let clock = ManualClock()
        let context = BenchmarkContext(
            cells: try .bundled(), workers: 2,
            peakLoop: { flops, workers in
                #expect(flops == 3_000_000 && workers == 2)
                return {
                    clock.advance(by: .milliseconds(1))
                    return 1
                }
            })
        let measurement = try sampleBenchmark(limit: .arithmetic, clock: clock).run(
            in: context, plan: .test, clock: clock, stage: { _ in })
        // The row takes 2 ms.
        #expect(abs(try #require(measurement.ratioToPeak).median - 0.5) < 1e-9)
        #expect(abs(try #require(Ceilings.sample.share(of: measurement).ofPeak) - 0.5) < 1e-9)
        #expect(
            try sampleBenchmark(clock: clock).run(in: context, plan: .test, clock: clock, stage: { _ in })
                .ratioToPeak == nil)
    }

    @Test func `the loop in registers gives the same value in every call`() {
        let loop = multiplyAddLoop(flops: 1_000_001, workers: 2)
        let first = loop()
        #expect(first.isFinite && first > 0)
        #expect(loop() == first)
    }

    @Test func `a row beyond the caches is timed against a plain stream at the end`() throws {
        var events: [String] = []
        let clock = ManualClock()
        let context = BenchmarkContext(cells: try .bundled(), workers: 2, streams: .sample(clock: clock))
        _ = try sampleBenchmark(clock: clock).run(in: context, plan: .test, clock: clock) {
            events.append($0)
        }
        #expect(
            events == ["preparing", "checking", "timing", "timing one worker", "timing a plain stream"])
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
        // One worker takes 3 ms.
        #expect(abs(try #require(measurement.ratioToOneWorker).median - 1.5) < 1e-9)
        #expect(measurement.ratioToSgemm == nil && measurement.ratioToParts == nil)
    }

    @Test(arguments: [Rival.Kind.sgemm, .parts, .upstream])
    func `a rival has a ratio of its own`(kind: Rival.Kind) throws {
        let clock = ManualClock()
        let measurement = try sampleBenchmark(rival: kind, clock: clock).run(
            in: .test, plan: .test, clock: clock, stage: { _ in })
        // It takes 4 ms.
        let ratios: [Rival.Kind: Interval?] = [
            .sgemm: measurement.ratioToSgemm, .parts: measurement.ratioToParts,
            .upstream: measurement.ratioToUpstream,
        ]
        #expect(abs(try #require(ratios[kind] ?? nil).median - 2) < 1e-9)
        #expect(ratios.allSatisfy { $0.key == kind || $0.value == nil })
    }

    @Test func `with one worker there is no other to compare with`() throws {
        let clock = ManualClock()
        let context = BenchmarkContext(cells: try .bundled(), workers: 1)
        let measurement = try sampleBenchmark(clock: clock).run(
            in: context, plan: .test, clock: clock, stage: { _ in })
        #expect(measurement.ratioToOneWorker == nil)
        #expect(measurement.ratioToNaive != nil)
    }

    @Test func `a result that depends on the workers fails`() throws {
        let benchmark = Benchmark(
            kernel: "Sample", mode: .value, shape: ProblemShape(1, 1), tolerance: 0
        ) { _ in
            let work = Work(flops: 1, bytes: 1, limitedBy: .memory)
            return Prepared(
                work: work, maxRelativeError: { _ in 0 }, fastloss: { Float($0.workers) }, naive: { 0 })
        }
        #expect(throws: TimingError.workersDisagree(one: 1, all: 2)) {
            try benchmark.run(in: .test, plan: .test, clock: ManualClock(), stage: { _ in })
        }
    }

    @Test(arguments: [(1_000, nil), (200, BenchmarkError.tooMuchScratch(bytes: 512, most: 200))])
    func `a row may limit its scratch memory`(most: Int, error: BenchmarkError?) throws {
        let clock = ManualClock()
        let benchmark = sampleBenchmark(workspaceBytes: 512, mostScratch: most, clock: clock)
        let run = { try benchmark.run(in: .test, plan: .test, clock: clock, stage: { _ in }) }
        if let error {
            #expect(throws: error) { try run() }
        } else {
            #expect(try run().workspaceBytes == 512)
        }
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

/// A row whose calls advance `clock` by 2 ms (FastLoss), 3 ms (on one worker of two), 4 ms (a rival) and 6 ms
/// (naive). A plan that needs its scratch memory and nothing else.
private struct NoPlan: Plan {
    let name = "nothing"
    func run(on execution: Execution) {}
}

func sampleBenchmark(
    kernel: String = "Sample", variant: String? = nil, mode: Mode = .valueAndGradient,
    shape: ProblemShape = ProblemShape(64, 1201),
    relativeError: Double = 0, naiveTimedAt: ProblemShape? = nil, hasNaive: Bool = true, isQuick: Bool = true,
    limit: Work.Limit = .memory, bytes: Int = 8_000_000, workspaceBytes: Int? = nil, mostScratch: Int? = nil,
    rival: Rival.Kind? = nil, clock: ManualClock = ManualClock()
) -> Benchmark {
    Benchmark(
        kernel: kernel, variant: variant, mode: mode, shape: shape, tolerance: 1e-6,
        naiveTimedAt: naiveTimedAt, mostScratch: mostScratch, isQuick: isQuick
    ) { context in
        func fill(_ workspace: Workspace) throws {
            guard let workspaceBytes else { return }
            var layout = workspace.layout
            _ = try layout.add(workspaceBytes, of: UInt8.self)
            try workspace.run(NoPlan(), layout)
        }
        return Prepared(
            work: Work(flops: 3_000_000, bytes: bytes, limitedBy: limit),
            maxRelativeError: { workspace in
                try fill(workspace)
                return relativeError
            },
            fastloss: { workspace in
                clock.advance(by: .milliseconds(workspace.workers < context.workers ? 3 : 2))
                return 0
            },
            naive: hasNaive && naiveTimedAt == nil
                ? {
                    clock.advance(by: .milliseconds(6))
                    return 0
                } : nil,
            rival: rival.map { kind in
                Rival(kind) { _ in
                    clock.advance(by: .milliseconds(4))
                    return 0
                }
            })
    }
}
