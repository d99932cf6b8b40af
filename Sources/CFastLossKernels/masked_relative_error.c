// Masked relative error over one chunk: |x − t| / (t + 10⁻⁶), the metric that scGPT logs beside the loss.

#include "instruction_sets.h"

FASTLOSS_BODY fastloss_partial masked_relative_error(
    const float *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count) {
    FASTLOSS_REORDER_SUMS
    double sum = 0;
    for (size_t start = 0; start < count; start += FASTLOSS_SUM_BLOCK) {
        const size_t end = count - start < FASTLOSS_SUM_BLOCK ? count : start + FASTLOSS_SUM_BLOCK;
        float block = 0;
        for (size_t i = start; i < end; ++i) {
            const float error = __builtin_fabsf(predictions[i] - targets[i]) / (targets[i] + 1e-6f);
            block += mask[i] ? error : 0;
        }
        sum += block;
    }
    return (fastloss_partial){.sum = sum, .invalid = 0};
}

#define DEFINE(isa)                                                                                  \
    FASTLOSS_TARGET(isa)                                                                             \
    fastloss_partial FASTLOSS_NAME(masked_relative_error, isa)(                                      \
        const float *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        float *gradient, fastloss_gradient_mode mode) {                                              \
        (void)scale, (void)gradient, (void)mode;                                                     \
        return masked_relative_error(predictions, targets, mask, count);                             \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
