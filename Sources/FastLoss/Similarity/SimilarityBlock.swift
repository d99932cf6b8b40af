// A block of a similarity matrix, and what a loss does with it.

import CFastLossKernels

/// A block of S = N_left·N_rightᵀ in scratch memory, on loan to an epilogue.
///
/// Either operand may be a part of a larger batch: `diagonal` tells where a row meets itself.
package struct SimilarityBlock {
    /// The block's number among all blocks of the pass. It does not depend on the workers.
    let number: Int
    /// The block's rows, numbered as in the left operand.
    let rows: Range<Int>
    /// The block's columns, numbered as the rows of the right operand.
    let columns: Range<Int>
    /// The column, counted from the block's first one, in which the block's first row meets itself; the second row does so one
    /// column further on. It may lie outside the block.
    let diagonal: Int
    /// How many of the last columns stand for their mirror image as well: in a symmetric matrix it is not computed.
    let mirroredColumns: Int
    /// The block's first element.
    let memory: UnsafeMutablePointer<Float>
    /// Elements between the starts of two rows.
    let stride: Int

    /// The elements of one row, which is counted from the block's first one.
    func row(_ index: Int) -> UnsafeMutablePointer<Float> { memory + index * stride }

    /// The rows, counted from the block's first one, that meet themselves in the block.
    var diagonalRows: Range<Int> {
        let first = max(0, -diagonal)
        return first..<max(first, min(rows.count, columns.count - diagonal))
    }

    /// The block as the factor of a product.
    var matrix: MatrixPointer {
        MatrixPointer(memory, rows: rows.count, columns: columns.count, stride: stride)
    }
}

/// What a computation does with the blocks of a similarity matrix, in whatever order they come.
///
/// An epilogue knows nothing of the driver: several workers call it at the same time, with different blocks. It writes what it
/// finds to memory that belongs to the block's number or to its rows, and whoever reads it later takes it in that order.
package protocol SimilarityEpilogue {
    /// Visits a block. If the pass forms gradients, the block is replaced by the factors of the operands' rows:
    /// element (i, j) by a multiple of ∂L/∂S_ij.
    func visit(_ block: SimilarityBlock)
}
