// Products of floats by AMX, whose tiles multiply bfloat16: C = A·B or C += A·B in the accuracy of float32.
//
// A float has 24 significant bits, a bfloat16 has 8. So every float is the sum of three of them, x = x₁ + x₂
// + x₃, of which each is about 2⁸ times smaller than the one before, and a product of floats is
//
//     a·b = a₁b₁ + (a₁b₂ + a₂b₁) + (a₁b₃ + a₂b₂ + a₃b₁) + (a₂b₃ + a₃b₂) + a₃b₃
//
// The last three products are left out: they are below 2⁻²²·|a·b|, of either sign, and mostly much smaller.
//
// AMX multiplies 16 × 32 by 32 × 16 elements in 16 cycles: 16 times what two multiply-add units of AVX-512
// do. The six products take 2.7 times less time than one of floats, before packing. Each product of two
// bfloat16 is exact in float32, in which a tile sums up, so the result is at least as accurate as that of
// float32 multiply-adds. Measured: the article Tuning.
//
//   tile registers  0–3: 32 × 32 elements of C; 4–5: 2 tiles of A; 6–7: 2 tiles of B
//   L1              CHUNK steps of 32 columns of B, 24 KiB
//   L2              CHUNK steps of BLOCK_ROWS rows of A, 192 KiB
//
// The five small products of a chunk are summed before the large ones, so that their roundings stay small.
//
// A row of A or a column of B can be *irregular* in a chunk: its largest element is infinite, NaN or above
// 2⁶³, where x₁·y could overflow, or below 2⁻⁴⁸, where x₃·y could fall below the smallest normal float, which
// AMX takes for zero. Elements of such rows and columns are computed by the AVX-512 product.

#include "amx_product.h"

// With the GNU C library alone: a product takes 240 KiB of stack, and threads of musl have 128 KiB.
#if defined(__clang__) && defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "instruction_sets.h"

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define AMX_BODY AMX static inline __attribute__((always_inline))

enum {
    LANES = 16,
    /// Rows of a tile of A or C.
    TILE_ROWS = 16,
    /// Elements of a row of A's tile, and pairs of rows of B's.
    STEP = 32,
    PARTS = 3,
    /// Rows of A, or columns of B, whose tiles are multiplied together.
    GROUP = 2 * TILE_ROWS,
    /// Steps of k that are finished for all columns before the next ones start.
    CHUNK = 128,
    CHUNK_STEPS = CHUNK / STEP,
    /// Rows of A that are packed at a time. They share the packing of B.
    BLOCK_ROWS = 256,
    BLOCK_GROUPS = BLOCK_ROWS / GROUP,
    LINE = 64,
};

/// The contents of a tile register: 16 rows of A by 32 elements, or 16 pairs of B's rows by 16 columns.
typedef struct { _Alignas(LINE) uint16_t elements[TILE_ROWS][STEP]; } tile;

/// The parts of GROUP rows of A, or of as many columns of B, in one step.
typedef struct { tile parts[PARTS][2]; } step;

/// CHUNK steps of k of such a group.
typedef struct {
    step steps[CHUNK_STEPS];
    /// A bit for each irregular row or column. The first two parts of an irregular column of B hold the upper
    /// and the lower half of its floats. Those of an irregular row of A are not used.
    _Alignas(LINE) uint32_t irregular;
} chunk;

_Static_assert(GROUP == FASTLOSS_TILE_COLUMNS, "a group of columns is a panel");

typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(64), aligned(2), may_alias));

AMX_BODY size_t least(size_t a, size_t b) { return a < b ? a : b; }

/// The first `count` of 32 bits, or of 16 after the conversion to __mmask16.
AMX_BODY uint32_t first_bits(size_t count) { return count < 32 ? (1u << count) - 1 : ~0u; }

/// LANES floats, or those of `mask` and zeros, of which nothing is read.
AMX_BODY floats load(const bool FULL, uint32_t mask, const float *x) {
    return FULL ? *(const floats *)x : (floats)_mm512_maskz_loadu_ps((__mmask16)mask, x);
}

