// The oracle of the embedding losses (ECS, CCE) and the spectrum against PyTorch and central differences.

import FastLossReference
import Testing

@Suite struct SimilarityReferenceTests {
    @Test(arguments: try Golden.cases(of: "ElasticCellSimilarity"))
    func elasticMatchesPyTorch(_ golden: Golden) throws {
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

    @Test(arguments: try Golden.cases(of: "ContrastiveCellEmbedding"))
    func contrastiveMatchesPyTorch(_ golden: Golden) throws {
        let (rows, columns) = (try golden.int("rows"), try golden.int("columns"))
        let result = Reference.ContrastiveCellEmbedding.evaluate(
            first: try golden.doubles("first"), second: try golden.doubles("second"), rows: rows,
            columns: columns, temperature: try golden.double("temperature"))
        expectClose([result.value], try golden.truth("value"), Tolerances.oracle, "value")
        let firstScales = try Self.scales(golden, "first", result.firstNormsBeforeProjection)
        let secondScales = try Self.scales(golden, "second", result.secondNormsBeforeProjection)
        expectRowsNormwise(
            actual: result.firstGradient, oracle: try golden.truth("firstGradient"), columns: columns,
            scales: firstScales, tolerance: Tolerances.oracleNormwise, "first")
        expectRowsNormwise(
            actual: result.secondGradient, oracle: try golden.truth("secondGradient"), columns: columns,
            scales: secondScales, tolerance: Tolerances.oracleNormwise, "second")

        let naive = Reference.ContrastiveCellEmbedding.evaluate(
            first: try golden.floats("first"), second: try golden.floats("second"), rows: rows,
            columns: columns, temperature: try golden.float("temperature"))
        expectClose(
            [naive.value], try golden.single("value"), Tolerances.naiveEmbeddingValue, "naive value")
        expectRowsNormwise(
            actual: naive.firstGradient, oracle: try golden.single("firstGradient").doubles,
            columns: columns, scales: firstScales, tolerance: Tolerances.naiveNormwise, "naive first")
        expectRowsNormwise(
            actual: naive.secondGradient, oracle: try golden.single("secondGradient").doubles,
            columns: columns, scales: secondScales, tolerance: Tolerances.naiveNormwise, "naive second")
    }

    /// The sizes that the rows' gradients of CCE would have if no cell found itself, plus the ones they have.
    ///
    /// A confident cell's gradient is tiny, but PyTorch computes it as softmax − 1 and so with the rounding of
    /// a number near 1, times 1/(B·τ·‖E_i‖).
    static func scales(_ golden: Golden, _ input: String, _ normsBeforeProjection: [Double]) throws -> [Double] {
        let (rows, columns) = (try golden.int("rows"), try golden.int("columns"))
        let floor = 1e-8
        let (_, norms) = Reference.CosineSimilarity.normalizedRows(
            embeddings: try golden.doubles(input), rows: rows, columns: columns, floor: floor)
        let temperature = try golden.double("temperature")
        return zip(norms, normsBeforeProjection).map { norm, before in
            before + 1 / (Double(rows) * temperature * max(norm, floor))
        }
    }

    @Test func elasticGradientMatchesCentralDifferences() throws {
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

    @Test(arguments: [0.1, 0.5, 10])
    func contrastiveGradientsMatchCentralDifferences(temperature: Double) {
        var random = RandomInputs(seed: 6)
        let (rows, columns) = (6, 5)
        let first = random.embeddings(rows: rows, columns: columns)
        let second = random.secondEncoding(of: first).doubles
        var (firstGradient, secondGradient) = (first.doubles, second)
        _ = Reference.ContrastiveCellEmbedding.valueAndGradient(
            first: first.doubles, second: second, rows: rows, columns: columns, temperature: temperature,
            firstGradient: &firstGradient, secondGradient: &secondGradient)
        expectCentralDifferences(
            of: {
                Reference.ContrastiveCellEmbedding.value(
                    first: $0, second: second, rows: rows, columns: columns, temperature: temperature)
            }, at: first.doubles, gradient: firstGradient, "first")
        expectCentralDifferences(
            of: {
                Reference.ContrastiveCellEmbedding.value(
                    first: first.doubles, second: $0, rows: rows, columns: columns, temperature: temperature)
            }, at: second, gradient: secondGradient, "second")
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

    @Test(arguments: try Golden.cases(of: "EmbeddingSpectrum"))
    func spectrumMatchesPyTorch(_ golden: Golden) throws {
        let values = Reference.EmbeddingSpectrum.singularValues(
            embeddings: try golden.doubles("embeddings"), rows: try golden.int("rows"),
            columns: try golden.int("columns"))
        let truth = try golden.truth("singularValues")
        let tolerance = Tolerance(relative: 0, absolute: Tolerances.singularValues * (truth.first ?? 0))
        expectClose(values, truth, tolerance, "singular values")
        expectClose(
            [Reference.EmbeddingSpectrum.effectiveRank(singularValues: values)],
            try golden.truth("effectiveRank"), Tolerances.oracle, "effective rank")
    }

    @Test func effectiveRankCountsDirections() {
        #expect(Reference.EmbeddingSpectrum.effectiveRank(singularValues: [2]) == 1)
        #expect(Reference.EmbeddingSpectrum.effectiveRank(singularValues: [0, 0]).isNaN)
        expectClose(
            Reference.EmbeddingSpectrum.effectiveRank(singularValues: [3, 3, 3, 0]), 3, Tolerances.oracle)
    }
}
