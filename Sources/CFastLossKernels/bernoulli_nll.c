// Bernoulli negative log-likelihood of z = (t > 0) over one chunk, from a probability p. For logits see
// bernoulli_nll_logits.c.
//
//   s = z ? p : 1 − p
//   element   −log clamp(s, ε, 1 − ε), ε = 2⁻²³
//   gradient  scale/((1 − z) − p) for ε ≤ p ≤ 1 − ε, and 0 outside
//
// One logarithm serves the whole chunk (log_product.h). An element outside the mask is a factor of 1. The
// values may be anything: a selected p that is NaN or outside [0, 1] is counted and not used.

#include "instruction_sets.h"
#include "log_product.h"

/// One round: FASTLOSS_LANES elements, whose factors go into the product's lanes.
typedef struct {
    fastloss_log_product product;
    unsigned invalid[FASTLOSS_LANES];  ///< 1 where a selected probability is outside [0, 1]
} lanes;

FASTLOSS_BODY void visit_round(
    lanes *restrict state, const float *restrict predictions, const float *restrict targets,
    const bool *restrict mask, float scale, float *restrict gradient, fastloss_write_mode mode) {
    const float epsilon = 0x1p-23f;
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        const float p = predictions[lane];
        const bool selected = mask[lane];
        const float complement = targets[lane] > 0 ? 0 : 1;
        // This also clamps 1 − p, because 1 − (1 − ε) is exactly ε. The comparisons turn NaN into ε.
        float clamped = p > epsilon ? p : epsilon;
        clamped = clamped < 1 - epsilon ? clamped : 1 - epsilon;
        // −p̃ or 1 − p̃; the product drops the sign. In float, 1 − p̃ would lose the digits of a small p̃.
        const double factor = (double)complement - (double)clamped;
        state->product.mantissa[lane] *= selected ? factor : 1;
        state->invalid[lane] |= selected && !(p >= 0 && p <= 1);
        const float slope = scale / (complement - p);
        float *const place = fastloss_advance(gradient, lane, mode);
        fastloss_write_gradient(place, selected && clamped == p ? slope : 0, mode);
    }
}

/// A chunk in rounds of FASTLOSS_LANES elements. The last, partial round runs on copies that are padded with
/// unselected elements.
FASTLOSS_BODY fastloss_partial bernoulli_nll(
    const float *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count,
    float scale, float *restrict gradient, fastloss_write_mode mode, bool prefetches) {
    lanes state = {.invalid = {0}};
    fastloss_log_product_init(&state.product);
    size_t i = 0;
    while (count - i >= FASTLOSS_LANES) {
        const size_t left = (count - i) / FASTLOSS_LANES;
        const size_t rounds = left < FASTLOSS_LOG_ROUNDS ? left : FASTLOSS_LOG_ROUNDS;
        for (size_t round = 0; round < rounds; ++round, i += FASTLOSS_LANES) {
            float *const place = fastloss_advance(gradient, i, mode);
            if (prefetches) fastloss_prefetch_round(predictions + i, targets + i, mask + i, place, mode);
            visit_round(&state, predictions + i, targets + i, mask + i, scale, place, mode);
        }
        fastloss_log_product_normalise(&state.product);
    }
    if (i < count) {
        float p[FASTLOSS_LANES] = {0}, t[FASTLOSS_LANES] = {0}, g[FASTLOSS_LANES] = {0};
        bool m[FASTLOSS_LANES] = {0};
        for (size_t k = 0; i + k < count; ++k) {
            p[k] = predictions[i + k];
            t[k] = targets[i + k];
            m[k] = mask[i + k];
            if (mode == FASTLOSS_ACCUMULATE) g[k] = gradient[i + k];
        }
        visit_round(&state, p, t, m, scale, g, mode);
        fastloss_log_product_normalise(&state.product);
        if (mode != FASTLOSS_NO_OUTPUT)
            for (size_t k = 0; i + k < count; ++k) gradient[i + k] = g[k];
    }
    size_t invalid = 0;
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) invalid += state.invalid[lane];
    return (fastloss_partial){.sum = 0 - fastloss_log_product_log(&state.product), .invalid = invalid};
}

#define CALL(mode) bernoulli_nll(predictions, targets, mask, count, scale, gradient, mode, prefetches)
#define DEFINE(isa)                                                                                  \
    FASTLOSS_TARGET(isa)                                                                             \
    fastloss_partial FASTLOSS_NAME(bernoulli_nll, isa)(                                              \
        const float *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        float *gradient, fastloss_write_mode mode, bool prefetches) {                                \
        FASTLOSS_SPECIALISE_MODE(mode, CALL)                                                         \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
