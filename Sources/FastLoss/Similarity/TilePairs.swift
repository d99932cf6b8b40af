// The order of the tiles of a symmetric B×B matrix.

/// The pairs of row blocks of a symmetric matrix, each once, in rounds whose pairs share no block.
///
/// A tile (I, J) of S = N·Nᵀ contributes to the rows of I and, transposed, to those of J. In a round every
/// block occurs at most once, so the workers of a round never write the same rows. The rounds follow each
/// other, so each row's sum has one order for any number of workers.
///
/// The pairs are those of a round-robin tournament (the circle method): each block meets each other block
/// once. A block without an opponent takes its diagonal tile.
package struct TilePairs {
    /// Rows of a matrix.
    package let rows: Int
    /// Rows of a block. The last block may have fewer.
    package let blockRows: Int

    /// Cuts B rows into blocks of nearly equal size, of at most `largestBlock` rows.
    package init(rows: Int, largestBlock: Int) {
        self.rows = rows
        let blocks = max(1, (rows + largestBlock - 1) / largestBlock)
        blockRows = (rows + blocks - 1) / blocks
    }

    /// How many blocks there are.
    package var blocks: Int { blockRows == 0 ? 0 : (rows + blockRows - 1) / blockRows }

    /// The scale of a tile's products: of 256 rows, if there are many.
    var scale: ProductScale { .of(rows: rows / 2, depth: blockRows) }

    /// Players of the tournament. An odd number of blocks gets one more, whose opponent takes its diagonal
    /// tile.
    private var players: Int { blocks + blocks % 2 }

    /// If the number of blocks is even, every block always has an opponent, and the diagonal tiles are the
    /// first round.
    private var diagonalRounds: Int { blocks % 2 == 0 ? 1 : 0 }

    /// How many rounds there are.
    package var rounds: Int { blocks == 0 ? 0 : players - 1 + diagonalRounds }

    /// How many pairs a round has. Every block takes part in round 0 exactly once: each row's sum starts
    /// there.
    package func pairs(inRound round: Int) -> Int {
        round < diagonalRounds ? blocks : players / 2
    }

    /// The pairs of the largest round.
    package var mostPairsInARound: Int {
        blocks == 0 ? 0 : max(pairs(inRound: 0), pairs(inRound: rounds - 1))
    }

    /// Elements between the rows of a tile in scratch memory.
    var tileStride: Int { TileProducts.stride(forColumns: blockRows) }

    /// The blocks (first ≤ second) of one pair of a round.
    package func pair(_ index: Int, inRound round: Int) -> (first: Int, second: Int) {
        guard round >= diagonalRounds else { return (index, index) }
        let seats = players - 1
        let turn = round - diagonalRounds
        let one = index == 0 ? seats : (turn + index) % seats
        let other = (turn + seats - index) % seats
        // The additional player is no block: its opponent takes its diagonal tile.
        if one >= blocks { return (other, other) }
        return (min(one, other), max(one, other))
    }

    /// All pairs.
    package var count: Int { blocks * (blocks + 1) / 2 }

    /// The same pairs without rounds, for computations that need no order. `index` is in 0..<``count``.
    package func pair(_ index: Int) -> (first: Int, second: Int) {
        // Row r of the upper triangle has blocks − r pairs, row blocks − 1 − r the rest of blocks + 1.
        let (row, place) = index.quotientAndRemainder(dividingBy: blocks + 1)
        guard place >= blocks - row else { return (row, row + place) }
        let other = blocks - 1 - row
        return (other, other + place - (blocks - row))
    }

    /// The rows of a block.
    package func range(_ block: Int) -> Range<Int> {
        block * blockRows..<min(rows, (block + 1) * blockRows)
    }
}
