// Products of small matrices, for the tiles of the similarity losses.

#ifndef FASTLOSS_TILE_PRODUCT_H
#define FASTLOSS_TILE_PRODUCT_H

#include "fastloss_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/// B's columns are read in groups of this many: see `fastloss_tile_product`.
#define FASTLOSS_TILE_COLUMNS 32

/// Steps of k that are summed in one accumulator before they are added to C. With equal terms, whose
/// roundings all go one way, the error of a sum grows with their number: a depth of 128 costs 3 % less time
/// and loses a bit more.
#define FASTLOSS_TILE_DEPTH 64

/// C = A·B, or C += A·B with FASTLOSS_ACCUMULATE: A is rows × depth, B depth × columns, C rows × columns.
///
/// Element (i, k) of A is a[i·a_row_stride + k·a_column_stride], one of the two strides being 1: so A may be
/// stored by rows or by columns. B and C are row-major with `b_stride` and `c_stride`. Every row of B has to
/// be readable, whatever it holds, up to `columns` rounded up to FASTLOSS_TILE_COLUMNS; beyond `columns`
/// nothing of it reaches C. C may overlap neither operand.
///
/// Each element is summed over k in one order, by fused multiply-adds in blocks of FASTLOSS_TILE_DEPTH: it
/// depends on row i of A and column j of B alone, not on where they stand.
typedef void (*fastloss_tile_product)(
    const float *_Nonnull a, size_t a_row_stride, size_t a_column_stride, size_t rows, size_t depth,
    const float *_Nonnull b, size_t b_stride, size_t columns, float *_Nonnull c, size_t c_stride,
    fastloss_write_mode mode);

/// The product of an instruction set, or NULL for the baseline: there BLAS, which has kernels of its own for
/// each processor, is faster than portable C.
fastloss_tile_product _Nullable fastloss_tile_product_for(fastloss_isa isa);

#ifdef __cplusplus
}
#endif

#endif
