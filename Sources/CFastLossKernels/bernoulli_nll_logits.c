// Bernoulli negative log-likelihood of z = (t > 0) over one chunk, from a logit y.
//
//   w = z ? −y : y,   e = exp(−|w|)
//   element   softplus(w) = max(w, 0) + log(1 + e)
//   gradient  scale·(z ? −σ(w) : σ(w)) with σ(w) = (w < 0 ? e : 1)/(1 + e). This equals scale·(σ(y) − z)
//             without its cancellation.
//
// The values may be anything. NaN logits give NaN. ±Inf give 0 or Inf. A NaN target counts as z = 0.
//
// The exponential is kept as E = e·2¹²⁶, a normal float for every e above 2⁻²⁵². e alone is subnormal for
// |w| > 87.3, although scale·e and a sum of many e may be normal. So gradients are accurate wherever they are
// normal, for any scale up to 2¹²⁶.
//
// One logarithm serves a segment: that of Π(1 + e). The product is kept as 1 + excess, because a double near
// 1 would lose the digits of a small e. Pairs of factors are multiplied in float, as a + b + a·b without the
// 1, which costs two roundings. The rest is in double. max(w, 0) is summed four at a time in float, with two
// roundings, and then in double. Quarters are summed, so that four of the largest floats do not overflow.
//
// Largest errors over every logit, in units of the last place: value 0.6, σ 2.4, scale·σ 3.6 (AVX2: 3.3).
// Measured speed: the article Tuning.

#include "exponential.h"
#include "instruction_sets.h"

#include <math.h>

enum {
    /// Elements that are in registers together: two vectors of AVX-512 or four of AVX2. They share each load
    /// of a constant of the polynomial.
    WIDTH = 32,
    /// Elements between two visits to the FASTLOSS_LANES double lanes.
    GROUP = 2 * WIDTH,
    /// Elements between two logarithms. The product of a lane's share of them is at most 2⁵¹².
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

/// The sums of a segment. Vectors are passed by address: as arguments they would need the instruction set of
/// their width.
typedef struct {
    doubles excess;   ///< (Π(1 + e) − 1)·2¹²⁶
    doubles product;  ///< Π(1 + e) = 1 + excess·2⁻¹²⁶
    doubles linear;   ///< Σ max(w, 0)/4
} lanes;

/// The factors of the scaled σ, (w < 0 ? E : 2¹²⁶)·slope / (E·unit + 2¹²⁶·unit). The products are normal
/// floats wherever the result is. Below a scale of 1 that holds for slope = scale and unit = 1, from 1 on for
/// both times 2⁻¹²⁶.
typedef struct { float slope, unit; } gradient_scale;

/// E for x ≤ 0. At and below −253·ln 2 the power of two is 0, and so is E.
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

/// Reads WIDTH elements.
FASTLOSS_BODY void load_vector(const void *elements, fastloss_element element, floats *values) {
    if (element == FASTLOSS_FLOAT32) {
        *values = *(const unaligned_floats *)elements;
        return;
    }
    for (size_t k = 0; k < WIDTH; ++k) ((float *)values)[k] = fastloss_load(elements, k, element);
}

/// Writes WIDTH elements.
FASTLOSS_BODY void write_vector(
    void *elements, const floats *values, fastloss_write_mode mode, fastloss_element element) {
    if (element == FASTLOSS_FLOAT32) {
        if (mode == FASTLOSS_OVERWRITE) *(unaligned_floats *)elements = *values;
        if (mode == FASTLOSS_ACCUMULATE) *(unaligned_floats *)elements += *values;
        return;
    }
    for (size_t k = 0; k < WIDTH; ++k)
        fastloss_write_element(elements, k, ((const float *)values)[k], mode, element);
}

/// WIDTH elements: E and max(w, 0)/4, and the gradient.
FASTLOSS_BODY void visit_vector(
    const void *predictions, const float *targets, const bool *mask, gradient_scale scale, void *gradient,
    fastloss_write_mode mode, fastloss_element element, bool prefetches, floats *exponentials,
    floats *linear) {
    if (prefetches) fastloss_prefetch_rounds(WIDTH, predictions, targets, mask, gradient, mode, element);
    const words sign_bit = 0x80000000u;
    const floats t = *(const unaligned_floats *)targets;
    const words sign = (words)(t > 0) & sign_bit;
    const truths selected = __builtin_convertvector(*(const unaligned_bytes *)mask, truths) != 0;
    view w;
    load_vector(predictions, element, &w.value);
    w.bits ^= sign;
    // Outside the mask softplus(−Inf) = 0, so no term has to be selected later.
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
    // Select the slope: a computed 0 would have the sign of the scale.
    const floats selected_slope = selected ? slope.value : (floats)0;
    write_vector(gradient, &selected_slope, mode, element);
}

/// GROUP elements.
FASTLOSS_BODY void visit_group(
    lanes *sums, const void *predictions, const float *targets, const bool *mask, gradient_scale scale,
    void *gradient, fastloss_write_mode mode, fastloss_element element, bool prefetches) {
    floats a, b, linear_a, linear_b;
    visit_vector(predictions, targets, mask, scale, gradient, mode, element, prefetches, &a, &linear_a);
    visit_vector(
        fastloss_input_at(predictions, WIDTH, element), targets + WIDTH, mask + WIDTH, scale,
        fastloss_output_at(gradient, WIDTH, mode, element), mode, element, prefetches, &b, &linear_b);

    const floats linear = linear_a + linear_b;
    sums->linear += __builtin_convertvector(linear.lo + linear.hi, doubles);
    const floats pair = (a * UNSHIFT) * b + (a + b);
    // (1 + pair)·product = 1 + (excess + pair·product)
    sums->excess += __builtin_convertvector(pair.lo, doubles) * sums->product;
    sums->product = sums->excess * UNSHIFT + 1;
    sums->excess += __builtin_convertvector(pair.hi, doubles) * sums->product;
    sums->product = sums->excess * UNSHIFT + 1;
}

/// The logarithm of the product of all lanes. Resets the lanes.
FASTLOSS_BODY double take_logarithm(lanes *sums) {
    // Lanes of 2 and more are split into mantissa and exponent. The others keep their excess.
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
            // This branch also takes NaN.
            excess += u + u * excess;
        }
    }
    sums->excess = (doubles)0;
    sums->product = (doubles)1;
    double logarithm = excess == 0 ? 0 : log1p(excess);
    if (exponent > 0) logarithm += (double)exponent * 0.693147180559945309417 + log(mantissa);
    return logarithm;
}

