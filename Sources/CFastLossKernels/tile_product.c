// Products of tiles: C = A·B or C += A·B, with accumulators that stay in registers over the whole depth.
//
// With AVX2 and AVX-512 these products replace sgemm, which packs both operands in every call. At 64 cells
// that costs as much as the product. sgemm also chooses its kernels by the processor's name, so a processor
// that is newer than the BLAS gets older kernels. Here A is read one element at a time and spread over a
// vector, and B one vector at a time, both in place. Only similarities, whose right operand is transposed,
// pack it first. Measured: the article Tuning. The baseline uses sgemm but for the similarities of CCE.
//
//   registers  ROWS × VECTORS vectors of C; in each step k, KEPT vectors of B and one element of A
//   L1         DEPTH rows of a group of B's columns, 8 KiB, used by every group of rows; these columns of C
//   L2         A: each of its rows is read once per group of columns
//
// The rows of B must be readable up to a whole number of FASTLOSS_TILE_COLUMNS. Callers avoid strides of B
// that are a multiple of 4 KiB, which would map its rows to few sets of the first-level cache.

#include "amx_product.h"

#if defined(__clang__)

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
    MOST_VECTORS = FASTLOSS_TILE_COLUMNS / LANES,
};

/// The operands of a product, from the current element on. Strides are in bytes.
typedef struct {
    const char *a;
    size_t a_row_stride, a_column_stride;
    const char *b;
    size_t b_stride;
    float *c;
    size_t c_stride;
} operands;

/// Makes the compiler forget how an address was computed. Otherwise it derives the addresses of all rows from
/// the first, in every step, and loads a vector once although a register for it is missing.
#define FORGET_ORIGIN(address) __asm__("" : "+r"(address))

/// Where a product is on its way down the depth: the row of B, and how many bytes A's elements lie beyond the
/// starts of A's rows.
typedef struct {
    const char *b;
    size_t k;
} position;

/// Adds the products of STEPS steps of k.
///
/// The first KEPT vectors of B stay in registers for all rows. Each row reads the others anew, as an operand
/// of its multiply-adds: this takes no register, and no instruction of its own.
FASTLOSS_BODY position add_steps(
    const int ROWS, const int VECTORS, const int KEPT, const int STEPS, const operands *o,
    const char *const *rows_of_a, position at, vector sums[MOST_ROWS][MOST_VECTORS]) {
    _Pragma("clang fp contract(fast)")
    _Pragma("clang loop unroll(full)")
    for (int step = 0; step < STEPS; ++step) {
        const size_t below = (size_t)step * o->b_stride;
        vector kept[MOST_VECTORS];
        for (int j = 0; j < KEPT; ++j) kept[j] = ((const unaligned_vector *)(at.b + below))[j];
        _Pragma("clang loop unroll(full)")
        for (int i = 0; i < ROWS; ++i) {
            const float element = *(const float *)(rows_of_a[i] + at.k);
            if (KEPT < VECTORS) FORGET_ORIGIN(at.b);
            _Pragma("clang loop unroll(full)")
            for (int j = 0; j < VECTORS; ++j)
                sums[i][j] += element * (j < KEPT ? kept[j] : ((const unaligned_vector *)(at.b + below))[j]);
        }
        at.k += o->a_column_stride;
        if (!__builtin_constant_p(o->a_column_stride)) FORGET_ORIGIN(at.k);
    }
    at.b += (size_t)STEPS * o->b_stride;
    return at;
}

