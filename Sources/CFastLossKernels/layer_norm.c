// Layer normalisation of one row, and its gradient.
//
//   μ = Σ x/D      s² = Σ (x − μ)²/D      n = (x − μ)/√(s² + ε)      y = w·n + b      ε = 10⁻⁵
//   dn = w·dy      dx = (dn − Σ dn/D − n·Σ dn·n/D)/√(s² + ε)      dw += dy·n      db += dy
//
// Sums run in double. The gradient reads n, which the forward pass keeps beside 1/√(s² + ε).

#include "instruction_sets.h"

#include <math.h>

#define FASTLOSS_LAYER_NORM_EPSILON 1e-5

FASTLOSS_BODY float layer_norm(
    const float *x, size_t count, const float *restrict weight, const float *restrict bias,
    float *restrict normalised, float *restrict y) {
    FASTLOSS_REORDER_SUMS
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; ++i) sum += x[i];
    const double mean = sum / (double)count;
    for (size_t i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1 / sqrt(squares / (double)count + FASTLOSS_LAYER_NORM_EPSILON);
    for (size_t i = 0; i < count; ++i) {
        const float n = (float)((x[i] - mean) * inverse);
        normalised[i] = n;
        y[i] = weight[i] * n + bias[i];
    }
    return (float)inverse;
}

FASTLOSS_BODY void layer_norm_gradient(
    const float *restrict dy, const float *restrict normalised, size_t count, float inverse,
    const float *restrict weight, double *restrict weight_sums, double *restrict bias_sums,
    float *restrict dx) {
    FASTLOSS_REORDER_SUMS
    double sum = 0, projection = 0;
    for (size_t i = 0; i < count; ++i) {
        const double dn = (double)weight[i] * dy[i];
        sum += dn;
        projection += dn * normalised[i];
    }
    sum /= (double)count;
    projection /= (double)count;
    for (size_t i = 0; i < count; ++i) {
        weight_sums[i] += (double)dy[i] * normalised[i];
        bias_sums[i] += dy[i];
        const double dn = (double)weight[i] * dy[i];
        dx[i] = (float)((dn - sum - normalised[i] * projection) * inverse);
    }
}

#define DEFINE(isa)                                                                                          \
    FASTLOSS_TARGET(isa)                                                                                     \
    float FASTLOSS_NAME(layer_norm, isa)(                                                                    \
        const float *x, size_t count, const float *weight, const float *bias, float *normalised, float *y) { \
        return layer_norm(x, count, weight, bias, normalised, y);                                            \
    }                                                                                                        \
    FASTLOSS_TARGET(isa)                                                                                     \
    void FASTLOSS_NAME(layer_norm_gradient, isa)(                                                            \
        const float *dy, const float *normalised, size_t count, float inverse, const float *weight,          \
        double *weight_sums, double *bias_sums, float *dx) {                                                 \
        layer_norm_gradient(dy, normalised, count, inverse, weight, weight_sums, bias_sums, dx);             \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