// MARK: - Splitting

/// Three vectors of floats whose upper halves are bfloat16. The lower ones are zero, but for the third part
/// of numbers so small that its last bits are below every bfloat16.
typedef struct { floats parts[PARTS]; } split;

/// x₁ + x₂ + x₃ = x. The first part is truncated, so that it does not overflow. The second one is rounded, so
/// that the third has no more than 8 bits and either sign: what the six products lack has no bias.
AMX_BODY split split_floats(floats x) {
    const words upper = (words){0} + 0xFFFF0000u;
    split s;
    s.parts[0] = (floats)((words)x & upper);
    const floats rest = x - s.parts[0];
    s.parts[1] = (floats)(((words)rest + 0x8000u) & upper);
    s.parts[2] = rest - s.parts[1];
    return s;
}

/// The larger magnitudes, as bits: they have the order of the numbers, with NaN above all.
AMX_BODY words larger(words largest, floats x) {
    return (words)_mm512_max_epu32((__m512i)largest, (__m512i)((words)x & 0x7FFFFFFFu));
}

/// The bits of 2⁻⁴⁸ and 2⁶³, between which the largest magnitude of a regular row or column lies.
#define LEAST_REGULAR ((words){0} + ((127u - 48) << 23))
#define BEYOND_REGULAR ((words){0} + ((127u + 63) << 23))

/// Lanes with a magnitude that is not 0, that is regular or above, and above.
typedef struct { __mmask16 nonzero, large, too_large; } magnitudes;

AMX_BODY magnitudes classify(words largest) {
    return (magnitudes){
        _mm512_test_epi32_mask((__m512i)largest, (__m512i)largest),
        _mm512_cmpge_epu32_mask((__m512i)largest, (__m512i)LEAST_REGULAR),
        _mm512_cmpge_epu32_mask((__m512i)largest, (__m512i)BEYOND_REGULAR)};
}

/// The irregular columns among LANES.
AMX_BODY uint32_t irregular_columns(words largest) {
    const magnitudes m = classify(largest);
    return m.too_large | (m.nonzero & ~m.large);
}

/// Whether a row is irregular. `largest` has the largest magnitudes of its elements.
AMX_BODY bool is_irregular(words largest) {
    const magnitudes m = classify(largest);
    return m.too_large || (m.nonzero && !m.large);
}

