// Masked MSE: exact small cases and PyTorch's goldens. What it shares with other masked losses is in
// MaskedLossTests.

import FastLoss
import Testing

@Suite struct MaskedMSETests {
    /// Integers, and counts that are powers of two: every step is exact.
    @Test func smallIntegersAreExact() throws {
        let x: [Float] = [1, 2, 3, 4, -5, 6, 7, 8]
        let t: [Float] = [0, 4, 3, 1, -5, 2, 100, 9]
        let mask = [true, true, false, true, true, false, false, false]
        let inputs = MaskedInputs(
            predictions: x, targets: t, mask: mask, shape: MatrixShape(rows: 2, columns: 4))
        // Differences 1, −2, 3 in the first cell and 0 in the second.
        let mean = try MaskedSubject.mse.run(inputs, .mean)
        #expect(
            mean == MaskedResult(values: [3.5], selectedCount: 4, gradient: [0.5, -1, 0, 1.5, 0, 0, 0, 0]))
        let sum = try MaskedSubject.mse.run(inputs, .sum, scale: 2)
        #expect(sum == MaskedResult(values: [14], selectedCount: 4, gradient: [4, -8, 0, 12, 0, 0, 0, 0]))
        let cells = try MaskedSubject.mse.run(inputs, .sumPerCell)
        #expect(
            cells == MaskedResult(values: [14, 0], selectedCount: 4, gradient: [2, -4, 0, 6, 0, 0, 0, 0]))
    }

    @Test(arguments: try Golden.cases(of: "MaskedMSE"))
    func matchesPyTorch(_ golden: Golden) throws {
        try MaskedSubject.mse.expectGolden(golden, input: "predictions")
    }

    @Test func infinityInsideTheMask() throws {
        var inputs = MaskedSubject.mse.inputs(columns: 20, selecting: nil)
        inputs.predictions[3] = -.infinity
        let result = try MaskedSubject.mse.run(inputs, .mean)
        #expect(result.values == [.infinity] && result.gradient[3] == -.infinity)
        inputs.targets[3] = -.infinity
        #expect(try MaskedSubject.mse.run(inputs, .mean).values[0].isNaN)
    }
}
