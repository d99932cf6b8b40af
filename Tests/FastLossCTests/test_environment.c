// Results do not depend on the number of workers in any floating-point environment of the caller.

#include <fenv.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "every_call.h"

#ifdef FASTLOSS_TESTS_A_DEBUG_LIBRARY
enum { WORKERS = 4, REPETITIONS = 2 };  // each takes a hundred times as long
#else
enum { WORKERS = 4, REPETITIONS = 10 };
#endif

static void compare_workers(const char *environment) {
    static call_results alone, together;
    fastloss_workspace *workspaces[2];
    CHECK_OK(fastloss_workspace_create(1, &workspaces[0]));
    CHECK_OK(fastloss_workspace_create(WORKERS, &workspaces[1]));
    for (int i = 0; i < every_call_count; i++) {
        now_testing("%s where the caller %s", every_calls[i].name, environment);
        CHECK_OK(run_call(&every_calls[i], workspaces[0], &alone));
        int differ = 0;
        for (int k = 0; k < REPETITIONS; k++) {
            CHECK_OK(run_call(&every_calls[i], workspaces[1], &together));
            differ += !same_results(&alone, &together);
        }
        check(differ == 0, __FILE__, __LINE__, "%d of %d results differ", differ, REPETITIONS);
    }
    fastloss_workspace_destroy(workspaces[0]);
    fastloss_workspace_destroy(workspaces[1]);
}

void test_environment(void) {
    // Helpers that were born in the default environment.
    scale_inputs(1);
    compare_workers("has changed nothing");

    const int rounding = fegetround();
    CHECK(fesetround(FE_UPWARD) == 0);
    compare_workers("rounds upward");
    CHECK(fesetround(FE_TOWARDZERO) == 0);
    compare_workers("rounds toward zero");
    CHECK(fesetround(rounding) == 0);

#if defined(__x86_64__)
    scale_inputs(1e-38f);
    const unsigned control = _mm_getcsr();
    _mm_setcsr(control | 0x8040);  // results and operands that are subnormal count as zero
    compare_workers("flushes subnormal numbers");
    _mm_setcsr(control);
#endif
    scale_inputs(1e-38f);
    compare_workers("has changed nothing back");
    scale_inputs(1);
}
