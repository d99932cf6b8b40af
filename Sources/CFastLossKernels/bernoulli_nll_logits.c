// Bernoulli negative log-likelihood of z = (t > 0) over one chunk, from a logit y.
//
//   w = z ? −y : y,   e = exp(−|w|)
//   element   softplus(w) = max(w, 0) + log(1 + e)
//   gradient  scale·(z ? −σ(w) : σ(w)) with σ(w) = (w < 0 ? e : 1)/(1 + e), which is scale·(σ(y) − z) without
//   its
//             cancellation
//
// Assumes nothing of the values. NaN logits give NaN; ±Inf give 0 or Inf. A NaN target is z = 0.
//
// The exponential is kept as E = e·2¹²⁶, a normal float for every e above 2⁻²⁵²: e alone is subnormal below w
// = −87.3, where scale·e and a sum of many e need not be. Gradients are therefore accurate wherever they are
// normal, for any scale up to 2¹²⁶.
//
// The logarithms are taken once a chunk, of Π(1 + e). The product is kept as 1 + excess: a double near 1
// would lose what counts of a small e. Two factors at a time are multiplied in float, as a + b + a·b without
// the 1, which costs two roundings; the rest is in double. max(w, 0) is summed four at a time in float, with
// two roundings, and then in double. Quarters are summed, so that four of the largest floats do not overflow.
//
// Measured on one Zen 3 core at 64×1201, with the gradient and without: AVX2 0.95 and 0.7 ns an element,
// where a kernel that took every 1 + e into the double product by itself took 2.8 and 2.5; baseline 1.9
// and 1.5 instead of 7.5 and 6.8. Largest errors over every logit, in units of the last place: value 0.6,
// σ 2.4, scale·σ 3.6 (AVX2: 3.3).

#include "exponential.h"
#include "instruction_sets.h"

#include <math.h>

enum {
    /// Elements that are in registers together: two of AVX-512's vectors, four of AVX2's. A constant of the
    /// polynomial is
    /// loaded once for all of them. With 16, AVX2 took a tenth longer.
    WIDTH = 32,
    /// Elements between two visits of the double lanes, of which there are FASTLOSS_LANES.
    GROUP = 2 * WIDTH,
    /// Elements between two logarithms. A lane's share of them multiplies to at most 2⁵¹².
    SEGMENT = 128 * GROUP,
    /// E = e·2¹²⁶. The sum of two of them and their product, 3·2¹²⁶ at most, is a float.
    SHIFT = 126,
};
#define SHIFTED_ONE 0x1p126f
#define UNSHIFT 0x1p-126f

typedef float floats __attribute__((ext_vector_type(WIDTH)));
typedef uint32_t words __attribute__((ext_vector_type(WIDTH)));
typedef int32_t truths __attribute__((ext_vector_type(WIDTH)));
typedef double doubles __attribute__((ext_vector_type(FASTLOSS_LANES)));
typedef float unaligned_floats __attribute__((ext_vector_type(WIDTH), aligned(4), may_alias));
typedef uint8_t unaligned_bytes __attribute__((ext_vector_type(WIDTH), aligned(1), may_alias));

typedef union {
    floats value;
    words bits;
} view;

/// The sums of a segment. Vectors go by address: as arguments they would need the instruction set of their
/// width.
typedef struct {
    doubles excess;   ///< (Π(1 + e) − 1)·2¹²⁶
    doubles product;  ///< Π(1 + e) = 1 + excess·2⁻¹²⁶
    doubles linear;   ///< Σ max(w, 0)/4
} lanes;

/// How σ is scaled: as (w < 0 ? E : 2¹²⁶)·slope / (E·unit + 2¹²⁶·unit). The products are normal floats
/// wherever the result is: below a scale of 1 with slope = scale and unit = 1, from there on with both times
/// 2⁻¹²⁶.
typedef struct { float slope, unit; } gradient_scale;

/// E for x ≤ 0. From −253·ln 2 on downwards the power of two is 0, and so is E.
FASTLOSS_BODY void shifted_exp(const floats *argument, floats *result) {
    const float lowest = -(127 + SHIFT) * FASTLOSS_LN2;
    const float rounder = FASTLOSS_ROUNDER + (127 + SHIFT);
    const floats x = *argument < lowest ? (floats)lowest : *argument;
    view shifted = {.value = x * FASTLOSS_LOG2_E + rounder};
    const floats n = shifted.value - rounder;
    const floats r = FASTLOSS_EXP_REMAINDER(x, n);
    shifted.bits <<= 23;
    *result = FASTLOSS_EXP_OF_REMAINDER(r) * shifted.value;
}

