// Plain memory streams, the ceiling of rows that no cache holds.
//
// On a shared virtual machine the bandwidth of memory changes by a factor of two within minutes. A bandwidth
// measured at the start of a run is no ceiling of a row timed later; a stream timed in pairs with the row
// sees the same conditions.
//
// The stream moves as many bytes as the row, because the largest cache keeps part of a slightly larger array
// from call to call. With 44 MB and an L3 of 32 MB the stream reads at twice memory's bandwidth, and the row
// has the same advantage.

import CMachineCeilings
import FastLoss

/// Stream time / row time, in interleaved pairs.
package struct StreamRatios: Sendable {
    /// Against a stream on as many workers as the row has.
    package let allWorkers: Interval
    /// Against a stream on one worker.
    package let oneWorker: Interval
}

/// Makes the streams.
package struct MemoryStreams {
    /// The bytes of the largest cache: a row with more of them has a stream.
    package let cacheBytes: Int
    /// Makes a call that streams through `bytes` bytes once, spread over `workers`.
    package let make: (_ bytes: Int, _ mode: Mode, _ workers: Int) throws -> () -> Float

    package init(
        cacheBytes: Int, make: @escaping (_ bytes: Int, _ mode: Mode, _ workers: Int) throws -> () -> Float
    ) {
        self.cacheBytes = cacheBytes
        self.make = make
    }

    /// Streams through this machine's memory; `caches` as for the measured ceilings.
    package static func ofThisMachine(caches: [CacheSize] = CacheSize.all()) -> MemoryStreams {
        MemoryStreams(cacheBytes: caches.map(\.bytes).max() ?? 0, make: memoryStream(bytes:mode:workers:))
    }

    func serve(_ work: Work) -> Bool { work.limit == .memory && work.bytes > cacheBytes }
}

/// A call that streams through memory of its own once: for the value it reads all bytes, for the gradient it
/// reads one half and writes the other, with the stores that a short trial finds faster.
///
/// - Parameters:
///   - bytes: rounded to whole blocks of the loops, 512 bytes per worker and array.
///   - workers: each has a contiguous part of every array.
package func memoryStream(bytes: Int, mode: Mode, workers: Int) throws -> () -> Float {
    let loops = machine_ceilings_loops.active
    func part(of bytes: Int) -> Int {
        let block = Int(MACHINE_CEILINGS_BLOCK)
        return max(1, (bytes / 4 + workers * block / 2) / (workers * block)) * block
    }
    switch mode {
    case .value:
        let floats = part(of: bytes)
        let array = Arrays(count: workers, floats: floats)
        // Blocks apart, so that no two workers write to one cache line.
        let sums = Arrays(count: workers, floats: Int(MACHINE_CEILINGS_BLOCK))
        return {
            forEachTask(workers, workers: workers, estimatedNanoseconds: .infinity) { task, _ in
                sums[task].pointee = loops.read(array[task], floats, 1)
            }
            return (0..<workers).reduce(0) { $0 + sums[$1].pointee }
        }
    case .valueAndGradient:
        let floats = part(of: bytes / 2)
        let input = Arrays(count: workers, floats: floats)
        let output = Arrays(count: workers, floats: floats)
        func stream(pastCaches: Bool) -> () -> Float {
            {
                forEachTask(workers, workers: workers, estimatedNanoseconds: .infinity) { task, _ in
                    loops.read_write(input[task], output[task], floats, 1, pastCaches)
                }
                return output[workers - 1].pointee
            }
        }
        let (ordinary, streaming) = (stream(pastCaches: false), stream(pastCaches: true))
        let trial = try timeInterleaved(streaming, against: ordinary, plan: .trial, clock: ContinuousClock())
        let isStreamingFaster = Interval(of: trial.baseline, over: trial.candidate).median > 1
        return isStreamingFaster ? streaming : ordinary
    }
}

extension TimingPlan {
    /// Some 50 ms, to choose between two ways of storing that differ by a third or so.
    fileprivate static let trial = TimingPlan(
        warmUp: .zero, minimumSample: .milliseconds(1), budget: .milliseconds(50), minimumPairs: 7,
        maximumPairs: 25)
}
