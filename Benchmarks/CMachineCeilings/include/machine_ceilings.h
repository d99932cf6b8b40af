// The loops behind the benchmark's ceilings, one set per instruction set.
//
// They are C because Swift compiles for the architecture's baseline, whose vectors reach a fraction of what
// FastLoss's kernels may use. Each loop does one thing, so that nothing but the resource it is named after
// holds it back.

#ifndef MACHINE_CEILINGS_H
#define MACHINE_CEILINGS_H

#include <stdbool.h>
#include <stddef.h>

/// Counts of floats must be multiples of this, and their memory aligned to a cache line.
enum { MACHINE_CEILINGS_BLOCK = 128 };

/// The loops of one instruction set.
typedef struct {
    /// Floating-point operations of one round of `multiply_add`; a fused multiply-add counts as two.
    size_t flops_per_round;

    /// Independent chains of x ← a·x + b in registers; the result depends on every operation.
    float (*_Nonnull multiply_add)(size_t rounds);

    /// Reads `count` floats `passes` times, a quarter at four places side by side; the result depends on
    /// each. A single stream through memory waits at every page. Measured: the article Tuning.
    float (*_Nonnull read)(const float *_Nonnull x, size_t count, size_t passes);

    /// y = −x, `passes` times; with `streaming`, y goes to memory past the caches. No overlap.
    void (*_Nonnull read_write)(
        const float *_Nonnull x, float *_Nonnull y, size_t count, size_t passes, bool streaming);
} machine_ceilings_loops;

/// The loops for "baseline", "avx2" or "avx512"; NULL for a name that this build has no loops for. The
/// processor must have the instruction set.
const machine_ceilings_loops *_Nullable machine_ceilings_loops_for(const char *_Nonnull instruction_set);

#endif
