// Masks as numbers, and sums of selected elements, for batched masked reductions.

#include "instruction_sets.h"

#include <string.h>

FASTLOSS_BODY double masked_sum(const float *x, const bool *mask, size_t count) {
    FASTLOSS_REORDER_SUMS
    double sum = 0;
    for (size_t start = 0; start < count; start += FASTLOSS_SUM_BLOCK) {
        const size_t end = count - start < FASTLOSS_SUM_BLOCK ? count : start + FASTLOSS_SUM_BLOCK;
        float block = 0;
        for (size_t i = start; i < end; ++i) block += mask[i] ? x[i] : 0;
        sum += block;
    }
    return sum;
}

FASTLOSS_BODY void mask_indicators(const bool *restrict mask, size_t count, float *restrict indicators) {
    for (size_t i = 0; i < count; ++i) indicators[i] = mask[i];
}

enum { SIDE = 16 };

#if defined(__clang__)
typedef unsigned char mask_vector __attribute__((vector_size(SIDE)));
typedef float indicator_vector __attribute__((vector_size(4 * SIDE), aligned(4), may_alias));

/// Transposes a 16 × 16 block of bytes as `transpose` does floats: four rounds, each of which interleaves row
/// i with row i + 8. Writes the first `width` rows of the result as floats.
FASTLOSS_BODY void write_transposed(
    const unsigned char block[SIDE][SIDE], size_t width, float *restrict target, size_t stride) {
    mask_vector rows[SIDE], interleaved[SIDE];
    for (int i = 0; i < SIDE; ++i) memcpy(&rows[i], block[i], SIDE);
    _Pragma("clang loop unroll(full)")
    for (int round = 0; round < 4; ++round) {
        for (int i = 0; i < SIDE / 2; ++i) {
            const mask_vector a = rows[i], b = rows[i + SIDE / 2];
            interleaved[2 * i] =
                __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            interleaved[2 * i + 1] =
                __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        for (int i = 0; i < SIDE; ++i) rows[i] = interleaved[i];
    }
    for (size_t l = 0; l < width; ++l)
        *(indicator_vector *)(target + l * stride) = __builtin_convertvector(rows[l], indicator_vector);
}
#else
FASTLOSS_BODY void write_transposed(
    const unsigned char block[SIDE][SIDE], size_t width, float *restrict target, size_t stride) {
    for (size_t l = 0; l < width; ++l)
        for (size_t k = 0; k < SIDE; ++k) target[l * stride + k] = block[k][l];
}
#endif

FASTLOSS_BODY void transposed_mask_indicators(
    const bool *restrict masks, size_t count, size_t length, float *restrict target, size_t target_stride) {
    unsigned char block[SIDE][SIDE];
    for (size_t first = 0; first < target_stride; first += SIDE) {
        const size_t height = first >= count ? 0 : count - first < SIDE ? count - first : SIDE;
        memset(block, 0, sizeof block);
        for (size_t start = 0; start < length; start += SIDE) {
            const size_t width = length - start < SIDE ? length - start : SIDE;
            for (size_t k = 0; k < height; ++k) {
                const bool *const from = masks + (first + k) * length + start;
                // With a constant length this is one load and one store.
                if (width == SIDE)
                    memcpy(block[k], from, SIDE);
                else
                    memcpy(block[k], from, width);
            }
            write_transposed(block, width, target + start * target_stride + first, target_stride);
        }
    }
}

#define DEFINE(isa)                                                                               \
    FASTLOSS_TARGET(isa)                                                                          \
    double FASTLOSS_NAME(masked_sum, isa)(const float *x, const bool *mask, size_t count) {       \
        return masked_sum(x, mask, count);                                                        \
    }                                                                                             \
    FASTLOSS_TARGET(isa)                                                                          \
    void FASTLOSS_NAME(mask_indicators, isa)(const bool *mask, size_t count, float *indicators) { \
        mask_indicators(mask, count, indicators);                                                 \
    }                                                                                             \
    FASTLOSS_TARGET(isa)                                                                          \
    void FASTLOSS_NAME(transposed_mask_indicators, isa)(                                          \
        const bool *masks, size_t count, size_t length, float *target, size_t target_stride) {    \
        transposed_mask_indicators(masks, count, length, target, target_stride);                  \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