/// A chunk in groups. The last, partial group runs on floats that are padded with unselected elements.
FASTLOSS_BODY fastloss_partial bernoulli_nll_logits(
    const void *predictions, const float *targets, const bool *mask, size_t count, float scale,
    void *gradient, fastloss_write_mode mode, fastloss_element element, bool prefetches) {
    const float unit = __builtin_fabsf(scale) < 1 ? 1 : UNSHIFT;
    const gradient_scale scaling = {.slope = scale * unit, .unit = unit};
    lanes sums = {.excess = (doubles)0, .product = (doubles)1, .linear = (doubles)0};
    double logarithm = 0;
    size_t i = 0;
    for (; count - i >= GROUP; i += GROUP) {
        visit_group(
            &sums, fastloss_input_at(predictions, i, element), targets + i, mask + i, scaling,
            fastloss_output_at(gradient, i, mode, element), mode, element, prefetches);
        if ((i + GROUP) % SEGMENT == 0) logarithm += take_logarithm(&sums);
    }
    if (i < count) {
        float p[GROUP] = {0}, t[GROUP] = {0}, g[GROUP] = {0};
        bool m[GROUP] = {0};
        for (size_t k = 0; i + k < count; ++k) {
            p[k] = fastloss_load(predictions, i + k, element);
            t[k] = targets[i + k];
            m[k] = mask[i + k];
            if (mode == FASTLOSS_ACCUMULATE) g[k] = fastloss_load(gradient, i + k, element);
        }
        visit_group(&sums, p, t, m, scaling, g, mode, FASTLOSS_FLOAT32, false);
        for (size_t k = 0; i + k < count && mode != FASTLOSS_NO_OUTPUT; ++k)
            fastloss_store(gradient, i + k, g[k], element);
    }
    logarithm += take_logarithm(&sums);
    double linear[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) linear[lane] = sums.linear[lane];
    return (fastloss_partial){.sum = 4 * fastloss_sum_lanes(linear) + logarithm, .invalid = 0};
}

#define CALL(mode, element)                                                                             \
    bernoulli_nll_logits(predictions, targets, mask, count, scale, gradient, mode, element, prefetches)
#define DEFINE(isa)                                                                                 \
    FASTLOSS_TARGET(isa)                                                                            \
    fastloss_partial FASTLOSS_NAME(bernoulli_nll_logits, isa)(                                      \
        const void *predictions, const float *targets, const bool *mask, size_t count, float scale, \
        void *gradient, fastloss_write_mode mode, fastloss_element element, bool prefetches) {      \
        FASTLOSS_SPECIALISE_ELEMENT(mode, element, isa, CALL)                                       \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
