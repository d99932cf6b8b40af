// The driver of blocked similarities on parts of a batch: put together, the parts give the whole batch's loss
// and gradients.

import FastLoss
import FastLossReference
import Testing

@Suite struct BlockedSimilaritiesTests {
    /// A pass over parts of a batch, with the epilogue's results.
    private struct Pass: Plan {
        let similarities: BlockedSimilarities
        let results: ScratchArray<Double>
        let count: Int
        let epilogue: @Sendable (UnsafeMutablePointer<Double>, Bool) -> any SimilarityEpilogue

        var name: String { "Pass" }

        func run(on execution: Execution) -> [Double] {
            let results = execution.pointer(results)
            similarities.run(epilogue(results, similarities.formsGradients), on: execution)
            return (0..<count).map { results[$0] }
        }
    }

    private func parts(_ rows: Int) -> [Range<Int>] {
        // 300..<600 is one of the parts if the batch is large enough.
        let cuts = [0, rows / 3, min(rows, 300), min(rows, 600), rows].sorted()
        return zip(cuts, cuts.dropFirst()).map { $0..<$1 }
    }

    /// ECS from the diagonal parts, each symmetric, and the parts off the diagonal, each for its mirror
    /// image, too.
    @Test(arguments: [(7, 5), (64, 33), (130, 16), (601, 9), (701, 3)], [false, true])
    func partsOfABatchGiveItsElasticCellSimilarity(shape: (rows: Int, columns: Int), tiles: Bool) throws {
        let (rows, columns) = shape
        let (threshold, workspace): (Float, _) = (0.3, Workspace(workers: 3))
        var random = RandomInputs(seed: 5)
        let embeddings = random.cells(EmbeddingShape(rows: rows, columns: columns))
        let whole = try ElasticCellSimilarity(threshold: threshold).valueAndGradient(
            embeddings: embeddings, shape: MatrixShape(rows: rows, columns: columns), gradientScale: 2)

        var gradient = [Float](repeating: 0, count: rows * columns)
        var sum = 0.0
        try embeddings.withUnsafeBufferPointer { embeddings in
            try gradient.withUnsafeMutableBufferPointer { gradient in
                func side(_ part: Range<Int>) -> SimilaritySide {
                    let place = part.lowerBound * columns..<part.upperBound * columns
                    return ElasticCellSimilarity.side(
                        ModelElements(embeddings.baseAddress! + place.lowerBound, count: place.count),
                        shape: MatrixShape(rows: part.count, columns: columns), firstRow: part.lowerBound,
                        batch: rows,
                        gradient: GradientOutput(
                            UnsafeMutableBufferPointer(rebasing: gradient[place]), scale: Double(2),
                            update: .accumulate))
                }
                let parts = parts(rows)
                for (index, first) in parts.enumerated() where !first.isEmpty {
                    for second in parts[index...] where !second.isEmpty {
                        var layout = workspace.layout
                        let schedule: BlockedSimilarities.Schedule =
                            first != second
                            ? .strips(
                                RowStrips(rows: first.count, columns: second.count, isMirrored: true))
                            : tiles
                                ? .tiles(TilePairs(rows: first.count, largestBlock: 40), inRounds: true)
                                : .strips(RowStrips(upperTriangleOf: first.count))
                        let similarities = try BlockedSimilarities(
                            side(first), first == second ? nil : side(second), schedule: schedule, in: &layout
                        )
                        let results = try layout.add(similarities.blocks, of: Double.self)
                        let pass = Pass(
                            similarities: similarities, results: results, count: similarities.blocks
                        ) { ElasticEpilogue(threshold: threshold, sums: $0, needsFactors: $1) }
                        sum += try workspace.run(pass, layout).reduce(0, +)
                    }
                }
            }
        }
        let value: Double = 1 - sum / Double(rows * rows)
        expectClose(value, whole.loss.value, Tolerances.embeddingValue, "value")
        expectNear(gradient, whole.gradient)
    }

    /// CCE from parts of the first encoding, each against all of the second one.
    @Test(arguments: [(7, 5), (64, 33), (130, 16), (601, 9), (701, 3)])
    func partsOfABatchGiveItsContrastiveCellEmbedding(shape: (rows: Int, columns: Int)) throws {
        let (rows, columns) = shape
        let (loss, workspace) = (ContrastiveCellEmbedding(temperature: 0.2), Workspace(workers: 3))
        var random = RandomInputs(seed: 6)
        let first = random.embeddings(rows: rows, columns: columns)
        let second = random.embeddings(rows: rows, columns: columns)
        let whole = try loss.valueAndGradient(
            first: first, second: second, shape: MatrixShape(rows: rows, columns: columns), gradientScale: 3)

        var firstGradient = [Float](repeating: .nan, count: rows * columns)
        var secondGradient = [Float](repeating: 0, count: rows * columns)
        var losses: [Double] = []
        try first.withUnsafeBufferPointer { first in
            try second.withUnsafeBufferPointer { second in
                try firstGradient.withUnsafeMutableBufferPointer { firstGradient in
                    try secondGradient.withUnsafeMutableBufferPointer { secondGradient in
                        for part in parts(rows) where !part.isEmpty {
                            let place = part.lowerBound * columns..<part.upperBound * columns
                            var layout = workspace.layout
                            let similarities = try BlockedSimilarities(
                                loss.side(
                                    ModelElements(
                                        first.baseAddress! + place.lowerBound, count: place.count),
                                    shape: MatrixShape(rows: part.count, columns: columns),
                                    firstRow: part.lowerBound, batch: rows,
                                    gradient: GradientOutput(
                                        UnsafeMutableBufferPointer(rebasing: firstGradient[place]),
                                        scale: Double(3), update: .overwrite)),
                                loss.side(
                                    ModelElements(second.baseAddress!, count: second.count),
                                    shape: MatrixShape(rows: rows, columns: columns), batch: rows,
                                    gradient: GradientOutput(
                                        secondGradient, scale: Double(3), update: .accumulate)),
                                schedule: .strips(RowStrips(rows: part.count, columns: rows)), in: &layout)
                            let results = try layout.add(part.count, of: Double.self)
                            let pass = Pass(
                                similarities: similarities, results: results, count: part.count
                            ) { ContrastiveEpilogue(temperature: 0.2, losses: $0, needsFactors: $1) }
                            losses += try workspace.run(pass, layout)
                        }
                    }
                }
            }
        }
        let value: Double = losses.reduce(0, +) / Double(rows)
        expectClose(value, whole.loss.value, Tolerances.embeddingValue, "value")
        expectNear(firstGradient, whole.firstGradient)
        expectNear(secondGradient, whole.secondGradient)
    }

    /// Within 2·10⁻⁶ of the largest element: sums over parts have another order, and so have those of sgemm.
    private func expectNear(
        _ gradient: [Float], _ whole: [Float], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let largest = whole.map(abs).max() ?? 0
        let error = zip(gradient, whole).map { abs($0 - $1) }.max() ?? 0
        #expect(largest > 0 && error <= 2e-6 * largest, sourceLocation: sourceLocation)
    }
}
