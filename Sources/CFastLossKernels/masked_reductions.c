// Masks as numbers, and sums of selected elements, for batched masked reductions.

#include "instruction_sets.h"

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

#define DEFINE(isa)                                                                               \
    FASTLOSS_TARGET(isa)                                                                          \
    double FASTLOSS_NAME(masked_sum, isa)(const float *x, const bool *mask, size_t count) {       \
        return masked_sum(x, mask, count);                                                        \
    }                                                                                             \
    FASTLOSS_TARGET(isa)                                                                          \
    void FASTLOSS_NAME(mask_indicators, isa)(const bool *mask, size_t count, float *indicators) { \
        mask_indicators(mask, count, indicators);                                                 \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
