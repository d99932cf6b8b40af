// Measures the ceilings, with FastLoss's own workers and BLAS: once on one worker, once on all.

import CMachineCeilings
import FastLoss

/// How long each ceiling is measured.
package struct CeilingPlan: Sendable {
    /// A sample is at least this long, so that waking the workers (some 10 µs) does not show.
    package var minimumSample: Duration
    /// Sampling of one rate stops after this; the fastest sample counts.
    package var budget: Duration

    package init(minimumSample: Duration, budget: Duration) {
        self.minimumSample = minimumSample
        self.budget = budget
    }

    /// About four seconds for all ceilings.
    package static let full = CeilingPlan(minimumSample: .milliseconds(3), budget: .milliseconds(70))
    /// About a second and a half.
    package static let quick = CeilingPlan(minimumSample: .milliseconds(2), budget: .milliseconds(20))
}

extension Ceilings {
    /// Measures this machine, with one worker and with `workers` workers.
    ///
    /// - Parameters:
    ///   - tileRows: the sizes of the tiles that sgemm multiplies; the similarity losses use these two.
    ///   - depths: D; the embedding widths of scGPT's models.
    ///   - caches: the levels to measure besides memory.
    package static func measured(
        workers: Int, plan: CeilingPlan, tileRows: [Int] = [128, 256], depths: [Int] = [128, 512],
        caches: [CacheSize] = CacheSize.all()
    ) -> Ceilings {
        BLAS.prepare()
        let meter = CeilingMeter(workers: workers, plan: plan)
        let tiles = depths.flatMap { depth in
            tileRows.flatMap { rows in
                Product.allCases.map { product in
                    Tile(
                        product: product, rows: rows, depth: depth,
                        gflops: meter.sgemm(product, rows: rows, depth: depth))
                }
            }
        }
        let levels = caches.map { cache in
            // Half of it: an array of the full size shares the cache with everything else.
            meter.level(
                "L\(cache.level)", capacity: cache.bytes, arrayBytes: cache.bytes / 2,
                isShared: cache.isShared)
        }
        // Four times the largest cache leaves a quarter of each pass in it at the most, and none with its
        // usual replacement; 128 MiB where no cache is known.
        let beyond = 4 * (caches.map(\.bytes).max() ?? 32 << 20)
        return Ceilings(
            workers: workers, multiplyAdd: meter.multiplyAdd(), tiles: tiles,
            levels: levels + [meter.level("memory", capacity: nil, arrayBytes: beyond, isShared: true)])
    }
}

/// Times loops on one worker and on all.
private struct CeilingMeter {
    let workers: Int
    let plan: CeilingPlan
    private let loops = machine_ceilings_loops.active

    init(workers: Int, plan: CeilingPlan) {
        self.workers = workers
        self.plan = plan
    }

    func multiplyAdd() -> Ceilings.Rate {
        rate { _ in
            Load(work: Double(loops.flops_per_round)) { _, passes in _ = loops.multiply_add(passes) }
        }
    }

    func sgemm(_ product: Ceilings.Product, rows: Int, depth: Int) -> Ceilings.Rate {
        rate { count in
            let operands = Arrays(count: count, floats: 2 * rows * depth)
            let results = Arrays(count: count, floats: rows * rows + rows * depth)
            return Load(work: 2 * Double(rows * rows * depth)) { task, passes in
                let a = MatrixPointer(operands[task], rows: rows, columns: depth)
                let b = MatrixPointer(operands[task] + rows * depth, rows: rows, columns: depth)
                let gradient = results[task] + rows * rows
                let factors = MatrixPointer(results[task], rows: rows, columns: rows)
                for _ in 0..<passes {
                    switch product {
                    case .nt: BLAS.multiplyTransposedRight(a, b, into: results[task], stride: rows)
                    case .nn: BLAS.multiply(factors, b, beta: 1, into: gradient, stride: depth)
                    case .tn: BLAS.multiplyTransposedLeft(factors, a, beta: 1, into: gradient, stride: depth)
                    }
                }
            }
        }
    }

    /// - Parameter arrayBytes: of the array, or of both arrays together, in the whole level.
    func level(_ name: String, capacity: Int?, arrayBytes: Int, isShared: Bool) -> Ceilings.Level {
        func floats(_ count: Int) -> Int {
            let block = Int(MACHINE_CEILINGS_BLOCK)
            return max(1, arrayBytes / (isShared ? count : 1) / 4 / block / 2) * block * 2
        }
        let read = rate { count in
            let floats = floats(count)
            let arrays = Arrays(count: count, floats: floats)
            return Load(work: Double(4 * floats)) { task, passes in
                _ = loops.read(arrays[task], floats, passes)
            }
        }
        func readWrite(streaming: Bool) -> Ceilings.Rate {
            rate { count in
                let half = floats(count) / 2
                let arrays = Arrays(count: count, floats: 2 * half)
                return Load(work: Double(8 * half)) { task, passes in
                    loops.read_write(arrays[task], arrays[task] + half, half, passes, streaming)
                }
            }
        }
        let cached = readWrite(streaming: false)
        guard capacity == nil else {
            return Ceilings.Level(name: name, capacity: capacity, read: read, readWrite: cached)
        }
        // FastLoss may write past the caches, so the ceiling of memory is the better of the two ways to
        // write.
        let streamed = readWrite(streaming: true)
        return Ceilings.Level(
            name: name, capacity: nil, read: read,
            readWrite: Ceilings.Rate(
                oneWorker: max(cached.oneWorker, streamed.oneWorker),
                allWorkers: max(cached.allWorkers, streamed.allWorkers)))
    }

    /// What one task does in a pass, and how to do it some times over.
    private struct Load {
        let work: Double
        let run: (_ task: Int, _ passes: Int) -> Void
    }

    /// - Parameter load: makes the load for a number of workers that run it side by side.
    private func rate(_ load: (Int) -> Load) -> Ceilings.Rate {
        let one = fastest(load(1), workers: 1)
        let all = workers == 1 ? one : fastest(load(workers), workers: workers)
        // All workers together are not slower than one, even if a busy machine measured that.
        return Ceilings.Rate(oneWorker: one, allWorkers: max(one, all))
    }

    /// Work per nanosecond of all workers together, in the fastest sample.
    private func fastest(_ load: Load, workers: Int) -> Double {
        let clock = ContinuousClock()
        func elapsed(_ passes: Int) -> Duration {
            clock.measure {
                forEachTask(workers, workers: workers, estimatedNanoseconds: .infinity) { task, _ in
                    load.run(task, passes)
                }
            }
        }
        let start = clock.now
        var passes = 1
        var best = elapsed(passes)
        while best < plan.minimumSample {
            passes *= 2
            best = elapsed(passes)
        }
        repeat { best = min(best, elapsed(passes)) } while start.duration(to: clock.now) < plan.budget
        return load.work * Double(workers * passes) / (best / .nanoseconds(1))
    }
}
