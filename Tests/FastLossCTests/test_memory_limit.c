// Where the system limits the address space, as `ulimit -v` does, every function works or reports that it has
// no memory, and works again when there is some.

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "every_call.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "allocation_counter.h"
#ifdef __cplusplus
}
#endif

/// Seconds that a child may take: a library that waits for memory for ever is wrong, too.
enum { PATIENCE = 60 };

/// What a child found.
enum { WORKED, HAD_NO_MEMORY, WAS_WRONG };

/// The bytes of this process's address space; 0 if the system does not tell.
static size_t address_space(void) {
    FILE *const file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    if (file == NULL) return 0;
    const int found = fscanf(file, "%lu", &pages);
    fclose(file);
    return found == 1 ? (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/// In a child: makes a call with so many bytes left, and again without a limit.
static int call_with_little_memory(const every_call *call, size_t bytes) {
    static call_results limited, unlimited;
    struct rlimit old, limit;
    if (getrlimit(RLIMIT_AS, &old) != 0) return WAS_WRONG;
    limit = old;
    limit.rlim_cur = (rlim_t)(address_space() + bytes);
    if (setrlimit(RLIMIT_AS, &limit) != 0) return WAS_WRONG;
    const fastloss_status status = run_call(call, NULL, &limited);
    if (setrlimit(RLIMIT_AS, &old) != 0) return WAS_WRONG;
    if (status != FASTLOSS_OK && status != FASTLOSS_ERROR_OUT_OF_MEMORY) return WAS_WRONG;
    if (run_call(call, NULL, &unlimited) != FASTLOSS_OK) return WAS_WRONG;
    if (status == FASTLOSS_OK) return same_results(&limited, &unlimited) ? WORKED : WAS_WRONG;
    return HAD_NO_MEMORY;
}

/// The same in a process of its own.
static int in_child(const every_call *call, size_t bytes) {
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        _exit(call_with_little_memory(call, bytes));
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return WAS_WRONG;
    return WEXITSTATUS(status);
}

static void test_limits(void) {
    static const size_t limits[] = {0, 1 << 16, 1 << 20, 1 << 23, (size_t)1 << 32};
    for (int i = 0; i < every_call_count; i++) {
        for (int limit = 0; limit < 5; limit++) {
            now_testing("%s with %zu bytes left", every_calls[i].name, limits[limit]);
            const int result = in_child(&every_calls[i], limits[limit]);
            CHECK(result == WORKED || result == HAD_NO_MEMORY);
            // Enough for the buffers of 16 workers.
            if (limits[limit] == (size_t)1 << 32) CHECK(result == WORKED);
        }
    }
}

void test_memory_limit(void) {
    now_testing("a limit of the address space");
    if (allocation_counter_obstacle() != NULL || address_space() == 0) {
        skip("a sanitizer maps memory of its own, or the system does not tell the size of the address space");
        return;
    }
#ifdef FASTLOSS_TESTS_A_DEBUG_LIBRARY
    skip("a library that is not optimised allocates through Swift, which ends the process");
    return;
#endif
    scale_inputs(1);
    test_limits();
    forget();
}
