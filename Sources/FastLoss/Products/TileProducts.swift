// The products that the tiles of a similarity matrix go through, by FastLoss's own kernel or by sgemm.
//
// Where the instruction set has a tile product of its own (AVX2, AVX-512), it is used for every size: it packs
// little (similarities their right operand, once), and does not depend on which kernels the BLAS build knows. The baseline goes through `cblas_sgemm`.

import CFastLossKernels

package enum TileProducts {
    /// Rows that one packed panel of the right operand of a similarity holds, side by side.
    package static let panelRows = Int(FASTLOSS_TILE_COLUMNS)

    /// Products in a nanosecond of one worker, for telling whether a second one pays: what a Zen 5 core reaches. Slower ones
    /// have more to gain than this tells.
    private static let productsPerNanosecond = 130.0

    /// The product of the instruction set in use, or nil where products go through BLAS. Nobody else asks which.
    private static let tileProduct: fastloss_tile_product? = InstructionSet.chosen.tileProduct

    /// Makes the choice; see ``ProcessState``.
    static func choose() { _ = tileProduct }

    /// Called by a plan with products, before any work is shared.
    package static func prepare() {
        if tileProduct == nil { BLAS.prepare() }
    }

    /// Nanoseconds that so many products take one worker.
    package static func nanoseconds(rows: Int, columns: Int, depth: Int) -> Double {
        Double(rows) * Double(columns) * Double(depth) / productsPerNanosecond
    }

    /// Steps of a sum before it is added to the rest; see FASTLOSS_TILE_DEPTH.
    private static let depth = Int(FASTLOSS_TILE_DEPTH)

    /// Elements between the rows of scratch matrices with `columns` columns: readable in whole groups of columns, and an odd
    /// number of cache lines, so that the rows of a tile spread over all sets of a cache. sgemm packs, and needs neither.
    package static func stride(forColumns columns: Int) -> Int {
        guard tileProduct != nil, columns > 0 else { return columns }
        return (columns + panelRows - 1) / panelRows * panelRows + ScratchLayout.alignment
            / MemoryLayout<Float>.stride
    }

    /// C = A·B or C += A·B. Rows of B are readable up to a whole number of ``panelRows`` columns.
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

    /// C = Aᵀ·B or C += Aᵀ·B. Rows of B are readable up to a whole number of ``panelRows`` columns.
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
    /// Elements that so many rows take packed, as the right operand of similarities: whole panels. None where products go
    /// through sgemm, which packs by itself.
    static func packedCount(rows: Int, columns: Int) throws(LossError) -> Int {
        guard tileProduct != nil else { return 0 }
        return try MatrixShape(rows: (rows + panelRows - 1) / panelRows * panelRows, columns: columns)
            .checkedCount()
    }

    /// Packs up to ``panelRows`` rows, the first of which is number `row` of all, into the panels of all.
    static func pack(_ rows: MatrixPointer, from row: Int, into panels: UnsafeMutablePointer<Float>) {
        guard tileProduct != nil else { return }
        pack(rows, into: panels + row * rows.columns)
    }

    /// C = A·Bᵀ.
    ///
    /// - Parameters:
    ///   - packed: the panels of B, if they are kept; `b` starts with a panel then.
    ///   - scratch: memory for one panel, needed where none are kept.
    static func multiplyTransposedRight(
        _ a: MatrixPointer, _ b: MatrixPointer, packed: UnsafePointer<Float>?,
        scratch: UnsafeMutablePointer<Float>?, into c: UnsafeMutablePointer<Float>, stride: Int
    ) {
        guard tileProduct != nil else { return BLAS.multiplyTransposedRight(a, b, into: c, stride: stride) }
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

    /// Writes up to ``panelRows`` rows side by side, ready to be the right operand of similarities.
    package static func pack(_ rows: MatrixPointer, into panel: UnsafeMutablePointer<Float>) {
        kernels.transpose(rows.base, rows.rows, rows.columns, rows.stride, panel, panelRows)
        // Zero the padding: the kernel loads it and discards the result.
        let missing = panelRows - rows.rows
        for k in 0..<rows.columns where missing > 0 {
            (panel + k * panelRows + rows.rows).update(repeating: 0, count: missing)
        }
    }

    /// C = A·Bᵀ with B as a packed panel of `count` rows.
    package static func multiply(
        _ a: MatrixPointer, panel: UnsafePointer<Float>, count: Int, into c: UnsafeMutablePointer<Float>,
        stride: Int
    ) {
        multiply(
            a, MatrixPointer(panel, rows: a.columns, columns: count, stride: panelRows), into: c,
            stride: stride)
    }
}