/// Packs CHUNK or fewer elements of each of up to GROUP rows of A. Missing rows and elements become zeros.
/// A FULL group lacks none.
AMX_BODY void pack_rows(
    const bool FULL, const float *a, size_t stride, size_t rows, size_t depth, chunk *packed) {
    enum { ROWS_AHEAD = 8 };
    const size_t steps = FULL ? CHUNK_STEPS : (depth + STEP - 1) / STEP;
    uint32_t irregular = 0;
    for (size_t i = 0; i < GROUP; ++i) {
        const float *row = a + i * stride;
        words largest = {0};
        for (size_t s = 0; s < steps; ++s) {
            const float *x = row + s * STEP;
            const size_t left = FULL ? STEP : i < rows ? depth - s * STEP : 0;
            __builtin_prefetch(fastloss_beyond(x, ROWS_AHEAD * stride * sizeof(float)));
            __builtin_prefetch(fastloss_beyond(x + LANES, ROWS_AHEAD * stride * sizeof(float)));
            const floats low = load(FULL, first_bits(left), x);
            const floats high = load(FULL, first_bits(left) >> LANES, x + LANES);
            largest = larger(larger(largest, low), high);
            const split l = split_floats(low), h = split_floats(high);
            for (int p = 0; p < PARTS; ++p)
                *(halves *)packed->steps[s].parts[p][i / TILE_ROWS].elements[i % TILE_ROWS] =
                    __builtin_shufflevector(
                        (halves)l.parts[p], (halves)h.parts[p], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25,
                        27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
        }
        irregular |= (uint32_t)is_irregular(largest) << i;
    }
    packed->irregular = irregular;
}

/// The place of a vector of a pair of B's rows.
AMX_BODY words *place(chunk *packed, size_t pair, int part, size_t half) {
    enum { PAIRS = STEP / 2 };
    return (words *)packed->steps[pair / PAIRS].parts[part][half].elements[pair % PAIRS];
}

/// Packs CHUNK or fewer rows of up to GROUP columns of B. Missing columns and rows become zeros. A FULL group
/// lacks none.
AMX_BODY void pack_columns(
    const bool FULL, const float *b, size_t stride, size_t depth, size_t columns, chunk *packed) {
    enum { ROWS_AHEAD = 16 };
    const size_t pairs = FULL ? CHUNK / 2 : (depth + STEP - 1) / STEP * (STEP / 2);
    words largest[2] = {{0}, {0}};
    for (size_t pair = 0; pair < pairs; ++pair) {
        const float *row = b + 2 * pair * stride;
        const uint32_t even_mask = 2 * pair < depth ? first_bits(columns) : 0;
        const uint32_t odd_mask = 2 * pair + 1 < depth ? first_bits(columns) : 0;
        for (size_t half = 0; half < 2; ++half) {
            const float *x = row + half * LANES;
            __builtin_prefetch(fastloss_beyond(x, ROWS_AHEAD * stride * sizeof(float)));
            __builtin_prefetch(fastloss_beyond(x, (ROWS_AHEAD + 1) * stride * sizeof(float)));
            const floats even = load(FULL, even_mask >> half * LANES, x);
            const floats odd = load(FULL, odd_mask >> half * LANES, x + stride);
            largest[half] = larger(larger(largest[half], even), odd);
            const split e = split_floats(even), o = split_floats(odd);
            for (int p = 0; p < PARTS; ++p)
                *place(packed, pair, p, half) = (words)e.parts[p] >> 16 | ((words)o.parts[p] & 0xFFFF0000u);
        }
    }
    packed->irregular = irregular_columns(largest[0]) | irregular_columns(largest[1]) << LANES;
    if (packed->irregular == 0) return;
    for (size_t k = 0; k < depth; ++k)
        for (size_t j = 0; j < columns; ++j) {
            if (!(packed->irregular >> j & 1)) continue;
            uint32_t bits;
            __builtin_memcpy(&bits, b + k * stride + j, sizeof bits);
            tile(*parts)[2] = packed->steps[k / STEP].parts;
            const size_t row = k % STEP / 2, element = j % LANES * 2 + k % 2;
            parts[0][j / LANES].elements[row][element] = (uint16_t)(bits >> 16);
            parts[1][j / LANES].elements[row][element] = (uint16_t)bits;
        }
}

/// The floats of packed columns: CHUNK or fewer rows of GROUP. Those of regular columns are exact from 2⁻¹¹⁰
/// on, and within 2⁻¹³³ below, the least bfloat16.
AMX_BODY void unpack_columns(const chunk *packed, size_t depth, float *b) {
    for (size_t k = 0; k < depth; ++k)
        for (size_t j = 0; j < GROUP; ++j) {
            const tile(*parts)[2] = packed->steps[k / STEP].parts;
            const size_t row = k % STEP / 2, element = j % LANES * 2 + k % 2;
            float x[PARTS];
            uint32_t bits[PARTS];
            for (int p = 0; p < PARTS; ++p) {
                bits[p] = (uint32_t)parts[p][j / LANES].elements[row][element] << 16;
                __builtin_memcpy(&x[p], &bits[p], sizeof x[p]);
            }
            float *place = &b[k * GROUP + j];
            *place = x[0] + (x[1] + x[2]);
            if (!(packed->irregular >> j & 1)) continue;
            bits[0] |= bits[1] >> 16;
            __builtin_memcpy(place, &bits[0], sizeof *place);
        }
}

// MARK: - Multiplying

/// Tile registers of 16 rows of 64 bytes.
AMX_BODY void configure_tiles(void) {
    const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {
        .palette = 1,
        .row_bytes = {LINE, LINE, LINE, LINE, LINE, LINE, LINE, LINE},
        .rows = {16, 16, 16, 16, 16, 16, 16, 16},
    };
    _tile_loadconfig(&configuration);
}

/// Where a product goes: `rows` × `columns` elements of C, at most GROUP each.
typedef struct {
    float *c;
    size_t stride, rows, columns;
    bool accumulate;
} target;

/// Writes or adds all elements.
AMX_BODY void write_whole_group(const float (*sums)[GROUP], target to) {
    for (size_t i = 0; i < GROUP; ++i)
        for (size_t j = 0; j < GROUP; j += LANES) {
            const floats x = *(const floats *)(sums[i] + j);
            floats *c = (floats *)(to.c + i * to.stride + j);
            *c = to.accumulate ? *c + x : x;
        }
}

/// Writes or adds the elements of regular rows and columns.
AMX_BODY void write_group(
    const float (*sums)[GROUP], target to, uint32_t irregular_rows, uint32_t irregular_columns) {
    const uint32_t written = first_bits(to.columns) & ~irregular_columns;
    for (size_t i = 0; i < to.rows; ++i) {
        if (irregular_rows >> i & 1) continue;
        for (size_t half = 0; half < 2; ++half) {
            const __mmask16 mask = (__mmask16)(written >> half * LANES);
            float *c = to.c + i * to.stride + half * LANES;
            __m512 x = _mm512_load_ps(sums[i] + half * LANES);
            if (to.accumulate) x = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), x);
            _mm512_mask_storeu_ps(c, mask, x);
        }
    }
}

