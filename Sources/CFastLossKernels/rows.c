// Row-wise primitives of the embedding losses: sums in double, scaled copies, and the backward pass of a normalisation.

#include "instruction_sets.h"

FASTLOSS_BODY double dot(const float *a, const float *b, size_t count) {
    FASTLOSS_REORDER_SUMS
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += (double)a[i] * (double)b[i];
    return sum;
}

FASTLOSS_BODY void scale(const float *x, size_t count, double factor, float *y, fastloss_gradient_mode mode) {
    for (size_t i = 0; i < count; ++i) fastloss_write_gradient(&y[i], (float)(x[i] * factor), mode);
}

FASTLOSS_BODY void project_out(
    const float *upstream, const float *unit, size_t count, double along, double inverse_norm, float *gradient,
    fastloss_gradient_mode mode) {
    for (size_t i = 0; i < count; ++i)
        fastloss_write_gradient(&gradient[i], (float)((upstream[i] - along * unit[i]) * inverse_norm), mode);
}

FASTLOSS_BODY void transpose(
    const float *source, size_t rows, size_t columns, size_t source_stride, float *restrict target,
    size_t target_stride) {
    // Square tiles whose two sides stay in the first-level cache: 2 × 16 lines of 64 bytes.
    enum { TILE = 16 };
    for (size_t row = 0; row < rows; row += TILE)
        for (size_t column = 0; column < columns; column += TILE) {
            const size_t last_row = rows - row < TILE ? rows : row + TILE;
            const size_t last_column = columns - column < TILE ? columns : column + TILE;
            for (size_t j = column; j < last_column; ++j)
                for (size_t i = row; i < last_row; ++i) target[j * target_stride + i] = source[i * source_stride + j];
        }
}

#define SCALE(mode) scale(x, count, factor, y, mode)
#define PROJECT_OUT(mode) project_out(upstream, unit, count, along, inverse_norm, gradient, mode)
#define DEFINE(isa)                                                                                               \
    FASTLOSS_TARGET(isa) double FASTLOSS_NAME(sum_of_squares, isa)(const float *x, size_t count) {                \
        return dot(x, x, count);                                                                                  \
    }                                                                                                             \
    FASTLOSS_TARGET(isa) double FASTLOSS_NAME(dot, isa)(const float *a, const float *b, size_t count) {           \
        return dot(a, b, count);                                                                                  \
    }                                                                                                             \
    FASTLOSS_TARGET(isa)                                                                                          \
    void FASTLOSS_NAME(scale, isa)(                                                                               \
        const float *x, size_t count, double factor, float *y, fastloss_gradient_mode mode) {                     \
        FASTLOSS_SPECIALISE_MODE(mode, SCALE)                                                                     \
    }                                                                                                             \
    FASTLOSS_TARGET(isa)                                                                                          \
    void FASTLOSS_NAME(project_out, isa)(                                                                         \
        const float *upstream, const float *unit, size_t count, double along, double inverse_norm,                \
        float *gradient, fastloss_gradient_mode mode) {                                                           \
        FASTLOSS_SPECIALISE_MODE(mode, PROJECT_OUT)                                                               \
    }                                                                                                             \
    FASTLOSS_TARGET(isa)                                                                                          \
    void FASTLOSS_NAME(transpose, isa)(                                                                           \
        const float *source, size_t rows, size_t columns, size_t source_stride, float *target,                    \
        size_t target_stride) {                                                                                   \
        transpose(source, rows, columns, source_stride, target, target_stride);                                   \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
