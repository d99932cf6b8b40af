// Cross-entropy of one row of logits z against one label, at temperature τ: CLS and DAB (τ = 1), and each row of CCE.
//
//   value     log Σⱼ exp((zⱼ − z_label)/τ) = (max − z_label)/τ + log1p(rest + (e_label − 1))
//             with eⱼ = exp((zⱼ − max)/τ) and rest = Σ eⱼ over j ≠ label
//   gradient  scale·softmaxⱼ for j ≠ label, and −scale·rest/Z for the label
//
// The label's term is kept out of the sum, so that neither the value nor the label's gradient cancels when the row is
// already right (rest ≪ 1), which is where training ends up. zⱼ − max is carried with its rounding error: for logits of
// mixed sign it would otherwise cost several bits of a small probability.
// Infinite and NaN logits follow IEEE: −Inf is a class with probability 0, +Inf or NaN make the row NaN.

#include "exponential.h"
#include "instruction_sets.h"

#include <math.h>

/// The largest logit. NaN is passed over: it comes back through the sum.
FASTLOSS_BODY float largest(const float *logits, size_t classes) {
    float lanes[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) lanes[lane] = logits[0];
    size_t i = 0;
    for (; classes - i >= FASTLOSS_LANES; i += FASTLOSS_LANES)
        for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
            const float z = logits[i + lane];
            lanes[lane] = z > lanes[lane] ? z : lanes[lane];
        }
    float result = lanes[0];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) result = lanes[lane] > result ? lanes[lane] : result;
    for (; i < classes; ++i) result = logits[i] > result ? logits[i] : result;
    return result;
}

/// exp((z − max)·inverse_temperature), with z − max to twice the precision (Knuth's two-sum).
FASTLOSS_BODY float exponential(float z, float max, float inverse_temperature) {
    const float difference = z - max;
    const float shadow = difference - z;
    const float error = (z - (difference - shadow)) - (max + shadow);
    return fastloss_exp_nonpositive(difference * inverse_temperature, error * inverse_temperature);
}

/// The exponentials of a row: that of the label, and the sum of all others.
typedef struct {
    double label;
    double rest;
} exponentials;

/// `store` writes each term, unscaled, to `terms`, which may be `logits`; the label's is written as 0.
FASTLOSS_BODY exponentials exponentials_of_row(
    const float *logits, size_t classes, size_t label, float max, float inverse_temperature, bool store, float *terms) {
    double totals[FASTLOSS_LANES] = {0};
    double label_term = 0;
    for (size_t start = 0; start < classes; start += FASTLOSS_SUM_BLOCK) {
        const size_t size = classes - start < FASTLOSS_SUM_BLOCK ? classes - start : FASTLOSS_SUM_BLOCK;
        // Whole vectors, filled up with a class of probability 0: a row of ten cell types has no scalar remainder.
        const size_t padded = (size + FASTLOSS_LANES - 1) / FASTLOSS_LANES * FASTLOSS_LANES;
        FASTLOSS_TERMS(block);
        for (size_t k = 0; k < padded; ++k) {
            const float z = k < size ? logits[start + k] : -INFINITY;
            block[k] = exponential(z, max, inverse_temperature);
        }
        if (label - start < size) {
            label_term = block[label - start];
            block[label - start] = 0;
        }
        if (store)
            for (size_t k = 0; k < size; ++k) terms[start + k] = block[k];
        fastloss_add_block(totals, block, padded);
    }
    return (exponentials){.label = label_term, .rest = fastloss_sum_lanes(totals)};
}

FASTLOSS_BODY double softmax_cross_entropy(
    const float *logits, size_t classes, size_t label, float inverse_temperature, float scale, float *gradient,
    fastloss_gradient_mode mode) {
    const bool store = mode == FASTLOSS_GRADIENT_OVERWRITE;
    const float max = largest(logits, classes);
    // Read before the terms are stored, as `gradient` may be `logits`.
    const float label_logit = logits[label];
    const exponentials e = exponentials_of_row(logits, classes, label, max, inverse_temperature, store, gradient);
    const double normaliser = e.rest + e.label;

    if (mode != FASTLOSS_GRADIENT_NONE) {
        const float factor = (float)(scale / normaliser);
        const float label_gradient = (float)(-(double)scale * e.rest / normaliser);
        if (mode == FASTLOSS_GRADIENT_OVERWRITE) {
            for (size_t i = 0; i < classes; ++i) gradient[i] *= factor;
            gradient[label] = label_gradient;
        } else {
            // The label's sum is set aside, because the loop is free to pass over it.
            const float label_sum = gradient[label] + label_gradient;
            for (size_t i = 0; i < classes; ++i)
                gradient[i] += factor * exponential(logits[i], max, inverse_temperature);
            gradient[label] = label_sum;
        }
    }
    return ((double)max - label_logit) * inverse_temperature + log1p(e.rest + (e.label - 1));
}

#define CALL(mode) softmax_cross_entropy(logits, classes, label, inverse_temperature, scale, gradient, mode)
#define DEFINE(isa)                                                                                        \
    FASTLOSS_TARGET(isa)                                                                                   \
    double FASTLOSS_NAME(softmax_cross_entropy, isa)(                                                      \
        const float *logits, size_t classes, size_t label, float inverse_temperature, float scale,         \
        float *gradient, fastloss_gradient_mode mode) {                                                    \
        FASTLOSS_SPECIALISE_MODE(mode, CALL)                                                               \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
