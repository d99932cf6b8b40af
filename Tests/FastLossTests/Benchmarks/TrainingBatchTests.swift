// Batches, masks and synthetic model outputs made from the real cells.

import BenchmarkData
import Benchmarks
import Testing

@Suite struct TrainingBatchTests {
    let cells: RealCells

    init() throws {
        cells = try .bundled()
    }

    @Test(arguments: [(1, 3), (64, 1201), (703, 10)])
    func `a batch has its shape, and tokens repeat genes`(rows: Int, columns: Int) {
        let batch = cells.batch(cells: rows, tokens: columns)
        #expect(batch.targets.count == rows * columns)
        #expect(batch.mask.count == rows * columns)
        #expect(batch.cellTypes.count == rows && batch.gemWells.count == rows)
        for index in 0..<rows where columns > cells.geneCount {
            let row = batch.targets[index * columns..<(index + 1) * columns]
            #expect(Array(row.dropFirst(765)) == Array(row.prefix(columns - 765)))
        }
    }

    @Test func `cells are drawn evenly`() {
        let batch = cells.batch(cells: 1400, tokens: 765, maskRatio: 0)
        #expect(Array(batch.targets.prefix(700 * 765)) == Array(batch.targets.suffix(700 * 765)))
        let once = cells.batch(cells: 700, tokens: 765, maskRatio: 0)
        #expect(once.targets.reduce(0, +) == cells.values.reduce(0, +))
        #expect(once.targets != cells.values)
    }

    @Test func `the integration shape masks what scGPT masks`() {
        #expect(cells.batch(cells: 64, tokens: 1201).maskedCount == 30_720)
    }

    @Test func `equal seeds give equal batches, other seeds other ones`() {
        let first = cells.batch(cells: 8, tokens: 100, seed: 1)
        let again = cells.batch(cells: 8, tokens: 100, seed: 1)
        let other = cells.batch(cells: 8, tokens: 100, seed: 2)
        #expect(first.targets == again.targets && first.mask == again.mask)
        #expect(first.targets != other.targets && first.mask != other.mask)
        #expect(first.predictions() == again.predictions())
    }

    @Test(arguments: [0, 0.15, 0.4, 1.0 / 3, 0.999, 1])
    func `a mask takes exactly its share of each row, and no padding`(ratio: Double) {
        // Row r of 7 has r pads at its end.
        let pad = TrainingBatch.padValue
        let values = (0..<7).flatMap { r in (0..<7).map { $0 < 7 - r ? Float($0) : pad } }
        var generator = SeededGenerator(seed: 9)
        let mask = RealCells.randomMask(of: values, rows: 7, columns: 7, ratio: ratio, using: &generator)
        for r in 0..<7 {
            let row = mask[r * 7..<(r + 1) * 7]
            #expect(row.count { $0 } == Int(ratio * Double(7 - r)), "row \(r)")
            #expect(!row.suffix(r).contains(true), "row \(r)")
        }
    }

    @Test func `every position is masked equally often`() {
        var generator = SeededGenerator(seed: 10)
        let mask = RealCells.randomMask(
            of: [Float](repeating: 1, count: 20 * 10_000), rows: 10_000, columns: 20, ratio: 0.4,
            using: &generator)
        for column in 0..<20 {
            let share = Double((0..<10_000).count { mask[$0 * 20 + column] }) / 10_000
            // Four standard deviations of a share of 0.4 in 10,000.
            #expect(abs(share - 0.4) < 0.02, "column \(column)")
        }
    }

    @Test func `model outputs are in range and neither perfect nor hopeless`() {
        let batch = cells.batch(cells: 64, tokens: 1201)
        let errors = zip(batch.predictions(), batch.targets).map { ($0 - $1) * ($0 - $1) }
        #expect((60...68).contains(errors.reduce(0, +) / Float(errors.count)))

        let probabilities = batch.nonZeroProbabilities()
        #expect(probabilities.allSatisfy { 0 < $0 && $0 < 1 })
        let right = zip(probabilities, batch.targets).count { ($0 > 0.5) == ($1 > 0) }
        #expect((0.8...0.88).contains(Double(right) / Double(probabilities.count)))
        #expect(batch.nonZeroLogits().count == batch.targets.count)

        let logits = batch.classLogits(labels: batch.cellTypes, classes: 10)
        #expect(logits.count == 640)
        let labelled = batch.cellTypes.enumerated().map { logits[$0 * 10 + Int($1)] }.reduce(0, +) / 64
        #expect((1.0...3.0).contains(labelled))
    }