#define LOAD_A(p)                                                     \
    _tile_loadd(4, a->parts[p][0].elements, LINE);                    \
    if (ROW_TILES > 1) _tile_loadd(5, a->parts[p][1].elements, LINE);
#define LOAD_B(p)                                                        \
    _tile_loadd(6, b->parts[p][0].elements, LINE);                       \
    if (COLUMN_TILES > 1) _tile_loadd(7, b->parts[p][1].elements, LINE);
#define MULTIPLY                                                    \
    _tile_dpbf16ps(0, 4, 6);                                        \
    if (COLUMN_TILES > 1) _tile_dpbf16ps(1, 4, 7);                  \
    if (ROW_TILES > 1) _tile_dpbf16ps(2, 5, 6);                     \
    if (ROW_TILES > 1 && COLUMN_TILES > 1) _tile_dpbf16ps(3, 5, 7);

/// The product of one chunk of a group of rows and one of a group of columns. On the way it prefetches up to
/// `lines` cache lines from `next` on.
AMX_BODY void multiply_group(
    const int ROW_TILES, const int COLUMN_TILES, const chunk *rows, const chunk *columns, size_t steps,
    target to, const char *next, size_t lines) {
    _Alignas(LINE) float sums[GROUP][GROUP];
    for (size_t i = 0; i < to.rows; ++i) {
        __builtin_prefetch(to.c + i * to.stride, 1);
        __builtin_prefetch(fastloss_beyond(to.c + i * to.stride, LINE), 1);
    }
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t s = 0; s < steps; ++s) {
        const step *a = &rows->steps[s], *b = &columns->steps[s];
        for (size_t line = 0; line < lines; line += CHUNK_STEPS, next = fastloss_beyond(next, LINE))
            __builtin_prefetch(next);
        LOAD_A(0)
        LOAD_B(2) MULTIPLY LOAD_B(1) MULTIPLY LOAD_A(1) MULTIPLY LOAD_B(0) MULTIPLY LOAD_A(2) MULTIPLY
    }
    for (size_t s = 0; s < steps; ++s) {
        const step *a = &rows->steps[s], *b = &columns->steps[s];
        LOAD_A(0) LOAD_B(0) MULTIPLY
    }
    const size_t bytes = sizeof sums[0];
    _tile_stored(0, sums[0], bytes);
    if (COLUMN_TILES > 1) _tile_stored(1, sums[0] + TILE_ROWS, bytes);
    if (ROW_TILES > 1) _tile_stored(2, sums[TILE_ROWS], bytes);
    if (ROW_TILES > 1 && COLUMN_TILES > 1) _tile_stored(3, sums[TILE_ROWS] + TILE_ROWS, bytes);
    if (to.rows == GROUP && to.columns == GROUP && !(rows->irregular | columns->irregular))
        write_whole_group((const float (*)[GROUP])sums, to);
    else
        write_group((const float (*)[GROUP])sums, to, rows->irregular, columns->irregular);
}

