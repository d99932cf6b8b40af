// exp(x)·2ˢ in float for x ≤ 0, as straight-line code that vectorises inside any loop.
//
// x = n·ln 2 + r with |r| ≤ ln 2 / 2, so exp(x) = 2ⁿ·exp(r). ln 2 is split into two floats, so that
// n·ln2_high is exact without a fused multiply-add, too. exp(r) is a polynomial of degree 6
// (FASTLOSS_EXP_OF_REMAINDER).
//
// The shift s keeps the exponential normal: exp(x) is subnormal below x = −87.3, although scale·exp(x) may be
// normal. exp(x)·2ˢ is a normal float down to x = −(126 + s)·ln 2. The tests' table of tolerances has the
// largest error over every float with a normal result (`exponentialUlps`).

#ifndef FASTLOSS_EXPONENTIAL_H
#define FASTLOSS_EXPONENTIAL_H

#include "instruction_sets.h"

#include <stdint.h>

#define FASTLOSS_LOG2_E 1.44269504f
#define FASTLOSS_LN2 0.693147181f

/// 1.5·2²³. Added to a float of at most 2²², it rounds the float to an integer and leaves the integer in the
/// low bits of the sum.
#define FASTLOSS_ROUNDER 12582912.0f

/// r = x − n·ln 2, for floats or vectors of floats. n has at most 8 bits and ln2_high has 9.
#define FASTLOSS_EXP_REMAINDER(x, n) (((x) - (n) * 0.693359375f) - (n) * -2.12194440e-4f)

/// exp(r) for |r| ≤ ln 2 / 2, for a float or a vector of floats. The polynomial is 1 + r + r²·(…) of degree 6
/// with the least maximal relative error (Remez's exchange): 3.1·10⁻⁹, or 0.05 of half a unit in the last
/// place. Degree 5 would be wrong by 1.5·10⁻⁷.
#define FASTLOSS_EXP_OF_REMAINDER(r)                                                                  \
    (1.0f                                                                                             \
     + (r)                                                                                            \
         * (1.0f                                                                                      \
            + (r)                                                                                     \
                * (0.499999934f                                                                       \
                   + (r)                                                                              \
                       * (0.166665206f                                                                \
                          + (r) * (0.0416683880f + (r) * (0.00836871688f + (r) * 0.00138145986f))))))

FASTLOSS_BODY float fastloss_float_of_bits(uint32_t bits) {
    union {
        uint32_t bits;
        float value;
    } view = {.bits = bits};
    return view.value;
}

FASTLOSS_BODY uint32_t fastloss_bits_of_float(float value) {
    union {
        float value;
        uint32_t bits;
    } view = {.value = value};
    return view.bits;
}

/// exp(x + tail)·2ˢ with s = `shift`, a constant in 0…127, for x ≤ 0. `tail` is far below 1: the part of the
/// argument that x does not hold. −Inf and every x whose result would be subnormal give 0 for any tail. NaN
/// gives NaN.
FASTLOSS_BODY float fastloss_exp_nonpositive(float x, float tail, int shift) {
    // Leaves n + 127 + s, the exponent of the power of two as a float holds it, in the low bits.
    const float rounder = FASTLOSS_ROUNDER + (float)(127 + shift);
    const float shifted = x * FASTLOSS_LOG2_E + rounder;
    const float n = shifted - rounder;
    const float r = FASTLOSS_EXP_REMAINDER(x, n) + tail;
    const float power = fastloss_float_of_bits(fastloss_bits_of_float(shifted) << 23);
    const float result = FASTLOSS_EXP_OF_REMAINDER(r) * power;
    return x < (float)-(126 + shift) * FASTLOSS_LN2 ? 0.0f : result;
}

#endif
