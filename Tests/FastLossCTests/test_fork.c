// After fork() every function works in the child, whatever the parent has called before and whatever the
// child calls first.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "every_call.h"

/// Seconds that a child may take.
enum { PATIENCE = 60 };

/// Runs a call in a child, first of all; whether it came back in time, and what it computed.
static int run_in_child(const every_call *call, fastloss_workspace *workspace, call_results *shared) {
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        _exit(run_call(call, workspace, shared) == FASTLOSS_OK ? 0 : 1);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

typedef struct first_call {
    const every_call *call;
    fastloss_status status;
    call_results results;
} first_call;

static void *make_first_call(void *pointer) {
    first_call *const made = (first_call *)pointer;
    made->status = run_call(made->call, NULL, &made->results);
    return NULL;
}

/// Two threads of a child make a call at the same time, first of all; whether both come back with the same
/// results.
static int run_in_threads_of_child(const every_call *call) {
    static first_call made[2];
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) {
            made[i].call = call;
            if (pthread_create(&threads[i], NULL, make_first_call, &made[i]) != 0) _exit(2);
        }
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        const int right = made[0].status == FASTLOSS_OK && made[1].status == FASTLOSS_OK
            && same_results(&made[0].results, &made[1].results);
        _exit(right ? 0 : 1);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void call_first_in_children(const char *parent, call_results *shared) {
    static call_results expected[MOST_CALLS];
    CHECK(every_call_count <= MOST_CALLS);
    now_testing("a child of a parent that %s", parent);
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(4, &workspace));
    const int knows = expected[0].value != 0;
    for (int i = 0; i < every_call_count; i++) {
        now_testing("%s first in a child of a parent that %s", every_calls[i].name, parent);
        CHECK(run_in_child(&every_calls[i], workspace, shared));
        // The first children say what the others have to compute, and so does the parent in the end.
        if (knows) CHECK(same_results(shared, &expected[i]));
        CHECK(run_in_threads_of_child(&every_calls[i]));
        expected[i] = *shared;
    }
    fastloss_workspace_destroy(workspace);
}

/// The default number of workers in a child in which FASTLOSS_THREADS has a value.
static int default_workers(const char *value, int64_t *shared) {
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        setenv("FASTLOSS_THREADS", value, 1);
        *shared = fastloss_workspace_workers(NULL);
        _exit(0);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// The environment has the limits of `fastloss_workspace_create`. It is read once in a process, so that each
/// value has a process of its own.
static void test_threads_variable(int64_t *shared) {
    static const char *const ignored[] = {"0",   "-1", "4097", "9223372036854775807", "18446744073709551617",
                                          "two", ""};
    static const char *const heeded[] = {"1", "3", "4096"};
    now_testing("FASTLOSS_THREADS");
    int64_t usual = 0;
    for (int i = 0; i < 7; i++) {
        CHECK(default_workers(ignored[i], shared));
        CHECK(*shared >= 1 && *shared <= 4096 && (i == 0 || *shared == usual));
        usual = *shared;
    }
    for (int i = 0; i < 3; i++) {
        CHECK(default_workers(heeded[i], shared));
        CHECK(*shared == strtol(heeded[i], NULL, 10));
    }
}

#if !defined(__has_feature)
#define __has_feature(name) 0  // gcc defines macros instead
#endif

void test_fork(void) {
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
    // It does so that the sanitizer sees the order of accesses. The thread of a child that called fork() goes
    // by its number in the parent, so the system refuses to unlock for it what others wait for.
    skip(
        "under this sanitizer Swift's runtime locks every access to a global, which hangs children of "
        "fork()");
    return;
#endif
    scale_inputs(1);
    call_results *const shared =
        (call_results *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    test_threads_variable((int64_t *)shared);
    call_first_in_children("has called nothing", shared);

    static call_results own;
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(4, &workspace));
    CHECK_OK(run_call(&every_calls[0], workspace, &own));
    call_first_in_children("has called no product", shared);

    for (int i = 0; i < every_call_count; i++) CHECK_OK(run_call(&every_calls[i], workspace, &own));
    call_first_in_children("has called everything", shared);
    fastloss_workspace_destroy(workspace);
    munmap(shared, sizeof *shared);
}
