// Masked relative error over one chunk: |x − t| / (t + 10⁻⁶), a metric that scGPT logs with the loss.

#include "instruction_sets.h"

FASTLOSS_BODY fastloss_partial masked_relative_error(
    const void *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count,
    fastloss_element element, bool prefetches) {
    double totals[FASTLOSS_LANES] = {0};
    for (size_t start = 0; start < count; start += FASTLOSS_SUM_BLOCK) {
        const size_t size = count - start < FASTLOSS_SUM_BLOCK ? count - start : FASTLOSS_SUM_BLOCK;
        if (prefetches)
            fastloss_prefetch_rounds(
                FASTLOSS_SUM_BLOCK, fastloss_input_at(predictions, start, element), targets + start,
                mask + start, NULL, FASTLOSS_NO_OUTPUT, element);
        FASTLOSS_TERMS(errors);
        for (size_t k = 0; k < size; ++k) {
            const float x = fastloss_load(predictions, start + k, element), t = targets[start + k];
            const float error = __builtin_fabsf(x - t) / (t + 1e-6f);
            errors[k] = mask[start + k] ? error : 0;
        }
        fastloss_add_block(totals, errors, size);
    }
    return (fastloss_partial){.sum = fastloss_sum_lanes(totals), .invalid = 0};
}

#define CALL(mode, element) masked_relative_error(predictions, targets, mask, count, element, prefetches)
#define DEFINE(isa)                                                                                 \
    FASTLOSS_TARGET(isa)                                                                            \
    fastloss_partial FASTLOSS_NAME(masked_relative_error, isa)(                                     \
        const void *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        void *gradient, fastloss_write_mode mode, fastloss_element element, bool prefetches) {      \
        (void)scale, (void)gradient, (void)mode;                                                    \
        FASTLOSS_SPECIALISE_ELEMENT(FASTLOSS_NO_OUTPUT, element, isa, CALL)                         \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
