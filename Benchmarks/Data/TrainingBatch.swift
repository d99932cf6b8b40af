// Real cells as the batches that scGPT trains on, and the values that a half-trained model would give for
// them.

import Foundation

/// B cells of L tokens with the mask of masked gene modelling. All matrices are B × L, row-major.
package struct TrainingBatch: Sendable {
    /// The value at padding, as upstream's.
    package static let padValue: Float = -2

    /// B.
    package let cells: Int
    /// L.
    package let tokens: Int
    /// The binned expression that the model is to predict; ``padValue`` at padding.
    package let targets: [Float]
    /// True at the masked tokens: where the value losses look.
    package let mask: [Bool]
    /// The cell type of each cell.
    package let cellTypes: [Int32]
    /// The GEM well of each cell, standing in for the label of its batch.
    package let gemWells: [Int32]

    /// The number of masked tokens.
    package var maskedCount: Int { mask.count { $0 } }

    /// Calls `body` for every masked token, numbered over all cells.
    package func forEachMasked(_ body: (_ cell: Int, _ gene: Int, _ token: Int) -> Void) {
        for token in mask.indices where mask[token] { body(token / tokens, token % tokens, token) }
    }

    /// Calls `body` for the tokens whose value is visible and above 0.
    package func forEachExpressed(_ body: (_ cell: Int, _ gene: Int, _ value: Int) -> Void) {
        for token in mask.indices where !mask[token] && targets[token] > 0 {
            body(token / tokens, token % tokens, Int(targets[token]))
        }
    }
}

extension TrainingBatch {
    /// The cells of one of `ranks` ranks, which have equal numbers of them, give or take one.
    package func part(_ rank: Int, of ranks: Int) -> TrainingBatch {
        let range = cells * rank / ranks..<cells * (rank + 1) / ranks
        let places = range.lowerBound * tokens..<range.upperBound * tokens
        return TrainingBatch(
            cells: range.count, tokens: tokens, targets: Array(targets[places]), mask: Array(mask[places]),
            cellTypes: Array(cellTypes[range]), gemWells: Array(gemWells[range]))
    }
}

extension RealCells {
    /// A batch of `cells` cells and `tokens` tokens.
    ///
    /// Cells are drawn without replacement until all have been drawn, then all over again: a batch of more
    /// than 700 repeats cells. Token l of every cell is gene l modulo 765: the model shapes of scGPT are
    /// longer than this data has genes, so they repeat genes. Zeros are kept, as scGPT's integration does;
    /// there is no padding.
    ///
    /// - Parameters:
    ///   - maskRatio: the share of each cell's tokens that is masked; 0.4 in scGPT's integration.
    ///   - seed: determines the cells and the mask.
    package func batch(cells: Int, tokens: Int, maskRatio: Double = 0.4, seed: UInt64 = 1) -> TrainingBatch {
        var generator = SeededGenerator(seed: seed)
        let chosen = draw(cells, using: &generator)
        var targets: [Float] = []
        targets.reserveCapacity(cells * tokens)
        for cell in chosen {
            for token in 0..<tokens {
                targets.append(values[cell * geneCount + token % geneCount])
            }
        }
        let mask = Self.randomMask(
            of: targets, rows: cells, columns: tokens, ratio: maskRatio, using: &generator)
        return TrainingBatch(
            cells: cells, tokens: tokens, targets: targets, mask: mask,
            cellTypes: chosen.map { cellTypes[$0] }, gemWells: chosen.map { gemWells[$0] })
    }

