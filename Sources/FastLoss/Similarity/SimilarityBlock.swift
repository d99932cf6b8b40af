// A block of a similarity matrix, and the protocol of the computations that consume blocks.

import CFastLossKernels

/// A block of S = N_left·N_rightᵀ in scratch memory. An epilogue may use it until it returns.
///
/// Each operand may be a part of a larger batch. `diagonal` says where a row meets itself.
package struct SimilarityBlock {
    /// The block's number among all blocks of the pass. It does not depend on the workers.
    let number: Int
    /// The block's rows, numbered as in the left operand.
    let rows: Range<Int>
    /// The block's columns, numbered as the rows of the right operand.
    let columns: Range<Int>
    /// The column in which the block's first row meets itself, counted from the block's first column. The
    /// next row meets itself one column further on. The column may lie outside the block.
    let diagonal: Int
    /// How many of the last columns also stand for their mirror image, which is not computed.
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

/// A computation on the blocks of a similarity matrix. It accepts them in any order.
///
/// An epilogue knows nothing of the driver. Several workers call it at the same time, with different blocks.
/// It writes its results to memory that belongs to the block's number or to its rows, and they are read in
/// that order after the pass.
package protocol SimilarityEpilogue {
    /// Visits a block. If the pass forms gradients, the epilogue replaces each element (i, j) by a multiple
    /// of ∂L/∂S_ij.
    func visit(_ block: SimilarityBlock)
}
