// The oracle of CCE against PyTorch and central differences.

import FastLossReference
import Testing

@Suite struct ContrastiveCellEmbeddingReferenceTests {
    @Test(arguments: try Golden.cases(of: "ContrastiveCellEmbedding"))
    func matchesPyTorch(_ golden: Golden) throws {
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

    @Test(arguments: [0.1, 0.5, 10])
    func gradientsMatchCentralDifferences(temperature: Double) {
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

    /// The sizes that the rows' gradients of CCE would have if no cell found itself, plus the ones they have.
    ///
    /// A confident cell's gradient is tiny, but PyTorch computes it as softmax − 1 and so with the rounding
    /// of a number near 1, times 1/(B·τ·‖E_i‖).
    static func scales(
        _ golden: Golden, _ input: String, _ normsBeforeProjection: [Double]
    ) throws -> [Double] {
        let (rows, columns) = (try golden.int("rows"), try golden.int("columns"))
        let floor = 1e-8
        let (_, norms) = Reference.CosineSimilarity.normalizedRows(
            embeddings: try golden.doubles(input), rows: rows, columns: columns, floor: floor)
        let temperature = try golden.double("temperature")
        return zip(norms, normsBeforeProjection).map { norm, before in
            before + 1 / (Double(rows) * temperature * max(norm, floor))
        }
    }
}
