// A team of threads that helps one caller at a time with work that any number of threads may share.

#ifndef FASTLOSS_WORKER_TEAM_H
#define FASTLOSS_WORKER_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Work that is complete when `body(context, 0)` has returned and no thread executes `body`. Each call takes
/// tasks until none is left. Simultaneous calls get different workers.
typedef void (*fastloss_shared_work)(void *_Nonnull context, size_t worker);

/// Calls `body` with worker 0 on the calling thread. Helpers that are ready in time call it with workers 1 up
/// to `workers` − 1, in the caller's floating-point environment. Returns when no thread executes `body`.
///
/// The team serves one caller at a time. A caller that finds it busy does all the work alone. So callers on
/// many threads do not wait for each other and do not start more threads than there are callers and helpers.
/// After the first call with a number of workers, nothing is allocated.
void fastloss_share_work(size_t workers, fastloss_shared_work _Nonnull body, void *_Nonnull context);

/// Threads of the program that do the work in place of the team.
typedef struct {
    void *_Nullable context;
    /// How many threads `run` uses, the calling one included.
    int32_t (*_Nullable threads)(void *_Nullable context);
    /// Calls `work(work_context)` on the calling thread, and once on each of the other threads if they are
    /// free. Returns when no thread executes it.
    void (*_Nullable run)(
        void (*_Nullable work)(void *_Nullable work_context), void *_Nullable work_context,
        void *_Nullable context);
} fastloss_pool;

/// Has a pool do the work from now on, wherever it has threads for all workers. Without `run` it is the team
/// again. Waits for work that is being shared. A child of the process after fork() has no pool.
void fastloss_use_pool(fastloss_pool pool);

/// Whether there is a pool.
bool fastloss_has_pool(void);

/// Swift's calling convention. A closure is a function and a context, which the function takes in a register
/// of its own.
#define FASTLOSS_SWIFTCALL __attribute__((swiftcall))

/// The function of a Swift closure `(Int, Int) -> Void`.
typedef FASTLOSS_SWIFTCALL void fastloss_swift_body(
    size_t task, size_t worker, __attribute__((swift_context)) void *_Nullable context);

/// Calls a Swift closure exactly once for every task below `tasks`, on up to `workers` workers, as
/// `fastloss_share_work` does. Workers.swift declares the function again, with one closure in place of the
/// last two parameters: Swift's importer of C cannot express that.
FASTLOSS_SWIFTCALL void fastloss_share_tasks(
    size_t tasks, size_t workers, fastloss_swift_body *_Nonnull body, void *_Nullable body_context);

#ifdef __cplusplus
}
#endif

#endif
