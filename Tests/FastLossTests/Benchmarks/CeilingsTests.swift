// Which ceiling a row is held against, and that ceilings are measured at all.

import Benchmarks
import Foundation
import Testing

@Suite struct CeilingsTests {
    @Test(arguments: [
        (512, "sgemm D=512", 0.75, 1.5), (400, "sgemm D=512", 0.75, 1.5), (128, "sgemm D=128", 1.5, 3.0),
        (1, "sgemm D=128", 1.5, 3.0),
    ])
    func `arithmetic is held against sgemm of the nearest depth`(
        depth: Int, name: String, ofAll: Double, ofOne: Double
    ) throws {
        // 1.5 GFLOP/s.
        let share = Ceilings.sample.share(of: try measurement(limit: .arithmetic, depth: depth))
        #expect(share.name == name)
        #expect(abs(share.ofAllWorkers - ofAll) < 1e-6)
        #expect(abs(share.ofOneWorker - ofOne) < 1e-6)
        // Beyond sgemm there is the peak of 4 GFLOP/s, whatever the depth.
        #expect(abs(try #require(share.ofPeak) - 0.375) < 1e-6)
    }

    @Test func `of two measurements every better rate counts`() {
        var disturbed = Ceilings.sample
        disturbed.multiplyAdd.allWorkers = 1
        disturbed.tiles[0].gflops = Ceilings.Rate(oneWorker: 9, allWorkers: 0.1)
        disturbed.levels[2].read.oneWorker = 0.5
        var expected = Ceilings.sample
        expected.tiles[0].gflops.oneWorker = 9
        #expect(disturbed.better(.sample) == expected)
        #expect(Ceilings.sample.better(disturbed) == expected)
    }

    @Test func `bytes have no peak of arithmetic`() throws {
        #expect(Ceilings.sample.share(of: try measurement()).ofPeak == nil)
    }

    @Test func `sgemm's throughput is all products over all time, with the faster tile`() {
        func tile(_ product: Ceilings.Product, _ rows: Int, _ gflops: Double) -> Ceilings.Tile {
            Ceilings.Tile(
                product: product, rows: rows, depth: 512,
                gflops: Ceilings.Rate(oneWorker: gflops, allWorkers: 2 * gflops))
        }
        var ceilings = Ceilings.sample
        ceilings.tiles = [
            tile(.nt, 128, 60), tile(.nn, 128, 60), tile(.tn, 128, 60), tile(.nt, 256, 100),
            tile(.nn, 256, 100),
            tile(.tn, 256, 50),
        ]
        // Three products in 1/100 + 1/100 + 1/50.
        let throughput = ceilings.sgemmThroughput(depth: 512)
        #expect(abs(throughput.oneWorker - 75) < 1e-9)
        #expect(abs(throughput.allWorkers - 150) < 1e-9)
    }

    @Test(arguments: [
        (8_000_000, "memory read+write"), (1_000_001, "memory read+write"), (1_000_000, "L2 read+write"),
        (1_000, "L1 read+write"), (1_001, "L2 read+write"),
    ])
    func `bytes are held against the level that holds them`(bytes: Int, name: String) throws {
        let share = Ceilings.sample.share(of: try measurement(bytes: bytes))
        #expect(share.name == name)
        // In 2 ms, against 20 GB/s.
        #expect(abs(share.ofAllWorkers - Double(bytes) / 2e6 / 20) < 1e-6)
    }

    @Test func `the value alone reads`() throws {
        let share = Ceilings.sample.share(of: try measurement(mode: .value))
        #expect(share.name == "memory read")
        #expect(abs(share.ofAllWorkers - 0.1) < 1e-6)
    }

    @Test(arguments: [
        (Mode.value, "memory read stream"), (.valueAndGradient, "memory read+write stream"),
    ])
    func `a row with streams is held against them, whatever was measured`(mode: Mode, name: String) throws {
        let share = Ceilings.sample.share(of: try measurement(mode: mode, withStreams: true))
        #expect(share.name == name)
        // 4 GB/s in 2 ms; the streams take 1 ms on all workers and 1.5 ms on one.
        #expect(abs(share.ofAllWorkers - 0.5) < 1e-6)
        #expect(abs(share.ofOneWorker - 0.75) < 1e-6)
        #expect(abs(share.rate.allWorkers - 8) < 1e-6)
        #expect(abs(share.rate.oneWorker - 16 / 3.0) < 1e-6)
        #expect(share.ofPeak == nil)
    }

