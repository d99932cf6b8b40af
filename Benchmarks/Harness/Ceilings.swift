// The machine's measured limits, and the share of them that each row reaches.
//
// The ceiling of a row
//
//   - Arithmetic (`Work.Limit.arithmetic`): the throughput of sgemm on tiles of the depth nearest to the
//     row's third side. Throughput is FLOPs over time of the three products that a tile goes through together
//     — NT (similarities), NN and TN (gradients) —, of the faster tile size. FLOPs are the row's formula, not
//     what is executed.
//   - Bytes that a cache holds (`Work.Limit.memory`): the bandwidth of the smallest cache that holds them
//     all; reading alone for rows of the value, reading and writing for rows with the gradient. Bytes are the
//     row's inputs and outputs once each; a cache line that is read only to be written counts nowhere.
//   - Bytes that no cache holds: a plain stream of as many bytes ("memory read stream"), timed in pairs with
//     the row, because the bandwidth of memory on a shared machine changes during a run
//     (`MemoryStreams.swift`). The share is the median of stream time over row time, and the ceiling is the
//     row's rate over its share. The measured bandwidth of memory describes the machine. It is the ceiling of
//     a row that was timed without a stream.
//
// The first share is of what all workers reach together. A call that is too small to share reaches one
// worker's part at most, so there is a second share, of the ceiling of one worker.
//
// Multiply-adds in registers, with the instruction set that FastLoss uses, are the peak of the processor. They
// are timed in pairs with the row (`PeakLoop.swift`). OpenBLAS may use narrower vectors than FastLoss (its Haswell kernels on a processor with AVX-512), so a row
// of arithmetic can exceed sgemm. Its share of the peak shows what remains.

package struct Ceilings: Codable, Equatable, Sendable {
    /// Billions per second: of floating-point operations, or of bytes.
    package struct Rate: Codable, Equatable, Sendable {
        package var oneWorker: Double
        package var allWorkers: Double

        package init(oneWorker: Double, allWorkers: Double) {
            self.oneWorker = oneWorker
            self.allWorkers = allWorkers
        }

        enum CodingKeys: String, CodingKey {
            case oneWorker = "one_worker"
            case allWorkers = "all_workers"
        }
    }

    /// The products of a tile: A·Bᵀ, A·B and Aᵀ·B.
    package enum Product: String, Codable, Sendable, CaseIterable {
        case nt = "NT"
        case nn = "NN"
        case tn = "TN"
    }

    /// sgemm of one product on tiles of rows × rows.
    package struct Tile: Codable, Equatable, Sendable {
        package var product: Product
        package var rows: Int
        package var depth: Int
        package var gflops: Rate

        package init(product: Product, rows: Int, depth: Int, gflops: Rate) {
            self.product = product
            self.rows = rows
            self.depth = depth
            self.gflops = gflops
        }
    }

    /// A cache, or memory.
    package struct Level: Codable, Equatable, Sendable {
        /// "L1", "L2", "L3" or "memory".
        package var name: String
        /// What one core can hold in it; nil for memory.
        package var capacity: Int?
        /// GB/s of reading alone.
        package var read: Rate
        /// GB/s, read and written together, of reading one array and writing another.
        package var readWrite: Rate

        package init(name: String, capacity: Int?, read: Rate, readWrite: Rate) {
            self.name = name
            self.capacity = capacity
            self.read = read
            self.readWrite = readWrite
        }

        enum CodingKeys: String, CodingKey {
            case name, read
            case capacity = "capacity_bytes"
            case readWrite = "read_write"
        }
    }

    package var workers: Int
    /// GFLOP/s of multiply-adds in registers.
    package var multiplyAdd: Rate
    package var tiles: [Tile]
    /// From the smallest cache to memory; memory is always present.
    package var levels: [Level]

    package init(workers: Int, multiplyAdd: Rate, tiles: [Tile], levels: [Level]) {
        self.workers = workers
        self.multiplyAdd = multiplyAdd
        self.tiles = tiles
        self.levels = levels
    }

    enum CodingKeys: String, CodingKey {
        case workers
        case multiplyAdd = "multiply_add_gflops"
        case tiles = "sgemm"
        case levels = "bandwidth_gb_per_s"
    }
}

/// The ceiling of one row, and the row's share of it.
package struct CeilingShare: Equatable, Sendable {
    /// "sgemm D=512", "L3 read" or "memory read+write stream".
    package let name: String
    /// The ceiling, in GFLOP/s or GB/s.
    package let rate: Ceilings.Rate
    /// The row's rate over what all workers reach, and over what one reaches.
    package let ofAllWorkers: Double
    package let ofOneWorker: Double
    /// The row's rate over the multiply-adds of all workers; nil where bytes are the limit.
    package let ofPeak: Double?
}

