// Masked mean squared error over one chunk.
//
//   element   (x − t)²
//   gradient  scale · 2(x − t)
//
// The mask selects the difference instead of multiplying it, so NaN outside the mask has no effect.

#include "instruction_sets.h"

FASTLOSS_BODY fastloss_partial masked_mse(
    const void *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count,
    float scale, void *restrict gradient, fastloss_write_mode mode, fastloss_element element,
    bool prefetches) {
    double totals[FASTLOSS_LANES] = {0};
    for (size_t start = 0; start < count; start += FASTLOSS_SUM_BLOCK) {
        const size_t size = count - start < FASTLOSS_SUM_BLOCK ? count - start : FASTLOSS_SUM_BLOCK;
        if (prefetches)
            fastloss_prefetch_rounds(
                FASTLOSS_SUM_BLOCK, fastloss_input_at(predictions, start, element), targets + start,
                mask + start, fastloss_output_at(gradient, start, mode, element), mode, element);
        FASTLOSS_TERMS(squares);
        for (size_t k = 0; k < size; ++k) {
            // Compute it for every element: only then does the loop vectorise without masked loads.
            const float anywhere = fastloss_load(predictions, start + k, element) - targets[start + k];
            const float difference = mask[start + k] ? anywhere : 0;
            squares[k] = difference * difference;
            // Select again: with a scale near the largest float, 2·scale·0 would be NaN.
            const float slope = 2 * scale * difference;
            fastloss_write_element(gradient, start + k, mask[start + k] ? slope : 0, mode, element);
        }
        fastloss_add_block(totals, squares, size);
    }
    return (fastloss_partial){.sum = fastloss_sum_lanes(totals), .invalid = 0};
}

#define CALL(mode, element)                                                                   \
    masked_mse(predictions, targets, mask, count, scale, gradient, mode, element, prefetches)
#define DEFINE(isa)                                                                                 \
    FASTLOSS_TARGET(isa)                                                                            \
    fastloss_partial FASTLOSS_NAME(masked_mse, isa)(                                                \
        const void *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        void *gradient, fastloss_write_mode mode, fastloss_element element, bool prefetches) {      \
        FASTLOSS_SPECIALISE_ELEMENT(mode, element, isa, CALL)                                       \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
