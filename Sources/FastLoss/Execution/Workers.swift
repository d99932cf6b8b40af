// How work is shared: the shape alone decides the number of tasks, which any number of workers take.

import CFastLossThreads

extension Execution {
    /// Runs `body(task, worker)` for every task; see ``forEachTask(_:workers:estimatedNanoseconds:_:)``.
    package func forEachTask(
        _ tasks: Int, estimatedNanoseconds: Double, _ body: (_ task: Int, _ worker: Int) -> Void
    ) {
        FastLoss.forEachTask(tasks, workers: workers, estimatedNanoseconds: estimatedNanoseconds, body)
    }
}

/// Elements in shares of whole vectors of 8 floats, one share for each task, that differ by one vector at most.
///
/// There are two shares or an even number, so that two workers have as much to do. Their bounds depend on the
/// number of elements alone.
package struct EvenShares {
    private let count: Int
    private let vectors: Int
    /// The number of shares.
    package let tasks: Int

    /// - Parameter most: the most elements of a share, a multiple of 8.
    package init(of count: Int, most: Int) {
        self.count = count
        vectors = (count + 7) / 8
        tasks = min(vectors, 2 * max(1, (count + 2 * most - 1) / (2 * most)))
    }

    /// The elements of a task.
    package subscript(task: Int) -> Range<Int> {
        vectors * task / tasks * 8..<min(count, vectors * (task + 1) / tasks * 8)
    }
}

/// The estimated nanoseconds of work from which a second worker pays.
///
/// Waking a helper costs half a microsecond if it still spins, and some microseconds if it sleeps (see
/// worker_team.c). Measured: the article Tuning.
private let parallelThreshold = 6_000.0

/// Runs `body(task, worker)` exactly once for every task in 0..<`tasks`, and returns when all are complete.
///
/// Any worker may run any task, so a task writes memory of its own alone. The caller combines the results of
/// tasks in the order of the tasks. So no result depends on the number of workers. Each worker computes in
/// the caller's floating-point environment.
///
/// - Parameters:
///   - workers: the largest number of workers, the calling thread included.
///   - estimatedNanoseconds: the time of the whole work on one worker, which decides whether a second one
///     pays. It is a `Double`, because a product of valid sizes may exceed `Int`.
///   - body: receives the task, and a number below `workers` that no concurrent call has: the index of a
///     worker's scratch memory.
package func forEachTask(
    _ tasks: Int, workers: Int, estimatedNanoseconds: Double, _ body: (_ task: Int, _ worker: Int) -> Void
) {
    let workers = estimatedNanoseconds < parallelThreshold ? 1 : min(workers, tasks)
    guard workers > 1 else {
        for task in 0..<tasks { body(task, 0) }
        return
    }
    #if DEBUG
        // An unoptimised build instantiates generic types on first use. They are lazy statics, too (see
        // ``ProcessState``), so the caller runs the first task before it shares the others.
        body(0, 0)
        shareTasks(tasks - 1, workers) { task, worker in body(task + 1, worker) }
    #else
        shareTasks(tasks, workers, body)
    #endif
}

/// `fastloss_share_tasks` in worker_team.c. The team uses `body` until the call returns.
///
/// Swift can store a non-escaping closure only as a copy on the heap (`withoutActuallyEscaping`), one
/// allocation for each call. Instead, registers pass its function and its context on the caller's stack to C,
/// by Swift's calling convention, which Clang calls `swiftcall`. That is sound: the call returns after the
/// last worker has left the closure, and a task writes memory of its own alone.
@_silgen_name("fastloss_share_tasks")
private func shareTasks(_ tasks: Int, _ workers: Int, _ body: (_ task: Int, _ worker: Int) -> Void)
