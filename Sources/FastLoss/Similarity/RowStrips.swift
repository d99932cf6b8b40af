// Strips of whole rows of a similarity matrix, grouped in slabs that are in memory at the same time.

/// A matrix cut into slabs of whole rows, and each slab into strips, one for each task.
package struct RowStrips {
    /// Which elements are computed.
    package enum Coverage {
        /// All of them.
        case everything
        /// All of them. Each also stands for its mirror image: the matrix is a part of a larger symmetric
        /// matrix, off the diagonal.
        case everythingMirrored
        /// Those of the upper triangle of a symmetric matrix. Each also stands for its mirror image, except
        /// in the diagonal blocks, which are computed in full. A strip starts with its diagonal block.
        case upperTriangle
    }

    package let rows: Int
    package let columns: Int
    package let coverage: Coverage
    /// Rows of a slab, which are in memory at the same time.
    package var slabRows: Int
    /// Rows of a strip. Few rows give two or four workers equal shares; many rows reuse the other operand.
    package let stripRows: Int

    /// Cuts a matrix into slabs of 256 rows, which is the depth of the product with the transposed slab.
    package init(rows: Int, columns: Int, isMirrored: Bool = false) {
        self.rows = rows
        self.columns = columns
        coverage = isMirrored ? .everythingMirrored : .everything
        slabRows = 256
        stripRows = columns <= 64 ? 16 : columns <= 256 ? 32 : 64
    }

    /// Cuts the upper triangle of a symmetric matrix into strips of one slab.
    package init(upperTriangleOf rows: Int) {
        self.rows = rows
        columns = rows
        coverage = .upperTriangle
        slabRows = rows
        stripRows = rows <= 128 ? 16 : rows <= 512 ? 32 : 64
    }

    /// How many slabs there are.
    package var slabs: Int { rows == 0 ? 0 : (rows + slabRows - 1) / slabRows }

    /// The rows of a slab.
    package func slab(_ index: Int) -> Range<Int> {
        index * slabRows..<min(rows, (index + 1) * slabRows)
    }

    /// How many strips some rows have: the rows of a slab, or those of the transposed matrix.
    package func strips(of rows: Range<Int>) -> Int { (rows.count + stripRows - 1) / stripRows }

    /// How many strips all slabs have.
    package var count: Int { (0..<slabs).reduce(0) { $0 + strips(of: slab($1)) } }

    /// How many strips the largest slab has.
    package var mostStrips: Int { strips(of: slab(0)) }

    /// The most tasks that run at the same time: strips of a slab, or of the transposed matrix.
    package var mostTasks: Int { max(mostStrips, strips(of: 0..<columns)) }

    /// The strip that a task of some rows takes.
    ///
    /// A triangle's strips become shorter, and two workers take tasks from both ends (see worker_team.c). So that
    /// they have equally much to do, long and short strips alternate: 0, n − 1, 2, n − 3, … from the front, and
    /// 1, n − 2, 3, n − 4, … from the back. Measured: the article Tuning.
    package func strip(ofTask task: Int, of rows: Range<Int>) -> Range<Int> {
        let count = strips(of: rows)
        guard coverage == .upperTriangle else { return strip(task, of: rows) }
        let isFromFront = 2 * task < count
        let place = isFromFront ? task : count - 1 - task
        let (long, short) = isFromFront ? (place, count - place) : (place + 1, count - 1 - place)
        return strip(place % 2 == 0 ? long : short, of: rows)
    }

    /// One strip of some rows.
    package func strip(_ index: Int, of rows: Range<Int>) -> Range<Int> {
        let start = rows.lowerBound + index * stripRows
        return start..<min(rows.upperBound, start + stripRows)
    }

    /// The rows of the diagonal block that the strip starts with. The block starts with a whole panel.
    private func diagonalBlock(_ strip: Range<Int>) -> Range<Int> {
        let side = max(stripRows, TileProducts.panelColumns)
        let start = strip.lowerBound / side * side
        return start..<min(columns, start + side)
    }

    /// The columns of a strip that are computed.
    package func columns(of strip: Range<Int>) -> Range<Int> {
        coverage == .upperTriangle ? diagonalBlock(strip).lowerBound..<columns : 0..<columns
    }

    /// How many of the last ones also stand for their mirror image.
    package func mirroredColumns(of strip: Range<Int>) -> Int {
        switch coverage {
        case .everything: 0
        case .everythingMirrored: columns
        case .upperTriangle: columns - diagonalBlock(strip).upperBound
        }
    }

    /// The estimated time of one product that forms the slab or multiplies it, on one worker.
    func nanoseconds(_ slab: Range<Int>, depth: Int) -> Double {
        let all = TileProducts.nanoseconds(rows: slab.count, columns: columns, depth: depth)
        return coverage == .upperTriangle ? all / 2 : all
    }
}