    @Test func `bytes that a cache holds are held against it even where there are streams`() throws {
        let share = Ceilings.sample.share(of: try measurement(bytes: 1_000_000, withStreams: true))
        #expect(share.name == "L2 read+write")
    }

    @Test func `every rate of this machine is measured`() {
        let plan = CeilingPlan(minimumSample: .microseconds(50), budget: .zero)
        let ceilings = Ceilings.measured(
            workers: 2, plan: plan, tileRows: [8], depths: [16],
            caches: [CacheSize(level: 1, bytes: 16_384, isShared: false)])
        #expect(ceilings.tiles.map(\.product) == [.nt, .nn, .tn])
        #expect(ceilings.levels.map(\.name) == ["L1", "memory"])
        let rates =
            [ceilings.multiplyAdd] + ceilings.tiles.map(\.gflops)
            + ceilings.levels.flatMap { [$0.read, $0.readWrite] }
        for rate in rates {
            #expect(rate.oneWorker > 0 && rate.oneWorker.isFinite)
            #expect(rate.allWorkers > 0 && rate.allWorkers.isFinite)
        }
    }

    @Test func `caches are read from the system's description, instruction caches left out`() throws {
        let files = FileManager.default
        let folder = files.temporaryDirectory.appending(path: UUID().uuidString)
        defer { try? files.removeItem(at: folder) }
        let caches = [
            ("index3", "3", "Unified", "32M", "0-1"), ("index0", "1", "Data", "32K", "0"),
            ("index1", "1", "Instruction", "32K", "0"), ("index2", "2", "Unified", "1024K", "0,8"),
        ]
        for (name, level, type, size, processors) in caches {
            let cache = folder.appending(path: name)
            try files.createDirectory(at: cache, withIntermediateDirectories: true)
            for (file, text) in [
                ("level", level), ("type", type), ("size", size), ("shared_cpu_list", processors),
            ] {
                try Data("\(text)\n".utf8).write(to: cache.appending(path: file))
            }
        }
        #expect(
            CacheSize.all(in: folder.path) == [
                CacheSize(level: 1, bytes: 32 << 10, isShared: false),
                CacheSize(level: 2, bytes: 1 << 20, isShared: true),
                CacheSize(level: 3, bytes: 32 << 20, isShared: true),
            ])
        #expect(CacheSize.all(in: "\(folder.path)/nothing").isEmpty)
    }

    /// 3,000,000 FLOPs in 2 ms.
    private func measurement(
        limit: Work.Limit = .memory, bytes: Int = 8_000_000, depth: Int = 1, mode: Mode = .valueAndGradient,
        withStreams: Bool = false
    ) throws -> Benchmarks.Measurement {
        let clock = ManualClock()
        let context = BenchmarkContext(
            cells: try .bundled(), workers: 2, streams: withStreams ? .sample(clock: clock) : nil)
        return try sampleBenchmark(
            mode: mode, shape: ProblemShape(64, 1201, depth), limit: limit, bytes: bytes, clock: clock
        ).run(in: context, plan: .test, clock: clock, stage: { _ in })
    }
}

extension Ceilings {
    /// Round numbers: sgemm 2 and 1 GFLOP/s on all workers, bandwidth 40 and 20 GB/s, half of all that on
    /// one.
    static var sample: Ceilings {
        func rate(_ all: Double) -> Rate { Rate(oneWorker: all / 2, allWorkers: all) }
        func level(_ name: String, _ capacity: Int?) -> Level {
            Level(name: name, capacity: capacity, read: rate(40), readWrite: rate(20))
        }
        return Ceilings(
            workers: 2, multiplyAdd: rate(4),
            tiles: [(128, 1.0), (512, 2.0)].flatMap { depth, gflops in
                Product.allCases.map { Tile(product: $0, rows: 128, depth: depth, gflops: rate(gflops)) }
            },
            levels: [level("L1", 1_000), level("L2", 1_000_000), level("memory", nil)])
    }
}
