// The team of helper threads.
//
// A general thread pool would be too slow. A loss at scGPT's sizes takes tens of microseconds in two or three
// stretches of work. So helpers must start soon, and a caller must not wait for a helper that has not
// started. Putting a thread to sleep and waking it takes longer than such a stretch. Therefore a helper that
// has finished looks for more work for a while before it sleeps. So does a caller that waits for a helper's
// last task. Both yield their processor to other threads meanwhile. A caller closes its work when no task is
// left, and waits only for helpers that are inside. Measured: the article Tuning.
//
// A program may lend a pool of its own. Then no helper starts, and two sets of threads do not compete for the
// processors: those of PyTorch's OpenMP, for example, look for work for some milliseconds after each product.

#if defined(__linux__)
#define _GNU_SOURCE  // sched_getcpu, sched_setaffinity, pthread_setname_np
#endif
#include "fastloss_worker_team.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

// The floating-point environment of a thread: how it rounds, whether it flushes subnormal numbers to zero,
// and which exceptions interrupt it. A thread inherits it from its creator. A helper adopts the caller's for
// each piece of work, because otherwise a result would depend on the worker that computed it.
#if defined(__x86_64__)
typedef unsigned floating_point_control;
static floating_point_control get_control(void) { return _mm_getcsr() & ~(unsigned)_MM_EXCEPT_MASK; }
static void set_control(floating_point_control control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
typedef uint64_t floating_point_control;
static floating_point_control get_control(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}
static void set_control(floating_point_control control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }
#else
typedef int floating_point_control;
static floating_point_control get_control(void) { return fegetround(); }
static void set_control(floating_point_control control) { fesetround(control); }
#endif

enum {
    /// The most helpers of a team, also on a machine with more processors.
    MOST_HELPERS = 255,
    /// Nanoseconds that a thread looks without yielding: longer than the gap between two stretches of a call.
    EAGER = 20 * 1000,
    /// Nanoseconds until a helper sleeps: more than the gap between the losses of one training step.
    HELPER_PATIENCE = 500 * 1000,
    /// Nanoseconds until a caller that waits for a helper's last task sleeps: about a tile of a large batch.
    CALLER_PATIENCE = 2 * 1000 * 1000,
};

/// Held by the caller that the team works for.
static pthread_mutex_t engaged = PTHREAD_MUTEX_INITIALIZER;

// The work. The caller writes it before it opens vacancies.
static fastloss_shared_work body;
static void *context;
static floating_point_control callers_control;

/// Helpers that may still enter.
static atomic_size_t vacancies = 0;
/// Helpers that are in `body` or are about to take a vacancy.
static atomic_size_t inside = 0;

// These put threads to sleep and wake them. Threads that are awake do not use them. A sleeper counts itself
// before it looks for the last time, and a thread that changes the state looks for sleepers afterwards. In
// one total order, one of them sees the other.
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_arrived = PTHREAD_COND_INITIALIZER;
static pthread_cond_t helper_left = PTHREAD_COND_INITIALIZER;
static atomic_size_t sleeping_helpers = 0;
static atomic_bool caller_sleeps = false;

/// Threads of the team. Guarded by `engaged`.
static size_t helpers = 0;

/// The program's pool, if `run` is not NULL. Guarded by `engaged`.
static fastloss_pool pool = {NULL, NULL, NULL};

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/// The processor of the thread that called last, or −1.
static atomic_int caller_processor = -1;

static int current_processor(void) {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

/// Moves a helper off the caller's processor.
///
/// The system may start or wake a thread on the processor of the caller. There the helper does not run before
/// the caller has finished, and Linux may leave the two threads there for many calls (measured: the article
/// Tuning). Narrowing the affinity moves the thread at once. Then the old affinity is restored. An affinity
/// that another thread sets for the helper in between is lost.
static void leave_callers_processor(void) {
#if defined(__linux__)
    const int processor = current_processor();
    if (processor < 0 || processor != caller_processor || processor >= CPU_SETSIZE) return;
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    others = allowed;
    CPU_CLR((size_t)processor, &others);
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

/// Watches `count` for at most `patience` nanoseconds until it is zero, or not zero. Returns whether that
/// happened.
static bool watch(atomic_size_t *count, bool for_zero, int64_t patience) {
    enum { LOOKS = 16 };
    const int64_t start = nanoseconds();
    for (int64_t waited = 0; waited < patience; waited = nanoseconds() - start) {
        for (int look = 0; look < LOOKS; ++look) {
            // A sequentially consistent read: the caller must not read `inside` before it has closed its
            // work.
            if ((*count == 0) == for_zero) return true;
            RELAX();
        }
        if (waited > EAGER) sched_yield();
    }
    return false;
}

static void sleep_until_work_arrives(void) {
    pthread_mutex_lock(&door);
    ++sleeping_helpers;
    while (vacancies == 0) pthread_cond_wait(&work_arrived, &door);
    --sleeping_helpers;
    pthread_mutex_unlock(&door);
}

/// Takes a vacancy, whose number is the worker's, or returns 0. The helper must have counted itself as
/// inside: a caller that closes its work waits for every helper that may have entered before.
static size_t take_vacancy(void) {
    size_t vacancy = vacancies;
    while (vacancy > 0 && !atomic_compare_exchange_weak(&vacancies, &vacancy, vacancy - 1)) {}
    return vacancy;
}

static void leave(void) {
    if (atomic_fetch_sub(&inside, 1) == 1 && caller_sleeps) {
        pthread_mutex_lock(&door);
        pthread_cond_signal(&helper_left);
        pthread_mutex_unlock(&door);
    }
}

static void *help(void *unused) {
    (void)unused;
#if defined(__linux__)
    // Debuggers show the name, and fastloss.torch tells a helper from other threads by it.
    pthread_setname_np(pthread_self(), "fastloss");
#endif
    for (;;) {
        leave_callers_processor();
        if (!watch(&vacancies, false, HELPER_PATIENCE)) sleep_until_work_arrives();
        leave_callers_processor();
        ++inside;
        const size_t worker = take_vacancy();
        if (worker > 0) {
            set_control(callers_control);
            body(context, worker);
        }
        leave();
    }
    return NULL;
}

/// After fork() the child has only the thread that called it. Its team starts empty, and the pool has no
/// threads either.
static void forget_team(void) {
    pthread_mutex_init(&engaged, NULL);
    pthread_mutex_init(&door, NULL);
    pthread_cond_init(&work_arrived, NULL);
    pthread_cond_init(&helper_left, NULL);
    helpers = 0;
    pool.run = NULL;
    vacancies = 0;
    inside = 0;
    sleeping_helpers = 0;
    caller_sleeps = false;
}

static void register_for_fork(void) { pthread_atfork(NULL, NULL, forget_team); }

static void watch_for_fork(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_for_fork);
}

/// Starts helpers until there are `wanted` of them or the system refuses. The caller holds `engaged`.
static void hire(size_t wanted) {
    if (helpers == 0) watch_for_fork();
    if (wanted > MOST_HELPERS) wanted = MOST_HELPERS;
    for (; helpers < wanted; ++helpers) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, NULL) != 0) return;
        pthread_detach(thread);
    }
}

