// Cross-entropy of rows of logits z against one label each, at temperature τ. CCE uses single rows; CLS and
// DAB use batches of rows with τ = 1.
//
//   value     log Σⱼ exp((zⱼ − z_label)/τ) = (max − z_label)/τ + log1p(rest + (e_label − 1))
//             with eⱼ = exp((zⱼ − max)/τ) and rest = Σ eⱼ over j ≠ label
//   gradient  scale·softmaxⱼ for j ≠ label, and −scale·rest/Z for the label
//
// The label's term is kept out of the sum. So neither the value nor the label's gradient cancels when the row
// is already right (rest ≪ 1), as at the end of training. zⱼ − max is carried with its rounding error, which
// for logits of mixed sign would cost several bits of a small probability. Infinite and NaN logits follow
// IEEE: −Inf is a class with probability 0, +Inf or NaN make the row NaN.
//
// The exponentials are kept as eⱼ·2¹²⁴, normal floats for every eⱼ above 2⁻²⁵⁰. eⱼ alone is subnormal if zⱼ/τ
// is more than 88 below the maximum, although scale·eⱼ and a sum of many rows' losses may be normal. So
// gradients are accurate wherever they are normal, for any scale up to 2¹⁰⁰. For the label's gradient that
// holds up to 2²⁴ classes.

#include "exponential.h"
#include "instruction_sets.h"
#include "log_product.h"

#include <math.h>

/// The largest logit. NaN is skipped here and reaches the result through the sum.
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

/// Exponentials are stored times 2¹²⁴. A block sums eight of them in float, which is 2¹²⁷ at most.
enum { SHIFT = 124 };
#define UNSHIFT 0x1p-124

/// exp((z − max)·inverse_temperature)·2¹²⁴, with z − max to twice the precision (Knuth's two-sum).
FASTLOSS_BODY float exponential(float z, float max, float inverse_temperature) {
    const float difference = z - max;
    const float shadow = difference - z;
    const float error = (z - (difference - shadow)) - (max + shadow);
    return fastloss_exp_nonpositive(difference * inverse_temperature, error * inverse_temperature, SHIFT);
}

/// The exponentials of a row, times 2¹²⁴: that of the label, and the sum of all others.
typedef struct {
    double label;
    double rest;
} exponentials;

/// Two factors that turn a term into its gradient, one after the other. Both factors and both products are
/// normal floats wherever the gradient is.
typedef struct { float first, second; } gradient_factor;

/// scale/normaliser, where the normaliser carries the terms' 2¹²⁴.
FASTLOSS_BODY gradient_factor factor_for(float scale, double normaliser) {
    const double shifted = scale / normaliser;
    const double factor = shifted * 0x1p124;
    // Below 4 the factor's product with a term does not overflow. From 4 on, the factor without 2¹²⁴ is
    // normal.
    const bool small = __builtin_fabs(factor) < 4;
    return (gradient_factor){
        .first = (float)(small ? factor : shifted), .second = small ? (float)UNSHIFT : 1};
}

