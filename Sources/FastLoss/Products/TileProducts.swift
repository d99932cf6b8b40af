// The products of the tiles of a similarity matrix and of the layers of a task head, by FastLoss's own kernels
// or by sgemm.
//
// AVX2 and AVX-512 use products of their own for every size. They pack what they read more than once, and do
// not depend on the kernels of the BLAS build. AMX has its own for products of hundreds of rows. The baseline uses
// `cblas_sgemm`, except for similarities that must round alike in every block.

import CFastLossKernels

/// How large the products of a computation are. All that must round alike use the same one.
package enum ProductScale: Sendable {
    /// Some tens of rows at a time, or fewer than a thousand in all.
    case tiles
    /// Hundreds of rows at a time. On a processor with AMX they pay for splitting the operands; on others they
    /// are the same products as ``tiles``. Measured: the article Tuning.
    case blocks

    /// The scale of the products of a matrix of `rows` rows, all blocks together, by one of `depth` rows.
    package static func of(rows: Int, depth: Int) -> ProductScale {
        InstructionSet.chosen == .amx && rows >= 1024 && depth >= 128 ? .blocks : .tiles
    }
}

/// The products of tiles.
package enum TileProducts {
    /// The columns of one packed panel of the right operand.
    package static let panelColumns = Int(FASTLOSS_TILE_COLUMNS)

    /// Multiplications per nanosecond on one worker, which decide whether a second one pays: those of a fast
    /// core. On a slower one, a second worker gains more.
    private static let productsPerNanosecond = 130.0

    /// The products of the instruction set in use; nil if products use BLAS.
    private static let products: fastloss_tile_products? =
        InstructionSet.chosen == .baseline ? nil : panelProducts

    /// The products with packed panels. The baseline's take more time than sgemm, but round an element alike
    /// wherever its row and its column stand.
    fileprivate static let panelProducts = min(InstructionSet.chosen, .avx512).tileProducts

    /// The products of ``ProductScale/blocks``.
    fileprivate static let blockProducts = InstructionSet.chosen.tileProducts

    /// Whether right operands are packed into panels. sgemm packs its operands itself.
    static var packs: Bool { products != nil }

    /// Initialises the choices; see ``ProcessState``.
    static func choose() { (_, _, _) = (products, panelProducts, blockProducts) }

    private static func products(_ scale: ProductScale) -> fastloss_tile_products? {
        // The baseline's sgemm is for products of every scale.
        scale == .blocks && products != nil ? blockProducts : products
    }

    /// A plan with products calls this before it shares work.
    package static func prepare(in layout: inout ScratchLayout) {
        if products == nil { BLAS.prepare(in: &layout) }
    }

    /// The estimated nanoseconds of a product on one worker.
    package static func nanoseconds(rows: Int, columns: Int, depth: Int) -> Double {
        Double(rows) * Double(columns) * Double(depth) / productsPerNanosecond
    }

    /// The length of the partial sums of a product; see FASTLOSS_TILE_DEPTH.
    private static let depth = Int(FASTLOSS_TILE_DEPTH)

    /// The deepest product A·Bᵀ that one call of sgemm computes. Up to here its errors are no larger than PyTorch's. A
    /// reduction over a cell's tokens is deeper; in one sum its error was 1.5 times PyTorch's. Partial sums take a
    /// tenth more instructions, so shallower products, of layers and embeddings, have none.
    private static let mostInOneSum = 512

    /// The stride of scratch matrices with `columns` columns. Whole panels are readable, and the number of
    /// cache lines is odd, so that the rows of a tile spread over all sets of a cache. sgemm packs its
    /// operands, and needs neither.
    package static func stride(forColumns columns: Int) -> Int {
        guard products != nil, columns > 0 else { return columns }
        return (columns + panelColumns - 1) / panelColumns * panelColumns + ScratchLayout.alignment
            / MemoryLayout<Float>.stride
    }

    /// C = A·B or C += A·B. Rows of B are readable up to a multiple of ``panelColumns`` columns.
    package static func multiply(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool = false, scale: ProductScale = .tiles
    ) {
        guard let products = products(scale) else {
            for k in Swift.stride(from: 0, to: max(1, a.columns), by: depth) {
                let steps = min(depth, a.columns - k)
                BLAS.multiply(
                    MatrixPointer(a.base + k, rows: a.rows, columns: steps, stride: a.stride),
                    MatrixPointer(b.base + k * b.stride, rows: steps, columns: b.columns, stride: b.stride),
                    beta: accumulates || k > 0 ? 1 : 0, into: c, stride: stride)
            }
            return
        }
        products.multiply(
            a.base, a.stride, 1, a.rows, a.columns, b.base, b.stride, 1, b.columns, c, stride,
            mode(accumulates))
    }

    /// C = Aᵀ·B or C += Aᵀ·B. Rows of B are readable up to a multiple of ``panelColumns`` columns.
    package static func multiplyTransposedLeft(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool = false, scale: ProductScale = .tiles
    ) {
        guard let products = products(scale) else {
            for k in Swift.stride(from: 0, to: max(1, a.rows), by: depth) {
                let steps = min(depth, a.rows - k)
                BLAS.multiplyTransposedLeft(
                    MatrixPointer(a.base + k * a.stride, rows: steps, columns: a.columns, stride: a.stride),
                    MatrixPointer(b.base + k * b.stride, rows: steps, columns: b.columns, stride: b.stride),
                    beta: accumulates || k > 0 ? 1 : 0, into: c, stride: stride)
            }
            return
        }
        products.multiply(
            a.base, 1, a.stride, a.columns, a.rows, b.base, b.stride, 1, b.columns, c, stride,
            mode(accumulates))
    }

    /// C = A·Bᵀ or C += A·Bᵀ.
    package static func multiplyTransposedRight(
        _ a: MatrixPointer, _ b: MatrixPointer, into c: UnsafeMutablePointer<Float>, stride: Int,
        accumulates: Bool = false, scale: ProductScale = .tiles
    ) {
        guard let products = products(scale) else {
            let depth = a.columns > mostInOneSum ? depth : max(1, a.columns)
            for k in Swift.stride(from: 0, to: max(1, a.columns), by: depth) {
                let steps = min(depth, a.columns - k)
                BLAS.multiplyTransposedRight(
                    MatrixPointer(a.base + k, rows: a.rows, columns: steps, stride: a.stride),
                    MatrixPointer(b.base + k, rows: b.rows, columns: steps, stride: b.stride),
                    beta: accumulates || k > 0 ? 1 : 0, into: c, stride: stride)
            }
            return
        }
        products.multiply(
            a.base, a.stride, 1, a.rows, a.columns, b.base, 1, b.stride, b.rows, c, stride,
            mode(accumulates))
    }

    private static func mode(_ accumulates: Bool) -> fastloss_write_mode {
        accumulates ? FASTLOSS_ACCUMULATE : FASTLOSS_OVERWRITE
    }
}

