// Tasks and workers: each task runs exactly once for any number of workers, and no two workers share a place
// of scratch memory.

import Dispatch
import FastLoss
import Synchronization
import Testing

@Suite struct WorkersTests {
    static let worthSharing = 1e9

    @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 7, 1_000])
    func everyTaskRunsOnce(workers: Int, tasks: Int) {
        for cost in [0, Self.worthSharing] {
            let runs = (0..<tasks).map { _ in Counter() }
            forEachTask(tasks, workers: workers, estimatedNanoseconds: cost) { task, _ in
                runs[task].increment()
            }
            #expect(runs.allSatisfy { $0.value == 1 })
        }
    }

    @Test(arguments: [1, 2, 3, 8])
    func workersShareNoPlace(workers: Int) {
        let busy = (0..<workers).map { _ in Counter() }
        let clashes = Counter()
        forEachTask(2_000, workers: workers, estimatedNanoseconds: Self.worthSharing) { _, worker in
            if !(0..<workers).contains(worker) || busy[worker].increment() != 0 { clashes.increment() }
            busy[worker].decrement()
        }
        #expect(clashes.value == 0)
    }

    @Test func smallWorkStaysOnOneWorker() {
        let places = Counter()
        forEachTask(100, workers: 4, estimatedNanoseconds: 1_000) { _, worker in
            if worker != 0 { places.increment() }
        }
        #expect(places.value == 0)
    }

    /// The helpers serve one caller at a time; the others must neither wait for them nor lose a task.
    @Test func callersOnManyThreadsAllFinish() {
        let (callers, rounds, tasks) = (8, 50, 20)
        let runs = Counter()
        DispatchQueue.concurrentPerform(iterations: callers) { _ in
            for _ in 0..<rounds {
                let inThisCall = Counter()
                forEachTask(tasks, workers: 4, estimatedNanoseconds: Self.worthSharing) { _, _ in
                    inThisCall.increment()
                }
                // Every task has ended when the call returns.
                runs.add(inThisCall.value)
            }
        }
        #expect(runs.value == callers * rounds * tasks)
    }

    @Test func defaultIsWhatTheProcessMayUse() {
        #expect(Workspace.defaultWorkers >= 1)
        #expect(Workspace().workers == Workspace.defaultWorkers)
    }

    /// A number that several threads count.
    private final class Counter: Sendable {
        private let count = Atomic(0)
        var value: Int { count.load(ordering: .sequentiallyConsistent) }
        /// Returns what the number was before.
        @discardableResult
        func increment() -> Int { count.add(1, ordering: .sequentiallyConsistent).oldValue }
        func add(_ other: Int) { count.add(other, ordering: .sequentiallyConsistent) }
        func decrement() { count.subtract(1, ordering: .sequentiallyConsistent) }
    }
}

/// The speed of calls from several threads. Only optimised builds have meaningful timings.
@Suite(
    .serialized,
    .enabled(if: !_isDebugAssertConfiguration(), "only an optimised build's timings mean something"))
struct ConcurrentCallersTests {
    /// Four threads call at the same time, each with two workers. Together they take no longer than one
    /// thread that makes all the calls. Twice that is allowed, because other tests run at the same time. The
    /// fastest of several tries counts on both sides.
    @Test func slowDownByNoMoreThanTheirShare() throws {
        let (callers, rounds) = (4, 40)
        let call = PublicCall.all.first { $0.name.hasPrefix("BernoulliNLL, gradient, overwrite, 203") }!
        @Sendable func run(_ workers: Int, rounds: Int) {
            let (memory, workspace) = (CallMemory(call), Workspace(workers: workers))
            for _ in 0..<rounds { try? call.run(memory, workspace) }
        }
        let clock = ContinuousClock()
        let attempts = (0..<7).map { _ in
            (
                alone: clock.measure { run(1, rounds: callers * rounds) },
                together: clock.measure {
                    DispatchQueue.concurrentPerform(iterations: callers) { _ in run(2, rounds: rounds) }
                }
            )
        }
        let alone = attempts.map(\.alone).min()!
        let together = attempts.map(\.together).min()!
        #expect(together < alone * 2, "alone \(alone), together \(together)")
    }
}
