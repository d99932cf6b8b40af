// Products of tiles: C = A·B or C += A·B, with accumulators that stay in registers over the whole depth.
//
// Why not sgemm: it packs both operands on every call, which at 64 cells costs as much as the product, and
// picks its kernels by the processor's name, so that one newer than the BLAS gets those of an older one. Here
// A is read an element at a time and spread over a vector, B a vector at a time, both where they stand; only
// similarities, whose right operand stands the other way round, put it in order first. Measured in one run on
// one Zen 5 core whose OpenBLAS 0.3.21 was held to its AVX2 kernels (64 to 256 rows, depth 256 and 512):
// AVX-512 255 to 265 GFLOP/s, AVX2 123 to 130, sgemm 130.
//
//   registers  ROWS × VECTORS vectors of C; of each step k, VECTORS vectors of B and one element of A at a
//   time L1         DEPTH rows of a group of B's columns, 8 KiB, used by every group of rows; the same
//   columns of C L2         A: each of its rows is read once per group of columns
//
// Assumes that the rows of B can be read up to a whole number of FASTLOSS_TILE_COLUMNS, and that strides of B
// which are a multiple of 4 KiB are avoided by the caller: its rows would fall on few sets of the first-level
// cache.

#include "fastloss_tile_product.h"

#if defined(__x86_64__) && defined(__clang__)

#include "instruction_sets.h"

typedef float vector __attribute__((vector_size(64), may_alias));
typedef float unaligned_vector __attribute__((vector_size(64), aligned(4), may_alias));

enum {
    LANES = 16,
    DEPTH = FASTLOSS_TILE_DEPTH,
    /// Steps of k that all columns are taken through before the next: so A comes from the second-level cache
    /// for every group of columns, however deep it is. Measured at 64×4096×512: 245 GFLOP/s, and 208 without.
    BLOCK_DEPTH = 2 * DEPTH,
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

/// `rows` × `columns` elements of C: at most ROWS × VECTORS·LANES, and exactly that many unless `is_edge`. At
/// an edge the rows of A that are missing are read as its last one again, and what comes of them is not
/// written.
FASTLOSS_BODY void micro_product(
    const int ROWS, const int VECTORS, const bool is_edge, const operands *restrict o, size_t rows,
    size_t columns, size_t depth, bool accumulate) {
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

/// Asks for some rows of the block of B that comes next, while there is work to do on this one: B's rows are
/// too far apart for the processor to guess. Measured on similarities and gradients of CCE at 4096×4096×512,
/// where B comes from the third-level cache: 250 GFLOP/s, and 170 to 220 without.
FASTLOSS_BODY void prefetch_rows(const void *b, size_t b_stride, size_t rows, size_t columns) {
    for (size_t k = 0; k < rows; ++k)
        for (size_t j = 0; j < columns; j += LANES)
            __builtin_prefetch(fastloss_beyond(b, (k * b_stride + j) * sizeof(float)));
}

FASTLOSS_BODY void product(
    const int ROWS, const int VECTORS, const operands *restrict all, size_t rows, size_t depth,
    size_t columns, bool accumulate) {
    const size_t group_rows = (size_t)ROWS, group_columns = (size_t)VECTORS * LANES;
    const size_t groups = (rows + group_rows - 1) / group_rows;
    // Each group of rows asks for its share of the next block.
    const size_t share = groups > 0 ? (DEPTH + groups - 1) / groups : 0;
    for (size_t start = 0; start < depth; start += BLOCK_DEPTH)
        for (size_t column = 0; column < columns; column += group_columns)
            for (size_t k = start; k < depth && k < start + BLOCK_DEPTH; k += DEPTH) {
                const size_t steps = depth - k < DEPTH ? depth - k : DEPTH;
                const size_t width = columns - column < group_columns ? columns - column : group_columns;
                const bool adds = accumulate || k > 0;
                operands here = *all;
                here.b += k * all->b_stride + column;
                // The order of the loops: further down, then the next columns, then all columns further down.
                // Behind the last block nothing has to be there: nothing is read.
                size_t next = (k + DEPTH) * all->b_stride + column;
                if (k + DEPTH >= depth || k + DEPTH >= start + BLOCK_DEPTH) {
                    next = column + group_columns < columns ? start * all->b_stride + column + group_columns
                                                            : (start + BLOCK_DEPTH) * all->b_stride;
                }
                for (size_t row = 0; row < rows; row += group_rows, next += share * all->b_stride) {
                    const size_t height = rows - row < group_rows ? rows - row : group_rows;
                    here.a = all->a + row * all->a_row_stride + k * all->a_column_stride;
                    here.c = all->c + row * all->c_stride + column;
                    prefetch_rows(
                        fastloss_beyond(all->b, next * sizeof(float)), all->b_stride, share, group_columns);
                    if (height < group_rows || width < group_columns)
                        micro_product(ROWS, VECTORS, true, &here, height, width, steps, adds);
                    else if (adds)
                        micro_product(ROWS, VECTORS, false, &here, group_rows, group_columns, steps, true);
                    else
                        micro_product(ROWS, VECTORS, false, &here, group_rows, group_columns, steps, false);
                }
            }
    if (depth == 0 && !accumulate)
        for (size_t row = 0; row < rows; ++row)
            for (size_t column = 0; column < columns; ++column) all->c[row * all->c_stride + column] = 0;
}

/// One of A's strides is a constant 1, so that its elements are addressed from few registers.
#define DEFINE(isa, ROWS, VECTORS)                                                              \
    FASTLOSS_TARGET(isa)                                                                        \
    static void tile_product_##isa(                                                             \
        const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth, \
        const float *b, size_t b_stride, size_t columns, float *c, size_t c_stride,             \
        fastloss_write_mode mode) {                                                             \
        const bool accumulate = mode == FASTLOSS_ACCUMULATE;                                    \
        const operands by_rows = {a, a_row_stride, 1, b, b_stride, c, c_stride};                \
        const operands by_columns = {a, 1, a_column_stride, b, b_stride, c, c_stride};          \
        if (a_column_stride == 1)                                                               \
            product(ROWS, VECTORS, &by_rows, rows, depth, columns, accumulate);                 \
        else                                                                                    \
            product(ROWS, VECTORS, &by_columns, rows, depth, columns, accumulate);              \
    }

// As many accumulators as hide the latency of a multiply-add, and registers for the operands: 16 of 32
// vectors of 16 lanes, 12 of 16 vectors of 8.
DEFINE(avx512, 8, 2)
DEFINE(avx2, 6, 1)

fastloss_tile_product fastloss_tile_product_for(fastloss_isa isa) {
    if (isa > fastloss_best_isa()) return NULL;
    return isa == FASTLOSS_ISA_AVX512 ? tile_product_avx512
        : isa == FASTLOSS_ISA_AVX2    ? tile_product_avx2
                                      : NULL;
}

#else

fastloss_tile_product fastloss_tile_product_for(fastloss_isa isa) {
    (void)isa;
    return NULL;
}

#endif
