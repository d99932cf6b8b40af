// The plain streams for rows that no cache holds, and the rows that have one.

import Benchmarks
import FastLoss
import Testing

@Suite struct MemoryStreamsTests {
    private static let block = 512

    /// Every float of the array is 2⁻¹⁰, so the sum counts what was read, exactly as long as it is small.
    @Test(arguments: [1, 2, 3])
    func `a stream of the value reads every byte once`(workers: Int) throws {
        let bytes = 6 * 100 * Self.block
        let stream = try MemoryStreams.ofThisMachine().make(bytes, .value, workers)
        for _ in 0..<2 { #expect(stream() == Float(bytes / 4) / 1024) }
    }

    @Test(arguments: [(1, 1, 1), (700, 1, 1), (800, 1, 2), (5 * 512, 2, 6), (1, 3, 3)])
    func `bytes are rounded to blocks, at least one per worker`(bytes: Int, workers: Int, blocks: Int) throws
    {
        let stream = try MemoryStreams.ofThisMachine().make(bytes, .value, workers)
        #expect(stream() == Float(blocks * Self.block / 4) / 1024)
    }

    @Test(arguments: [1, 2, 3])
    func `a stream of the gradient writes what it reads, negated`(workers: Int) throws {
        let stream = try MemoryStreams.ofThisMachine().make(1 << 20, .valueAndGradient, workers)
        for _ in 0..<2 { #expect(stream() == -0x1p-10) }
    }

    @Test func `the largest cache bounds the rows that have none`() {
        let caches = [(1, 1 << 15), (3, 1 << 25), (2, 1 << 20)].map {
            CacheSize(level: $0, bytes: $1, isShared: false)
        }
        #expect(MemoryStreams.ofThisMachine(caches: caches).cacheBytes == 1 << 25)
        #expect(MemoryStreams.ofThisMachine(caches: []).cacheBytes == 0)
    }

    @Test(arguments: [Mode.value, .valueAndGradient])
    func `a row beyond the caches is timed against streams of its bytes`(mode: Mode) throws {
        let (measurement, asked) = try run(mode: mode, bytes: 1_000_001)
        #expect(asked == [Asked(1_000_001, mode, 2), Asked(1_000_001, mode, 1)])
        let ratios = try #require(measurement.ratioToStreams)
        // The row takes 2 ms, the streams 1 ms on two workers and 1.5 ms on one.
        #expect(abs(ratios.allWorkers.median - 0.5) < 1e-9)
        #expect(abs(ratios.oneWorker.median - 0.75) < 1e-9)
    }

    @Test(arguments: [(Work.Limit.memory, 1_000_000), (.arithmetic, 1_000_001)])
    func `rows in a cache and rows of arithmetic have no stream`(limit: Work.Limit, bytes: Int) throws {
        let (measurement, asked) = try run(limit: limit, bytes: bytes)
        #expect(asked.isEmpty)
        #expect(measurement.ratioToStreams == nil)
    }

    @Test func `with one worker there is one stream`() throws {
        let (measurement, asked) = try run(bytes: 8_000_000, workers: 1)
        #expect(asked == [Asked(8_000_000, .valueAndGradient, 1)])
        let ratios = try #require(measurement.ratioToStreams)
        #expect(ratios.allWorkers == ratios.oneWorker)
    }

    private struct Asked: Equatable {
        let bytes: Int
        let mode: Mode
        let workers: Int

        init(_ bytes: Int, _ mode: Mode, _ workers: Int) {
            (self.bytes, self.mode, self.workers) = (bytes, mode, workers)
        }
    }

    /// The measurement of a sample row with streams, and the requested streams.
    private func run(
        mode: Mode = .valueAndGradient, limit: Work.Limit = .memory, bytes: Int, workers: Int = 2
    ) throws -> (Benchmarks.Measurement, [Asked]) {
        let clock = ManualClock()
        var asked: [Asked] = []
        let sample = MemoryStreams.sample(clock: clock)
        let streams = MemoryStreams(cacheBytes: sample.cacheBytes) { bytes, mode, workers in
            asked.append(Asked(bytes, mode, workers))
            return try sample.make(bytes, mode, workers)
        }
        let context = BenchmarkContext(cells: try .bundled(), workers: workers, streams: streams)
        let measurement = try sampleBenchmark(mode: mode, limit: limit, bytes: bytes, clock: clock)
            .run(in: context, plan: .test, clock: clock, stage: { _ in })
        return (measurement, asked)
    }
}

extension MemoryStreams {
    /// Beyond 1 MB, streams that advance `clock` by 1 ms on several workers and by 1.5 ms on one.
    static func sample(clock: ManualClock) -> MemoryStreams {
        MemoryStreams(cacheBytes: 1_000_000) { _, _, workers in
            {
                clock.advance(by: .microseconds(workers == 1 ? 1_500 : 1_000))
                return 0
            }
        }
    }
}
