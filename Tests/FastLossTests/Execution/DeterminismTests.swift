// Every verb gives the same bits, values and gradients: with any number of workers, run after run, and under
// concurrent callers.

import Dispatch
import FastLoss
import Foundation
import Synchronization
import Testing

@Suite struct DeterminismTests {
    @Test(arguments: PublicCall.all)
    func `any number of workers, run after run`(_ call: PublicCall) throws {
        let expected = try call.bits(Workspace(workers: 1))
        for workers in [1, 2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            // A second time in the same workspace: what the first call left in the scratch memory must not
            // matter.
            for run in 1...2 {
                let bits = try call.bits(workspace)
                #expect(bits == expected, "\(workers) workers, run \(run)")
            }
        }
    }

    /// Eight callers at the same time, more than the team can help, get the same bits. None waits for ever.
    @Test(.timeLimit(.minutes(5)), arguments: PublicCall.all)
    func `concurrent callers`(_ call: PublicCall) throws {
        let expected = try call.bits(Workspace(workers: 1))
        let differing = Atomic(0)
        let failed = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: 8) { caller in
            do {
                if try call.bits(Workspace(workers: 1 + caller % 4)) != expected {
                    differing.add(1, ordering: .relaxed)
                }
            } catch {
                failed.add(1, ordering: .relaxed)
            }
        }
        #expect(differing.load(ordering: .relaxed) == 0)
        #expect(failed.load(ordering: .relaxed) == 0)
    }
}
