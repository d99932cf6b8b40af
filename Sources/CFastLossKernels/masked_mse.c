// Masked mean squared error over one chunk.
//
//   element   (x − t)²
//   gradient  scale · 2(x − t)
//
// The difference is selected, not multiplied, by the mask: NaN outside the mask is dropped before it is squared.

#include "instruction_sets.h"

FASTLOSS_BODY fastloss_partial masked_mse(
    const float *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count,
    float scale, float *restrict gradient, fastloss_gradient_mode mode) {
    FASTLOSS_REORDER_SUMS
    const float gradient_factor = 2 * scale;
    double sum = 0;
    for (size_t start = 0; start < count; start += FASTLOSS_SUM_BLOCK) {
        const size_t end = count - start < FASTLOSS_SUM_BLOCK ? count : start + FASTLOSS_SUM_BLOCK;
        float block = 0;
        for (size_t i = start; i < end; ++i) {
            const float difference = mask[i] ? predictions[i] - targets[i] : 0;
            block += difference * difference;
            fastloss_write_gradient(&gradient[i], gradient_factor * difference, mode);
        }
        sum += block;
    }
    return (fastloss_partial){.sum = sum, .invalid = 0};
}

#define CALL(mode) masked_mse(predictions, targets, mask, count, scale, gradient, mode)
#define DEFINE(isa)                                                                                      \
    FASTLOSS_TARGET(isa)                                                                                 \
    fastloss_partial FASTLOSS_NAME(masked_mse, isa)(                                                     \
        const float *predictions, const float *targets, const bool *mask, size_t count, float scale,     \
        float *gradient, fastloss_gradient_mode mode) {                                                  \
        FASTLOSS_SPECIALISE_MODE(mode, CALL)                                                             \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
