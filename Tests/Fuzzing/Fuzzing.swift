// The fuzzer: `Fuzzing FAMILY EXECUTIONS [SEED]` runs seeded random bytes through a family of calls, and
// `Fuzzing FAMILY - SEED` repeats one execution. scripts/testing/fuzz runs all families.

import FastLoss
import Foundation
import Synchronization

/// The families, by name.
private let targets: [(name: String, run: @Sendable (inout FuzzInput) throws -> Void)] = [
    ("maskedLosses", MaskedLossTarget.run), ("crossEntropy", CrossEntropyTarget.run),
    ("similarity", SimilarityTarget.run), ("reductions", ReductionTarget.run),
    ("objective", ObjectiveTarget.run), ("decoders", DecoderTarget.run),
    ("classifiers", ClassifierTarget.run), ("elementTypes", ElementTypeTarget.run),
    ("ranks", RankTarget.run),
]

/// Writes a failure and ends the process.
private func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("\(message)\n".utf8))
    abort()
}

/// Runs one execution; ends the process if its result is wrong.
private func execute(_ run: (inout FuzzInput) throws -> Void, _ bytes: UnsafeRawBufferPointer, _ name: String)
{
    var input = FuzzInput(bytes)
    do { try run(&input) } catch { fail("\(name): \(error)") }
}

/// SplitMix64 (Steele, Lea and Flood 2014), one execution per seed.
private func fill(_ bytes: UnsafeMutableRawBufferPointer, seed: UInt64) {
    var state = seed &* 0xD1B5_4A32_D192_ED03
    for start in stride(from: 0, to: bytes.count, by: 8) {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        bytes.storeBytes(of: z ^ (z >> 31), toByteOffset: start, as: UInt64.self)
    }
}

/// Ends the process if one execution takes longer than its limit. An execution takes some microseconds. Time in
/// which the whole process is stopped counts as one second.
private enum Watchdog {
    private static let limit = 20
    static let seed = Atomic<UInt64>(0)

    static func start(_ family: String) {
        Thread.detachNewThread {
            var last = seed.load(ordering: .relaxed)
            var seconds = 0
            while seconds < limit {
                sleep(1)
                let current = seed.load(ordering: .relaxed)
                seconds = current == last ? seconds + 1 : 0
                last = current
            }
            fail("\(family), seed \(last): not done after \(limit) s")
        }
    }
}

@main enum Fuzzing {
    static func main() {
        let arguments = CommandLine.arguments
        guard (3...4).contains(arguments.count),
            let target = targets.first(where: { $0.name == arguments[1] }),
            let executions = arguments[2] == "-" ? 1 : UInt64(arguments[2]), executions > 0,
            let first = arguments.count > 3 ? UInt64(arguments[3]) : 0
        else {
            let usage = "usage: Fuzzing \(targets.map(\.name).joined(separator: "|")) EXECUTIONS|- [SEED]\n"
            FileHandle.standardError.write(Data(usage.utf8))
            exit(64)
        }
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 2048, alignment: 8)
        defer { bytes.deallocate() }
        let start = ContinuousClock.now
        Watchdog.seed.store(first &- 1, ordering: .relaxed)
        Watchdog.start(target.name)
        for seed in first..<first + executions {
            Watchdog.seed.store(seed, ordering: .relaxed)
            fill(bytes, seed: seed)
            execute(target.run, UnsafeRawBufferPointer(bytes), "\(target.name), seed \(seed)")
        }
        print(
            "\(target.name): \(executions) executions from seed \(first) in \(ContinuousClock.now - start)"
        )
    }
}
