// Products of tiles: C = A·B or C += A·B, with accumulators that stay in registers over the whole depth.
//
// Why not sgemm: it packs both operands on every call, which at 64 cells costs as much as the product, and picks its kernels by
// the processor's name, so that one newer than the BLAS gets those of an older one. Here nothing is packed: A is read
// an element at a time and spread over a vector, B a vector at a time, both where they stand. Measured in one run on one Zen 5
// core whose OpenBLAS 0.3.21 was held to its AVX2 kernels (64 to 256 rows, depth 256 and 512): AVX-512 255 to 265 GFLOP/s, AVX2 123 to 130, sgemm 130.
//
//   registers  ROWS × VECTORS vectors of C; of each step k, VECTORS vectors of B and one element of A at a time
//   L1         DEPTH rows of a group of B's columns, 8 KiB, used by every group of rows; the same columns of C
//   L2         A: each of its rows is read once per group of columns
//
// Assumes that the rows of B can be read up to a whole number of FASTLOSS_TILE_COLUMNS, and that strides of B which are a
// multiple of 4 KiB are avoided by the caller: its rows would fall on few sets of the first-level cache.

#include "fastloss_tile_product.h"

#if defined(__x86_64__) && defined(__clang__)

#include "instruction_sets.h"

typedef float vector __attribute__((vector_size(64), may_alias));
typedef float unaligned_vector __attribute__((vector_size(64), aligned(4), may_alias));

enum {
    LANES = 16,
    DEPTH = FASTLOSS_TILE_DEPTH,
    MOST_ROWS = 8,
    MOST_VECTORS = 2,
};

/// The operands of a product, from the element at hand on.
typedef struct {
    const float *a;
    size_t a_row_stride, a_column_stride;
    const float *b;
    size_t b_stride;
    float *c;
    size_t c_stride;
} operands;

/// Adds or stores the first `count` elements of one row of accumulators.
FASTLOSS_BODY void write_row(const vector *sums, size_t count, float *c, bool accumulate) {
    for (size_t j = 0; j < count; ++j) {
        const float sum = sums[j / LANES][j % LANES];
        c[j] = accumulate ? c[j] + sum : sum;
    }
}

/// `rows` × `columns` elements of C: at most ROWS × VECTORS·LANES, and exactly that many unless `is_edge`. At an edge the rows
/// of A that are missing are read as its last one again, and what comes of them is not written.
FASTLOSS_BODY void micro_product(
    const int ROWS, const int VECTORS, const bool is_edge, const operands *restrict o, size_t rows, size_t columns,
    size_t depth, bool accumulate) {
    _Pragma("clang fp contract(fast)")
    const float *const a = o->a, *const b = o->b;
    size_t row_offsets[MOST_ROWS];
    for (int i = 0; i < ROWS; ++i)
        row_offsets[i] = (is_edge && (size_t)i >= rows ? rows - 1 : (size_t)i) * o->a_row_stride;

    vector sums[MOST_ROWS][MOST_VECTORS];
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < VECTORS; ++j) sums[i][j] = (vector){0};
    for (size_t k = 0; k < depth; ++k) {
        vector b_row[MOST_VECTORS];
        for (int j = 0; j < VECTORS; ++j)
            b_row[j] = *(const unaligned_vector *)(b + k * o->b_stride + (size_t)j * LANES);
        _Pragma("clang loop unroll(full)")
        for (int i = 0; i < ROWS; ++i) {
            const vector element = (vector){0} + a[row_offsets[i] + k * o->a_column_stride];
            _Pragma("clang loop unroll(full)")
            for (int j = 0; j < VECTORS; ++j) sums[i][j] += element * b_row[j];
        }
    }

    for (int i = 0; i < ROWS && (size_t)i < rows; ++i) {
        float *const c = o->c + (size_t)i * o->c_stride;
        if (is_edge) {
            write_row(sums[i], columns, c, accumulate);
            continue;
        }
        for (int j = 0; j < VECTORS; ++j) {
            unaligned_vector *const part = (unaligned_vector *)(c + (size_t)j * LANES);
            *part = accumulate ? *part + sums[i][j] : sums[i][j];
        }
    }
}

FASTLOSS_BODY void product(
    const int ROWS, const int VECTORS, const operands *restrict all, size_t rows, size_t depth, size_t columns,
    bool accumulate) {
    const size_t group_columns = (size_t)VECTORS * LANES;
    for (size_t column = 0; column < columns; column += group_columns) {
        const size_t width = columns - column < group_columns ? columns - column : group_columns;
        for (size_t k = 0; k < depth; k += DEPTH) {
            const size_t steps = depth - k < DEPTH ? depth - k : DEPTH;
            const bool adds = accumulate || k > 0;
            for (size_t row = 0; row < rows; row += (size_t)ROWS) {
                const size_t height = rows - row < (size_t)ROWS ? rows - row : (size_t)ROWS;
                operands here = *all;
                here.a += row * all->a_row_stride + k * all->a_column_stride;
                here.b += k * all->b_stride + column;
                here.c += row * all->c_stride + column;
                if (height == (size_t)ROWS && width == group_columns) {
                    if (adds) micro_product(ROWS, VECTORS, false, &here, (size_t)ROWS, group_columns, steps, true);
                    else micro_product(ROWS, VECTORS, false, &here, (size_t)ROWS, group_columns, steps, false);
                } else {
                    micro_product(ROWS, VECTORS, true, &here, height, width, steps, adds);
                }
            }
        }
    }
    if (depth == 0 && !accumulate)
        for (size_t row = 0; row < rows; ++row)
            for (size_t column = 0; column < columns; ++column) all->c[row * all->c_stride + column] = 0;
}

/// One of A's strides is a constant 1, so that its elements are addressed from few registers.
#define DEFINE(isa, ROWS, VECTORS)                                                                           \
    FASTLOSS_TARGET(isa)                                                                                     \
    static void tile_product_##isa(                                                                          \
        const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,              \
        const float *b, size_t b_stride, size_t columns, float *c, size_t c_stride,                          \
        fastloss_gradient_mode mode) {                                                                       \
        const bool accumulate = mode == FASTLOSS_GRADIENT_ACCUMULATE;                                        \
        const operands by_rows = {a, a_row_stride, 1, b, b_stride, c, c_stride};                             \
        const operands by_columns = {a, 1, a_column_stride, b, b_stride, c, c_stride};                       \
        if (a_column_stride == 1) product(ROWS, VECTORS, &by_rows, rows, depth, columns, accumulate);        \
        else product(ROWS, VECTORS, &by_columns, rows, depth, columns, accumulate);                          \
    }

// As many accumulators as hide the latency of a multiply-add, and registers for the operands: 16 of 32 vectors of 16 lanes,
// 12 of 16 vectors of 8.
DEFINE(avx512, 8, 2)
DEFINE(avx2, 6, 1)

fastloss_tile_product fastloss_tile_product_for(fastloss_isa isa) {
    if (isa > fastloss_best_isa()) return NULL;
    return isa == FASTLOSS_ISA_AVX512 ? tile_product_avx512 : isa == FASTLOSS_ISA_AVX2 ? tile_product_avx2 : NULL;
}

#else

fastloss_tile_product fastloss_tile_product_for(fastloss_isa isa) {
    (void)isa;
    return NULL;
}

#endif
