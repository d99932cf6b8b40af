// The fuzzer: `Fuzzing FAMILY EXECUTIONS [SEED]` runs seeded random bytes through a family of losses, and
// `Fuzzing FAMILY - SEED` repeats one execution. scripts/testing/fuzz runs all families.

import FastLoss
import Foundation

/// The families, by name.
private let targets: [(name: String, run: @Sendable (inout FuzzInput) throws -> Void)] = [
    ("maskedLosses", MaskedLossTarget.run), ("crossEntropy", CrossEntropyTarget.run),
    ("similarity", SimilarityTarget.run), ("reductions", ReductionTarget.run),
]

/// Runs one execution; ends the process if its result is wrong.
private func execute(_ run: (inout FuzzInput) throws -> Void, _ bytes: UnsafeRawBufferPointer, _ name: String)
{
    var input = FuzzInput(bytes)
    do { try run(&input) } catch {
        FileHandle.standardError.write(Data("\(name): \(error)\n".utf8))
        abort()
    }
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
        let start = ContinuousClock.now
        for seed in first..<first + executions {
            fill(bytes, seed: seed)
            execute(target.run, UnsafeRawBufferPointer(bytes), "\(target.name), seed \(seed)")
        }
        print(
            "\(target.name): \(executions) executions from seed \(first) in \(ContinuousClock.now - start)"
        )
    }
}
