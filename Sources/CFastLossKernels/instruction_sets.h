// Macros that compile one plain C function once per instruction set, and what the kernels share.
//
// A kernel file writes its loop once, as an inline function, and instantiates it with FASTLOSS_FOR_EACH_ISA.
// The compiler inlines the body into one exported function per instruction set and vectorises it there under
// that function's `target` attribute. This needs no compiler flags, so any package may depend on this one.

#ifndef FASTLOSS_INSTRUCTION_SETS_H
#define FASTLOSS_INSTRUCTION_SETS_H

#include "elements.h"
#include "fastloss_kernels.h"

/// The first statement of a block whose sums may be reordered and whose products may be fused, so that its
/// plain loop vectorises. Not for code whose accuracy depends on the order of operations (see exponential.h).
#if defined(__clang__)
#define FASTLOSS_REORDER_SUMS _Pragma("clang fp reassociate(on) contract(fast)")
#else
#define FASTLOSS_REORDER_SUMS
#endif

/// Before a loop whose output may be one of its inputs, each element with itself. Without it, the compiler
/// tests whether the memory overlaps, and takes a scalar loop if it does.
#if defined(__clang__)
#define FASTLOSS_MAY_BE_IN_PLACE _Pragma("clang loop vectorize(assume_safety)")
#else
#define FASTLOSS_MAY_BE_IN_PLACE
#endif

#if defined(__x86_64__)
#define FASTLOSS_TARGET_avx2 __attribute__((target("avx2,fma,f16c")))
#define FASTLOSS_TARGET_avx512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define FASTLOSS_TARGET_baseline
#define FASTLOSS_FOR_EACH_ISA(DEFINE) DEFINE(baseline) DEFINE(avx2) DEFINE(avx512)
#else
#define FASTLOSS_TARGET_baseline
#define FASTLOSS_FOR_EACH_ISA(DEFINE) DEFINE(baseline)
#endif

/// The name of a kernel's function for one instruction set, with its attribute.
#define FASTLOSS_TARGET(isa) FASTLOSS_TARGET_##isa
#define FASTLOSS_NAME(kernel, isa) fastloss_##kernel##_##isa

/// Every kernel of the table. Prototypes and tables are made from this list.
#define FASTLOSS_FOR_EACH_KERNEL(DO, isa) \
    DO(count_selected, isa)               \
    DO(masked_mse, isa)                   \
    DO(bernoulli_nll, isa)                \
    DO(bernoulli_nll_logits, isa)         \
    DO(masked_relative_error, isa)        \
    DO(softmax_cross_entropy, isa)        \
    DO(softmax_cross_entropy_rows, isa)   \
    DO(sum_of_squares, isa)               \
    DO(dot, isa)                          \
    DO(scale, isa)                        \
    DO(project_out, isa)                  \
    DO(elastic_cell_similarity, isa)      \
    DO(transpose, isa)                    \
    DO(copy_rows, isa)                    \
    DO(subtract_row, isa)                 \
    DO(masked_sum, isa)                   \
    DO(mask_indicators, isa)              \
    DO(transposed_mask_indicators, isa)   \
    DO(weighted_row_sum, isa)             \
    DO(weighted_row_sum_gradient, isa)    \
    DO(activate, isa)                     \
    DO(activation_gradient, isa)          \
    DO(output_row_gradient, isa)          \
    DO(add_rows, isa)                     \
    DO(hidden_query, isa)                 \
    DO(hidden_query_gradient, isa)        \
    DO(layer_norm, isa)                   \
    DO(layer_norm_gradient, isa)          \
    DO(widen, isa)                        \
    DO(narrow, isa)                       \
    DO(fill, isa)

/// Prototypes, derived from the types of the table's members. A definition that disagrees with the table does
/// not compile.
#define FASTLOSS_DECLARE(kernel, isa)                                               \
    extern __typeof__(*((fastloss_kernels *)0)->kernel) FASTLOSS_NAME(kernel, isa);
#define FASTLOSS_DECLARE_ALL(isa) FASTLOSS_FOR_EACH_KERNEL(FASTLOSS_DECLARE, isa)
FASTLOSS_FOR_EACH_ISA(FASTLOSS_DECLARE_ALL)

/// Chooses the write mode outside the loop. `CALL(mode)` is expanded with a constant, so that each loop is
/// specialised.
#define FASTLOSS_SPECIALISE_MODE(mode, CALL)                    \
    switch (mode) {                                             \
    case FASTLOSS_OVERWRITE: return CALL(FASTLOSS_OVERWRITE);   \
    case FASTLOSS_ACCUMULATE: return CALL(FASTLOSS_ACCUMULATE); \
    default: return CALL(FASTLOSS_NO_OUTPUT);                   \
    }

