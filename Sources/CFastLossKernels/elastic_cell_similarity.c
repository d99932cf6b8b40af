// The epilogue of elastic cell similarity on a block of S = N·Nᵀ.
//
//   c = relu(s);  value Σ (c − β)²;  s ← s > 0 ? s − β : 0, half the derivative
//
// The block is replaced in place by the factors of the gradient of N. The caller zeroes the diagonal first:
// an element of 0 adds β² and has no gradient, as the loss defines it. The comparisons keep NaN.

#include "instruction_sets.h"

FASTLOSS_BODY double elastic_cell_similarity(
    float *similarities, size_t rows, size_t columns, size_t stride, float threshold,
    fastloss_write_mode mode) {
    double totals[FASTLOSS_LANES] = {0};
    for (size_t row = 0; row < rows; ++row, similarities += stride) {
        for (size_t start = 0; start < columns; start += FASTLOSS_SUM_BLOCK) {
            const size_t size = columns - start < FASTLOSS_SUM_BLOCK ? columns - start : FASTLOSS_SUM_BLOCK;
            FASTLOSS_TERMS(squares);
            for (size_t k = 0; k < size; ++k) {
                const float s = similarities[start + k];
                const bool inactive = s <= 0;
                const float distance = (inactive ? 0 : s) - threshold;
                squares[k] = distance * distance;
                fastloss_write_gradient(&similarities[start + k], inactive ? 0 : distance, mode);
            }
            fastloss_add_block(totals, squares, size);
        }
    }
    return fastloss_sum_lanes(totals);
}

#define CALL(mode) elastic_cell_similarity(similarities, rows, columns, stride, threshold, mode)
#define DEFINE(isa)                                                                              \
    FASTLOSS_TARGET(isa)                                                                         \
    double FASTLOSS_NAME(elastic_cell_similarity, isa)(                                          \
        float *similarities, size_t rows, size_t columns, size_t stride, float threshold,        \
        fastloss_write_mode mode) {                                                              \
        return mode == FASTLOSS_NO_OUTPUT ? CALL(FASTLOSS_NO_OUTPUT) : CALL(FASTLOSS_OVERWRITE); \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
