// The oracle of ECS, and of the similarities it stands on, against PyTorch and central differences.

import FastLossReference
import Testing

@Suite struct ElasticCellSimilarityReferenceTests {
    @Test(arguments: try Golden.cases(of: "ElasticCellSimilarity"))
    func matchesPyTorch(_ golden: Golden) throws {
        let (rows, columns) = (try golden.int("rows"), try golden.int("columns"))
        let result = Reference.ElasticCellSimilarity.evaluate(
            embeddings: try golden.doubles("embeddings"), rows: rows, columns: columns,
            threshold: try golden.double("threshold"))
        expectClose([result.value], try golden.truth("value"), Tolerances.oracle, "value")
        expectRowsNormwise(
            actual: result.gradient, oracle: try golden.truth("gradient"), columns: columns,
            scales: result.normsBeforeProjection, tolerance: Tolerances.oracleNormwise, "gradient")

        let similarities = Reference.CosineSimilarity.matrix(
            embeddings: try golden.doubles("embeddings"), rows: rows, columns: columns)
        expectClose(similarities, try golden.truth("similarities"), Tolerances.oracle, "similarities")

        let naive = Reference.ElasticCellSimilarity.evaluate(
            embeddings: try golden.floats("embeddings"), rows: rows, columns: columns,
            threshold: try golden.float("threshold"))
        expectClose(
            [naive.value], try golden.single("value"), Tolerances.naiveEmbeddingValue, "naive value")
        expectRowsNormwise(
            actual: naive.gradient, oracle: try golden.single("gradient").doubles, columns: columns,
            scales: result.normsBeforeProjection, tolerance: Tolerances.naiveNormwise, "naive gradient")
    }

    @Test func gradientMatchesCentralDifferences() throws {
        var random = RandomInputs(seed: 5)
        let (rows, columns) = (6, 5)
        let embeddings = random.embeddings(rows: rows, columns: columns).doubles
        let similarities = Reference.CosineSimilarity.matrix(
            embeddings: embeddings, rows: rows, columns: columns)
        // No pair may cross the kink at zero within a step.
        try #require(similarities.allSatisfy { abs($0) > 100 * Tolerances.centralDifferenceStep })
        try #require(similarities.contains { $0 < 0 })
        for threshold in [0.0, 0.3, 0.8, 1.0] {
            var gradient = embeddings
            _ = Reference.ElasticCellSimilarity.valueAndGradient(
                embeddings: embeddings, rows: rows, columns: columns, threshold: threshold,
                gradient: &gradient)
            expectCentralDifferences(
                of: {
                    Reference.ElasticCellSimilarity.value(
                        embeddings: $0, rows: rows, columns: columns, threshold: threshold)
                }, at: embeddings, gradient: gradient, "threshold \(threshold)")
        }
    }

    /// The size before the projection bounds the gradient, and says how much of it the projection removed.
    @Test func normsBeforeProjectionBoundTheGradient() {
        var random = RandomInputs(seed: 7)
        let (rows, columns) = (9, 4)
        let result = Reference.ElasticCellSimilarity.evaluate(
            embeddings: random.embeddings(rows: rows, columns: columns).doubles, rows: rows,
            columns: columns, threshold: 0.8)
        for row in 0..<rows {
            let norm = result.gradient[row * columns..<(row + 1) * columns].norm
            #expect(norm > 0 && norm <= result.normsBeforeProjection[row])
        }
    }

    /// The same sums in another order; at shapes with blocks, rows and groups of four left over.
    @Test(arguments: [(1, 3), (3, 2), (32, 4), (67, 5), (70, 9)])
    func blocksChangeNothing(rows: Int, columns: Int) {
        var random = RandomInputs(seed: 8)
        let embeddings = random.embeddings(rows: rows, columns: columns).doubles
        var gradient = embeddings
        let value = Reference.ElasticCellSimilarity.blockedValueAndGradient(
            embeddings: embeddings, rows: rows, columns: columns, threshold: 0.3, gradientScale: 2,
            gradient: &gradient)
        let expected = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings, rows: rows, columns: columns, threshold: 0.3, gradientScale: 2)
        #expect(abs(value - expected.value) <= 1e-13)
        let largest = zip(gradient, expected.gradient).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(largest <= 1e-13, "\(rows)×\(columns)")
    }

    /// Embeddings without negative similarities; with one zero row, and with equal rows.
    @Test(arguments: [(1, 3), (5, 1), (9, 4), (40, 7)], [-0.5, 0, 0.3, 0.8])
    func closedFormOfAConeIsTheSum(shape: (rows: Int, columns: Int), threshold: Double) {
        let (rows, columns) = shape
        var random = RandomInputs(seed: 9)
        var embeddings = (0..<rows * columns).map { _ in abs(random.normal()) }
        for column in 0..<columns {
            embeddings[column] = embeddings[(rows - 1) * columns + column]
            if rows > 2 { embeddings[columns + column] = 0 }
        }
        let closed = Reference.ElasticCellSimilarity.evaluateInClosedForm(
            embeddings: embeddings, rows: rows, columns: columns, threshold: threshold, gradientScale: 2)
        let expected = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings, rows: rows, columns: columns, threshold: threshold, gradientScale: 2)
        #expect(abs(closed.value - expected.value) <= 1e-13)
        let largest = zip(closed.gradient, expected.gradient).enumerated().reduce(0.0) {
            // Similarity 0 is where relu has no derivative.
            rows > 2 && $1.offset / columns == 1 ? $0 : max($0, abs($1.element.0 - $1.element.1))
        }
        #expect(largest <= 1e-13)
    }

    @Test func oneCellHasTheValueOfItsDiagonalAndNoGradient() {
        var gradient = [1.0, 2.0]
        let value = Reference.ElasticCellSimilarity.valueAndGradient(
            embeddings: [3, 4], rows: 1, columns: 2, threshold: 0.5, gradient: &gradient)
        #expect(value == 0.75)
        #expect(gradient == [0, 0])
    }

    @Test func nanInOneEmbeddingReachesTheValue() {
        let value = Reference.ElasticCellSimilarity.value(
            embeddings: [1, 0, .nan, 1, 0, 1], rows: 3, columns: 2, threshold: 0.5)
        #expect(value.isNaN)
    }
}