/// Adds or stores the first `count` elements of one row of accumulators.
FASTLOSS_BODY void write_row(const int VECTORS, const vector *sums, size_t count, float *c, bool accumulate) {
    if (count == (size_t)VECTORS * LANES) {
        _Pragma("clang loop unroll(full)")
        for (int j = 0; j < VECTORS; ++j) {
            unaligned_vector *const part = (unaligned_vector *)c + j;
            *part = accumulate ? *part + sums[j] : sums[j];
        }
        return;
    }
    // The copy keeps the accumulators themselves in registers: only memory has elements with an index.
    vector copy[MOST_VECTORS];
    for (int j = 0; j < VECTORS; ++j) copy[j] = sums[j];
    for (size_t j = 0; j < count; ++j) {
        const float sum = copy[j / LANES][j % LANES];
        c[j] = accumulate ? c[j] + sum : sum;
    }
}

/// Prefetches the row of the next block of B at `row`. B's rows are too far apart for the processor's own
/// prefetching. Measured: the article Tuning.
FASTLOSS_BODY void prefetch_row(const char *row) {
    _Pragma("clang loop unroll(full)")
    for (size_t j = 0; j < FASTLOSS_TILE_COLUMNS; j += LANES)
        __builtin_prefetch(fastloss_beyond(row, j * sizeof(float)));
}

/// Prefetches a part of the next group of rows of A: every second step one cache line, of another row each
/// time. Of the last rows, some may be missing. They are prefetched, too, and not read.
FASTLOSS_BODY void prefetch_next_group(
    const int ROWS, const operands *o, const char *first_row, size_t column) {
    enum { LINE = 64 };
    const size_t row = column % LINE / (2 * sizeof(float)) + (size_t)ROWS;
    __builtin_prefetch(fastloss_beyond(first_row, row * o->a_row_stride + column / LINE * LINE));
}

/// Computes `rows` × `columns` elements of C, at most ROWS × VECTORS·LANES. The last row of A stands in for
/// missing ones, and their results are not written.
///
/// On the way it prefetches up to `fetched` rows of B from `next` on, one in each pair of steps, and with
/// `fetches_a` the next group of rows of A. In one burst they would keep the multiply-adds waiting.
FASTLOSS_BODY void micro_product(
    const int ROWS, const int VECTORS, const int KEPT, const operands *restrict o, size_t rows,
    size_t columns, size_t depth, const char *next, size_t fetched, bool fetches_a, bool accumulate) {
    const char *rows_of_a[MOST_ROWS];
    for (int i = 0; i < ROWS; ++i) {
        rows_of_a[i] = o->a + ((size_t)i < rows ? (size_t)i : rows - 1) * o->a_row_stride;
        FORGET_ORIGIN(rows_of_a[i]);
    }
    vector sums[MOST_ROWS][MOST_VECTORS];
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < VECTORS; ++j) sums[i][j] = (vector){0};

    position at = {o->b, 0};
    size_t pairs = depth / 2;
    for (size_t n = pairs < fetched ? pairs : fetched; n > 0; --n, --pairs) {
        prefetch_row(next);
        next = fastloss_beyond(next, o->b_stride);
        if (fetches_a) prefetch_next_group(ROWS, o, rows_of_a[0], at.k);
        at = add_steps(ROWS, VECTORS, KEPT, 2, o, rows_of_a, at, sums);
    }
    for (; pairs > 0; --pairs) {
        if (fetches_a) prefetch_next_group(ROWS, o, rows_of_a[0], at.k);
        at = add_steps(ROWS, VECTORS, KEPT, 2, o, rows_of_a, at, sums);
    }
    if (depth % 2 > 0) add_steps(ROWS, VECTORS, KEPT, 1, o, rows_of_a, at, sums);

    _Pragma("clang loop unroll(full)")
    for (int i = 0; i < ROWS; ++i)
        if ((size_t)i < rows)
            write_row(VECTORS, sums[i], columns, o->c + (size_t)i * o->c_stride, accumulate);
}

/// A block of B: `bytes` from the current one, `rows` of it.
typedef struct { size_t bytes, rows; } next_block;

