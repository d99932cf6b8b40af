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
    lanes *restrict state, const void *restrict predictions, const float *restrict targets,
    const bool *restrict mask, float scale, void *restrict gradient, fastloss_write_mode mode,
    fastloss_element element) {
    const float epsilon = 0x1p-23f;
    // A loop of its own: with the conversion in the next one, clang keeps the lanes in memory.
    float probabilities[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane)
        probabilities[lane] = fastloss_load(predictions, (size_t)lane, element);
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        const float p = probabilities[lane];
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
        fastloss_write_element(gradient, (size_t)lane, selected && clamped == p ? slope : 0, mode, element);
    }
}

/// A chunk in rounds of FASTLOSS_LANES elements. The last, partial round runs on floats that are padded with
/// unselected elements.
FASTLOSS_BODY fastloss_partial bernoulli_nll(
    const void *restrict predictions, const float *restrict targets, const bool *restrict mask, size_t count,
    float scale, void *restrict gradient, fastloss_write_mode mode, fastloss_element element,
    bool prefetches) {
    lanes state = {.invalid = {0}};
    fastloss_log_product_init(&state.product);
    size_t i = 0;
    while (count - i >= FASTLOSS_LANES) {
        const size_t left = (count - i) / FASTLOSS_LANES;
        const size_t rounds = left < FASTLOSS_LOG_ROUNDS ? left : FASTLOSS_LOG_ROUNDS;
        for (size_t round = 0; round < rounds; ++round, i += FASTLOSS_LANES) {
            const void *const p = fastloss_input_at(predictions, i, element);
            void *const place = fastloss_output_at(gradient, i, mode, element);
            if (prefetches) fastloss_prefetch_round(p, targets + i, mask + i, place, mode, element);
            visit_round(&state, p, targets + i, mask + i, scale, place, mode, element);
        }
        fastloss_log_product_normalise(&state.product);
    }
    if (i < count) {
        float p[FASTLOSS_LANES] = {0}, t[FASTLOSS_LANES] = {0}, g[FASTLOSS_LANES] = {0};
        bool m[FASTLOSS_LANES] = {0};
        for (size_t k = 0; i + k < count; ++k) {
            p[k] = fastloss_load(predictions, i + k, element);
            t[k] = targets[i + k];
            m[k] = mask[i + k];
            if (mode == FASTLOSS_ACCUMULATE) g[k] = fastloss_load(gradient, i + k, element);
        }
        visit_round(&state, p, t, m, scale, g, mode, FASTLOSS_FLOAT32);
        fastloss_log_product_normalise(&state.product);
        for (size_t k = 0; i + k < count && mode != FASTLOSS_NO_OUTPUT; ++k)
            fastloss_store(gradient, i + k, g[k], element);
    }
    size_t invalid = 0;
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) invalid += state.invalid[lane];
    return (fastloss_partial){.sum = 0 - fastloss_log_product_log(&state.product), .invalid = invalid};
}

#define CALL(mode, element)                                                                      \
    bernoulli_nll(predictions, targets, mask, count, scale, gradient, mode, element, prefetches)
#define DEFINE(isa)                                                                                 \
    FASTLOSS_TARGET(isa)                                                                            \
    fastloss_partial FASTLOSS_NAME(bernoulli_nll, isa)(                                             \
        const void *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        void *gradient, fastloss_write_mode mode, fastloss_element element, bool prefetches) {      \
        FASTLOSS_SPECIALISE_ELEMENT(mode, element, isa, CALL)                                       \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
