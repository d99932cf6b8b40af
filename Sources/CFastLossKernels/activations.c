// The elementwise steps of the task heads between their products, one or more rows at a time.
//
// A gradient is formed from the output of its activation, so the forward pass keeps one array per layer:
//
//   relu        f(x) = x > 0 ? x : 0          f′ = y > 0 ? 1 : 0
//   leaky relu  f(x) = x > 0 ? x : 0.01·x     f′ = y > 0 ? 1 : 0.01
//   sigmoid     f(x) = 1 / (1 + exp(−x))      f′ = y·(1 − y)
//
// NaN propagates. At 0 the derivative is the one from below, as in PyTorch.

#include "exponential.h"

/// PyTorch's default slope.
#define FASTLOSS_LEAKY_SLOPE 0.01f

FASTLOSS_BODY float sigmoid(float x) {
    const float decay = fastloss_exp_nonpositive(x < 0 ? x : -x, 0, 0);
    return (x < 0 ? decay : 1.0f) / (1.0f + decay);
}

FASTLOSS_BODY float activated(float x, fastloss_activation activation) {
    switch (activation) {
    case FASTLOSS_RELU: return x <= 0 ? 0 : x;
    case FASTLOSS_LEAKY_RELU: return x > 0 ? x : FASTLOSS_LEAKY_SLOPE * x;
    case FASTLOSS_SIGMOID: return sigmoid(x);
    default: return x;
    }
}

FASTLOSS_BODY float with_slope(float gradient, float output, fastloss_activation activation) {
    switch (activation) {
    case FASTLOSS_RELU: return output <= 0 ? 0 : gradient;
    case FASTLOSS_LEAKY_RELU: return output > 0 ? gradient : FASTLOSS_LEAKY_SLOPE * gradient;
    case FASTLOSS_SIGMOID: return gradient * (output * (1 - output));
    default: return gradient;
    }
}

FASTLOSS_BODY void activate(
    float *values, const float *restrict bias, size_t count, fastloss_activation activation) {
    if (bias == NULL)
        for (size_t i = 0; i < count; ++i) values[i] = activated(values[i], activation);
    else
        for (size_t i = 0; i < count; ++i) values[i] = activated(values[i] + bias[i], activation);
}

FASTLOSS_BODY void activation_gradient(
    float *restrict gradients, const float *restrict outputs, size_t count, fastloss_activation activation) {
    for (size_t i = 0; i < count; ++i) gradients[i] = with_slope(gradients[i], outputs[i], activation);
}

FASTLOSS_BODY void output_row_gradient(
    float *restrict outputs, size_t rows, size_t width, size_t stride, const float *restrict weights,
    const float *restrict row_gradients, fastloss_activation activation, float *restrict weight_gradient) {
    for (size_t i = 0; i < width; ++i) weight_gradient[i] = 0;
    for (size_t row = 0; row < rows; ++row, outputs += stride) {
        const float gradient = row_gradients[row];
        for (size_t i = 0; i < width; ++i) {
            const float output = outputs[i];
            weight_gradient[i] += gradient * output;
            outputs[i] = with_slope(gradient * weights[i], output, activation);
        }
    }
}

FASTLOSS_BODY void add_rows(
    const float *restrict rows, size_t count, size_t width, size_t stride, double *restrict sums) {
    for (size_t row = 0; row < count; ++row, rows += stride)
        for (size_t i = 0; i < width; ++i) sums[i] += rows[i];
}

/// Chooses the activation outside the loop, as FASTLOSS_SPECIALISE_MODE does the mode.
#define SPECIALISE(activation, CALL)                            \
    switch (activation) {                                       \
    case FASTLOSS_RELU: return CALL(FASTLOSS_RELU);             \
    case FASTLOSS_LEAKY_RELU: return CALL(FASTLOSS_LEAKY_RELU); \
    case FASTLOSS_SIGMOID: return CALL(FASTLOSS_SIGMOID);       \
    default: return CALL(FASTLOSS_IDENTITY);                    \
    }

#define ACTIVATE(activation) activate(values, bias, count, activation)
#define ACTIVATION_GRADIENT(activation) activation_gradient(gradients, outputs, count, activation)
#define OUTPUT_ROW_GRADIENT(activation)                                                                    \
    output_row_gradient(outputs, rows, width, stride, weights, row_gradients, activation, weight_gradient)
#define DEFINE(isa)                                                                                  \
    FASTLOSS_TARGET(isa)                                                                             \
    void FASTLOSS_NAME(activate, isa)(                                                               \
        float *values, const float *bias, size_t count,                                              \
        fastloss_activation activation){SPECIALISE(activation, ACTIVATE)} FASTLOSS_TARGET(isa) void  \
        FASTLOSS_NAME(activation_gradient, isa)(                                                     \
            float *gradients, const float *outputs, size_t count, fastloss_activation activation){   \
            SPECIALISE(activation, ACTIVATION_GRADIENT)} FASTLOSS_TARGET(isa) void                   \
            FASTLOSS_NAME(output_row_gradient, isa)(                                                 \
                float *outputs, size_t rows, size_t width, size_t stride, const float *weights,      \
                const float *row_gradients, fastloss_activation activation, float *weight_gradient){ \
                SPECIALISE(activation, OUTPUT_ROW_GRADIENT)} FASTLOSS_TARGET(isa) void               \
                FASTLOSS_NAME(add_rows, isa)(                                                        \
                    const float *rows, size_t count, size_t width, size_t stride, double *sums) {    \
        add_rows(rows, count, width, stride, sums);                                                  \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
