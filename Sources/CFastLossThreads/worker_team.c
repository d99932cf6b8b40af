// The team of helper threads.
//
// Why not a general thread pool: a loss at scGPT's sizes takes tens of microseconds in two or three stretches
// of work, so what counts is how soon a helper starts, and that nobody waits for one that does not. Putting a
// thread to sleep and waking it costs 20 to 50 µs on a virtual machine, more than such a stretch. So a helper
// that has finished looks for more work for a while before it sleeps, a caller that has to wait for a
// helper's last task does the same, and both give their processor to any thread that wants it meanwhile. A
// caller closes its work as soon as it finds nothing left to do, and waits only for helpers that are inside.
//
// Measured on two Zen 5 cores, median of 400 stretches of 8 equal tasks, 20 µs after the last: tasks of 1 µs
// take 4.4 µs (4 are possible), of 4 µs 16.4, of 16 µs 64.4; where helpers and callers sleep at once it is
// 15, 31 and 105.

#if defined(__linux__)
#define _GNU_SOURCE  // sched_getcpu, sched_setaffinity
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

// How a thread rounds, whether it flushes subnormal numbers to zero, and which exceptions interrupt it. A
// thread inherits this from its creator and keeps it. So a helper adopts the caller's for each piece of work:
// otherwise a result would depend on which worker computed it.
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
    /// Helpers at most; a machine with more processors than this uses no more of them.
    MOST_HELPERS = 255,
    /// Nanoseconds that a thread looks without pause; longer than the gap between two stretches of a call.
    EAGER = 20 * 1000,
    /// Nanoseconds until a helper sleeps: the gap between the losses of one training step.
    HELPER_PATIENCE = 200 * 1000,
    /// Nanoseconds until a caller that waits for a helper's last task sleeps: a tile of a large batch.
    CALLER_PATIENCE = 2 * 1000 * 1000,
};

/// Held by the caller that the team works for.
static pthread_mutex_t engaged = PTHREAD_MUTEX_INITIALIZER;

// The work, written by the caller before it opens vacancies.
static fastloss_shared_work body;
static void *context;
static floating_point_control callers_control;

/// Helpers that may still enter.
static atomic_size_t vacancies = 0;
/// Helpers that are in `body` or about to find out whether they may enter.
static atomic_size_t inside = 0;

// What puts threads to sleep and wakes them; whoever is awake needs none of it. A sleeper counts itself
// before it looks for the last time, and whoever changes what it looks for looks for sleepers afterwards: in
// one total order, one of them sees the other.
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_arrived = PTHREAD_COND_INITIALIZER;
static pthread_cond_t helper_left = PTHREAD_COND_INITIALIZER;
static atomic_size_t sleeping_helpers = 0;
static atomic_bool caller_sleeps = false;

/// Threads of the team. Guarded by `engaged`.
static size_t helpers = 0;

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
/// A thread starts, and wakes, where the system thinks best, which may be behind the caller that woke it.
/// There it gets no turn before the caller has done everything, and Linux leaves two busy threads on one of
/// two processors for more than 50 ms: seen on a virtual machine, where a thousand calls in a row got no help
/// at all. Narrowing the affinity moves the thread at once; then the system is free to choose again. An
/// affinity that somebody else gives the helper in between is lost.
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

/// Looks at `count` for at most `patience` nanoseconds; whether it was (or was not) zero in time.
static bool watch(atomic_size_t *count, bool for_zero, int64_t patience) {
    enum { LOOKS = 16 };
    const int64_t start = nanoseconds();
    for (int64_t waited = 0; waited < patience; waited = nanoseconds() - start) {
        for (int look = 0; look < LOOKS; ++look) {
            // In the total order of all the others: the caller must not look inside before it has closed its
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

/// Takes a vacancy, which is the worker's number, or returns 0. Must be called inside: a caller that has
/// closed its work waits for everybody who might have come in before.
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

/// After fork() the child has the caller's thread alone: its team starts empty.
static void forget_team(void) {
    pthread_mutex_init(&engaged, NULL);
    pthread_mutex_init(&door, NULL);
    pthread_cond_init(&work_arrived, NULL);
    pthread_cond_init(&helper_left, NULL);
    helpers = 0;
    vacancies = 0;
    inside = 0;
    sleeping_helpers = 0;
    caller_sleeps = false;
}

static void watch_for_fork(void) { pthread_atfork(NULL, NULL, forget_team); }

/// Starts helpers until there are `wanted`, or until the system gives no more. The team is engaged.
static void hire(size_t wanted) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (helpers == 0) pthread_once(&once, watch_for_fork);
    if (wanted > MOST_HELPERS) wanted = MOST_HELPERS;
    for (; helpers < wanted; ++helpers) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, NULL) != 0) return;
        pthread_detach(thread);
    }
}

void fastloss_share_work(size_t workers, fastloss_shared_work work, void *work_context) {
    if (workers <= 1 || pthread_mutex_trylock(&engaged) != 0) {
        work(work_context, 0);
        return;
    }
    caller_processor = current_processor();
    hire(workers - 1);
    body = work;
    context = work_context;
    callers_control = get_control();
    vacancies = workers - 1;
    if (sleeping_helpers > 0) {
        pthread_mutex_lock(&door);
        // No more than there is work for: the others sleep on.
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
    pthread_mutex_unlock(&engaged);
}

/// The tasks of one call, taken by whichever worker is free: by the caller from the front, by its helpers
/// from the back. So a caller that repeats a call, or goes on with what it has just written, finds most of it
/// in its own core's caches.
typedef struct {
    fastloss_swift_body *body;
    void *context;
    size_t tasks;
    atomic_size_t taken;      ///< from either end; a worker that counts beyond `tasks` takes none
    atomic_size_t from_back;  ///< by helpers
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
