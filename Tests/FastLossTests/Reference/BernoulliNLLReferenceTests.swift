// The oracle of the Bernoulli likelihood, both forms, against PyTorch, central differences and the mask law.

import FastLossReference
import Testing

@Suite struct BernoulliNLLReferenceTests {
    static func fromProbabilities<T>(_: T.Type) -> MaskedLossOracle<T> {
        MaskedLossOracle(
            reduce: { p, t, mask, reduction, gradient in
                Reference.BernoulliNLL.valueAndGradient(
                    probabilities: p, targets: t, mask: mask, reduction: reduction, gradient: &gradient)
            },
            perCell: { p, t, mask, rows, columns, gradient in
                Reference.BernoulliNLL.perCellValuesAndGradient(
                    probabilities: p, targets: t, mask: mask, rows: rows, columns: columns,
                    gradient: &gradient)
            })
    }

    static func fromLogits<T>(_: T.Type) -> MaskedLossOracle<T> {
        MaskedLossOracle(
            reduce: { y, t, mask, reduction, gradient in
                Reference.BernoulliNLL.valueAndGradientFromLogits(
                    logits: y, targets: t, mask: mask, reduction: reduction, gradient: &gradient)
            },
            perCell: { y, t, mask, rows, columns, gradient in
                Reference.BernoulliNLL.perCellValuesAndGradientFromLogits(
                    logits: y, targets: t, mask: mask, rows: rows, columns: columns, gradient: &gradient)
            })
    }

    /// The form that a golden case is about.
    static func oracle<T>(of golden: Golden, _: T.Type) -> (MaskedLossOracle<T>, input: String) {
        golden.hasInput("logits")
            ? (fromLogits(T.self), "logits") : (fromProbabilities(T.self), "probabilities")
    }

    @Test(arguments: try Golden.cases(of: "BernoulliNLL"))
    func matchesPyTorch(_ golden: Golden) throws {
        let (oracle, input) = Self.oracle(of: golden, Double.self)
        try oracle.expectTruth(golden, input: input)
    }

    /// Not on the clamp's boundaries: there the way through a logit, which PyTorch takes in float32 too, has
    /// lost most digits of the gradient.
    @Test(arguments: try Golden.cases(of: "BernoulliNLL").filter { $0.name != "clamp boundaries" })
    func naiveMatchesPyTorch(_ golden: Golden) throws {
        let (oracle, input) = Self.oracle(of: golden, Float.self)
        try oracle.expectSingle(golden, input: input)
    }

    @Test func gradientsMatchCentralDifferences() {
        var random = RandomInputs(seed: 1)
        let (targets, mask) = (random.targets(21).doubles, random.mask(21))
        let probabilities = (0..<21).map { _ in 0.1 + 0.8 * random.uniform() }
        Self.fromProbabilities(Double.self).expectCentralDifferences(
            at: probabilities, targets: targets, mask: mask, rows: 3)
        Self.fromLogits(Double.self).expectCentralDifferences(
            at: random.normals(21, scale: 4).doubles, targets: targets, mask: mask, rows: 3)
    }

    @Test func maskSelects() {
        var random = RandomInputs(seed: 2)
        let (targets, mask) = (random.targets(101).doubles, random.mask(101))
        Self.fromProbabilities(Double.self).expectMaskLaw(
            at: random.probabilities(101).doubles, targets: targets, mask: mask)
        Self.fromLogits(Double.self).expectMaskLaw(
            at: random.normals(101, scale: 4).doubles, targets: targets, mask: mask)
    }

    /// Of p = σ(y), both forms are the same loss as long as the clamp is far.
    @Test func formsAgreeAwayFromTheClamp() {
        var random = RandomInputs(seed: 3)
        let logits = random.normals(50, scale: 2).doubles
        let probabilities = logits.map { 1 / (1 + Double.exp(-$0)) }
        let (targets, mask) = (random.targets(50).doubles, random.mask(50))
        expectClose(
            Reference.BernoulliNLL.value(probabilities: probabilities, targets: targets, mask: mask),
            Reference.BernoulliNLL.valueFromLogits(logits: logits, targets: targets, mask: mask),
            Tolerances.oracle)
    }

    /// The largest loss of one position is 23 log 2, at the clamp. The logit form goes on growing.
    @Test(arguments: [Float(0), 1])
    func clampBoundsTheLoss(target: Float) {
        let wrong: Double = target > 0 ? 0 : 1
        let bounded = Reference.BernoulliNLL.value(
            probabilities: [wrong], targets: [Double(target)], mask: [true])
        expectClose(bounded, 23 * Double.log(2), Tolerances.oracle)
        let unbounded = Reference.BernoulliNLL.valueFromLogits(
            logits: [target > 0 ? -100 : 100], targets: [Double(target)], mask: [true])
        expectClose(unbounded, 100.0, Tolerances.oracle)
    }
}
