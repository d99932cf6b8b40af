// How work is spread: a number of tasks that depends on the shape alone, over however many workers there are.

import CFastLossThreads

extension Execution {
    /// Runs `body(task, worker)` for every task; see ``forEachTask(_:workers:estimatedNanoseconds:_:)``.
    package func forEachTask(
        _ tasks: Int, estimatedNanoseconds: Double, _ body: (_ task: Int, _ worker: Int) -> Void
    ) {
        FastLoss.forEachTask(tasks, workers: workers, estimatedNanoseconds: estimatedNanoseconds, body)
    }
}

/// Work below this many nanoseconds (estimated by the caller) is not worth a second worker.
///
/// Handing over costs half a microsecond where the helper is awake, and some microseconds for nothing
/// where it sleeps (see worker_team.c). Measured on two quiet Zen 5 cores, one worker's time over two
/// workers': CCE with gradients at 64×64×512 has 1.31 with 16,000 and 1.79 with 6,000, MaskedMSE at 64×1201
/// 1.00 and 1.83, and no shape of the benchmarks is slower than alone. Where the two processors share no
/// cache, ECS's value at 64×64×512 was seen at 0.92.
private let parallelThreshold = 6_000.0

/// Runs `body(task, worker)` for every task in 0..<`tasks`, each exactly once, and returns when all are done.
///
/// Which worker runs a task is left to chance, so a task writes only what belongs to it; results that
/// must be combined go to one place per task and are combined by the caller in the order of the tasks.
/// That is what makes every result independent of the number of workers. Each worker computes in the caller's
/// floating-point environment.
///
/// - Parameters:
///   - workers: how many may take part, the calling thread among them.
///   - estimatedNanoseconds: the whole work on one worker, to decide whether a second one pays. A floating-point number,
///     because sizes that are possible one by one may have a product that no integer holds.
///   - body: called with the task and with a number below `workers` that no two calls share at the same
///     time: the place of scratch memory that a task fills and forgets.
package func forEachTask(
    _ tasks: Int, workers: Int, estimatedNanoseconds: Double, _ body: (_ task: Int, _ worker: Int) -> Void
) {
    let workers = estimatedNanoseconds < parallelThreshold ? 1 : min(workers, tasks)
    guard workers > 1 else {
        for task in 0..<tasks { body(task, 0) }
        return
    }
    #if DEBUG
        // An unoptimised build asks the Swift runtime for a generic type where it is first used. That is a lazy static, too:
        // see ``ProcessState``. So the caller uses them first, in a task that it does not share.
        body(0, 0)
        shareTasks(tasks - 1, workers) { task, worker in body(task + 1, worker) }
    #else
        shareTasks(tasks, workers, body)
    #endif
}

/// `fastloss_share_tasks` in worker_team.c: `body` is lent to the team for the duration of the call.
///
/// A closure that does not escape cannot be stored, so Swift alone would have to copy it into a box on the
/// heap (`withoutActuallyEscaping`), for every stretch of shared work. Its function and its context, which
/// lies on the caller's stack, are handed over in registers instead, by Swift's own calling convention, which
/// Clang knows as `swiftcall`. That is sound because the call returns after the last worker has left the
/// closure, and because a task writes only what belongs to it.
@_silgen_name("fastloss_share_tasks")
private func shareTasks(_ tasks: Int, _ workers: Int, _ body: (_ task: Int, _ worker: Int) -> Void)
