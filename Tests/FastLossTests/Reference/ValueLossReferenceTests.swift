// The oracle of the value losses (MSE, Bernoulli NLL, relative error) against PyTorch, central differences, and
// the mask law.

import FastLossReference
import Testing

@Suite struct ValueLossReferenceTests {
    /// A masked loss as the tests see it: one argument that is differentiated, targets, a mask.
    struct Loss<T: ReferenceScalar>: Sendable {
        typealias Reduce = @Sendable ([T], [T], [Bool], Reference.Reduction, inout [T]) -> T
        typealias PerCell = @Sendable ([T], [T], [Bool], Int, Int, inout [T]) -> [T]
        let reduce: Reduce
        let perCell: PerCell

        static var maskedMSE: Self {
            Self(
                reduce: { x, t, mask, reduction, gradient in
                    Reference.MaskedMSE.valueAndGradient(
                        predictions: x, targets: t, mask: mask, reduction: reduction, gradient: &gradient)
                },
                perCell: { x, t, mask, rows, columns, gradient in
                    Reference.MaskedMSE.perCellValuesAndGradient(
                        predictions: x, targets: t, mask: mask, rows: rows, columns: columns,
                        gradient: &gradient)
                })
        }

        static var bernoulli: Self {
            Self(
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

        static var bernoulliFromLogits: Self {
            Self(
                reduce: { y, t, mask, reduction, gradient in
                    Reference.BernoulliNLL.valueAndGradientFromLogits(
                        logits: y, targets: t, mask: mask, reduction: reduction, gradient: &gradient)
                },
                perCell: { y, t, mask, rows, columns, gradient in
                    Reference.BernoulliNLL.perCellValuesAndGradientFromLogits(
                        logits: y, targets: t, mask: mask, rows: rows, columns: columns, gradient: &gradient)
                })
        }
    }

    /// Which loss a case of the Bernoulli goldens is about.
    static func bernoulli<T>(_ golden: Golden, _: T.Type) -> (Loss<T>, input: String) {
        golden.hasInput("logits") ? (.bernoulliFromLogits, "logits") : (.bernoulli, "probabilities")
    }

    @Test(arguments: try Golden.cases(of: "MaskedMSE"))
    func maskedMSEMatchesPyTorch(_ golden: Golden) throws {
        try expectTruth(of: Loss.maskedMSE, golden, input: "predictions")
        try expectSingle(of: Loss.maskedMSE, golden, input: "predictions")
    }

    @Test(arguments: try Golden.cases(of: "BernoulliNLL"))
    func bernoulliNLLMatchesPyTorch(_ golden: Golden) throws {
        let (loss, input) = Self.bernoulli(golden, Double.self)
        try expectTruth(of: loss, golden, input: input)
    }

    /// Not on the clamp's boundaries: there the way through a logit, which PyTorch takes in float32 too, has
    /// lost most digits of the gradient.
    @Test(arguments: try Golden.cases(of: "BernoulliNLL").filter { $0.name != "clamp boundaries" })
    func naiveBernoulliNLLMatchesPyTorch(_ golden: Golden) throws {
        let (loss, input) = Self.bernoulli(golden, Float.self)
        try expectSingle(of: loss, golden, input: input)
    }

    @Test(arguments: try Golden.cases(of: "MaskedRelativeError"))
    func relativeErrorMatchesPyTorch(_ golden: Golden) throws {
        let (x, t) = (try golden.doubles("predictions"), try golden.doubles("targets"))
        let mask = try golden.bools("mask")
        for (reduction, name) in [(Reference.Reduction.mean, "mean"), (.sum, "sum")] {
            let value = Reference.MaskedRelativeError.value(
                predictions: x, targets: t, mask: mask, reduction: reduction)
            expectClose([value], try golden.truth(name), Tolerances.oracle, name)
        }
        let values = Reference.MaskedRelativeError.perCellValues(
            predictions: x, targets: t, mask: mask, rows: try golden.int("rows"),
            columns: try golden.int("columns"))
        expectClose(values, try golden.truth("perCell"), Tolerances.oracle, "perCell")
    }

    @Test func gradientsMatchCentralDifferences() {
        var random = RandomInputs(seed: 1)
        let (rows, columns) = (3, 7)
        let count = rows * columns
        let (targets, mask) = (random.targets(count).doubles, random.mask(count))
        let points: [(Loss<Double>, [Double])] = [
            (.maskedMSE, random.predictions(count).doubles),
            (.bernoulli, (0..<count).map { _ in 0.1 + 0.8 * random.uniform() }),
            (.bernoulliFromLogits, random.normals(count, scale: 4).doubles),
        ]
        for (loss, point) in points {
            for reduction in Reference.Reduction.allCases {
                var gradient = point
                _ = loss.reduce(point, targets, mask, reduction, &gradient)
                expectCentralDifferences(
                    of: { moved in
                        var unused = moved
                        return loss.reduce(moved, targets, mask, reduction, &unused)
                    }, at: point, gradient: gradient, "\(reduction)")
            }
            var gradient = point
            _ = loss.perCell(point, targets, mask, rows, columns, &gradient)
            expectCentralDifferences(
                of: { moved in
                    var unused = moved
                    return loss.perCell(moved, targets, mask, rows, columns, &unused).reduce(0, +)
                }, at: point, gradient: gradient, "perCell")
        }
    }

    /// f(x[mask], t[mask]) equals f(x, t, mask), to the last bit.
    @Test func maskSelects() {
        var random = RandomInputs(seed: 2)
        let count = 101
        let (targets, mask) = (random.targets(count).doubles, random.mask(count))
        let points: [(Loss<Double>, [Double])] = [
            (.maskedMSE, random.predictions(count).doubles),
            (.bernoulli, random.probabilities(count).doubles),
            (.bernoulliFromLogits, random.normals(count, scale: 4).doubles),
        ]
        func selected<Element>(_ elements: [Element]) -> [Element] {
            zip(elements, mask).filter(\.1).map(\.0)
        }
        for (loss, point) in points {
            for reduction in Reference.Reduction.allCases {
                var gradient = point
                let value = loss.reduce(point, targets, mask, reduction, &gradient)
                var alone = selected(point)
                let all = alone.map { _ in true }
                #expect(value == loss.reduce(selected(point), selected(targets), all, reduction, &alone))
                #expect(selected(gradient) == alone)
                #expect(zip(gradient, mask).allSatisfy { $1 || $0 == 0 })
            }
        }
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

    // MARK: - Comparing with a golden

    private func expectTruth(of loss: Loss<Double>, _ golden: Golden, input: String) throws {
        for (name, value, gradient) in try results(of: loss, golden, try golden.doubles(input)) {
            expectClose(value, try golden.truth(name), Tolerances.oracle, name)
            expectClose(gradient, try golden.truth(name + "Gradient"), Tolerances.oracle, name + "Gradient")
        }
    }

    private func expectSingle(of loss: Loss<Float>, _ golden: Golden, input: String) throws {
        for (name, value, gradient) in try results(of: loss, golden, try golden.floats(input)) {
            expectNormwise(
                actual: value, oracle: try golden.single(name).doubles, tolerance: Tolerances.naiveNormwise,
                name)
            expectNormwise(
                actual: gradient, oracle: try golden.single(name + "Gradient").doubles,
                tolerance: Tolerances.naiveNormwise, name + "Gradient")
        }
    }

    /// All three reductions of a loss on a golden's inputs.
    private func results<T: ReferenceScalar>(
        of loss: Loss<T>, _ golden: Golden, _ x: [T]
    ) throws -> [(name: String, value: [T], gradient: [T])] {
        let (targets, mask) = (try golden.floats("targets").map { T($0) }, try golden.bools("mask"))
        // Filled with what no loss writes, so that an element left out shows.
        let untouched = [T](repeating: -12345, count: x.count)
        var (mean, sum, perCell) = (untouched, untouched, untouched)
        let meanValue = loss.reduce(x, targets, mask, .mean, &mean)
        let sumValue = loss.reduce(x, targets, mask, .sum, &sum)
        let rows = loss.perCell(
            x, targets, mask, try golden.int("rows"), try golden.int("columns"), &perCell)
        return [("mean", [meanValue], mean), ("sum", [sumValue], sum), ("perCell", rows, perCell)]
    }
}
