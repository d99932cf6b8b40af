// How the rows of a batch are spread over ranks, and which rank computes which pairs of rows.

/// The numbers of rows of the ranks. A batch is the rows of rank 0, then those of rank 1, and so on.
struct RankRows {
    /// Rows of each rank, any number.
    let counts: [Int]

    var ranks: Int { counts.count }
    var total: Int { counts.reduce(0, +) }

    /// The number in the batch of a rank's first row.
    func firstRow(of rank: Int) -> Int { counts[..<rank].reduce(0, +) }

    /// The rank that comes `distance` ranks after another, around the ring.
    func rank(_ distance: Int, after rank: Int) -> Int { (rank + distance) % ranks }

    /// The rank that comes `distance` ranks before another.
    func rank(_ distance: Int, before rank: Int) -> Int { (rank + ranks - distance % ranks) % ranks }
}

extension RankRows {
    /// The steps around half the ring, in which every rank meets every other.
    var halfRing: ClosedRange<Int> { 1...max(1, ranks / 2) }

    /// The pairs of rows that a rank computes in a step around half the ring: some of its own rows, and rows of
    /// the rank that is `step` before it. Both ranges are empty if there is nothing to compute.
    ///
    /// In the last step of an even number of ranks, two ranks have each other's rows. The lower one takes the
    /// first half of its rows and all of the other's; the other takes all of its rows and the rest.
    func pairs(ofRank rank: Int, step: Int) -> (own: Range<Int>, foreign: Range<Int>) {
        let other = self.rank(step, before: rank)
        var own = 0..<counts[rank]
        var foreign = 0..<counts[other]
        if ranks == 1 { foreign = 0..<0 }
        if 2 * step == ranks {
            if rank < other {
                own = 0..<counts[rank] / 2
            } else {
                foreign = counts[other] / 2..<counts[other]
            }
        }
        return own.isEmpty || foreign.isEmpty ? (0..<0, 0..<0) : (own, foreign)
    }
}
