// Where the system gives no memory, every function says so: on a thread that has called nothing before, from
// the first allocation of a call to its last.

#include <pthread.h>
#include <string.h>

#include "every_call.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "allocation_counter.h"
#ifdef __cplusplus
}
#endif

/// More than any call makes.
enum { MOST_ALLOCATIONS = 50 };

/// A call on a new thread, whose own state and workspace it has to make.
typedef struct attempt {
    const every_call *call;
    long accepted;
    fastloss_status status;
    char message[200];
} attempt;

static void *make_attempt(void *pointer) {
    attempt *const made = (attempt *)pointer;
    call_results *const results = (call_results *)remember(sizeof *results);
    allocation_counter_refuse_after(made->accepted);
    made->status = run_call(made->call, NULL, results);
    strncpy(made->message, fastloss_last_error(), sizeof made->message - 1);
    allocation_counter_accept();
    return NULL;
}

static fastloss_status attempt_call(attempt *made) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, make_attempt, made) == 0);
    pthread_join(thread, NULL);
    return made->status;
}

static void test_calls(void) {
    for (int i = 0; i < every_call_count; i++) {
        now_testing("%s without memory", every_calls[i].name);
        int failures = 0;
        for (long accepted = 0; accepted <= MOST_ALLOCATIONS; accepted++) {
            attempt made = {&every_calls[i], accepted, FASTLOSS_OK, ""};
            if (attempt_call(&made) == FASTLOSS_OK) break;
            failures++;
            CHECK(made.status == FASTLOSS_ERROR_OUT_OF_MEMORY);
            // Without memory for the thread's state there is none for the message.
            CHECK(strstr(made.message, " could not allocate ") != NULL || made.message[0] == 0);
        }
        // The thread's state, its workspace, and, but for reversal and a small pooling, scratch memory.
        CHECK(failures >= 2 && failures <= MOST_ALLOCATIONS);
        forget();
    }
}

static void test_workspaces(void) {
    now_testing("a workspace without memory");
    fastloss_workspace *workspace = NULL;
    allocation_counter_refuse_after(0);
    fastloss_status status = fastloss_workspace_create(2, &workspace);
    allocation_counter_accept();
    CHECK(status == FASTLOSS_ERROR_OUT_OF_MEMORY && workspace == NULL);
    CHECK(strstr(fastloss_last_error(), "a workspace could not allocate ") == fastloss_last_error());
}

/// Descriptions and messages take no memory.
static void test_texts(void) {
    now_testing("texts without memory");
    char with_memory[1024], without[1024];
    CHECK(fastloss_describe(with_memory, sizeof with_memory) < sizeof with_memory);
    float x[4] = {0, 0, 0, 0};
    fastloss_loss_value loss;
    allocation_counter_refuse_after(0);
    fastloss_describe(without, sizeof without);
    fastloss_status null = fastloss_masked_mse(2, 2, NULL, 2, x, 2, NULL, 0, NULL, NULL, NULL, &loss);
    char message[200] = "";
    strncpy(message, fastloss_last_error(), sizeof message - 1);
    fastloss_status parameter = fastloss_gradient_reversal(2, 2, x, 2, 1e30f, NULL, NULL);
    allocation_counter_accept();
    CHECK(strcmp(with_memory, without) == 0);
    CHECK(null == FASTLOSS_ERROR_NULL_POINTER);
    CHECK(strcmp(message, "predictions is NULL, but it must have 4 elements") == 0);
    CHECK(parameter == FASTLOSS_ERROR_NULL_POINTER);
}

void test_failing_allocations(void) {
    now_testing("failing allocations");
    if (allocation_counter_obstacle() != NULL) {
        skip("allocations do not fail: %s", allocation_counter_obstacle());
        return;
    }
#ifdef FASTLOSS_TESTS_A_DEBUG_LIBRARY
    skip("a library that is not optimised allocates through Swift, which ends the process");
    return;
#endif
    scale_inputs(1);
    // What the Swift runtime and OpenBLAS make once is made: each call has been made before.
    for (int i = 0; i < every_call_count; i++) {
        attempt made = {&every_calls[i], -1, FASTLOSS_OK, ""};
        CHECK_OK(attempt_call(&made));
        forget();
    }
    test_calls();
    test_workspaces();
    test_texts();
}