/// The block of B that follows the one at row `k` and at `column`: further down, in the next columns, or in
/// the first columns further down. With `continues`, a panel of the same depth follows B.
///
/// After the last block there are no rows. Memory beyond B may be another worker's, who would have to fetch
/// it back before writing to it.
FASTLOSS_BODY next_block
block_after(const operands *all, size_t depth, size_t columns, size_t k, size_t column, bool continues) {
    size_t next_k = k + DEPTH, next_column = column;
    if (next_k >= depth || next_k % BLOCK_DEPTH == 0) {
        next_column = column + FASTLOSS_TILE_COLUMNS < columns ? column + FASTLOSS_TILE_COLUMNS : 0;
        if (next_column > 0) next_k = k / BLOCK_DEPTH * BLOCK_DEPTH;
    }
    size_t rows = next_k < depth ? depth - next_k : 0;
    if (rows == 0 && continues) next_k = depth, rows = depth;
    return (next_block){
        .bytes = (next_k - k) * all->b_stride + (next_column - column) * sizeof(float),
        .rows = rows < DEPTH ? rows : DEPTH};
}

/// A block of up to DEPTH steps and VECTORS·LANES columns, for all rows.
///
/// Each group of rows prefetches its share of the next block.
FASTLOSS_BODY void block_product(
    const int ROWS, const int VECTORS, const int KEPT, operands block, size_t rows, size_t columns,
    size_t depth, next_block next, bool accumulate) {
    const size_t group_rows = (size_t)ROWS;
    const size_t groups = (rows + group_rows - 1) / group_rows;
    const size_t share = groups > 0 ? (next.rows + groups - 1) / groups : 0;
    // In the pairs of steps of one cache line of A, each of eight rows has its turn.
    const bool can_fetch_a = ROWS == 8 && block.a_column_stride == sizeof(float);
    const char *next_rows = fastloss_beyond(block.b, next.bytes);
    for (size_t row = 0; row < rows; row += group_rows) {
        micro_product(
            ROWS, VECTORS, KEPT, &block, rows - row < group_rows ? rows - row : group_rows, columns, depth,
            next_rows, share, can_fetch_a && rows - row > group_rows, accumulate);
        next_rows = fastloss_beyond(next_rows, share * block.b_stride);
        block.a += group_rows * block.a_row_stride;
        block.c += group_rows * block.c_stride;
    }
}

/// ROWS rows at a time by two vectors of columns, of which KEPT stay in registers; the last columns, if they
/// fit one vector, by NARROW_ROWS rows. `continues`: see `block_after`.
FASTLOSS_BODY void product(
    const int ROWS, const int KEPT, const int NARROW_ROWS, const operands *restrict all, size_t rows,
    size_t depth, size_t columns, bool continues, bool accumulate) {
    const size_t group_columns = FASTLOSS_TILE_COLUMNS;
    for (size_t start = 0; start < depth; start += BLOCK_DEPTH)
        for (size_t column = 0; column < columns; column += group_columns)
            for (size_t k = start; k < depth && k < start + BLOCK_DEPTH; k += DEPTH) {
                const size_t steps = depth - k < DEPTH ? depth - k : DEPTH;
                const size_t width = columns - column < group_columns ? columns - column : group_columns;
                const next_block next = block_after(all, depth, columns, k, column, continues);
                const bool adds = accumulate || k > 0;
                operands block = *all;
                block.a += k * all->a_column_stride;
                block.b += k * all->b_stride + column * sizeof(float);
                block.c += column;
                if (width <= LANES)
                    block_product(NARROW_ROWS, 1, 1, block, rows, width, steps, next, adds);
                else
                    block_product(ROWS, MOST_VECTORS, KEPT, block, rows, width, steps, next, adds);
            }
    if (depth == 0 && !accumulate)
        for (size_t row = 0; row < rows; ++row)
            for (size_t column = 0; column < columns; ++column) all->c[row * all->c_stride + column] = 0;
}

