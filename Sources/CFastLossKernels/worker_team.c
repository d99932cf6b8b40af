// The team of helper threads.
//
// Why not a general thread pool: a loss at scGPT's sizes takes tens of microseconds and ECS needs a barrier after every round of
// tiles, so what counts is how soon a helper starts and that nobody waits for one that does not. A helper that has
// finished looks for more work for some microseconds before it sleeps; a caller closes its work as soon as it finds nothing
// left to do, and waits only for helpers that are inside. Both first wait awake, because going to sleep and being woken costs more
// than the last task of the other: on a virtual machine with two cores (Zen 5), in turns, the value of MaskedReductions at
// 64×1201×16 takes 28 to 53 µs where the caller sleeps and 18 to 29 where it spins, on one worker 31. Measured against Dispatch's concurrentPerform on two cores, in turns:
// BernoulliNLL at 64×1201 takes 39 to 44 µs instead of 57 to 59, the whole objective at 64×1201×128 134 instead of 146.

#include "fastloss_worker_team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

enum {
    /// Helpers at most; a machine with more processors than this uses no more of them.
    MOST_HELPERS = 255,
    /// Looks at the door before a helper goes to sleep: about 20 µs, longer than the gap between two rounds of tiles and shorter than
    /// anything that another thread of the process would miss.
    SPINS = 500,
};

/// Held by the caller that the team works for.
static pthread_mutex_t engaged = PTHREAD_MUTEX_INITIALIZER;

/// Guards everything below.
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_arrived = PTHREAD_COND_INITIALIZER;
static pthread_cond_t helper_left = PTHREAD_COND_INITIALIZER;
static size_t helpers = 0;          ///< threads of the team
static fastloss_shared_work body;
static void *context;
/// Helpers that may still enter, also read by spinning helpers without the lock.
static atomic_size_t vacancies = 0;
/// Helpers inside `body`, also read by a spinning caller without the lock.
static atomic_size_t inside = 0;

/// Takes the door, which nobody holds for long: to sleep until it is free would take longer than that.
static void lock_door(void) {
    for (int spin = 0; spin < SPINS; ++spin) {
        if (pthread_mutex_trylock(&door) == 0) return;
        RELAX();
    }
    pthread_mutex_lock(&door);
}

static void *help(void *unused) {
    (void)unused;
    lock_door();
    for (;;) {
        while (atomic_load_explicit(&vacancies, memory_order_relaxed) == 0) {
            pthread_mutex_unlock(&door);
            for (int spin = 0; spin < SPINS && atomic_load_explicit(&vacancies, memory_order_relaxed) == 0; ++spin) RELAX();
            lock_door();
            if (atomic_load_explicit(&vacancies, memory_order_relaxed) == 0) pthread_cond_wait(&work_arrived, &door);
        }
        const size_t worker = atomic_fetch_sub_explicit(&vacancies, 1, memory_order_relaxed);
        const fastloss_shared_work work = body;
        void *const its_context = context;
        atomic_fetch_add_explicit(&inside, 1, memory_order_relaxed);
        pthread_mutex_unlock(&door);
        work(its_context, worker);
        lock_door();
        if (atomic_fetch_sub_explicit(&inside, 1, memory_order_relaxed) == 1) pthread_cond_signal(&helper_left);
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
    atomic_store(&inside, 0);
    atomic_store(&vacancies, 0);
}

static void watch_for_fork(void) { pthread_atfork(NULL, NULL, forget_team); }

/// Starts helpers until there are `wanted`, or until the system gives no more. The door is locked.
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
    lock_door();
    hire(workers - 1);
    body = work;
    context = work_context;
    atomic_store_explicit(&vacancies, workers - 1, memory_order_relaxed);
    pthread_cond_broadcast(&work_arrived);
    pthread_mutex_unlock(&door);

    work(work_context, 0);

    lock_door();
    atomic_store_explicit(&vacancies, 0, memory_order_relaxed);
    pthread_mutex_unlock(&door);
    // The helpers are in their last tasks. The door is taken once more in any case: what they have written is seen behind it.
    for (int spin = 0; spin < SPINS && atomic_load_explicit(&inside, memory_order_relaxed) > 0; ++spin) RELAX();
    lock_door();
    while (atomic_load_explicit(&inside, memory_order_relaxed) > 0) pthread_cond_wait(&helper_left, &door);
    pthread_mutex_unlock(&door);
    pthread_mutex_unlock(&engaged);
}

/// The tasks of one call, taken by whichever worker is free: by the caller from the front, by its helpers from the back. So a
/// caller that repeats a call, or goes on with what it has just written, finds most of it in its own core's caches.
typedef struct {
    fastloss_swift_body *body;
    void *context;
    size_t tasks;
    atomic_size_t taken;      ///< from either end; a worker that counts beyond `tasks` takes none
    atomic_size_t from_back;  ///< by helpers
} task_queue;

static void take_tasks(void *queue_memory, size_t worker) {
    task_queue *const queue = queue_memory;
    for (size_t from_front = 0; atomic_fetch_add_explicit(&queue->taken, 1, memory_order_relaxed) < queue->tasks;) {
        const size_t task =
            worker == 0 ? from_front++
                        : queue->tasks - 1 - atomic_fetch_add_explicit(&queue->from_back, 1, memory_order_relaxed);
        queue->body(task, worker, queue->context);
    }
}

FASTLOSS_SWIFTCALL void fastloss_share_tasks(
    size_t tasks, size_t workers, fastloss_swift_body *body, void *body_context) {
    task_queue queue = {.body = body, .context = body_context, .tasks = tasks, .taken = 0, .from_back = 0};
    fastloss_share_work(workers, take_tasks, &queue);
}
