// Runs every test of the C interface. Usage: PROGRAM GOLDENS, the folder of what PyTorch computes.

#include <stdio.h>

#include "support.h"

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: %s GOLDENS\n", arguments[0]);
        return 2;
    }
    find_goldens(arguments[1]);
    // First, because their processes have called less than those of other tests. Memory that nothing has
    // asked for before is scarce in another way than memory that a call has made and kept.
    test_memory_limit();
    test_fork();
    test_environment();
    test_runtime();
    test_structs();
    test_errors();
    test_bounds();
    test_misuse();
    test_extreme_shapes();
    test_masked_losses();
    test_mixed_precision();
    test_classification();
    test_cell_embeddings();
    test_reductions();
    test_total_objective();
    test_heads();
    test_head_errors();
    test_threads();
    test_thread_pool();
    test_ranks();
    test_allocations();
    test_failing_allocations();
    test_memory_limit();
    forget();
    printf("%ld checks, %ld failed", checks_made(), checks_failed());
    if (tests_skipped() > 0) printf(", %ld tests skipped", tests_skipped());
    printf("\n");
    return checks_failed() > 0;
}
