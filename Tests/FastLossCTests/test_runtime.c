// Versions, the description of the run time, names, workspaces.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "support.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "allocation_counter.h"
#ifdef __cplusplus
}
#endif

static void test_description(void) {
    now_testing("description");
    CHECK(fastloss_abi_version() == FASTLOSS_ABI_VERSION);
    CHECK(strlen(fastloss_version()) >= 5);
    size_t length = fastloss_describe(NULL, 0);
    char *text = (char *)malloc(length + 1);
    CHECK(fastloss_describe(text, length + 1) == length);
    CHECK(strlen(text) == length);
    char expected[64];
    snprintf(
        expected, sizeof expected, "{\"version\": \"%s\", \"abiVersion\": %d, ", fastloss_version(),
        FASTLOSS_ABI_VERSION);
    CHECK(strncmp(text, expected, strlen(expected)) == 0);
    static const char *keys[8] = {"instructionSet",    "requestedInstructionSet",
                                  "workers",           "threads",
                                  "blasConfiguration", "blasCore",
                                  "blasThreads",       "blasLibrary"};
    for (int i = 0; i < 8; i++) {
        snprintf(expected, sizeof expected, "\"%s\": ", keys[i]);
        CHECK(strstr(text, expected) != NULL);
    }
    CHECK(text[length - 1] == '}');
    // FASTLOSS_ISA is in use if this processor has it.
    const char *forced = getenv("FASTLOSS_ISA");
    if (forced != NULL) {
        snprintf(expected, sizeof expected, "\"instructionSet\": \"%s\"", forced);
        CHECK(strstr(text, expected) != NULL);
    }
    char part[10] = "abcdefghi";
    CHECK(fastloss_describe(part, 5) == length);
    CHECK(strcmp(part, "{\"ve") == 0 && part[5] == 'f');
    free(text);
}

static void test_names(void) {
    now_testing("names");
    CHECK(strcmp(fastloss_status_name(FASTLOSS_OK), "FASTLOSS_OK") == 0);
    CHECK(strcmp(fastloss_status_name(FASTLOSS_ERROR_NULL_POINTER), "FASTLOSS_ERROR_NULL_POINTER") == 0);
    CHECK(strcmp(fastloss_status_name(-7), "unknown status") == 0);
    for (fastloss_status status = 1; status <= FASTLOSS_ERROR_RANK_FAILED; status++) {
        CHECK(strncmp(fastloss_status_name(status), "FASTLOSS_ERROR_", 15) == 0);
    }
    for (fastloss_status status = 100; status <= FASTLOSS_ERROR_WORKSPACE_BUSY; status++) {
        CHECK(strncmp(fastloss_status_name(status), "FASTLOSS_ERROR_", 15) == 0);
    }
    static const char *terms[FASTLOSS_TERM_COUNT] = {"mse", "nzlp", "mvc", "mvc_nzlp", "gen",
                                                     "cls", "cce",  "ecs", "dab"};
    for (int term = 0; term < FASTLOSS_TERM_COUNT; term++)
        CHECK(strcmp(fastloss_term_name(term), terms[term]) == 0);
    CHECK(fastloss_term_name(FASTLOSS_TERM_COUNT) == NULL && fastloss_term_name(-1) == NULL);
}

static void test_workspaces(void) {
    now_testing("workspaces");
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(3, &workspace));
    CHECK(workspace != NULL && fastloss_workspace_workers(workspace) == 3);
    CHECK(fastloss_workspace_byte_count(workspace) == 0);
    float embeddings[6] = {1, 2, 3, 4, 5, 6};
    fastloss_loss_value loss;
    CHECK_OK(fastloss_elastic_cell_similarity(2, 2, embeddings, 2, NULL, NULL, workspace, &loss));
    size_t dense = fastloss_workspace_byte_count(workspace);
    CHECK(dense > 0);
    // A matrix with gaps needs room to be packed into.
    CHECK_OK(fastloss_elastic_cell_similarity(2, 2, embeddings, 3, NULL, NULL, workspace, &loss));
    CHECK(fastloss_workspace_byte_count(workspace) > dense);
    fastloss_workspace_destroy(workspace);
    fastloss_workspace_destroy(NULL);

    fastloss_workspace *other = NULL;
    CHECK_OK(fastloss_workspace_create(0, &other));
    CHECK(fastloss_workspace_workers(other) == fastloss_workspace_workers(NULL));
    fastloss_workspace_destroy(other);
    CHECK_OK(fastloss_elastic_cell_similarity(2, 2, embeddings, 2, NULL, NULL, NULL, &loss));
    CHECK(fastloss_workspace_byte_count(NULL) > 0);

    other = NULL;
    CHECK_FAILS(
        fastloss_workspace_create(-1, &other), FASTLOSS_ERROR_INVALID_PARAMETER,
        "workers is -1, but it must be between 0 and 4096");
    CHECK(fastloss_workspace_create(4097, &other) == FASTLOSS_ERROR_INVALID_PARAMETER && other == NULL);
}

/// With an address space that leaves no room for the scratch memory of a call, the call fails and the next
/// one works.
static void test_out_of_memory(void) {
    now_testing("out of memory");
    if (allocation_counter_obstacle() != NULL) {
        skip("%s, and maps memory of its own", allocation_counter_obstacle());
        return;
    }
    enum { masks = 8192, columns = 8192 };
    size_t size = (size_t)masks * columns;
    // Never touched, so it takes addresses and no memory; the call needs four times as many bytes.
    void *place =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(place != MAP_FAILED);
    static float values[columns], outputs[masks];
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(1, &workspace));
    struct rlimit before, tight;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    tight = before;
    tight.rlim_cur = 1;  // no address more than there are now
    CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
    fastloss_masked_options options = FASTLOSS_MASKED_OPTIONS;
    options.when_empty = FASTLOSS_EMPTY_ZERO;
    fastloss_status status = fastloss_masked_reductions(
        1, columns, masks, values, columns, (const bool *)place, columns, &options, outputs, masks,
        workspace);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    CHECK(status == FASTLOSS_ERROR_OUT_OF_MEMORY);
    CHECK(strstr(fastloss_last_error(), "masked_reductions could not allocate ") != NULL);
    CHECK(fastloss_workspace_byte_count(workspace) == 0);
    float embeddings[4] = {1, 2, 3, 4};
    fastloss_loss_value loss;
    CHECK_OK(fastloss_elastic_cell_similarity(2, 2, embeddings, 2, NULL, NULL, workspace, &loss));
    fastloss_workspace_destroy(workspace);
    munmap(place, size);
}

void test_runtime(void) {
    CHECK(strcmp(fastloss_last_error(), "") == 0);
    test_description();
    test_names();
    test_workspaces();
    test_out_of_memory();
}
