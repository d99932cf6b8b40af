// The oracle of masked MSE against PyTorch, central differences and the mask law.

import FastLossReference
import Testing

@Suite struct MaskedMSEReferenceTests {
    static func oracle<T>(_: T.Type) -> MaskedLossOracle<T> {
        MaskedLossOracle(
            reduce: { x, t, mask, reduction, gradient in
                Reference.MaskedMSE.valueAndGradient(
                    predictions: x, targets: t, mask: mask, reduction: reduction, gradient: &gradient)
            },
            perCell: { x, t, mask, rows, columns, gradient in
                Reference.MaskedMSE.perCellValuesAndGradient(
                    predictions: x, targets: t, mask: mask, rows: rows, columns: columns, gradient: &gradient)
            })
    }

    @Test(arguments: try Golden.cases(of: "MaskedMSE"))
    func matchesPyTorch(_ golden: Golden) throws {
        try Self.oracle(Double.self).expectTruth(golden, input: "predictions")
        try Self.oracle(Float.self).expectSingle(golden, input: "predictions")
    }

    @Test func gradientMatchesCentralDifferences() {
        var random = RandomInputs(seed: 1)
        let (targets, mask) = (random.targets(21).doubles, random.mask(21))
        Self.oracle(Double.self).expectCentralDifferences(
            at: random.predictions(21).doubles, targets: targets, mask: mask, rows: 3)
    }

    @Test func maskSelects() {
        var random = RandomInputs(seed: 2)
        let (targets, mask) = (random.targets(101).doubles, random.mask(101))
        Self.oracle(Double.self).expectMaskLaw(
            at: random.predictions(101).doubles, targets: targets, mask: mask)
    }

    @Test func gradientScaleMultipliesTheGradientAlone() {
        var random = RandomInputs(seed: 3)
        let (x, t) = (random.predictions(20).doubles, random.targets(20).doubles)
        let mask = random.mask(20)
        var (plain, scaled) = (x, x)
        let value = Reference.MaskedMSE.valueAndGradient(
            predictions: x, targets: t, mask: mask, gradient: &plain)
        let scaledValue = Reference.MaskedMSE.valueAndGradient(
            predictions: x, targets: t, mask: mask, gradientScale: 4, gradient: &scaled)
        #expect(scaledValue == value)
        #expect(scaled == plain.map { 4 * $0 })
    }
}
