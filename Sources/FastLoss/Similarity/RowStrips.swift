// Strips of whole rows of a similarity matrix, in slabs that are in memory at a time.

/// How a matrix is cut into slabs of whole rows, and a slab into strips, one for each task.
package struct RowStrips {
    /// Which elements are computed.
    package enum Coverage {
        /// All of them.
        case everything
        /// All of them, each for its mirror image, too: a block off the diagonal of a larger symmetric matrix.
        case everythingMirrored
        /// Those of the upper triangle of a symmetric matrix, each for its mirror image, too. A strip starts where its diagonal
        /// block does, and the diagonal blocks are computed in full.
        case upperTriangle
    }

    package let rows: Int
    package let columns: Int
    package let coverage: Coverage
    /// Rows that are in memory at a time.
    package let slabRows: Int
    /// Rows of a strip: few enough that two workers, or four, find equal shares, as many as the matrix allows, for the
    /// reuse of the other operand.
    package let stripRows: Int

    /// A matrix, 256 rows at a time: the depth of the product of the transposed slab.
    package init(rows: Int, columns: Int, isMirrored: Bool = false) {
        self.rows = rows
        self.columns = columns
        coverage = isMirrored ? .everythingMirrored : .everything
        slabRows = 256
        stripRows = columns <= 64 ? 16 : columns <= 256 ? 32 : 64
    }

    /// The upper triangle of a symmetric matrix, all rows at a time.
    package init(upperTriangleOf rows: Int) {
        self.rows = rows
        columns = rows
        coverage = .upperTriangle
        slabRows = max(1, rows)
        stripRows = rows <= 128 ? 16 : rows <= 512 ? 32 : 64
    }

    package var slabs: Int { (rows + slabRows - 1) / slabRows }

    /// The rows of a slab.
    package func slab(_ index: Int) -> Range<Int> {
        index * slabRows..<min(rows, (index + 1) * slabRows)
    }

    /// The strips of some rows: a slab's, or those of the transposed slab.
    package func strips(of rows: Range<Int>) -> Int { (rows.count + stripRows - 1) / stripRows }

    /// The strips of all slabs.
    package var count: Int { (0..<slabs).reduce(0) { $0 + strips(of: slab($1)) } }

    /// The most strips that a slab has.
    package var mostStrips: Int { slabs == 0 ? 0 : strips(of: slab(0)) }

    /// The most tasks at a time: the strips of a slab, or of its columns.
    package var mostTasks: Int { max(mostStrips, strips(of: 0..<columns)) }

    /// One strip of some rows.
    package func strip(_ index: Int, of rows: Range<Int>) -> Range<Int> {
        let start = rows.lowerBound + index * stripRows
        return start..<min(rows.upperBound, start + stripRows)
    }

    /// Where the diagonal block of a strip starts: it has whole panels.
    private func diagonalBlock(_ strip: Range<Int>) -> Range<Int> {
        let side = max(stripRows, TileProducts.panelRows)
        let start = strip.lowerBound / side * side
        return start..<min(columns, start + side)
    }

    /// The columns of a strip that are computed.
    package func columns(of strip: Range<Int>) -> Range<Int> {
        coverage == .upperTriangle ? diagonalBlock(strip).lowerBound..<columns : 0..<columns
    }

    /// How many of the last ones stand for their mirror image, too.
    package func mirroredColumns(of strip: Range<Int>) -> Int {
        switch coverage {
        case .everything: 0
        case .everythingMirrored: columns
        case .upperTriangle: columns - diagonalBlock(strip).upperBound
        }
    }

    /// Products in one slab's similarities, and as many in each product with it.
    func nanoseconds(_ slab: Range<Int>, depth: Int) -> Double {
        let all = TileProducts.nanoseconds(rows: slab.count, columns: columns, depth: depth)
        return coverage == .upperTriangle ? all / 2 : all
    }
}
