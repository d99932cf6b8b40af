// How work is spread: a number of tasks that depends on the shape alone, over however many workers there are.

import CFastLossKernels
import Dispatch
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

extension Workspace {
    /// The environment variable `FASTLOSS_THREADS` where it holds a positive number, else the number of processors that
    /// this process may use.
    public static let defaultWorkers: Int = {
        if let value = getenv("FASTLOSS_THREADS").flatMap({ Int(String(cString: $0)) }), value > 0 { return value }
        return Int(fastloss_available_processors())
    }()

    /// Work below this many nanoseconds (estimated by the caller) is not worth waking a second worker for.
    ///
    /// Measured: an empty two-worker dispatch costs 3 to 10 µs on a 2-core Zen 4 machine, so that work of 20 µs is the
    /// first that gains.
    static let parallelThreshold = 20_000

    /// Runs `body(task, worker)` for every task in 0..<`tasks`, each exactly once, and returns when all are done.
    ///
    /// Which worker runs a task is left to chance, so a task writes only what belongs to it; results that must be combined
    /// go to one place per task and are combined by the caller in the order of the tasks. That is what makes every result
    /// independent of the number of workers.
    ///
    /// - Parameters:
    ///   - estimatedNanoseconds: the whole work on one worker, to decide whether a second one pays.
    ///   - body: called with the task and with a number below ``workers`` that no two calls share at the same time: the place
    ///     of scratch memory that a task fills and forgets.
    package func forEachTask(_ tasks: Int, estimatedNanoseconds: Int, _ body: (_ task: Int, _ worker: Int) -> Void) {
        let workers = estimatedNanoseconds < Self.parallelThreshold ? 1 : min(self.workers, tasks)
        guard workers > 1 else {
            for task in 0..<tasks { body(task, 0) }
            return
        }
        let next = Atomic(0)
        withoutActuallyEscaping(body) { body in
            let body = SharedBody(run: body)
            DispatchQueue.concurrentPerform(iterations: workers) { worker in
                while true {
                    let task = next.add(1, ordering: .relaxed).oldValue
                    guard task < tasks else { return }
                    body.run(task, worker)
                }
            }
        }
    }
}

/// A task's body on its way to other threads. Sound because tasks write only what belongs to them, which is the contract of
/// ``Workspace/forEachTask(_:estimatedNanoseconds:_:)``, and because the call returns after the last of them.
private struct SharedBody: @unchecked Sendable {
    let run: (Int, Int) -> Void
}
