// A team of threads that helps one caller at a time with work that any number of threads can share.

#ifndef FASTLOSS_WORKER_TEAM_H
#define FASTLOSS_WORKER_TEAM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Work that is complete once `body(context, 0)` has returned and nobody is inside `body` any more. Every call takes what is
/// left to do until nothing is; calls made at the same time get different workers.
typedef void (*fastloss_shared_work)(void *_Nonnull context, size_t worker);

/// Calls `body` with worker 0 on the calling thread and, as far as helpers are awake in time, with workers 1 up to
/// `workers` − 1 on theirs. Returns when none of them is inside `body`.
///
/// The team serves one caller at a time. Whoever comes while it is busy does all the work alone: callers on many threads
/// neither wait for each other nor start more threads than there are callers and helpers. Nothing is allocated after the first
/// call with a number of workers.
void fastloss_share_work(size_t workers, fastloss_shared_work _Nonnull body, void *_Nonnull context);

#ifdef __cplusplus
}
#endif

#endif