/// The exponentials of a row. With `store`, each term is written to `terms`, which may be `logits`, and 0 in
/// the label's place.
FASTLOSS_BODY exponentials exponentials_of_row(
    const float *logits, size_t classes, size_t label, float max, float inverse_temperature, bool store,
    float *terms) {
    double totals[FASTLOSS_LANES] = {0};
    double label_term = 0;
    for (size_t start = 0; start < classes; start += FASTLOSS_SUM_BLOCK) {
        const size_t size = classes - start < FASTLOSS_SUM_BLOCK ? classes - start : FASTLOSS_SUM_BLOCK;
        // Fill the last vector with classes of probability 0, so that a short row has no scalar remainder.
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
    const float *logits, size_t classes, size_t label, float inverse_temperature, float scale,
    float *gradient, fastloss_write_mode mode) {
    const bool store = mode == FASTLOSS_OVERWRITE;
    const float max = largest(logits, classes);
    // Read it before the terms are stored: `gradient` may be `logits`.
    const float label_logit = logits[label];
    const exponentials e =
        exponentials_of_row(logits, classes, label, max, inverse_temperature, store, gradient);
    const double normaliser = e.rest + e.label;

    if (mode != FASTLOSS_NO_OUTPUT) {
        const gradient_factor factor = factor_for(scale, normaliser);
        const float label_gradient = (float)(-(double)scale * e.rest / normaliser);
        if (mode == FASTLOSS_OVERWRITE) {
            for (size_t i = 0; i < classes; ++i) gradient[i] = gradient[i] * factor.first * factor.second;
            gradient[label] = label_gradient;
        } else {
            // Compute the label's element first, and store it after the loop has overwritten it.
            const float label_sum = gradient[label] + label_gradient;
            for (size_t i = 0; i < classes; ++i)
                gradient[i] +=
                    exponential(logits[i], max, inverse_temperature) * factor.first * factor.second;
            gradient[label] = label_sum;
        }
    }
    return ((double)max - label_logit) * inverse_temperature
        + log1p(e.rest * UNSHIFT + (e.label * UNSHIFT - 1));
}

// Short rows: FASTLOSS_LANES rows at a time, one row per lane.
//
// A row of ten cell types does not fill a vector, and its horizontal sums, logarithm and call cost more than
// its exponentials. Transposed, ten classes are ten whole vectors, nothing is summed across lanes, and one
// logarithm serves all rows (log_product.h). Measured: the article Tuning.

enum {
    /// The most classes of a short row. 64 classes of 16 rows take 4 KiB. Longer rows fill vectors on their
    /// own.
    MOST_BATCHED_CLASSES = 64,
};

/// Rows with a label that counts, gathered for the lanes.
typedef struct {
    size_t count;  ///< rows gathered; the other lanes repeat the first row
    size_t row[FASTLOSS_LANES];
    int32_t label[FASTLOSS_LANES];
} row_batch;

/// The least u whose 1 + u becomes a factor of the product, which loses at most 2⁻⁵³ of a logarithm of 2⁻²⁰
/// or more. For smaller u, and for NaN, log1p(u) is added to the sum as u − u²/2. The omitted u³/3 is below
/// 2⁻⁴¹ of it.
#define LEAST_FACTOR_U 0x1p-20

typedef struct {
    double sum;  ///< Σ of max − z_label, and of log1p(u) for small u
    /// The product of factors in [1, MOST_BATCHED_CLASSES]: 2¹⁹² at most after 32 rounds.
    fastloss_log_product logarithms;
    int rounds;  ///< rounds since the product was normalised
} loss_total;

FASTLOSS_BODY void visit_batch(
    const float *logits, size_t classes, row_batch *batch, float scale, float *gradient,
    fastloss_write_mode mode, loss_total *total) {
    _Alignas(64) float terms[MOST_BATCHED_CLASSES][FASTLOSS_LANES];
    float max[FASTLOSS_LANES], label_logit[FASTLOSS_LANES], label_term[FASTLOSS_LANES];
    double rest[FASTLOSS_LANES];
    for (size_t lane = batch->count; lane < FASTLOSS_LANES; ++lane) {
        batch->row[lane] = batch->row[0];
        batch->label[lane] = batch->label[0];
    }
    for (size_t j = 0; j < classes; ++j)
        for (int lane = 0; lane < FASTLOSS_LANES; ++lane)
            terms[j][lane] = logits[batch->row[lane] * classes + j];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        max[lane] = terms[0][lane];
        label_logit[lane] = terms[batch->label[lane]][lane];
        label_term[lane] = 0;
        rest[lane] = 0;
    }
    // As in `largest`, NaN is skipped here and reaches the result through the sum.
    for (size_t j = 1; j < classes; ++j)
        for (int lane = 0; lane < FASTLOSS_LANES; ++lane)
            max[lane] = terms[j][lane] > max[lane] ? terms[j][lane] : max[lane];
    for (size_t j = 0; j < classes; ++j)
        for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
            const float term = exponential(terms[j][lane], max[lane], 1);
            const bool is_label = batch->label[lane] == (int32_t)j;
            label_term[lane] = is_label ? term : label_term[lane];
            terms[j][lane] = is_label ? 0 : term;
            rest[lane] += (double)terms[j][lane];
        }

    double sums[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        const bool counts = lane < (int)batch->count;
        const double u = rest[lane] * UNSHIFT + (label_term[lane] * UNSHIFT - 1);
        const bool is_factor = u >= LEAST_FACTOR_U;
        sums[lane] = counts ? ((double)max[lane] - label_logit[lane]) + (is_factor ? 0 : u - 0.5 * u * u) : 0;
        total->logarithms.mantissa[lane] *= counts && is_factor ? 1 + u : 1;
    }
    total->sum += fastloss_sum_lanes(sums);
    if (++total->rounds == FASTLOSS_LOG_ROUNDS) {
        fastloss_log_product_normalise(&total->logarithms);
        total->rounds = 0;
    }
    if (mode == FASTLOSS_NO_OUTPUT) return;

    float first[FASTLOSS_LANES], second[FASTLOSS_LANES], label_gradient[FASTLOSS_LANES];
    for (int lane = 0; lane < FASTLOSS_LANES; ++lane) {
        const double normaliser = rest[lane] + label_term[lane];
        const gradient_factor factor = factor_for(scale, normaliser);
        first[lane] = factor.first;
        second[lane] = factor.second;
        label_gradient[lane] = (float)(-(double)scale * rest[lane] / normaliser);
    }
    for (size_t j = 0; j < classes; ++j)
        for (int lane = 0; lane < FASTLOSS_LANES; ++lane)
            terms[j][lane] = batch->label[lane] == (int32_t)j ? label_gradient[lane]
                                                              : terms[j][lane] * first[lane] * second[lane];
    for (size_t lane = 0; lane < batch->count; ++lane)
        for (size_t j = 0; j < classes; ++j)
            fastloss_write_gradient(gradient + batch->row[lane] * classes + j, terms[j][lane], mode);
}