/// The kernels of an instruction set that packing needs, and its product with both operands in place, B by
/// rows. `continues`: see `block_after`.
typedef struct {
    __typeof__(((fastloss_kernels *)0)->transpose) transpose;
    __typeof__(((fastloss_kernels *)0)->copy_rows) copy_rows;
    void (*product)(
        const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
        const float *b, size_t b_stride, size_t columns, float *c, size_t c_stride, bool continues,
        bool accumulate);
} functions;

/// Packs columns of B row by row, without gaps between the rows.
FASTLOSS_BODY void pack_panel(
    functions f, const float *b, size_t b_row_stride, size_t b_column_stride, size_t depth, size_t columns,
    float *panel) {
    const bool by_columns = b_column_stride != 1;
    if (by_columns)
        f.transpose(b, columns, depth, b_column_stride, panel, FASTLOSS_TILE_COLUMNS);
    else if (columns == FASTLOSS_TILE_COLUMNS)
        f.copy_rows(b, depth, columns, b_row_stride, panel);
    if (columns == FASTLOSS_TILE_COLUMNS) return;
    for (size_t k = 0; k < depth; ++k) {
        float *row = panel + k * FASTLOSS_TILE_COLUMNS;
        if (!by_columns)
            for (size_t j = 0; j < columns; ++j) row[j] = b[k * b_row_stride + j];
        // Zero the padding: the kernel loads it and discards the result.
        for (size_t j = columns; j < FASTLOSS_TILE_COLUMNS; ++j) row[j] = 0;
    }
}

/// The product with B stored by columns: a block of them becomes a panel on the stack.
FASTLOSS_BODY void multiply_columns(
    functions f, const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
    const float *b, size_t b_column_stride, size_t columns, float *c, size_t c_stride, bool accumulate) {
    _Alignas(64) float panel[BLOCK_DEPTH * FASTLOSS_TILE_COLUMNS];
    for (size_t column = 0; column < columns; column += FASTLOSS_TILE_COLUMNS) {
        const size_t left = columns - column;
        const size_t width = left < FASTLOSS_TILE_COLUMNS ? left : FASTLOSS_TILE_COLUMNS;
        size_t k = 0;
        do {
            const size_t steps = depth - k < BLOCK_DEPTH ? depth - k : BLOCK_DEPTH;
            pack_panel(f, b + column * b_column_stride + k, 1, b_column_stride, steps, width, panel);
            f.product(
                a + k * a_column_stride, a_row_stride, a_column_stride, rows, steps, panel,
                FASTLOSS_TILE_COLUMNS, width, c + column, c_stride, false, accumulate || k > 0);
            k += BLOCK_DEPTH;
        } while (k < depth);
    }
}

FASTLOSS_BODY void multiply_by_panels(
    functions f, const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
    const float *panels, size_t columns, float *c, size_t c_stride, bool accumulate) {
    for (size_t column = 0; column < columns; column += FASTLOSS_TILE_COLUMNS) {
        const size_t left = columns - column;
        f.product(
            a, a_row_stride, a_column_stride, rows, depth, panels + column * depth, FASTLOSS_TILE_COLUMNS,
            left < FASTLOSS_TILE_COLUMNS ? left : FASTLOSS_TILE_COLUMNS, c + column, c_stride,
            left > FASTLOSS_TILE_COLUMNS, accumulate);
    }
}

static size_t panel_floats(size_t depth) { return depth * FASTLOSS_TILE_COLUMNS; }

