// The oracle of the spectrum against PyTorch (LAPACK).

import FastLossReference
import Testing

@Suite struct EmbeddingSpectrumReferenceTests {
    @Test(arguments: try Golden.cases(of: "EmbeddingSpectrum"))
    func matchesPyTorch(_ golden: Golden) throws {
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
