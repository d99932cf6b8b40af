// Products of tiles: C = A·B or C += A·B, with accumulators that stay in registers over the whole depth.
//
// These products replace sgemm, which packs both operands in every call. At 64 cells that costs as much as
// the product. sgemm also chooses its kernels by the processor's name, so a processor that is newer than the
// BLAS gets older kernels. Here A is read one element at a time and spread over a vector, and B one vector at
// a time, both in place. Only similarities, whose right operand is transposed, pack it first. Measured: the
// article Tuning.
//
//   registers  ROWS × VECTORS vectors of C; in each step k, VECTORS vectors of B and one element of A
//   L1         DEPTH rows of a group of B's columns, 8 KiB, used by every group of rows; these columns of C
//   L2         A: each of its rows is read once per group of columns
//
// The rows of B must be readable up to a whole number of FASTLOSS_TILE_COLUMNS. Callers avoid strides of B
// that are a multiple of 4 KiB, which would map its rows to few sets of the first-level cache.

#include "fastloss_tile_product.h"

#if defined(__x86_64__) && defined(__clang__)

#include "instruction_sets.h"

typedef float vector __attribute__((vector_size(64), may_alias));
typedef float unaligned_vector __attribute__((vector_size(64), aligned(4), may_alias));

enum {
    LANES = 16,
    DEPTH = FASTLOSS_TILE_DEPTH,
    /// Steps of k that are finished for all columns before the next ones start. So A stays in the
    /// second-level cache for every group of columns, however large the depth is. Measured: the article
    /// Tuning.
    BLOCK_DEPTH = 2 * DEPTH,
    MOST_ROWS = 8,
    MOST_VECTORS = 2,
};

/// The operands of a product, from the current element on.
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

/// Computes `rows` × `columns` elements of C: exactly ROWS × VECTORS·LANES, or fewer if `is_edge`. At an edge
/// the last row of A stands in for the missing ones, and their results are not written.
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
            const float element = a[row_offsets[i] + k * o->a_column_stride];
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

/// Prefetches some rows of the next block of B during the work on the current one. B's rows are too far apart
/// for the processor's own prefetching. Measured: the article Tuning.
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
    // Each group of rows prefetches its share of the next block.
    const size_t share = groups > 0 ? (DEPTH + groups - 1) / groups : 0;
    for (size_t start = 0; start < depth; start += BLOCK_DEPTH)
        for (size_t column = 0; column < columns; column += group_columns)
            for (size_t k = start; k < depth && k < start + BLOCK_DEPTH; k += DEPTH) {
                const size_t steps = depth - k < DEPTH ? depth - k : DEPTH;
                const size_t width = columns - column < group_columns ? columns - column : group_columns;
                const bool adds = accumulate || k > 0;
                operands here = *all;
                here.b += k * all->b_stride + column;
                // The next block is further down, or in the next columns, or in the first columns further
                // down. After the last block the address lies beyond B. It is not read.
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

/// One of A's strides is the constant 1, so that few registers address its elements.
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

// Enough accumulators to hide the latency of a multiply-add, with registers left for the operands: 16 of 32
// vectors of 16 lanes, 12 of 16 vectors of 8 lanes.
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
