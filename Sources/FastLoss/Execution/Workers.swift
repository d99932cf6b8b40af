// How work is spread: a number of tasks that depends on the shape alone, over however many workers there are.

import CFastLossKernels
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

    /// Work below this many nanoseconds (estimated by the caller) is not worth a second worker.
    ///
    /// Handing over costs half a microsecond where the helper is awake, and some microseconds for nothing where it sleeps;
    /// see worker_team.c.
    static let parallelThreshold = 6_000

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
        withoutActuallyEscaping(body) { body in
            var work = SharedWork(tasks: tasks, body: body)
            withUnsafeMutablePointer(to: &work) { work in
                fastloss_share_work(
                    workers,
                    { context, worker in
                        context.assumingMemoryBound(to: SharedWork.self).pointee.run(worker: worker)
                    }, work)
            }
        }
    }
}

/// The tasks of one call, taken one after the other by whichever worker is free.
///
/// Shared between threads by its address. That is sound because a task writes only what belongs to it, which is the contract
/// of ``Workspace/forEachTask(_:estimatedNanoseconds:_:)``, and because the call returns after the last worker has left.
private struct SharedWork: ~Copyable {
    private let tasks: Int
    private let body: (Int, Int) -> Void
    private let next = Atomic(0)

    init(tasks: Int, body: @escaping (Int, Int) -> Void) {
        self.tasks = tasks
        self.body = body
    }

    borrowing func run(worker: Int) {
        while true {
            let task = next.add(1, ordering: .relaxed).oldValue
            guard task < tasks else { return }
            body(task, worker)
        }
    }
}
