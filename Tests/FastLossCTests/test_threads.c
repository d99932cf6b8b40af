// Two threads: each has its own last error and its own workspace, and a workspace that is in use says so.

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "support.h"

static pthread_barrier_t barrier;

static const char *const null_message = "predictions is NULL, but it must have 4 elements";
static const char *const stride_message =
    "the stride of embeddings is 1, but it must be at least 2, the number of columns";

static void *make_null_errors(void *unused) {
    (void)unused;
    float t[4] = {0, 0, 0, 0};
    fastloss_loss_value loss;
    CHECK(strcmp(fastloss_last_error(), "") == 0);
    for (int i = 0; i < 100; i++) {
        CHECK_FAILS(
            fastloss_masked_mse(2, 2, NULL, 2, t, 2, NULL, 0, NULL, NULL, NULL, &loss),
            FASTLOSS_ERROR_NULL_POINTER, null_message);
        pthread_barrier_wait(&barrier);
        // The other thread has failed differently by now.
        CHECK(strcmp(fastloss_last_error(), null_message) == 0);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void *make_stride_errors(void *unused) {
    (void)unused;
    float e[4] = {1, 0, 0, 1};
    fastloss_loss_value loss;
    CHECK(strcmp(fastloss_last_error(), "") == 0);
    for (int i = 0; i < 100; i++) {
        CHECK_FAILS(
            fastloss_elastic_cell_similarity(2, 2, e, 1, NULL, NULL, NULL, &loss),
            FASTLOSS_ERROR_INVALID_STRIDE, stride_message);
        pthread_barrier_wait(&barrier);
        CHECK(strcmp(fastloss_last_error(), stride_message) == 0);
        // A call that succeeds leaves the message.
        CHECK_OK(fastloss_elastic_cell_similarity(2, 2, e, 2, NULL, NULL, NULL, &loss));
        CHECK(strcmp(fastloss_last_error(), stride_message) == 0);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void test_last_error(void) {
    now_testing("the last error of each thread");
    CHECK_FAILS(fastloss_workspace_create(0, NULL), FASTLOSS_ERROR_NULL_POINTER, "workspace is NULL");
    pthread_t threads[2];
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK(pthread_create(&threads[0], NULL, make_null_errors, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, make_stride_errors, NULL) == 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pthread_barrier_destroy(&barrier);
    CHECK(strcmp(fastloss_last_error(), "workspace is NULL") == 0);
}

// ---- One workspace, two threads

enum { rows = 512, columns = 256 };
static float embeddings[rows * columns];
static fastloss_workspace *shared;

static void fill(void) {
    uint32_t state = 1;
    for (int i = 0; i < rows * columns; i++) {
        state = state * 1664525u + 1013904223u;
        embeddings[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

typedef struct tally {
    int succeeded, other;
    double value;
} tally;

/// How often either thread was refused.
static int refusals;

/// Calls until it has succeeded and either thread has been refused, or for a minute. After each success it
/// pauses for a moment that is much shorter than a call: if calls are slow and processors busy, the other
/// thread would hardly ever find the workspace free.
static void *use_shared_workspace(void *result) {
    tally *counts = (tally *)result;
    time_t start = time(NULL);
    const struct timespec moment = {0, 100 * 1000};
    while (time(NULL) - start < 60
           && (counts->succeeded == 0 || __atomic_load_n(&refusals, __ATOMIC_RELAXED) == 0)) {
        fastloss_loss_value loss;
        fastloss_status status =
            fastloss_elastic_cell_similarity(rows, columns, embeddings, columns, NULL, NULL, shared, &loss);
        if (status == FASTLOSS_OK) {
            counts->succeeded++;
            counts->value = loss.value;
            nanosleep(&moment, NULL);
        } else if (status == FASTLOSS_ERROR_WORKSPACE_BUSY) {
            __atomic_fetch_add(&refusals, 1, __ATOMIC_RELAXED);
            sched_yield();
        } else {
            counts->other++;
        }
    }
    return NULL;
}

static void test_busy_workspace(void) {
    now_testing("a workspace in use");
    fill();
    fastloss_loss_value loss;
    CHECK_OK(fastloss_workspace_create(1, &shared));
    CHECK_OK(fastloss_elastic_cell_similarity(rows, columns, embeddings, columns, NULL, NULL, NULL, &loss));
    tally counts[2];
    memset(counts, 0, sizeof counts);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, use_shared_workspace, &counts[i]) == 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    CHECK(refusals > 0);
    for (int i = 0; i < 2; i++) {
        CHECK(counts[i].succeeded > 0 && counts[i].other == 0);
        CHECK(counts[i].value == loss.value);
    }
    CHECK_OK(fastloss_elastic_cell_similarity(rows, columns, embeddings, columns, NULL, NULL, shared, &loss));
    fastloss_workspace_destroy(shared);
}

// ---- Each thread its own

static void *use_own_workspace(void *result) {
    fastloss_loss_value *loss = (fastloss_loss_value *)result;
    for (int i = 0; i < 5; i++) {
        CHECK_OK(
            fastloss_elastic_cell_similarity(rows, columns, embeddings, columns, NULL, NULL, NULL, loss));
    }
    return NULL;
}

static void test_own_workspaces(void) {
    now_testing("threads with workspaces of their own");
    fastloss_loss_value losses[4], expected;
    CHECK_OK(
        fastloss_elastic_cell_similarity(rows, columns, embeddings, columns, NULL, NULL, NULL, &expected));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, use_own_workspace, &losses[i]) == 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) CHECK(losses[i].value == expected.value);
}

void test_threads(void) {
    test_last_error();
    test_busy_workspace();
    test_own_workspaces();
}