/// Computes the elements of irregular rows and columns as AVX-512 does.
AMX __attribute__((noinline)) static void mend_group(
    const float *a, size_t a_row_stride, size_t a_column_stride, size_t depth, uint32_t irregular_rows,
    const chunk *columns, target to) {
    _Alignas(LINE) float b[CHUNK * GROUP], sums[GROUP][GROUP];
    unpack_columns(columns, depth, b);
    fastloss_products_avx512.multiply(
        a, a_row_stride, a_column_stride, to.rows, depth, b, GROUP, 1, to.columns, sums[0], GROUP,
        FASTLOSS_OVERWRITE);
    // Of the regular rows, the irregular columns; of the irregular rows, everything.
    write_group((const float (*)[GROUP])sums, to, irregular_rows, ~columns->irregular);
    write_group((const float (*)[GROUP])sums, to, ~irregular_rows, 0);
}

/// Packs a chunk of up to GROUP rows of A, whose elements are stored by rows or by columns.
AMX_BODY void pack_group(
    const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth, chunk *packed) {
    _Alignas(LINE) float by_rows[GROUP * CHUNK];
    if (a_column_stride != 1) {
        FASTLOSS_NAME(transpose, avx512)(a, depth, rows, a_column_stride, by_rows, CHUNK);
        a = by_rows;
        a_row_stride = CHUNK;
    }
    if (rows == GROUP && depth == CHUNK) return pack_rows(true, a, a_row_stride, rows, depth, packed);
    pack_rows(false, a, a_row_stride, rows, depth, packed);
}

/// Packs a chunk of up to GROUP columns of B, whose elements are stored by rows or by columns.
AMX_BODY void pack_chunk(
    const float *b, size_t b_row_stride, size_t b_column_stride, size_t depth, size_t columns,
    chunk *packed) {
    _Alignas(LINE) float by_rows[CHUNK * GROUP];
    if (b_column_stride != 1) {
        FASTLOSS_NAME(transpose, avx512)(b, columns, depth, b_column_stride, by_rows, GROUP);
        b = by_rows;
        b_row_stride = GROUP;
    }
    if (columns == GROUP && depth == CHUNK)
        return pack_columns(true, b, b_row_stride, depth, columns, packed);
    pack_columns(false, b, b_row_stride, depth, columns, packed);
}

/// The right operand: a matrix in place, or packed panels.
typedef struct {
    const float *b;
    size_t row_stride, column_stride;
    const chunk *panels;
} right_operand;