/// Chooses write mode and element type outside the loop. `CALL(mode, element)` is expanded with constants.
#define FASTLOSS_SPECIALISE_ELEMENT(mode, element, isa, CALL)                                \
    switch (element) {                                                                       \
    case FASTLOSS_BFLOAT16: FASTLOSS_SPECIALISE_OUTPUT(mode, FASTLOSS_BFLOAT16, CALL)        \
    case FASTLOSS_FLOAT16: FASTLOSS_SPECIALISE_OUTPUT(mode, FASTLOSS_FLOAT16_OF_##isa, CALL) \
    default: FASTLOSS_SPECIALISE_OUTPUT(mode, FASTLOSS_FLOAT32, CALL)                        \
    }
#define FASTLOSS_SPECIALISE_OUTPUT(mode, element, CALL)                  \
    switch (mode) {                                                      \
    case FASTLOSS_OVERWRITE: return CALL(FASTLOSS_OVERWRITE, element);   \
    case FASTLOSS_ACCUMULATE: return CALL(FASTLOSS_ACCUMULATE, element); \
    default: return CALL(FASTLOSS_NO_OUTPUT, element);                   \
    }

/// Writes one float of an output. `mode` is a constant after inlining.
FASTLOSS_BODY void fastloss_write_gradient(float *element, float value, fastloss_write_mode mode) {
    if (mode == FASTLOSS_OVERWRITE) *element = value;
    if (mode == FASTLOSS_ACCUMULATE) *element += value;
}

/// The sizes of a kernel's sums. A kernel writes the terms of a block to a buffer. The buffer is added up
/// pairwise in FASTLOSS_LANES float lanes, and the lanes are added up in double.
///
/// Eight terms of a lane cost three roundings. So even equal terms, whose roundings all go one way, stay
/// within 4 ulp. There are as many lanes as the widest vector holds floats, the same for every instruction
/// set and optimisation level. The loop that makes the terms contains no sum and vectorises as it stands. The
/// buffer stays in the first-level cache.
enum { FASTLOSS_LANES = 16, FASTLOSS_SUM_BLOCK = 8 * FASTLOSS_LANES };

/// An address for prefetching alone. It is never read and need not lie in any object. (Computed with integers
/// it would be free of undefined behaviour, but BernoulliNLL with AVX2 would take 10 % more instructions. So
/// the sanitizer is told to let it pass.) The bytes wrap around for an address before the pointer.
#if defined(__clang__)
__attribute__((no_sanitize("pointer-overflow")))
#endif
FASTLOSS_BODY const void *fastloss_beyond(const void *pointer, size_t bytes) {
    return (const char *)pointer + bytes;
}

/// The address of an input's element.
FASTLOSS_BODY const void *fastloss_input_at(const void *input, size_t index, fastloss_element element) {
    return (const char *)input + fastloss_bytes(index, element);
}

/// The address of a gradient's element. Without an output the pointer stays as it is.
FASTLOSS_BODY void *fastloss_output_at(
    void *gradient, size_t index, fastloss_write_mode mode, fastloss_element element) {
    return mode == FASTLOSS_NO_OUTPUT ? gradient : (char *)gradient + fastloss_bytes(index, element);
}

/// How far ahead elementwise masked kernels prefetch, in elements. The lines of the gradient are prefetched
/// for writing. The processor's own prefetching starts anew in every chunk and at every page, which is too
/// late for kernels that are about as fast as memory.
///
/// Nothing is read, so the addresses may lie beyond the arrays. Arrays in the second-level cache gain nothing
/// and pay for the instructions, so callers prefetch only larger ones. Measured: the article Tuning.
enum { FASTLOSS_PREFETCH_AHEAD = 1024 };

/// Prefetches one round of FASTLOSS_LANES elements.
FASTLOSS_BODY void fastloss_prefetch_round(
    const void *predictions, const float *targets, const bool *mask, void *gradient, fastloss_write_mode mode,
    fastloss_element element) {
    const size_t ahead = fastloss_bytes(FASTLOSS_PREFETCH_AHEAD, element);
    __builtin_prefetch(fastloss_beyond(predictions, ahead));
    __builtin_prefetch(fastloss_beyond(targets, FASTLOSS_PREFETCH_AHEAD * sizeof(float)));
    __builtin_prefetch(fastloss_beyond(mask, FASTLOSS_PREFETCH_AHEAD));
    if (mode != FASTLOSS_NO_OUTPUT) __builtin_prefetch(fastloss_beyond(gradient, ahead), 1);
}

/// Prefetches the rounds of `count` elements.
FASTLOSS_BODY void fastloss_prefetch_rounds(
    size_t count, const void *predictions, const float *targets, const bool *mask, void *gradient,
    fastloss_write_mode mode, fastloss_element element) {
    for (size_t k = 0; k < count; k += FASTLOSS_LANES)
        fastloss_prefetch_round(
            fastloss_input_at(predictions, k, element), targets + k, mask + k,
            fastloss_output_at(gradient, k, mode, element), mode, element);
}

/// Declares the buffer of a block's terms. It starts on a cache line, so that no vector straddles two.
#define FASTLOSS_TERMS(name) _Alignas(64) float name[FASTLOSS_SUM_BLOCK]

/// Adds `count` terms of a block to the double lanes `totals`, and clears the rest of the block.
FASTLOSS_BODY void fastloss_add_block(double *restrict totals, float *restrict terms, size_t count) {
    for (size_t k = count; k < FASTLOSS_SUM_BLOCK; ++k) terms[k] = 0;
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        const float *t = terms + lane;
        const float low = (t[0] + t[FASTLOSS_LANES]) + (t[2 * FASTLOSS_LANES] + t[3 * FASTLOSS_LANES]);
        t += FASTLOSS_SUM_BLOCK / 2;
        const float high = (t[0] + t[FASTLOSS_LANES]) + (t[2 * FASTLOSS_LANES] + t[3 * FASTLOSS_LANES]);
        totals[lane] += (double)(low + high);
    }
}

/// The sum of the double lanes, formed pairwise: a chain of four additions instead of fifteen.
FASTLOSS_BODY double fastloss_sum_lanes(const double *totals) {
    double sums[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) sums[lane] = totals[lane];
    for (int half = FASTLOSS_LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
    return sums[0];
}

#endif