/// WIDTH elements: E and max(w, 0)/4, and the gradient.
FASTLOSS_BODY void visit_vector(
    const float *predictions, const float *targets, const bool *mask, gradient_scale scale, float *gradient,
    fastloss_write_mode mode, bool prefetches, floats *exponentials, floats *linear) {
    if (prefetches)
        for (size_t k = 0; k < WIDTH; k += FASTLOSS_LANES)
            fastloss_prefetch_round(
                predictions + k, targets + k, mask + k, fastloss_advance(gradient, k, mode), mode);
    const words sign_bit = 0x80000000u;
    const floats t = *(const unaligned_floats *)targets;
    const words sign = (words)(t > 0) & sign_bit;
    const truths selected = __builtin_convertvector(*(const unaligned_bytes *)mask, truths) != 0;
    view w = {.value = *(const unaligned_floats *)predictions};
    w.bits ^= sign;
    // Outside the mask softplus(−Inf) = 0, and nothing else needs to be selected of it.
    w.value = selected ? w.value : (floats)-INFINITY;
    view minus_magnitude = w;
    minus_magnitude.bits |= sign_bit;
    floats e;
    shifted_exp(&minus_magnitude.value, &e);
    *exponentials = e;
    *linear = w.value > 0 ? w.value * 0.25f : (floats)0;
    if (mode == FASTLOSS_NO_OUTPUT) return;

    const floats numerator = (truths)w.bits < 0 ? e : (floats)SHIFTED_ONE;
    view slope = {.value = numerator * scale.slope / (e * scale.unit + SHIFTED_ONE * scale.unit)};
    slope.bits ^= sign;
    // Selected, because 0 would keep the sign of the scale.
    const floats selected_slope = selected ? slope.value : (floats)0;
    if (mode == FASTLOSS_OVERWRITE) *(unaligned_floats *)gradient = selected_slope;
    if (mode == FASTLOSS_ACCUMULATE) *(unaligned_floats *)gradient += selected_slope;
}

/// GROUP elements.
FASTLOSS_BODY void visit_group(
    lanes *sums, const float *predictions, const float *targets, const bool *mask, gradient_scale scale,
    float *gradient, fastloss_write_mode mode, bool prefetches) {
    floats a, b, linear_a, linear_b;
    visit_vector(predictions, targets, mask, scale, gradient, mode, prefetches, &a, &linear_a);
    visit_vector(
        predictions + WIDTH, targets + WIDTH, mask + WIDTH, scale, fastloss_advance(gradient, WIDTH, mode),
        mode, prefetches, &b, &linear_b);

    const floats linear = linear_a + linear_b;
    sums->linear += __builtin_convertvector(linear.lo + linear.hi, doubles);
    const floats pair = (a * UNSHIFT) * b + (a + b);
    // (1 + pair)·product = 1 + (excess + pair·product)
    sums->excess += __builtin_convertvector(pair.lo, doubles) * sums->product;
    sums->product = sums->excess * UNSHIFT + 1;
    sums->excess += __builtin_convertvector(pair.hi, doubles) * sums->product;
    sums->product = sums->excess * UNSHIFT + 1;
}

/// log of the product of all lanes, which start anew.
FASTLOSS_BODY double take_logarithm(lanes *sums) {
    // Lanes of 2 and more by mantissa and exponent, the others by their excess.
    double mantissa = 1, excess = 0;
    int64_t exponent = 0;
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        const double u = sums->excess[lane] * UNSHIFT;
        if (u >= 1) {
            union {
                double value;
                uint64_t bits;
            } product = {.value = 1 + u};
            exponent += (int64_t)(product.bits >> 52) - 1023;
            product.bits = (product.bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
            mantissa *= product.value;
        } else {
            // NaN comes here.
            excess += u + u * excess;
        }
    }
    sums->excess = (doubles)0;
    sums->product = (doubles)1;
    double logarithm = excess == 0 ? 0 : log1p(excess);
    if (exponent > 0) logarithm += (double)exponent * 0.693147180559945309417 + log(mantissa);
    return logarithm;
}

/// A chunk in groups; the last, partial one runs on padded copies whose mask is false.
FASTLOSS_BODY fastloss_partial bernoulli_nll_logits(
    const float *predictions, const float *targets, const bool *mask, size_t count, float scale,
    float *gradient, fastloss_write_mode mode, bool prefetches) {
    const float unit = __builtin_fabsf(scale) < 1 ? 1 : UNSHIFT;
    const gradient_scale scaling = {.slope = scale * unit, .unit = unit};
    lanes sums = {.excess = (doubles)0, .product = (doubles)1, .linear = (doubles)0};
    double logarithm = 0;
    size_t i = 0;
    for (; count - i >= GROUP; i += GROUP) {
        visit_group(
            &sums, predictions + i, targets + i, mask + i, scaling, fastloss_advance(gradient, i, mode), mode,
            prefetches);
        if ((i + GROUP) % SEGMENT == 0) logarithm += take_logarithm(&sums);
    }
    if (i < count) {
        float p[GROUP] = {0}, t[GROUP] = {0}, g[GROUP] = {0};
        bool m[GROUP] = {0};
        for (size_t k = 0; i + k < count; ++k) {
            p[k] = predictions[i + k];
            t[k] = targets[i + k];
            m[k] = mask[i + k];
            if (mode == FASTLOSS_ACCUMULATE) g[k] = gradient[i + k];
        }
        visit_group(&sums, p, t, m, scaling, g, mode, false);
        if (mode != FASTLOSS_NO_OUTPUT)
            for (size_t k = 0; i + k < count; ++k) gradient[i + k] = g[k];
    }
    logarithm += take_logarithm(&sums);
    double linear[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) linear[lane] = sums.linear[lane];
    return (fastloss_partial){.sum = 4 * fastloss_sum_lanes(linear) + logarithm, .invalid = 0};
}

#define CALL(mode) bernoulli_nll_logits(predictions, targets, mask, count, scale, gradient, mode, prefetches)
#define DEFINE(isa)                                                                                  \
    FASTLOSS_TARGET(isa)                                                                             \
    fastloss_partial FASTLOSS_NAME(bernoulli_nll_logits, isa)(                                       \
        const float *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        float *gradient, fastloss_write_mode mode, bool prefetches) {                                \
        FASTLOSS_SPECIALISE_MODE(mode, CALL)                                                         \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
