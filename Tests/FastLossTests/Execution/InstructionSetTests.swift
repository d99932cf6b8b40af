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
        default: #expect(InstructionSet.active == InstructionSet.best)
        }
    }

    @Test func orderIsThatOfCapability() {
        #expect(InstructionSet.allCases.sorted() == [.baseline, .avx2, .avx512])
        #expect(InstructionSet.allCases.map(\.rawValue) == ["baseline", "avx2", "avx512"])
        #expect(InstructionSet.active <= InstructionSet.best)
    }

    #if !arch(x86_64)
        @Test func otherArchitecturesHaveTheBaseline() { #expect(InstructionSet.best == .baseline) }
    #endif
}
