// Products of small matrices, for the tiles of the similarity losses and the layers of the task heads.

#ifndef FASTLOSS_TILE_PRODUCT_H
#define FASTLOSS_TILE_PRODUCT_H

#include "fastloss_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/// B's columns are read in groups of this size, the panels: see `fastloss_tile_products`.
#define FASTLOSS_TILE_COLUMNS 32

/// Steps of k that are summed in one accumulator before they are added to C. The error of a sum of equal
/// terms, whose roundings all go one way, grows with their number. A depth of 128 would take 3 % less time
/// and lose one more bit.
#define FASTLOSS_TILE_DEPTH 64

/// The products of an instruction set.
///
/// They compute C = A·B, or C += A·B with FASTLOSS_ACCUMULATE: A is rows × depth, B depth × columns, C rows ×
/// columns. Element (i, k) of A is a[i·a_row_stride + k·a_column_stride], and element (k, j) of B is
/// b[k·b_row_stride + j·b_column_stride]. One of the two strides of an operand must be 1, so it may be stored
/// by rows or by columns. C is row-major with `c_stride`, and may not overlap an operand.
///
/// Each element is summed over k in one order. So element (i, j) depends on row i of A and column j of B
/// alone, and not on their positions or on the other rows and columns.
typedef struct {
    /// The product of matrices in place. If `b_column_stride` is 1, every row of B must be readable up to
    /// `columns` rounded up to FASTLOSS_TILE_COLUMNS; values beyond `columns` do not affect C.
    void (*_Nonnull multiply)(
        const float *_Nonnull a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
        const float *_Nonnull b, size_t b_row_stride, size_t b_column_stride, size_t columns,
        float *_Nonnull c, size_t c_stride, fastloss_write_mode mode);

    /// The floats that a packed panel of `depth` rows takes, whatever is in them.
    size_t (*_Nonnull panel_floats)(size_t depth);

    /// Packs up to FASTLOSS_TILE_COLUMNS columns of B into one panel, which is aligned to 64 bytes. Nothing
    /// else of B is read.
    void (*_Nonnull pack)(
        const float *_Nonnull b, size_t b_row_stride, size_t b_column_stride, size_t depth, size_t columns,
        float *_Nonnull panel);

    /// The product with packed panels, which follow each other.
    void (*_Nonnull multiply_panels)(
        const float *_Nonnull a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
        const float *_Nonnull panels, size_t columns, float *_Nonnull c, size_t c_stride,
        fastloss_write_mode mode);
} fastloss_tile_products;

/// The products of an instruction set; NULL if the processor lacks the set, or if the compiler is not clang.
/// BLAS is faster than the baseline's, but rounds an element by its position.
const fastloss_tile_products *_Nullable fastloss_tile_products_for(fastloss_isa isa);

#ifdef __cplusplus
}
#endif

#endif
