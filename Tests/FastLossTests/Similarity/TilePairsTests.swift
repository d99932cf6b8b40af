// The tournament of tiles: every pair once, no block twice in a round, and every block in the first round.

import FastLoss
import Testing

@Suite struct TilePairsTests {
    @Test(arguments: 0...40)
    func everyPairMeetsOnceInDisjointRounds(blocks: Int) {
        let tiles = TilePairs(rows: blocks * 4, largestBlock: 4)
        #expect(tiles.blocks == blocks)
        var met = Set<[Int]>()
        for round in 0..<tiles.rounds {
            var seen = Set<Int>()
            for index in 0..<tiles.pairs(inRound: round) {
                let (first, second) = tiles.pair(index, inRound: round)
                #expect(0 <= first && first <= second && second < blocks)
                #expect(met.insert([first, second]).inserted, "\(first) and \(second) meet twice")
                #expect(seen.insert(first).inserted, "block \(first) twice in round \(round)")
                if first != second {
                    #expect(seen.insert(second).inserted, "block \(second) twice in round \(round)")
                }
            }
            if round == 0 { #expect(seen.count == blocks, "what a row accumulates has to start in round 0") }
        }
        #expect(met.count == blocks * (blocks + 1) / 2)
    }

    @Test(arguments: 0...9)
    func everyPairHasOneIndex(blocks: Int) {
        let tiles = TilePairs(rows: blocks * 4, largestBlock: 4)
        let pairs = (0..<blocks * (blocks + 1) / 2).map { tiles.pair($0) }
        #expect(pairs.allSatisfy { 0 <= $0.first && $0.first <= $0.second && $0.second < blocks })
        #expect(Set(pairs.map { [$0.first, $0.second] }).count == pairs.count)
    }

    @Test(arguments: [(0, 4), (1, 4), (4, 4), (5, 4), (129, 128), (300, 128), (600, 256), (4_097, 256)])
    func blocksCoverTheRows(rows: Int, largest: Int) {
        let tiles = TilePairs(rows: rows, largestBlock: largest)
        let ranges = (0..<tiles.blocks).map { tiles.range($0) }
        #expect(ranges.flatMap { Array($0) } == Array(0..<rows))
        #expect(ranges.allSatisfy { !$0.isEmpty && $0.count <= min(largest, tiles.blockRows) })
    }
}