/// Does the work with the team.
static void work_with_team(size_t workers, fastloss_shared_work work, void *work_context) {
    caller_processor = current_processor();
    hire(workers - 1);
    body = work;
    context = work_context;
    callers_control = get_control();
    vacancies = workers - 1;
    if (sleeping_helpers > 0) {
        pthread_mutex_lock(&door);
        // Wake no more helpers than there are vacancies.
        const size_t wanted = workers - 1 < sleeping_helpers ? workers - 1 : sleeping_helpers;
        for (size_t woken = 0; woken < wanted; ++woken) pthread_cond_signal(&work_arrived);
        pthread_mutex_unlock(&door);
    }

    work(work_context, 0);

    vacancies = 0;
    if (!watch(&inside, true, CALLER_PATIENCE)) {
        pthread_mutex_lock(&door);
        caller_sleeps = true;
        while (inside > 0) pthread_cond_wait(&helper_left, &door);
        caller_sleeps = false;
        pthread_mutex_unlock(&door);
    }
}

// ---- The program's pool

/// Work for a pool.
typedef struct {
    fastloss_shared_work body;
    void *context;
    size_t workers;
    pthread_t caller;
    floating_point_control control;
    atomic_size_t joined;  ///< threads of the pool that have come, without the caller
} pool_work;

/// Called by the caller and by the pool's threads. Those that come after the last worker have nothing to do.
static void join(void *memory) {
    pool_work *const work = memory;
    if (pthread_equal(pthread_self(), work->caller)) {
        work->body(work->context, 0);
        return;
    }
    const size_t worker = atomic_fetch_add(&work->joined, 1) + 1;
    if (worker >= work->workers) return;
    const floating_point_control own = get_control();
    set_control(work->control);
    work->body(work->context, worker);
    set_control(own);
}

static void work_with_pool(size_t workers, fastloss_shared_work work, void *work_context) {
    pool_work shared = {work, work_context, workers, pthread_self(), get_control(), 0};
    pool.run(join, &shared, pool.context);
}

void fastloss_use_pool(fastloss_pool new_pool) {
    watch_for_fork();
    pthread_mutex_lock(&engaged);
    pool = new_pool;
    pthread_mutex_unlock(&engaged);
}

bool fastloss_has_pool(void) {
    pthread_mutex_lock(&engaged);
    const bool has = pool.run != NULL;
    pthread_mutex_unlock(&engaged);
    return has;
}

// ---- Sharing

void fastloss_share_work(size_t workers, fastloss_shared_work work, void *work_context) {
    if (workers <= 1 || pthread_mutex_trylock(&engaged) != 0) {
        work(work_context, 0);
        return;
    }
    if (pool.run && pool.threads(pool.context) >= (int64_t)workers)
        work_with_pool(workers, work, work_context);
    else
        work_with_team(workers, work, work_context);
    pthread_mutex_unlock(&engaged);
}

/// The tasks of one call. A free worker takes the next one: the caller from the front, helpers from the back.
/// So a caller that repeats a call, or continues with what it has just written, finds most of it in the
/// caches of its own core.
typedef struct {
    fastloss_swift_body *body;
    void *context;
    size_t tasks;
    atomic_size_t taken;      ///< tasks taken from either end; a worker that counts beyond `tasks` takes none
    atomic_size_t from_back;  ///< tasks taken by helpers
} task_queue;

static void take_tasks(void *queue_memory, size_t worker) {
    task_queue *const queue = queue_memory;
    for (size_t from_front = 0;
         atomic_fetch_add_explicit(&queue->taken, 1, memory_order_relaxed) < queue->tasks;) {
        const size_t task = worker == 0
            ? from_front++
            : queue->tasks - 1 - atomic_fetch_add_explicit(&queue->from_back, 1, memory_order_relaxed);
        queue->body(task, worker, queue->context);
    }
}

FASTLOSS_SWIFTCALL void fastloss_share_tasks(
    size_t tasks, size_t workers, fastloss_swift_body *body, void *body_context) {
    task_queue queue = {.body = body, .context = body_context, .tasks = tasks, .taken = 0, .from_back = 0};
    fastloss_share_work(workers, take_tasks, &queue);
}