    /// The batch of these cells: the token <cls> with value 0, then the first `genes` genes.
    ///
    /// - Parameters:
    ///   - maskRatio: the share of each cell's genes that is masked. <cls> never is.
    ///   - generator: determines the mask.
    package func batch(
        of chosen: some Collection<Int>, genes: Int, maskRatio: Double, using generator: inout SeededGenerator
    ) -> TrainingBatch {
        // Padding is neither masked nor counted: that is the rule for <cls>, too.
        let padded = chosen.flatMap { cell in
            [TrainingBatch.padValue] + values[cell * geneCount..<cell * geneCount + genes]
        }
        let mask = Self.randomMask(
            of: padded, rows: chosen.count, columns: genes + 1, ratio: maskRatio, using: &generator)
        return TrainingBatch(
            cells: chosen.count, tokens: genes + 1, targets: padded.map { max(0, $0) }, mask: mask,
            cellTypes: chosen.map { cellTypes[$0] }, gemWells: chosen.map { gemWells[$0] })
    }

    /// Masks exactly ⌊`ratio` · (tokens that are not padding)⌋ tokens of each row, as scGPT's
    /// `random_mask_value` does. Padding is never masked.
    package static func randomMask(
        of values: [Float], rows: Int, columns: Int, ratio: Double, using generator: inout SeededGenerator
    ) -> [Bool] {
        precondition(values.count == rows * columns, "\(values.count) values for \(rows) x \(columns)")
        precondition((0...1).contains(ratio), "a mask ratio of \(ratio) is not in 0...1")
        var mask = [Bool](repeating: false, count: values.count)
        for row in 0..<rows {
            let places = row * columns..<(row + 1) * columns
            var candidates = places.filter { values[$0] != TrainingBatch.padValue }
            let masked = Int(ratio * Double(candidates.count))
            // The first steps of a Fisher–Yates shuffle: each choice falls on those not yet chosen.
            for place in 0..<masked {
                candidates.swapAt(place, Int.random(in: place..<candidates.count, using: &generator))
                mask[candidates[place]] = true
            }
        }
        return mask
    }

    /// Indices of `number` cells, each cell as often as any other, give or take one.
    func draw(_ number: Int, using generator: inout SeededGenerator) -> [Int] {
        let order = (0..<count).shuffled(using: &generator)
        return (0..<number).map { order[$0 % count] }
    }
}

extension TrainingBatch {
    /// What a half-trained model would predict: the targets with normal noise of deviation 8, hence a
    /// masked MSE near 64. Published runs with 51 bins report 46 to 140.
    package func predictions(seed: UInt64 = 2) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        return targets.map { $0 + 8 * generator.normal() }
    }

    /// Logits of "the value is not zero": of the right sign by 1.5 on average, with as much noise.
    package func nonZeroLogits(seed: UInt64 = 3) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        return targets.map { ($0 > 0 ? 1.5 : -1.5) + 1.5 * generator.normal() }
    }

    /// The probabilities of ``nonZeroLogits(seed:)``, all inside (0, 1).
    package func nonZeroProbabilities(seed: UInt64 = 3) -> [Float] {
        nonZeroLogits(seed: seed).map { 1 / (1 + exp(-$0)) }
    }

    /// Logits of a classifier, cells × `classes`, that favours each cell's label by 2 amid noise of
    /// deviation 2.
    package func classLogits(labels: [Int32], classes: Int, seed: UInt64 = 4) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        return labels.flatMap { label in
            (0..<classes).map { ($0 == Int(label) ? 2 : 0) + 2 * generator.normal() }
        }
    }

    /// Token states, cells × tokens × `depth`: per gene a random direction, scaled by the token's value.
    ///
    /// Equal genes share their direction, so that pooled states of similar cells are similar.
    package func tokenStates(depth: Int, genes: Int, seed: UInt64 = 5) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        let directions = (0..<genes * depth).map { _ in generator.normal() }
        return [Float](unsafeUninitializedCapacity: targets.count * depth) { states, count in
            for index in targets.indices {
                let direction = index % tokens % genes * depth
                let scale = 0.1 + targets[index] / 50
                for d in 0..<depth {
                    states.initializeElement(at: index * depth + d, to: scale * directions[direction + d])
                }
            }
            count = targets.count * depth
        }
    }
}
