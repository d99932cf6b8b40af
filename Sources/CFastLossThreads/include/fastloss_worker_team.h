// A team of threads that helps one caller at a time with work that any number of threads can share.

#ifndef FASTLOSS_WORKER_TEAM_H
#define FASTLOSS_WORKER_TEAM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Work that is complete when `body(context, 0)` has returned and no thread is executing `body`. Every call
/// takes what is left to do until nothing is; simultaneous calls get different workers.
typedef void (*fastloss_shared_work)(void *_Nonnull context, size_t worker);

/// Calls `body` with worker 0 on the calling thread and, as far as helpers are awake in time, with workers 1
/// up to `workers` − 1 on theirs, in the caller's floating-point environment. Returns when none of them is
/// executing `body`.
///
/// The team serves one caller at a time. Whoever comes while it is busy does all the work alone: callers on
/// many threads neither wait for each other nor start more threads than there are callers and helpers.
/// Nothing is allocated after the first call with a number of workers.
void fastloss_share_work(size_t workers, fastloss_shared_work _Nonnull body, void *_Nonnull context);

/// Swift's calling convention: a closure is its function and a context, which the function takes in a
/// register of its own.
#define FASTLOSS_SWIFTCALL __attribute__((swiftcall))

/// The function of a Swift closure `(Int, Int) -> Void`.
typedef FASTLOSS_SWIFTCALL void fastloss_swift_body(
    size_t task, size_t worker, __attribute__((swift_context)) void *_Nullable context);

/// Calls a Swift closure for every task below `tasks`, each exactly once, on as many of `workers` workers as
/// `fastloss_share_work` finds. Declared a second time in Workers.swift, where the last two parameters are
/// one closure: what C's importer cannot say.
FASTLOSS_SWIFTCALL void fastloss_share_tasks(
    size_t tasks, size_t workers, fastloss_swift_body *_Nonnull body, void *_Nullable body_context);

#ifdef __cplusplus
}
#endif

#endif
