// Every verb gives the same bits, values and gradients: with any number of workers, run after run, and under
// concurrent callers. scripts/verify runs 1,000 repetitions.

import Dispatch
import FastLoss
import Foundation
import Synchronization
import Testing

@Suite struct DeterminismTests {
    @Test(arguments: PublicCall.all)
    func `any number of workers, run after run`(_ call: PublicCall) throws {
        try expectSameBits(call, repetitions: TestLength.repetitions)
    }

    @Test(arguments: 0..<50)
    func `small shapes`(_ number: Int) throws {
        for call in try Self.calls(number) {
            try expectSameBits(call, repetitions: TestLength.smallRepetitions)
        }
    }

    /// Every call at a small shape.
    private static func calls(_ number: Int) throws -> [PublicCall] {
        try PublicCall.calls(
            cells: 1 + number % 7, tokens: 1 + number * 11 % 83, width: 1 + number * 7 % 37,
            classes: 1 + number * 5 % 19)
    }

    private static let workerCounts = [1, 2, 3, 4, 8]

    private func expectSameBits(_ call: PublicCall, repetitions: Int) throws {
        let expected = try call.bits(Workspace(workers: 1))
        for workers in Self.workerCounts {
            let workspace = Workspace(workers: workers)
            // In the same workspace: what the last call left in the scratch memory must not matter.
            for run in 1...repetitions {
                let bits = try call.bits(workspace)
                #expect(bits == expected, "\(call.name): \(workers) workers, run \(run)")
            }
        }
    }

    /// Eight callers at the same time, more than the team can help, get the same bits. None waits for ever.
    @Test(.timeLimit(.minutes(TestLength.mostMinutes)), arguments: PublicCall.all)
    func `concurrent callers`(_ call: PublicCall) throws {
        try expectSameBits(call, callers: 8, repetitions: TestLength.repetitions)
    }

    @Test(.timeLimit(.minutes(TestLength.mostMinutes)), arguments: 0..<50)
    func `concurrent callers, small shapes`(_ number: Int) throws {
        for call in try Self.calls(number) {
            try expectSameBits(call, callers: 8, repetitions: TestLength.smallRepetitions)
        }
    }

    private func expectSameBits(_ call: PublicCall, callers: Int, repetitions: Int) throws {
        let expected = try call.bits(Workspace(workers: 1))
        let differing = Atomic(0)
        let failed = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: callers) { caller in
            let workspace = Workspace(workers: Self.workerCounts[caller % Self.workerCounts.count])
            for _ in 1...(repetitions + callers - 1) / callers {
                do {
                    if try call.bits(workspace) != expected { differing.add(1, ordering: .relaxed) }
                } catch {
                    failed.add(1, ordering: .relaxed)
                }
            }
        }
        #expect(differing.load(ordering: .relaxed) == 0, "\(call.name)")
        #expect(failed.load(ordering: .relaxed) == 0, "\(call.name)")
    }
}
