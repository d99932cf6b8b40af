// The truth of large batches against the reference's loops, at shapes with several panels.

import Benchmarks
import FastLossReference
import Testing

@Suite struct PairTruthTests {
    /// One row; less than a panel; two panels and a bit.
    static let shapes = [(1, 3), (37, 5), (301, 7)]

    @Test(arguments: shapes)
    func `elastic cell similarity`(rows: Int, columns: Int) {
        let embeddings = embeddings(rows, columns, seed: 1)
        let truth = PairTruth(embeddings, rows: rows, columns: columns, floor: 1e-12)
        let actual = truth.elasticCellSimilarity(threshold: 0.3)
        let expected = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings.doubles, rows: rows, columns: columns, threshold: 0.3)
        expectClose(actual.value, expected.value)
        expectClose(actual.gradient, truth.sampled(expected.gradient))
        expectClose(actual.normsBeforeProjection, truth.sample.map { expected.normsBeforeProjection[$0] })
    }

    @Test(arguments: shapes)
    func `contrastive cell embedding`(rows: Int, columns: Int) {
        let (first, second) = (embeddings(rows, columns, seed: 2), embeddings(rows, columns, seed: 3))
        let truth = PairTruth(first, rows: rows, columns: columns, floor: 1e-8)
        let actual = truth.contrastive(
            with: PairTruth(second, rows: rows, columns: columns, floor: 1e-8), temperature: 0.2)
        let expected = Reference.ContrastiveCellEmbedding.evaluate(
            first: first.doubles, second: second.doubles, rows: rows, columns: columns, temperature: 0.2)
        expectClose(actual.value, expected.value)
        expectClose(actual.first.gradient, truth.sampled(expected.firstGradient))
        expectClose(actual.second.gradient, truth.sampled(expected.secondGradient))
        expectClose(actual.first.norms, truth.sample.map { expected.firstNormsBeforeProjection[$0] })
        expectClose(actual.second.norms, truth.sample.map { expected.secondNormsBeforeProjection[$0] })
    }

    @Test(arguments: shapes)
    func `similarities of the sample`(rows: Int, columns: Int) {
        let embeddings = embeddings(rows, columns, seed: 4)
        let truth = PairTruth(embeddings, rows: rows, columns: columns, floor: 1e-12)
        #expect(truth.sample.first == 0 && truth.sample.last == rows - 1)
        #expect(truth.sample == truth.sample.sorted() && Set(truth.sample).count == min(rows, 256))
        let expected = Reference.CosineSimilarity.matrix(
            embeddings: embeddings.doubles, rows: rows, columns: columns)
        expectClose(
            truth.sampledSimilarities, truth.sample.flatMap { expected[$0 * rows..<($0 + 1) * rows] })
    }

    private func embeddings(_ rows: Int, _ columns: Int, seed: UInt64) -> [Float] {
        var random = RandomInputs(seed: seed)
        return random.embeddings(rows: rows, columns: columns)
    }

    /// Equal up to the order of sums in double precision.
    private func expectClose(
        _ actual: Double, _ expected: Double, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectClose([actual], [expected], sourceLocation: sourceLocation)
    }

    private func expectClose(
        _ actual: [Double], _ expected: [Double], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(actual.count == expected.count, sourceLocation: sourceLocation)
        let scale = max(expected.reduce(0) { max($0, abs($1)) }, 1e-3)
        let largest = zip(actual, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(largest <= 1e-11 * scale, "\(largest) beside \(scale)", sourceLocation: sourceLocation)
    }
}