// MARK: - Packed panels

/// The format of a right operand B that is packed in panels of ``TileProducts/panelColumns`` columns, which
/// follow each other. Those of ``ProductScale/tiles`` hold floats row by row; AMX has a format of its own.
package struct Panels {
    private let products: fastloss_tile_products
    /// The rows of B.
    package let depth: Int

    package init(depth: Int, scale: ProductScale = .tiles) {
        products = scale == .blocks ? TileProducts.blockProducts : TileProducts.panelProducts
        self.depth = depth
    }

    /// The floats of the panels of `columns` columns, whatever the format keeps in them.
    package func checkedCount(columns: Int) throws(LossError) -> Int {
        let panels = (columns + TileProducts.panelColumns - 1) / TileProducts.panelColumns
        return try MatrixShape(rows: panels, columns: products.panel_floats(depth)).checkedCount()
    }

    /// Where the panel that begins with a column starts.
    package func offset(ofColumn column: Int) -> Int {
        assert(
            column % TileProducts.panelColumns == 0,
            "a panel begins every \(TileProducts.panelColumns) columns")
        return column / TileProducts.panelColumns * products.panel_floats(depth)
    }

    /// Packs up to ``TileProducts/panelColumns`` columns of B into a panel.
    package func pack(columns: MatrixPointer, into panel: UnsafeMutablePointer<Float>) {
        products.pack(columns.base, columns.stride, 1, depth, columns.columns, panel)
    }

    /// Packs up to ``TileProducts/panelColumns`` rows of Bᵀ, the columns of B, into a panel.
    package func pack(rows: MatrixPointer, into panel: UnsafeMutablePointer<Float>) {
        products.pack(rows.base, 1, rows.stride, depth, rows.rows, panel)
    }

    /// C = A·B or C += A·B, with `columns` columns of B from a panel on. Each element rounds alike wherever its
    /// row and its column stand.
    package func multiply(
        _ a: MatrixPointer, _ panels: UnsafePointer<Float>, columns: Int, into c: UnsafeMutablePointer<Float>,
        stride: Int, accumulates: Bool = false
    ) {
        products.multiply_panels(
            a.base, a.stride, 1, a.rows, depth, panels, columns, c, stride,
            accumulates ? FASTLOSS_ACCUMULATE : FASTLOSS_OVERWRITE)
    }
}
