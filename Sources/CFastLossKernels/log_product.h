// Σ log |sᵢ| as one logarithm, log |Π sᵢ|. The product's exponent is kept apart, so that the product neither
// overflows nor underflows.
//
// The product is formed in double in FASTLOSS_LANES independent lanes, each multiplied once a round. A factor
// lies in [2⁻²³, 2], or in [1, 64] in the cross-entropy of short rows. So a lane stays in the range of double
// for FASTLOSS_LOG_ROUNDS = 32 rounds (2⁻⁷³⁶ at worst, double reaches 2⁻¹⁰²²). Then its exponent moves to an
// integer. Each multiplication rounds by at most 2⁻⁵³ of the product, which is an absolute error of 2⁻⁵³ in
// the logarithm. 4,096 factors cost less than 5·10⁻¹³, and one call of log() serves them all.

#ifndef FASTLOSS_LOG_PRODUCT_H
#define FASTLOSS_LOG_PRODUCT_H

#include "instruction_sets.h"

#include <math.h>
#include <stdint.h>

enum { FASTLOSS_LOG_ROUNDS = 32 };

typedef struct {
    double mantissa[FASTLOSS_LANES];   ///< in [1, 2) after each normalisation
    int64_t exponent[FASTLOSS_LANES];  ///< in powers of two
} fastloss_log_product;

FASTLOSS_BODY void fastloss_log_product_init(fastloss_log_product *product) {
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        product->mantissa[lane] = 1;
        product->exponent[lane] = 0;
    }
}

/// Moves the exponent of each lane to its integer, and drops the sign, as factors may be −sᵢ. It must be
/// called at least every FASTLOSS_LOG_ROUNDS rounds.
FASTLOSS_BODY void fastloss_log_product_normalise(fastloss_log_product *product) {
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        union {
            double value;
            uint64_t bits;
        } view = {.value = product->mantissa[lane]};
        product->exponent[lane] += (int64_t)(view.bits >> 52 & 0x7ff) - 1023;
        view.bits = (view.bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
        product->mantissa[lane] = view.value;
    }
}

/// The logarithm of the whole product. The lanes must be normalised.
FASTLOSS_BODY double fastloss_log_product_log(const fastloss_log_product *product) {
    double mantissa = 1;
    int64_t exponent = 0;
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        mantissa *= product->mantissa[lane];
        exponent += product->exponent[lane];
    }
    return (double)exponent * 0.693147180559945309417 + log(mantissa);
}

#endif
