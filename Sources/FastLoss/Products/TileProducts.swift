// The products of the tiles of a similarity matrix, by FastLoss's own kernel or by sgemm.
//
// AVX2 and AVX-512 use a tile product of their own for every size: it packs the right operand of
// similarities alone, once, and does not depend on the kernels of the BLAS build. The baseline uses
// `cblas_sgemm`, except for similarities that must round alike in every block.

import CFastLossKernels

/// The products of tiles.
package enum TileProducts {
    /// The rows of one packed panel of the right operand of similarities.
    package static let panelRows = Int(FASTLOSS_TILE_COLUMNS)

    /// Multiplications per nanosecond on one worker, which decide whether a second one pays: those of a fast
    /// core. On a slower one, a second worker gains more.
    private static let productsPerNanosecond = 130.0

    /// The product of the instruction set in use; nil if products use BLAS.
    private static let tileProduct: fastloss_tile_product? =
        InstructionSet.chosen == .baseline ? nil : InstructionSet.chosen.tileProduct

    /// The product of a matrix and a panel. The baseline's takes more time than sgemm, but rounds an element alike
    /// wherever its row and its column stand.
    private static let panelProduct: fastloss_tile_product? = InstructionSet.chosen.tileProduct

    /// Whether right operands are packed into panels. sgemm packs its operands itself.
    static var packs: Bool { tileProduct != nil }

    /// Initialises the choices; see ``ProcessState``.
    static func choose() { (_, _) = (tileProduct, panelProduct) }

    /// A plan with products calls this before it shares work.
    package static func prepare(in layout: inout ScratchLayout) {
        if tileProduct == nil { BLAS.prepare(in: &layout) }
    }

    /// The estimated nanoseconds of a product on one worker.
    package static func nanoseconds(rows: Int, columns: Int, depth: Int) -> Double {
        Double(rows) * Double(columns) * Double(depth) / productsPerNanosecond
    }

    /// The length of the partial sums of a product; see FASTLOSS_TILE_DEPTH.
    private static let depth = Int(FASTLOSS_TILE_DEPTH)

    /// The stride of scratch matrices with `columns` columns. Whole panels are readable, and the number of
    /// cache lines is odd, so that the rows of a tile spread over all sets of a cache. sgemm packs its
    /// operands, and needs neither.
    package static func stride(forColumns columns: Int) -> Int {
        guard tileProduct != nil, columns > 0 else { return columns }
        return (columns + panelRows - 1) / panelRows * panelRows + ScratchLayout.alignment
            / MemoryLayout<Float>.stride
    }

    /// C = A·B or C += A·B. Rows of B are readable up to a multiple of ``panelRows`` columns.
    package static func multiply(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool = false
    ) {
        guard let tileProduct else {
            for k in Swift.stride(from: 0, to: max(1, a.columns), by: depth) {
                let steps = min(depth, a.columns - k)
                BLAS.multiply(
                    MatrixPointer(a.base + k, rows: a.rows, columns: steps, stride: a.stride),
                    MatrixPointer(b.base + k * b.stride, rows: steps, columns: b.columns, stride: b.stride),
                    beta: accumulates || k > 0 ? 1 : 0, into: c, stride: stride)
            }
            return
        }
        tileProduct(
            a.base, a.stride, 1, a.rows, a.columns, b.base, b.stride, b.columns, c, stride,
            accumulates ? FASTLOSS_ACCUMULATE : FASTLOSS_OVERWRITE)
    }

    /// C = Aᵀ·B or C += Aᵀ·B. Rows of B are readable up to a multiple of ``panelRows`` columns.
    package static func multiplyTransposedLeft(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool = false
    ) {
        guard let tileProduct else {
            for k in Swift.stride(from: 0, to: max(1, a.rows), by: depth) {
                let steps = min(depth, a.rows - k)
                BLAS.multiplyTransposedLeft(
                    MatrixPointer(a.base + k * a.stride, rows: steps, columns: a.columns, stride: a.stride),
                    MatrixPointer(b.base + k * b.stride, rows: steps, columns: b.columns, stride: b.stride),
                    beta: accumulates || k > 0 ? 1 : 0, into: c, stride: stride)
            }
            return
        }
        tileProduct(
            a.base, 1, a.stride, a.columns, a.rows, b.base, b.stride, b.columns, c, stride,
            accumulates ? FASTLOSS_ACCUMULATE : FASTLOSS_OVERWRITE)
    }
}

// MARK: - Similarities

extension TileProducts {
    /// The elements of packed rows, in whole panels.
    static func packedCount(rows: Int, columns: Int) throws(LossError) -> Int {
        try MatrixShape(rows: (rows + panelRows - 1) / panelRows * panelRows, columns: columns).checkedCount()
    }

    /// Packs up to ``panelRows`` rows, which begin at row `row` of a matrix, into the panels of that matrix.
    static func pack(_ rows: MatrixPointer, from row: Int, into panels: UnsafeMutablePointer<Float>) {
        pack(rows, into: panels + row * rows.columns)
    }

    /// C = A·Bᵀ. With `packed`, each element rounds alike in every block.
    ///
    /// - Parameters:
    ///   - packed: the panels of B, if they are kept; then `b` starts with a panel.
    ///   - scratch: memory for one panel, if none are kept.
    static func multiplyTransposedRight(
        _ a: MatrixPointer, _ b: MatrixPointer, packed: UnsafePointer<Float>?,
        scratch: UnsafeMutablePointer<Float>?, into c: UnsafeMutablePointer<Float>, stride: Int
    ) {
        guard packed != nil || tileProduct != nil else {
            return BLAS.multiplyTransposedRight(a, b, into: c, stride: stride)
        }
        for row in Swift.stride(from: 0, to: b.rows, by: panelRows) {
            let count = min(panelRows, b.rows - row)
            let panel: UnsafePointer<Float>
            if let packed {
                panel = packed + row * b.columns
            } else if let scratch {
                pack(
                    MatrixPointer(b.base + row * b.stride, rows: count, columns: b.columns, stride: b.stride),
                    into: scratch)
                panel = UnsafePointer(scratch)
            } else {
                preconditionFailure(
                    "similarities with rows that are not packed need scratch memory for a panel")
            }
            multiply(a, panel: panel, count: count, into: c + row, stride: stride)
        }
    }

    /// Packs up to ``panelRows`` rows into one panel, for the right operand of similarities.
    package static func pack(_ rows: MatrixPointer, into panel: UnsafeMutablePointer<Float>) {
        kernels.transpose(rows.base, rows.rows, rows.columns, rows.stride, panel, panelRows)
        // Zero the padding: the kernel loads it and discards the result.
        let missing = panelRows - rows.rows
        for k in 0..<rows.columns where missing > 0 {
            (panel + k * panelRows + rows.rows).update(repeating: 0, count: missing)
        }
    }

    /// C = A·Bᵀ or C += A·Bᵀ, with B as a packed panel of `count` rows.
    package static func multiply(
        _ a: MatrixPointer, panel: UnsafePointer<Float>, count: Int, into c: UnsafeMutablePointer<Float>,
        stride: Int, accumulates: Bool = false
    ) {
        guard let panelProduct else {
            return multiply(
                a, MatrixPointer(panel, rows: a.columns, columns: count, stride: panelRows), into: c,
                stride: stride, accumulates: accumulates)
        }
        panelProduct(
            a.base, a.stride, 1, a.rows, a.columns, panel, panelRows, count, c, stride,
            accumulates ? FASTLOSS_ACCUMULATE : FASTLOSS_OVERWRITE)
    }
}