    @Test func `token states have equal directions for equal genes`() {
        let batch = cells.batch(cells: 2, tokens: 800)
        let depth = 3
        let states = batch.tokenStates(depth: depth, genes: 765)
        #expect(states.count == 2 * 800 * depth)
        func state(_ cell: Int, _ token: Int) -> [Float] {
            let scale = 0.1 + batch.targets[cell * 800 + token] / 50
            return (0..<depth).map { states[(cell * 800 + token) * depth + $0] / scale }
        }
        for (a, b) in zip(state(0, 5), state(1, 770)) { #expect(abs(a - b) < 1e-5) }
        #expect(state(0, 5) != state(0, 6))
    }

    @Test func `a batch of chosen cells begins with cls, which is never masked`() {
        var generator = SeededGenerator(seed: 3)
        let batch = cells.batch(of: [3, 699, 5], genes: 33, maskRatio: 0.4, using: &generator)
        #expect(batch.cells == 3 && batch.tokens == 34)
        for (row, cell) in [3, 699, 5].enumerated() {
            let tokens = row * 34..<(row + 1) * 34
            let genes = Array(cells.values[cell * 765..<cell * 765 + 33])
            #expect(Array(batch.targets[tokens]) == [0] + genes)
            #expect(batch.mask[tokens].count { $0 } == 13)
            #expect(!batch.mask[tokens.lowerBound])
            #expect(batch.cellTypes[row] == cells.cellTypes[cell])
            #expect(batch.gemWells[row] == cells.gemWells[cell])
        }
    }
}

@Suite struct EmbeddingsTests {
    let cells: RealCells

    init() throws {
        cells = try .bundled()
    }

    @Test func `cells of one type are more similar than cells of two`() {
        let depth = 32
        let embeddings = cells.embeddings(cells: 120, depth: depth)
        // The same seed draws the same cells.
        let labels = cells.batch(cells: 120, tokens: 1, seed: 6).cellTypes
        var same: [Float] = []
        var different: [Float] = []
        for i in 0..<120 {
            for j in 0..<i {
                let similarity = cosine(embeddings, i, embeddings, j, depth: depth)
                if labels[i] == labels[j] { same.append(similarity) } else { different.append(similarity) }
            }
        }
        let meanOfSame = same.reduce(0, +) / Float(same.count)
        let meanOfDifferent = different.reduce(0, +) / Float(different.count)
        #expect(meanOfSame > meanOfDifferent + 0.1)
        #expect(different.contains { $0 < 0 } && same.contains { $0 > 0 })
    }

    @Test func `two encodings of the same cells differ by the noise`() {
        let depth = 64
        let first = cells.embeddings(cells: 20, depth: depth, noiseSeed: 1)
        let second = cells.embeddings(cells: 20, depth: depth, noiseSeed: 2)
        for cell in 0..<20 {
            // Noise of 0.2 on either side: a cosine near 1 / 1.04.
            #expect((0.9..<1).contains(cosine(first, cell, second, cell, depth: depth)), "cell \(cell)")
        }
    }

    @Test func `copies beyond the 700 cells are kept apart by noise`() {
        let embeddings = cells.embeddings(cells: 701, depth: 8)
        #expect(embeddings.count == 701 * 8)
        let similarity = cosine(embeddings, 0, embeddings, 700, depth: 8)
        #expect((0.7..<0.9999).contains(similarity))
    }

    private func cosine(_ a: [Float], _ i: Int, _ b: [Float], _ j: Int, depth: Int) -> Float {
        var dot: Float = 0
        var squareA: Float = 0
        var squareB: Float = 0
        for d in 0..<depth {
            dot += a[i * depth + d] * b[j * depth + d]
            squareA += a[i * depth + d] * a[i * depth + d]
            squareB += b[j * depth + d] * b[j * depth + d]
        }
        return dot / (squareA * squareB).squareRoot()
    }
}
