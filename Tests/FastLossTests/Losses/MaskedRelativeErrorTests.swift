// Masked relative error: an exact case and PyTorch's goldens. What it shares with the losses is in
// MaskedLossTests.

import FastLoss
import Testing

@Suite struct MaskedRelativeErrorTests {
    /// A target so large that adding 10⁻⁶ does not change it.
    @Test func smallIntegersAreExact() throws {
        let value = try MaskedRelativeError().value(
            predictions: [48, 32, 1, 40], targets: [32, 64, 32, 32], mask: [true, true, false, true])
        #expect(value == LossValue(value: (0.5 + 0.5 + 0.25) / 3, selectedCount: 3))
    }

    @Test(arguments: try Golden.cases(of: "MaskedRelativeError"))
    func matchesPyTorch(_ golden: Golden) throws {
        try MaskedSubject.relativeError.expectGolden(golden, input: "predictions")
    }

    @Test func zeroTargetsCountByTheMillion() throws {
        let value = try MaskedRelativeError(reduction: .sum).value(predictions: [2, -3], targets: [0, 0])
            .value
        expectWithinUlps(actual: Float(value), oracle: 5e6)
    }
}
