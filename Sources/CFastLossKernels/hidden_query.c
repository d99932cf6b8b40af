// The hidden layer of a decoder that adds a part of the cell and a part of the gene, for one token.
//
//   x = c + g      h = x > 0 ? x : a·x      y = Σ w·h
//   dw += dy·h     dx = dy·w·(x > 0 ? 1 : a)      da += Σ over x ≤ 0 of dy·w·x
//
// c and g are the products of the layer's matrix with the cell embedding and the query, bias included.

#include "instruction_sets.h"

FASTLOSS_BODY double hidden_query(
    const float *restrict cell, const float *restrict gene, const float *restrict weights, size_t count,
    float slope) {
    FASTLOSS_REORDER_SUMS
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
        const float x = cell[i] + gene[i];
        sum += (double)weights[i] * (x > 0 ? x : slope * x);
    }
    return sum;
}

FASTLOSS_BODY double hidden_query_gradient(
    const float *restrict cell, const float *restrict gene, const float *restrict weights, size_t count,
    float slope, float gradient, double *restrict sums, double *restrict weight_sums) {
    FASTLOSS_REORDER_SUMS
    double slope_sum = 0;
    for (size_t i = 0; i < count; ++i) {
        const float x = cell[i] + gene[i];
        const float through = gradient * weights[i];
        sums[i] += x > 0 ? through : slope * through;
        if (weight_sums != NULL) weight_sums[i] += (double)gradient * (x > 0 ? x : slope * x);
        slope_sum += x > 0 ? 0 : (double)through * x;
    }
    return slope_sum;
}

#define DEFINE(isa)                                                                                   \
    FASTLOSS_TARGET(isa)                                                                              \
    double FASTLOSS_NAME(hidden_query, isa)(                                                          \
        const float *cell, const float *gene, const float *weights, size_t count, float slope) {      \
        return hidden_query(cell, gene, weights, count, slope);                                       \
    }                                                                                                 \
    FASTLOSS_TARGET(isa)                                                                              \
    double FASTLOSS_NAME(hidden_query_gradient, isa)(                                                 \
        const float *cell, const float *gene, const float *weights, size_t count, float slope,        \
        float gradient, double *sums, double *weight_sums) {                                          \
        if (weight_sums == NULL)                                                                      \
            return hidden_query_gradient(cell, gene, weights, count, slope, gradient, sums, NULL);    \
        return hidden_query_gradient(cell, gene, weights, count, slope, gradient, sums, weight_sums); \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