AMX static void multiply(
    const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth, right_operand b,
    size_t columns, float *c, size_t c_stride, fastloss_write_mode mode) {
    chunk a_groups[BLOCK_GROUPS], b_chunk;
    const size_t chunks = (depth + CHUNK - 1) / CHUNK;
    configure_tiles();
    for (size_t first_row = 0; first_row < rows; first_row += BLOCK_ROWS) {
        const size_t block_rows = least(rows - first_row, BLOCK_ROWS);
        const size_t groups = (block_rows + GROUP - 1) / GROUP;
        for (size_t k = 0; k < depth; k += CHUNK) {
            const size_t chunk_depth = least(depth - k, CHUNK), steps = (chunk_depth + STEP - 1) / STEP;
            const float *block = a + first_row * a_row_stride + k * a_column_stride;
            for (size_t g = 0; g < groups; ++g)
                pack_group(
                    block + g * GROUP * a_row_stride, a_row_stride, a_column_stride,
                    least(block_rows - g * GROUP, GROUP), chunk_depth, &a_groups[g]);
            for (size_t column = 0; column < columns; column += GROUP) {
                const size_t width = least(columns - column, GROUP);
                const chunk *b_group = &b_chunk;
                const char *next = NULL;
                size_t lines = 0;
                if (b.panels) {
                    b_group = b.panels + column / GROUP * chunks + k / CHUNK;
                    // The same rows of the next panel, shared among the groups.
                    next = (const char *)(b_group + chunks);
                    lines = sizeof(step) * steps / LINE / groups + 1;
                } else {
                    pack_chunk(
                        b.b + k * b.row_stride + column * b.column_stride, b.row_stride, b.column_stride,
                        chunk_depth, width, &b_chunk);
                }
                for (size_t g = 0; g < groups; ++g) {
                    const chunk *a_group = &a_groups[g];
                    const size_t row = g * GROUP;
                    const target to = {
                        c + (first_row + row) * c_stride + column, c_stride, least(block_rows - row, GROUP),
                        width, mode == FASTLOSS_ACCUMULATE || k > 0};
                    const char *share = next ? fastloss_beyond(next, g * lines * LINE) : NULL;
                    if (to.rows > TILE_ROWS && width > LANES)
                        multiply_group(2, 2, a_group, b_group, steps, to, share, lines);
                    else if (width > LANES)
                        multiply_group(1, 2, a_group, b_group, steps, to, share, lines);
                    else if (to.rows > TILE_ROWS)
                        multiply_group(2, 1, a_group, b_group, steps, to, share, lines);
                    else
                        multiply_group(1, 1, a_group, b_group, steps, to, share, lines);
                    if (a_group->irregular | b_group->irregular)
                        mend_group(
                            block + row * a_row_stride, a_row_stride, a_column_stride, chunk_depth,
                            a_group->irregular, b_group, to);
                }
            }
        }
    }
    _tile_release();
}

// MARK: - The table

/// Short sums are left to AVX-512: a step would be mostly padding. The depth is a property of an element, so
/// each element has the same bits in every call.
AMX_BODY bool is_short(size_t depth) { return depth < STEP; }

AMX static void multiply_in_place(
    const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth, const float *b,
    size_t b_row_stride, size_t b_column_stride, size_t columns, float *c, size_t c_stride,
    fastloss_write_mode mode) {
    if (is_short(depth))
        return fastloss_products_avx512.multiply(
            a, a_row_stride, a_column_stride, rows, depth, b, b_row_stride, b_column_stride, columns, c,
            c_stride, mode);
    const right_operand right = {.b = b, .row_stride = b_row_stride, .column_stride = b_column_stride};
    multiply(a, a_row_stride, a_column_stride, rows, depth, right, columns, c, c_stride, mode);
}

AMX static size_t panel_floats(size_t depth) {
    if (is_short(depth)) return fastloss_products_avx512.panel_floats(depth);
    return (depth + CHUNK - 1) / CHUNK * (sizeof(chunk) / sizeof(float));
}

AMX static void pack(
    const float *b, size_t b_row_stride, size_t b_column_stride, size_t depth, size_t columns, float *panel) {
    if (is_short(depth))
        return fastloss_products_avx512.pack(b, b_row_stride, b_column_stride, depth, columns, panel);
    for (size_t k = 0; k < depth; k += CHUNK)
        pack_chunk(
            b + k * b_row_stride, b_row_stride, b_column_stride, least(depth - k, CHUNK), columns,
            (chunk *)panel + k / CHUNK);
}

AMX static void multiply_panels(
    const float *a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
    const float *panels, size_t columns, float *c, size_t c_stride, fastloss_write_mode mode) {
    if (is_short(depth))
        return fastloss_products_avx512.multiply_panels(
            a, a_row_stride, a_column_stride, rows, depth, panels, columns, c, c_stride, mode);
    const right_operand right = {.panels = (const chunk *)panels};
    multiply(a, a_row_stride, a_column_stride, rows, depth, right, columns, c, c_stride, mode);
}

static const fastloss_tile_products products = {multiply_in_place, panel_floats, pack, multiply_panels};
const fastloss_tile_products *const fastloss_products_amx = &products;

bool fastloss_amx_is_usable(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16")
        && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

#else

const fastloss_tile_products *const fastloss_products_amx = NULL;

bool fastloss_amx_is_usable(void) { return false; }

#endif
