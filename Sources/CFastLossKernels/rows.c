// Row-wise primitives of the embedding losses: sums in double, scaled copies, the backward pass of a
// normalisation, transposition, copies, and differences to one row.

#include "instruction_sets.h"

FASTLOSS_BODY double dot(const float *a, const float *b, size_t count) {
    FASTLOSS_REORDER_SUMS
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += (double)a[i] * (double)b[i];
    return sum;
}

FASTLOSS_BODY void scale(const float *x, size_t count, double factor, float *y, fastloss_write_mode mode) {
    FASTLOSS_MAY_BE_IN_PLACE
    for (size_t i = 0; i < count; ++i) fastloss_write_gradient(&y[i], (float)(x[i] * factor), mode);
}

FASTLOSS_BODY void project_out(
    const float *upstream, const float *unit, size_t count, double along, double inverse_norm,
    float *gradient, fastloss_write_mode mode) {
    FASTLOSS_MAY_BE_IN_PLACE
    for (size_t i = 0; i < count; ++i)
        fastloss_write_gradient(&gradient[i], (float)((upstream[i] - along * unit[i]) * inverse_norm), mode);
}

#if defined(__clang__)
typedef float transposed_vector __attribute__((vector_size(64), aligned(4), may_alias));

/// Transposes a 16 × 16 block in four rounds, each of which interleaves row i with row i + 8. A round moves
/// the highest bit of the row's number to the lowest place of the column's.
FASTLOSS_BODY void transpose_block(
    const float *source, size_t source_stride, float *restrict target, size_t target_stride) {
    enum { SIDE = 16 };
    transposed_vector rows[SIDE], interleaved[SIDE];
    for (int i = 0; i < SIDE; ++i) rows[i] = *(const transposed_vector *)(source + (size_t)i * source_stride);
    _Pragma("clang loop unroll(full)")
    for (int round = 0; round < 4; ++round) {
        for (int i = 0; i < SIDE / 2; ++i) {
            const transposed_vector a = rows[i], b = rows[i + SIDE / 2];
            interleaved[2 * i] =
                __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            interleaved[2 * i + 1] =
                __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        for (int i = 0; i < SIDE; ++i) rows[i] = interleaved[i];
    }
    for (int i = 0; i < SIDE; ++i) *(transposed_vector *)(target + (size_t)i * target_stride) = rows[i];
}
#else
FASTLOSS_BODY void transpose_block(
    const float *source, size_t source_stride, float *restrict target, size_t target_stride) {
    for (size_t j = 0; j < 16; ++j)
        for (size_t i = 0; i < 16; ++i) target[j * target_stride + i] = source[i * source_stride + j];
}
#endif

FASTLOSS_BODY void transpose(
    const float *source, size_t rows, size_t columns, size_t source_stride, float *restrict target,
    size_t target_stride) {
    enum { SIDE = 16 };
    for (size_t row = 0; row < rows; row += SIDE)
        for (size_t column = 0; column < columns; column += SIDE) {
            const float *from = source + row * source_stride + column;
            float *to = target + column * target_stride + row;
            if (rows - row >= SIDE && columns - column >= SIDE) {
                transpose_block(from, source_stride, to, target_stride);
                continue;
            }
            const size_t height = rows - row < SIDE ? rows - row : SIDE;
            const size_t width = columns - column < SIDE ? columns - column : SIDE;
            for (size_t j = 0; j < width; ++j)
                for (size_t i = 0; i < height; ++i) to[j * target_stride + i] = from[i * source_stride + j];
        }
}

/// Rows on different pages defeat the processor's own prefetching. Measured: the article Tuning.
FASTLOSS_BODY void copy_rows(
    const float *source, size_t rows, size_t columns, size_t source_stride, float *restrict target) {
    enum { ROWS_AHEAD = 8, LINE = 64 / sizeof(float) };
    for (size_t row = 0; row < rows; ++row) {
        const float *from = source + row * source_stride;
        for (size_t j = 0; j < columns; j += LINE)
            __builtin_prefetch(fastloss_beyond(from, (ROWS_AHEAD * source_stride + j) * sizeof(float)));
        for (size_t j = 0; j < columns; ++j) target[j] = from[j];
        target += columns;
    }
}

FASTLOSS_BODY void subtract_row(
    const float *source, size_t rows, size_t columns, size_t source_stride, const float *restrict row,
    float *restrict target, size_t target_stride) {
    enum { ROWS_AHEAD = 8, LINE = 64 / sizeof(float) };
    for (size_t i = 0; i < rows; ++i) {
        const float *from = source + i * source_stride;
        for (size_t j = 0; j < columns; j += LINE)
            __builtin_prefetch(fastloss_beyond(from, (ROWS_AHEAD * source_stride + j) * sizeof(float)));
        for (size_t j = 0; j < columns; ++j) target[j] = from[j] - row[j];
        for (size_t j = columns; j < target_stride; ++j) target[j] = 0;
        target += target_stride;
    }
}

#define SCALE(mode) scale(x, count, factor, y, mode)
#define PROJECT_OUT(mode) project_out(upstream, unit, count, along, inverse_norm, gradient, mode)
#define DEFINE(isa)                                                                                     \
    FASTLOSS_TARGET(isa) double FASTLOSS_NAME(sum_of_squares, isa)(const float *x, size_t count) {      \
        return dot(x, x, count);                                                                        \
    }                                                                                                   \
    FASTLOSS_TARGET(isa) double FASTLOSS_NAME(dot, isa)(const float *a, const float *b, size_t count) { \
        return dot(a, b, count);                                                                        \
    }                                                                                                   \
    FASTLOSS_TARGET(isa)                                                                                \
    void FASTLOSS_NAME(scale, isa)(                                                                     \
        const float *x, size_t count, double factor, float *y, fastloss_write_mode mode) {              \
        FASTLOSS_SPECIALISE_MODE(mode, SCALE)                                                           \
    }                                                                                                   \
    FASTLOSS_TARGET(isa)                                                                                \
    void FASTLOSS_NAME(project_out, isa)(                                                               \
        const float *upstream, const float *unit, size_t count, double along, double inverse_norm,      \
        float *gradient, fastloss_write_mode mode) {                                                    \
        FASTLOSS_SPECIALISE_MODE(mode, PROJECT_OUT)                                                     \
    }                                                                                                   \
    FASTLOSS_TARGET(isa)                                                                                \
    void FASTLOSS_NAME(transpose, isa)(                                                                 \
        const float *source, size_t rows, size_t columns, size_t source_stride, float *target,          \
        size_t target_stride) {                                                                         \
        transpose(source, rows, columns, source_stride, target, target_stride);                         \
    }                                                                                                   \
    FASTLOSS_TARGET(isa)                                                                                \
    void FASTLOSS_NAME(copy_rows, isa)(                                                                 \
        const float *source, size_t rows, size_t columns, size_t source_stride, float *target) {        \
        copy_rows(source, rows, columns, source_stride, target);                                        \
    }                                                                                                   \
    FASTLOSS_TARGET(isa)                                                                                \
    void FASTLOSS_NAME(subtract_row, isa)(                                                              \
        const float *source, size_t rows, size_t columns, size_t source_stride, const float *row,       \
        float *target, size_t target_stride) {                                                          \
        subtract_row(source, rows, columns, source_stride, row, target, target_stride);                 \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
