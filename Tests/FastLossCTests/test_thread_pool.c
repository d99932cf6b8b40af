// A pool of the program's own threads works in place of the library's helpers, and changes no result.

#include <fenv.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "every_call.h"

// A pool that starts a thread for every run. It is as large as `pool_threads` says, and runs on
// `threads_that_come`.
enum { MOST_THREADS = 8 };
static int32_t pool_threads, threads_that_come;
/// How often the pool has run, and how often a thread of it returned in another floating-point environment.
static int runs, changed_environments;

typedef struct pool_run {
    fastloss_pool_work work;
    void *context;
} pool_run;

static void *work_on_thread(void *pointer) {
    const pool_run *run = (const pool_run *)pointer;
    // The pool's threads have a rounding of their own, which no call may use or change.
    fesetround(FE_DOWNWARD);
    run->work(run->context);
    if (fegetround() != FE_DOWNWARD) __atomic_fetch_add(&changed_environments, 1, __ATOMIC_RELAXED);
    return NULL;
}

static int32_t count_threads(void *context) {
    CHECK(context == &runs);
    return pool_threads;
}

static void run_pool(fastloss_pool_work work, void *work_context, void *context) {
    CHECK(context == &runs);
    runs++;
    pool_run run = {work, work_context};
    pthread_t threads[MOST_THREADS];
    int started = 0;
    while (started < threads_that_come - 1
           && pthread_create(&threads[started], NULL, work_on_thread, &run) == 0)
        started++;
    work(work_context);
    while (started > 0) pthread_join(threads[--started], NULL);
}

static fastloss_thread_pool pool(void) {
    fastloss_thread_pool value = {sizeof value, &runs, count_threads, run_pool};
    return value;
}

/// Whether `fastloss_describe` says that these threads work.
static int describes(const char *threads) {
    char text[4096];
    CHECK(fastloss_describe(text, sizeof text) < sizeof text);
    const char *found = strstr(text, "\"threads\": \"");
    return found && strncmp(found + strlen("\"threads\": \""), threads, strlen(threads)) == 0;
}

/// Every call on a pool against one worker.
static void compare(const char *what, int32_t threads, int32_t coming, int runs_on_pool) {
    static call_results alone, together;
    fastloss_workspace *workspaces[2];
    CHECK_OK(fastloss_workspace_create(1, &workspaces[0]));
    CHECK_OK(fastloss_workspace_create(3, &workspaces[1]));
    pool_threads = threads;
    threads_that_come = coming;
    runs = changed_environments = 0;
    for (int i = 0; i < every_call_count; i++) {
        now_testing("%s on a pool %s", every_calls[i].name, what);
        CHECK_OK(run_call(&every_calls[i], workspaces[0], &alone));
        CHECK_OK(run_call(&every_calls[i], workspaces[1], &together));
        CHECK(same_results(&alone, &together));
    }
    CHECK((runs > 0) == runs_on_pool);
    CHECK(changed_environments == 0);
    fastloss_workspace_destroy(workspaces[0]);
    fastloss_workspace_destroy(workspaces[1]);
}

static void test_errors_of_pools(void) {
    now_testing("errors of a thread pool");
    fastloss_thread_pool wrong = pool();
    wrong.size = 8;
    CHECK_FAILS(
        fastloss_set_thread_pool(&wrong), FASTLOSS_ERROR_INVALID_STRUCT,
        "fastloss_thread_pool.size is 8, but it must be 32; the initialiser in the header sets it");
    wrong = pool();
    wrong.threads = NULL;
    CHECK_FAILS(fastloss_set_thread_pool(&wrong), FASTLOSS_ERROR_NULL_POINTER, "pool.threads is NULL");
    wrong = pool();
    wrong.run = NULL;
    CHECK_FAILS(fastloss_set_thread_pool(&wrong), FASTLOSS_ERROR_NULL_POINTER, "pool.run is NULL");
    CHECK(describes("pool"));
}

static void test_pool_after_fork(void) {
#if !defined(__has_feature)
#define __has_feature(name) 0  // gcc defines macros instead
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
    skip("see test_fork");
#else
    now_testing("a child of a process with a thread pool");
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        static call_results results;
        runs = 0;
        int right = describes("helpers");
        for (int i = 0; i < every_call_count; i++)
            right = right && run_call(&every_calls[i], NULL, &results) == FASTLOSS_OK;
        _exit(right && runs == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(describes("pool"));
#endif
}

void test_thread_pool(void) {
    scale_inputs(1);
    now_testing("a thread pool");
    CHECK(describes("helpers"));
    const fastloss_thread_pool value = pool();
    CHECK_OK(fastloss_set_thread_pool(&value));
    test_errors_of_pools();
    compare("of three threads", 3, 3, 1);
    compare("of more threads than workers", MOST_THREADS, MOST_THREADS, 1);
    compare("whose other threads do not come", 3, 1, 1);
    compare("without threads for a second worker", 1, 1, 0);
    CHECK(fesetround(FE_UPWARD) == 0);
    compare("of a caller that rounds upward", 3, 3, 1);
    CHECK(fesetround(FE_TONEAREST) == 0);
    test_pool_after_fork();
    CHECK_OK(fastloss_set_thread_pool(NULL));
    CHECK(describes("helpers"));
    compare("that was taken away", 3, 3, 0);
}