/// One of A's strides is a constant, so that few registers address its elements.
#define DEFINE(isa, ROWS, KEPT, NARROW_ROWS)                                                                 \
    FASTLOSS_TARGET(isa)                                                                                     \
    static void product_##isa(                                                                               \
        const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,              \
        const float *b, size_t b_stride, size_t columns, float *c, size_t c_stride, bool continues,          \
        bool accumulate) {                                                                                   \
        const size_t one = sizeof(float);                                                                    \
        operands o = {                                                                                       \
            (const char *)a, a_row_stride * one, one, (const char *)b, b_stride * one, c, c_stride};         \
        if (a_column_stride == 1)                                                                            \
            return product(ROWS, KEPT, NARROW_ROWS, &o, rows, depth, columns, continues, accumulate);        \
        o.a_row_stride = one, o.a_column_stride = a_column_stride * one;                                     \
        product(ROWS, KEPT, NARROW_ROWS, &o, rows, depth, columns, continues, accumulate);                   \
    }                                                                                                        \
    static const functions functions_##isa = {                                                               \
        FASTLOSS_NAME(transpose, isa), FASTLOSS_NAME(copy_rows, isa), product_##isa};                        \
    FASTLOSS_TARGET(isa)                                                                                     \
    static void multiply_##isa(                                                                              \
        const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,              \
        const float *b, size_t b_row_stride, size_t b_column_stride, size_t columns, float *c,               \
        size_t c_stride, fastloss_write_mode mode) {                                                         \
        const bool accumulate = mode == FASTLOSS_ACCUMULATE;                                                 \
        if (b_column_stride == 1 && b_row_stride != 1)                                                       \
            return product_##isa(                                                                            \
                a, a_row_stride, a_column_stride, rows, depth, b, b_row_stride, columns, c, c_stride, false, \
                accumulate);                                                                                 \
        multiply_columns(                                                                                    \
            functions_##isa, a, a_row_stride, a_column_stride, rows, depth, b, b_column_stride, columns, c,  \
            c_stride, accumulate);                                                                           \
    }                                                                                                        \
    FASTLOSS_TARGET(isa)                                                                                     \
    static void pack_##isa(                                                                                  \
        const float *b, size_t b_row_stride, size_t b_column_stride, size_t depth, size_t columns,           \
        float *panel) {                                                                                      \
        pack_panel(functions_##isa, b, b_row_stride, b_column_stride, depth, columns, panel);                \
    }                                                                                                        \
    FASTLOSS_TARGET(isa)                                                                                     \
    static void multiply_panels_##isa(                                                                       \
        const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,              \
        const float *panels, size_t columns, float *c, size_t c_stride, fastloss_write_mode mode) {          \
        multiply_by_panels(                                                                                  \
            functions_##isa, a, a_row_stride, a_column_stride, rows, depth, panels, columns, c, c_stride,    \
            mode == FASTLOSS_ACCUMULATE);                                                                    \
    }                                                                                                        \
    const fastloss_tile_products fastloss_products_##isa = {                                                 \
        multiply_##isa, panel_floats, pack_##isa, multiply_panels_##isa};

// Rows of a tile, vectors of B that stay in registers, and rows of a narrow tile. A tile has enough
// accumulators to hide the latency of a multiply-add: 16 of 32 registers of 16 lanes, 12 of 16 registers of 8
// lanes. Among the shapes that do, it takes the fewest instructions for each multiply-add: a core shared with
// another thread starts about three a cycle. Measured: the article Tuning.
//
// Registers of the baseline have 4 lanes: 16 of them with SSE2, 32 with NEON.
#if defined(__x86_64__)
DEFINE(avx512, 8, 2, 8)
DEFINE(avx2, 3, 1, 6)
DEFINE(baseline, 1, 0, 2)
#else
DEFINE(baseline, 2, 2, 4)
#endif

const fastloss_tile_products *fastloss_tile_products_for(fastloss_isa isa) {
    if (!fastloss_runs(isa)) return NULL;
#if defined(__x86_64__)
    if (isa == FASTLOSS_ISA_AMX) return fastloss_products_amx;
    if (isa == FASTLOSS_ISA_AVX512) return &fastloss_products_avx512;
    if (isa == FASTLOSS_ISA_AVX2) return &fastloss_products_avx2;
#endif
    return &fastloss_products_baseline;
}

#else

const fastloss_tile_products *fastloss_tile_products_for(fastloss_isa isa) {
    (void)isa;
    return NULL;
}

#endif
