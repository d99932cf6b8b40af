// The order in which the tiles of a symmetric B×B matrix are visited.

/// The pairs of row blocks of a symmetric matrix, each once, in rounds whose pairs share no block.
///
/// A tile (I, J) of S = N·Nᵀ contributes to the rows of I and, transposed, to those of J. Within a round every block
/// occurs at most once, so the workers of a round never write the same rows; the rounds follow each other, so each row's
/// sum is formed in one order, whatever the number of workers. The pairs are those of a round-robin tournament (the circle
/// method): each block meets each other block once, and plays its own diagonal tile when it has no opponent.
package struct TilePairs {
    /// Rows of a matrix.
    package let rows: Int
    /// Rows of a block; the last one may have fewer.
    package let blockRows: Int

    /// Blocks for B rows, of nearly equal size and at most `largestBlock`.
    package init(rows: Int, largestBlock: Int) {
        self.rows = rows
        let blocks = max(1, (rows + largestBlock - 1) / largestBlock)
        blockRows = (rows + blocks - 1) / blocks
    }

    package var blocks: Int { blockRows == 0 ? 0 : (rows + blockRows - 1) / blockRows }

    /// Players of the tournament: with an odd number of blocks one more, whose opponent plays its own diagonal.
    private var players: Int { blocks + blocks % 2 }

    /// With an even number of blocks nobody is ever left over, so the diagonals get a round of their own: the first.
    private var diagonalRounds: Int { blocks % 2 == 0 ? 1 : 0 }

    package var rounds: Int { blocks == 0 ? 0 : players - 1 + diagonalRounds }

    /// Every block takes part in round 0 exactly once: what a row accumulates starts there.
    package func pairs(inRound round: Int) -> Int {
        round < diagonalRounds ? blocks : players / 2
    }

    /// The pairs of the round that has most.
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
        // The player who is no block: its opponent meets itself.
        if one >= blocks { return (other, other) }
        return (min(one, other), max(one, other))
    }

    /// All pairs.
    package var count: Int { blocks * (blocks + 1) / 2 }

    /// The same pairs without their rounds, for those who need no order: `index` in 0..<``count``.
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
