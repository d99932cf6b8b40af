// One weighting of the token states h of one cell, L × D, and its gradient.
//
//   value     u_d = factor · Σₗ vₗ h_ld
//   gradient  dh_ld = vₗ du_d
//
// Memory limits both. The states are read once, row after row, as one stream. The gradient is written once,
// as one stream, from L + D numbers.

#include "instruction_sets.h"

#include <stdatomic.h>
#include <stdint.h>

/// Columns that are summed at the same time: their 4 KiB of doubles stay in the first-level cache while the
/// states stream through it.
enum { STRIP = 512 };

FASTLOSS_BODY void weighted_row_sum(
    const float *rows, size_t count, size_t width, const float *weights, double factor,
    float *restrict sums) {
    for (size_t start = 0; start < width; start += STRIP) {
        const size_t strip = width - start < STRIP ? width - start : STRIP;
        double strip_sums[STRIP] = {0};
        for (size_t row = 0; row < count; ++row) {
            const float *x = rows + row * width + start;
            if (weights) {
                // Products of two floats are exact in double.
                const double weight = weights[row];
                for (size_t d = 0; d < strip; ++d) strip_sums[d] += weight * x[d];
            } else {
                for (size_t d = 0; d < strip; ++d) strip_sums[d] += x[d];
            }
        }
        for (size_t d = 0; d < strip; ++d) sums[start + d] = (float)(factor * strip_sums[d]);
    }
}

/// y = weight·x. The stores bypass the caches, so that the lines of y are not read before they are written.
FASTLOSS_BODY void stream_scaled(const float *restrict x, size_t count, float weight, float *restrict y) {
    size_t i = 0;
#if defined(__clang__)
    // Streaming stores write whole, aligned cache lines. The ends of a row are stored the ordinary way.
    typedef float line __attribute__((vector_size(64), may_alias));
    typedef float unaligned_line __attribute__((vector_size(64), aligned(4), may_alias));
    enum { LINE = sizeof(line) / sizeof(float) };
    for (; i < count && (uintptr_t)(y + i) % sizeof(line) != 0; ++i) y[i] = weight * x[i];
    for (; count - i >= LINE; i += LINE)
        __builtin_nontemporal_store(weight * *(const unaligned_line *)(x + i), (line *)(y + i));
#endif
    for (; i < count; ++i) y[i] = weight * x[i];
}

FASTLOSS_BODY void weighted_row_sum_gradient(
    const float *restrict x, size_t width, const float *weights, size_t count, float *restrict gradient,
    fastloss_write_mode mode, bool streaming) {
    for (size_t row = 0; row < count; ++row) {
        const float weight = weights ? weights[row] : 1;
        float *y = gradient + row * width;
        if (streaming) {
            stream_scaled(x, width, weight, y);
        } else {
            for (size_t d = 0; d < width; ++d) fastloss_write_gradient(&y[d], weight * x[d], mode);
        }
    }
    // Streaming stores are weakly ordered. The fence makes them visible before the task is reported as done.
    if (streaming) atomic_thread_fence(memory_order_seq_cst);
}

#define GRADIENT(mode, streaming)                                                  \
    weighted_row_sum_gradient(x, width, weights, count, gradient, mode, streaming)
#define DEFINE(isa)                                                                                        \
    FASTLOSS_TARGET(isa)                                                                                   \
    void FASTLOSS_NAME(weighted_row_sum, isa)(                                                             \
        const float *rows, size_t count, size_t width, const float *weights, double factor, float *sums) { \
        weighted_row_sum(rows, count, width, weights, factor, sums);                                       \
    }                                                                                                      \
    FASTLOSS_TARGET(isa)                                                                                   \
    void FASTLOSS_NAME(weighted_row_sum_gradient, isa)(                                                    \
        const float *x, size_t width, const float *weights, size_t count, float *gradient,                 \
        fastloss_write_mode mode, bool streaming) {                                                        \
        if (mode == FASTLOSS_OVERWRITE && streaming) GRADIENT(FASTLOSS_OVERWRITE, true);                   \
        if (mode == FASTLOSS_OVERWRITE && !streaming) GRADIENT(FASTLOSS_OVERWRITE, false);                 \
        if (mode == FASTLOSS_ACCUMULATE) GRADIENT(FASTLOSS_ACCUMULATE, false);                             \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
