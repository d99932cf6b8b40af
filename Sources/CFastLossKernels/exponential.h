// exp(x) in float for x ≤ 0, as straight-line code that vectorises inside any loop.
//
// x = n·ln 2 + r with |r| ≤ ln 2 / 2, exp(x) = 2ⁿ·exp(r). ln 2 is split in two floats so that n·ln2_high is exact also
// without a fused multiply-add, and exp(r) is its Taylor polynomial of degree 7, whose remainder r⁸/8! is below 6·10⁻⁹.
// Measured over every float in [−87.3, 0]: see `exponentialUlps` in the tests' table of tolerances.

#ifndef FASTLOSS_EXPONENTIAL_H
#define FASTLOSS_EXPONENTIAL_H

#include "instruction_sets.h"

#include <stdint.h>

/// Below it exp(x) is subnormal, and 0 here: less than 1.2·10⁻³⁸ beside terms of order 1.
#define FASTLOSS_EXP_UNDERFLOW (-87.3f)

FASTLOSS_BODY float fastloss_float_of_bits(uint32_t bits) {
    union { uint32_t bits; float value; } view = {.bits = bits};
    return view.value;
}

FASTLOSS_BODY uint32_t fastloss_bits_of_float(float value) {
    union { float value; uint32_t bits; } view = {.value = value};
    return view.bits;
}

/// exp(x + tail) for x ≤ 0 and a `tail` far below 1, the part of the argument that x could not hold.
/// −Inf and everything below FASTLOSS_EXP_UNDERFLOW give 0, NaN gives NaN.
FASTLOSS_BODY float fastloss_exp_nonpositive(float x, float tail) {
    // Adding 1.5·2²³ rounds to an integer in the low bits of the sum.
    const float shifted = x * 1.44269504f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    const float r = ((x - n * 0.693359375f) - n * -2.12194440e-4f) + tail;
    const float tail_of_series =
        0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040)))));
    const float exp_r = 1.0f + (r + r * r * tail_of_series);
    const float power = fastloss_float_of_bits((fastloss_bits_of_float(shifted) << 23) + 0x3f800000u);
    const float result = exp_r * power;
    return x < FASTLOSS_EXP_UNDERFLOW ? 0.0f : result;
}

#endif
