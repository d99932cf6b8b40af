// Products of small matrices, for the tiles of the similarity losses.

#ifndef FASTLOSS_TILE_PRODUCT_H
#define FASTLOSS_TILE_PRODUCT_H

#include "fastloss_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/// B's columns are read in groups of this size: see `fastloss_tile_product`.
#define FASTLOSS_TILE_COLUMNS 32

/// Steps of k that are summed in one accumulator before they are added to C. The error of a sum of equal
/// terms, whose roundings all go one way, grows with their number. A depth of 128 would take 3 % less time
/// and lose one more bit.
#define FASTLOSS_TILE_DEPTH 64

/// C = A·B, or C += A·B with FASTLOSS_ACCUMULATE: A is rows × depth, B depth × columns, C rows × columns.
///
/// Element (i, k) of A is a[i·a_row_stride + k·a_column_stride]. One of the two strides must be 1, so A may
/// be stored by rows or by columns. B and C are row-major with `b_stride` and `c_stride`. Every row of B must
/// be readable up to `columns` rounded up to FASTLOSS_TILE_COLUMNS; values beyond `columns` do not affect C.
/// C may not overlap an operand.
///
/// Each element is summed over k in one order, in blocks of FASTLOSS_TILE_DEPTH, by fused multiply-adds where
/// the instruction set has them. So element (i, j) depends on row i of A and column j of B alone, and not on
/// their positions.
typedef void (*fastloss_tile_product)(
    const float *_Nonnull a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
    const float *_Nonnull b, size_t b_stride, size_t columns, float *_Nonnull c, size_t c_stride,
    fastloss_write_mode mode);

/// The product of an instruction set; NULL if the processor lacks the set, or if the compiler is not clang.
/// BLAS is faster than the baseline's, but rounds an element by its position.
fastloss_tile_product _Nullable fastloss_tile_product_for(fastloss_isa isa);

#ifdef __cplusplus
}
#endif

#endif
