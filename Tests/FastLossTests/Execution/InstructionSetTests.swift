// The instruction set in use: the one that was forced where the processor has it, else the best.

import FastLoss
import Foundation
import Testing

@Suite struct InstructionSetTests {
    @Test func forcedIsActiveWhereTheProcessorHasIt() {
        let requested = ProcessInfo.processInfo.environment["FASTLOSS_ISA"]
        #expect(InstructionSet.requested == requested)
        switch requested.flatMap(InstructionSet.init(rawValue:)) {
        case let forced? where forced <= InstructionSet.best: #expect(InstructionSet.active == forced)
        case .amx? where Self.processorHasAMX: #expect(InstructionSet.active == .amx)
        default: #expect(InstructionSet.active == InstructionSet.best)
        }
    }

    /// What Linux says of the processor.
    private static let processorHasAMX = {
        let flags = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        return flags.contains(" amx_tile") && flags.contains(" amx_bf16")
    }()

    @Test func orderIsThatOfCapability() {
        #expect(InstructionSet.allCases.sorted() == [.baseline, .avx2, .avx512, .amx])
        #expect(InstructionSet.allCases.map(\.rawValue) == ["baseline", "avx2", "avx512", "amx"])
        #expect(InstructionSet.active <= InstructionSet.best || InstructionSet.active == .amx)
    }

    @Test func amxIsOnRequestAlone() {
        #expect(InstructionSet.best < .amx)
        #expect(InstructionSet.active != .amx || InstructionSet.requested == "amx")
    }

    #if !arch(x86_64)
        @Test func otherArchitecturesHaveTheBaseline() { #expect(InstructionSet.best == .baseline) }
    #endif
}
