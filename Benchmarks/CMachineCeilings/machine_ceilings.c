// The loops, written once over vectors of a given width.

#include "machine_ceilings.h"

#include <string.h>

/// Chains of multiply-adds. The latency of one (4 cycles fused, about 7 as a product and a sum) times two per
/// cycle asks for 8 to 14; twelve accumulators, the factor and the summand leave two of the sixteen registers
/// that x86-64 has.
enum { CHAINS = 12 };

#define DEFINE(isa, attribute, width)                                                                        \
    typedef float isa##_vector __attribute__((vector_size(width)));                                          \
    enum { isa##_lanes = width / sizeof(float) };                                                            \
                                                                                                             \
    attribute static float isa##_multiply_add(size_t rounds) {                                               \
        _Pragma("clang fp contract(fast)")                                                                   \
        isa##_vector chain[CHAINS];                                                                          \
        /* They converge to 1: no overflow, and no denormals, which some processors compute slowly. No chain \
           starts there, as the compiler would find it constant and leave it out. */                         \
        const isa##_vector factor = (isa##_vector){} + 0.999f, summand = (isa##_vector){} + 0.001f;          \
        for (int k = 0; k < CHAINS; ++k) chain[k] = (isa##_vector){} + (float)(k + 2);                       \
        for (size_t round = 0; round < rounds; ++round)                                                      \
            for (int k = 0; k < CHAINS; ++k) chain[k] = factor * chain[k] + summand;                         \
        for (int k = 1; k < CHAINS; ++k) chain[0] += chain[k];                                               \
        float sum = 0;                                                                                       \
        for (int lane = 0; lane < isa##_lanes; ++lane) sum += chain[0][lane];                                \
        return sum;                                                                                          \
    }                                                                                                        \
                                                                                                             \
    attribute static float isa##_read(const float *x, size_t count, size_t passes) {                         \
        isa##_vector sums[8] = {};                                                                           \
        for (size_t pass = 0; pass < passes; ++pass)                                                         \
            for (size_t i = 0; i < count / 4; i += 2 * isa##_lanes)                                          \
                for (int k = 0; k < 8; ++k)                                                                  \
                    sums[k] += *(const isa##_vector *)(x + k / 2 * (count / 4) + i + k % 2 * isa##_lanes);   \
        for (int k = 1; k < 8; ++k) sums[0] += sums[k];                                                      \
        float sum = 0;                                                                                       \
        for (int lane = 0; lane < isa##_lanes; ++lane) sum += sums[0][lane];                                 \
        return sum;                                                                                          \
    }                                                                                                        \
                                                                                                             \
    attribute static void isa##_read_write(                                                                  \
        const float *x, float *y, size_t count, size_t passes, bool streaming) {                             \
        for (size_t pass = 0; pass < passes; ++pass) {                                                       \
            if (streaming)                                                                                   \
                for (size_t i = 0; i < count; i += isa##_lanes)                                              \
                    __builtin_nontemporal_store(-*(const isa##_vector *)(x + i), (isa##_vector *)(y + i));   \
            else                                                                                             \
                for (size_t i = 0; i < count; i += isa##_lanes)                                              \
                    *(isa##_vector *)(y + i) = -*(const isa##_vector *)(x + i);                              \
            /* Every pass writes the same; the compiler must not know. */                                    \
            __asm__ volatile("" ::: "memory");                                                               \
        }                                                                                                    \
    }                                                                                                        \
                                                                                                             \
    static const machine_ceilings_loops isa##_loops = {                                                      \
        .flops_per_round = 2 * CHAINS * isa##_lanes,                                                         \
        .multiply_add = isa##_multiply_add,                                                                  \
        .read = isa##_read,                                                                                  \
        .read_write = isa##_read_write,                                                                      \
    };

DEFINE(baseline, , 16)
#if defined(__x86_64__)
DEFINE(avx2, __attribute__((target("avx2,fma"))), 32)
DEFINE(avx512, __attribute__((target("avx512f,avx512vl,avx2,fma"))), 64)
#endif

const machine_ceilings_loops *machine_ceilings_loops_for(const char *instruction_set) {
    if (strcmp(instruction_set, "baseline") == 0) return &baseline_loops;
#if defined(__x86_64__)
    if (strcmp(instruction_set, "avx2") == 0) return &avx2_loops;
    // The tiles of AMX multiply bfloat16: the peak of float32 is that of AVX-512.
    if (strcmp(instruction_set, "avx512") == 0 || strcmp(instruction_set, "amx") == 0) return &avx512_loops;
#endif
    return NULL;
}