extension Ceilings {
    /// The share of its ceiling that FastLoss reaches in a row.
    package func share(of measurement: Measurement) -> CeilingShare {
        if let share = CeilingShare(ofStreams: measurement) { return share }
        let (work, time) = (measurement.fastloss.work, measurement.fastloss.time.p50)
        let (name, rate) =
            switch work.limit {
            case .arithmetic: sgemm(depth: measurement.shape.depth)
            case .memory: bandwidth(of: work, mode: measurement.mode)
            }
        let reached = Double(work.limit == .arithmetic ? work.flops : work.bytes) / time
        return CeilingShare(
            name: name, rate: rate, ofAllWorkers: reached / rate.allWorkers,
            ofOneWorker: reached / rate.oneWorker,
            ofPeak: work.limit == .arithmetic
                ? measurement.ratioToPeak?.median ?? reached / multiplyAdd.allWorkers : nil)
    }

    private func sgemm(depth: Int) -> (String, Rate) {
        func distance(_ other: Int) -> Double {
            max(Double(other) / Double(depth), Double(depth) / Double(other))
        }
        let nearest = tiles.map(\.depth).min { distance($0) < distance($1) } ?? depth
        return ("sgemm D=\(nearest)", sgemmThroughput(depth: nearest))
    }

    /// GFLOP/s of the three products of a tile together, for the faster tile size.
    package func sgemmThroughput(depth: Int) -> Rate {
        let ofDepth = tiles.filter { $0.depth == depth }
        func together(_ rate: KeyPath<Rate, Double>) -> Double {
            // Equal FLOPs one after the other: the harmonic mean of the rates.
            Set(ofDepth.map(\.rows)).map { rows in
                let products = ofDepth.filter { $0.rows == rows }
                return Double(products.count) / products.reduce(0) { $0 + 1 / $1.gflops[keyPath: rate] }
            }.max() ?? .nan
        }
        return Rate(oneWorker: together(\.oneWorker), allWorkers: together(\.allWorkers))
    }

    private func bandwidth(of work: Work, mode: Mode) -> (String, Rate) {
        let level = levels.first { $0.capacity.map { work.bytes <= $0 } ?? true } ?? levels[levels.count - 1]
        return ("\(level.name) \(mode.traffic)", mode == .value ? level.read : level.readWrite)
    }
}

extension CeilingShare {
    /// The share of a row that was timed against streams; nil for others.
    fileprivate init?(ofStreams measurement: Measurement) {
        guard let ratios = measurement.ratioToStreams else { return nil }
        let reached = measurement.fastloss.gigabytesPerSecond
        self.init(
            name: "memory \(measurement.mode.traffic) stream",
            rate: Ceilings.Rate(
                oneWorker: reached / ratios.oneWorker.median, allWorkers: reached / ratios.allWorkers.median),
            ofAllWorkers: ratios.allWorkers.median, ofOneWorker: ratios.oneWorker.median, ofPeak: nil)
    }
}

extension Mode {
    /// The accesses of a row to the level that holds its bytes.
    fileprivate var traffic: String {
        switch self {
        case .value: "read"
        case .valueAndGradient: "read+write"
        }
    }
}

extension Ceilings {
    /// The better of two measurements of one machine, rate by rate: disturbances only lower a rate.
    package func better(_ other: Ceilings) -> Ceilings {
        func better(_ one: Rate, _ another: Rate) -> Rate {
            Rate(
                oneWorker: max(one.oneWorker, another.oneWorker),
                allWorkers: max(one.allWorkers, another.allWorkers))
        }
        precondition(tiles.count == other.tiles.count && levels.count == other.levels.count)
        var result = self
        result.multiplyAdd = better(multiplyAdd, other.multiplyAdd)
        for index in tiles.indices {
            result.tiles[index].gflops = better(tiles[index].gflops, other.tiles[index].gflops)
        }
        for index in levels.indices {
            result.levels[index].read = better(levels[index].read, other.levels[index].read)
            result.levels[index].readWrite = better(levels[index].readWrite, other.levels[index].readWrite)
        }
        return result
    }
}

extension Ceilings: CustomStringConvertible {
    /// Three lines: arithmetic, sgemm, bandwidth.
    package var description: String {
        func pair(_ rate: Rate) -> String {
            workers == 1
                ? significant(rate.allWorkers)
                : "\(significant(rate.oneWorker)) / \(significant(rate.allWorkers))"
        }
        let depths = Set(tiles.map(\.depth)).sorted(by: >)
        return """
            Ceilings\(workers == 1 ? "" : ", one worker / all \(workers)"): \
            multiply-add \(pair(multiplyAdd)) GFLOP/s; \
            \(depths.map { "sgemm D=\($0) \(pair(sgemmThroughput(depth: $0)))" }.joined(separator: ", ")) GFLOP/s
            read \(levels.map { "\($0.name) \(pair($0.read))" }.joined(separator: ", ")) GB/s
            read+write \(levels.map { "\($0.name) \(pair($0.readWrite))" }.joined(separator: ", ")) GB/s
            """
    }
}