FASTLOSS_BODY double softmax_cross_entropy_short_rows(
    const float *logits, const int32_t *labels, size_t rows, size_t classes, int32_t ignored_label,
    float scale, float *gradient, fastloss_write_mode mode) {
    loss_total total = {.sum = 0, .rounds = 0};
    fastloss_log_product_init(&total.logarithms);
    row_batch batch = {.count = 0};
    for (size_t row = 0; row < rows; ++row) {
        if (labels[row] != ignored_label) {
            batch.row[batch.count] = row;
            batch.label[batch.count] = labels[row];
            ++batch.count;
        } else if (mode == FASTLOSS_OVERWRITE) {
            for (size_t j = 0; j < classes; ++j) gradient[row * classes + j] = 0;
        }
        if (batch.count == FASTLOSS_LANES || (row + 1 == rows && batch.count > 0)) {
            visit_batch(logits, classes, &batch, scale, gradient, mode, &total);
            batch.count = 0;
        }
    }
    fastloss_log_product_normalise(&total.logarithms);
    return total.sum + fastloss_log_product_log(&total.logarithms);
}

FASTLOSS_BODY double softmax_cross_entropy_rows(
    const float *logits, const int32_t *labels, size_t rows, size_t classes, int32_t ignored_label,
    float scale, float *gradient, fastloss_write_mode mode) {
    if (classes <= MOST_BATCHED_CLASSES)
        return softmax_cross_entropy_short_rows(
            logits, labels, rows, classes, ignored_label, scale, gradient, mode);
    double sum = 0;
    for (size_t row = 0; row < rows; ++row) {
        float *const its_gradient = mode == FASTLOSS_NO_OUTPUT ? NULL : gradient + row * classes;
        if (labels[row] != ignored_label)
            sum += softmax_cross_entropy(
                logits + row * classes, classes, (size_t)labels[row], 1, scale, its_gradient, mode);
        else if (mode == FASTLOSS_OVERWRITE)
            for (size_t j = 0; j < classes; ++j) its_gradient[j] = 0;
    }
    return sum;
}

#define CALL(mode) softmax_cross_entropy(logits, classes, label, inverse_temperature, scale, gradient, mode)
#define CALL_ROWS(mode)                                                                             \
    softmax_cross_entropy_rows(logits, labels, rows, classes, ignored_label, scale, gradient, mode)
#define DEFINE(isa)                                                                                     \
    FASTLOSS_TARGET(isa)                                                                                \
    double FASTLOSS_NAME(softmax_cross_entropy, isa)(                                                   \
        const float *logits, size_t classes, size_t label, float inverse_temperature, float scale,      \
        float *gradient, fastloss_write_mode mode) {                                                    \
        FASTLOSS_SPECIALISE_MODE(mode, CALL)                                                            \
    }                                                                                                   \
                                                                                                        \
    FASTLOSS_TARGET(isa)                                                                                \
    double FASTLOSS_NAME(softmax_cross_entropy_rows, isa)(                                              \
        const float *logits, const int32_t *labels, size_t rows, size_t classes, int32_t ignored_label, \
        float scale, float *gradient, fastloss_write_mode mode) {                                       \
        FASTLOSS_SPECIALISE_MODE(mode, CALL_ROWS)                                                       \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
