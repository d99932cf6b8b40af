// Masked relative error over one chunk: |x − t| / (t + 10⁻⁶), a metric that scGPT logs with the loss.

#include "instruction_sets.h"

FASTLOSS_BODY fastloss_partial masked_relative_error(
    const float *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count,
    bool prefetches) {
    double totals[FASTLOSS_LANES] = {0};
    for (size_t start = 0; start < count; start += FASTLOSS_SUM_BLOCK) {
        const size_t size = count - start < FASTLOSS_SUM_BLOCK ? count - start : FASTLOSS_SUM_BLOCK;
        if (prefetches)
            fastloss_prefetch_block(
                predictions + start, targets + start, mask + start, NULL, FASTLOSS_NO_OUTPUT);
        FASTLOSS_TERMS(errors);
        for (size_t k = 0; k < size; ++k) {
            const float x = predictions[start + k], t = targets[start + k];
            const float error = __builtin_fabsf(x - t) / (t + 1e-6f);
            errors[k] = mask[start + k] ? error : 0;
        }
        fastloss_add_block(totals, errors, size);
    }
    return (fastloss_partial){.sum = fastloss_sum_lanes(totals), .invalid = 0};
}

#define DEFINE(isa)                                                                                  \
    FASTLOSS_TARGET(isa)                                                                             \
    fastloss_partial FASTLOSS_NAME(masked_relative_error, isa)(                                      \
        const float *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        float *gradient, fastloss_write_mode mode, bool prefetches) {                                \
        (void)scale, (void)gradient, (void)mode;                                                     \
        return masked_relative_error(predictions, targets, mask, count, prefetches);                 \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
