// Bernoulli NLL, both forms: exact cases, goldens, the clamp, the domain, the exponential. The rest is in
// MaskedLossTests.

import FastLoss
import FastLossReference
import Testing

@Suite struct BernoulliNLLTests {
    static func subject(of golden: Golden) -> (MaskedSubject, input: String) {
        golden.hasInput("logits") ? (.logits, "logits") : (.probabilities, "probabilities")
    }

    @Test(arguments: try Golden.cases(of: "BernoulliNLL"))
    func matchesPyTorch(_ golden: Golden) throws {
        let (subject, input) = Self.subject(of: golden)
        try subject.expectGolden(golden, input: input)
    }

    /// Powers of two: the product of the likelihoods is exact, and so is its logarithm's integer part.
    @Test func powersOfTwo() throws {
        let inputs = MaskedInputs(
            predictions: [0.5, 0.25, 0.75, 0.5], targets: [3, 1, 0, 0], mask: nil,
            shape: MatrixShape(rows: 1, columns: 4))
        let result = try MaskedSubject.probabilities.run(inputs, .sum)
        #expect(result.values == [6 * Reference.ln2])
        #expect(result.gradient == [-2, -4, 4, 2])
        var logits = inputs
        logits.predictions = [0, 0, 0, 0]
        let atZero = try MaskedSubject.logits.run(logits, .sum)
        #expect(atZero.values == [4 * Reference.ln2])
        #expect(atZero.gradient == [-0.5, -0.5, 0.5, 0.5])
    }

    /// An element is at most 23·ln 2, and has no gradient beyond the clamp; exactly on it, it has one.
    @Test func clampEndsTheLossAndTheGradient() throws {
        let epsilon: Float = 0x1p-23
        let x = [0, epsilon.nextDown, epsilon, 1 - epsilon, (1 - epsilon).nextUp, 1]
        for target: Float in [1, 0] {
            let inputs = MaskedInputs(
                predictions: x, targets: x.map { _ in target }, mask: nil,
                shape: MatrixShape(rows: 6, columns: 1))
            let result = try MaskedSubject.probabilities.run(inputs, .sumPerCell)
            let (worst, best) = (Float(23 * Reference.ln2), Float(0x1p-23))
            let expected = [worst, worst, worst, best, best, best]
            expectWithinUlps(
                actual: result.values.map { Float($0) },
                oracle: (target == 1 ? expected : expected.reversed()).doubles, floor: 0)
            #expect(result.gradient.map { $0 != 0 } == [false, false, true, true, false, false])
        }
    }

    @Test(arguments: [MaskedSubject.probabilities, .logits])
    func nanTargetIsNotAboveZero(_ subject: MaskedSubject) throws {
        var inputs = subject.inputs(columns: 33, selecting: nil)
        inputs.targets = inputs.targets.map { _ in 0 }
        let zeros = try subject.run(inputs, .mean)
        inputs.targets = inputs.targets.map { _ in .nan }
        #expect(try subject.run(inputs, .mean).bits == zeros.bits)
    }

    /// The loss of a large wrong logit is its size, that of a right one is 0. The gradient stays in [−1, 1].
    @Test func logitsOfAnySize() throws {
        let y: [Float] = [1e4, -1e4, .infinity, -.infinity, 1e30, -1e30]
        for (target, values): (Float, [Double]) in [
            (0, [1e4, 0, .infinity, 0, 1e30, 0]), (1, [0, 1e4, 0, .infinity, 0, 1e30]),
        ] {
            let inputs = MaskedInputs(
                predictions: y, targets: y.map { _ in target }, mask: nil,
                shape: MatrixShape(rows: 6, columns: 1))
            let result = try MaskedSubject.logits.run(inputs, .sumPerCell)
            expectWithinUlps(actual: result.values.map { Float($0) }, oracle: values, floor: 0)
            #expect(result.gradient == values.map { $0 == 0 ? 0 : target == 1 ? -1 : 1 })
        }
    }

    /// The two forms agree for p = σ(y), up to the rounding of p to a Float.
    @Test func formsAgree() throws {
        let logits = MaskedInputs(
            predictions: [-3, -1, 0, 0.5, 2], targets: [0, 1, 1, 0, 1], mask: nil,
            shape: MatrixShape(rows: 1, columns: 5))
        var probabilities = logits
        probabilities.predictions = logits.predictions.map { Float(1 / (1 + Reference.exp(-Double($0)))) }
        let (a, b) = (
            try MaskedSubject.logits.run(logits, .mean),
            try MaskedSubject.probabilities.run(probabilities, .mean)
        )
        expectNormwise(actual: a.values, oracle: b.values, tolerance: Tolerances.naiveNormwise)
        // ∂L/∂y = ∂L/∂p · p(1 − p).
        let chained = zip(b.gradient, probabilities.predictions).map { Double($0 * $1 * (1 - $1)) }
        expectNormwise(actual: a.gradient, oracle: chained, tolerance: Tolerances.naiveNormwise)
    }

    /// The first selected offender is named, with its place among all elements.
    @Test(arguments: [Float.nan, -0x1p-149, 1.0000001, -Float.infinity, 7], Aggregation.allCases)
    func probabilitiesOutOfRange(_ probability: Float, aggregation: Aggregation) {
        for index in [0, 16, 4_100, 8_401] {
            var inputs = MaskedSubject.probabilities.inputs(rows: 2, columns: 4_201, selecting: 0.5)
            inputs.mask?[0] = true
            inputs.mask?[4_201] = true
            inputs.mask?[index] = true
            inputs.predictions[index] = probability
            // Later ones are not the first; those outside the mask are none.
            if index + 1 < inputs.count { inputs.predictions[index + 1] = 9 }
            if index > 1 {
                inputs.predictions[1] = -1
                inputs.mask?[1] = false
            }
            // Messages write whole numbers without a point.
            let number = "\(probability)".replacing(/\.0$/, with: "")
            let message =
                "probability \(number) at element \(index) of predictions is not in [0, 1]; "
                + "output buffers of this call hold unspecified values (for logits, use BernoulliNLL.Form.logits)"
            expectError(message) { () throws(LossError) in
                _ = try MaskedSubject.probabilities.run(inputs, aggregation)
            }
            expectError(message) { () throws(LossError) in
                _ = try MaskedSubject.probabilities.value(inputs, aggregation)
            }
        }
    }

    /// The kernels' exponential, over floats in [−87.3, 0] at a stride that meets every exponent and many
    /// mantissas: σ(y) of y ≤ 0 is e/(1 + e), with e = exp(y) itself below −17.
    @Test func exponentialIsAccurate() throws {
        let y = Exponents.sample
        var gradient = [Float](repeating: 0, count: y.count)
        var span = gradient.mutableSpan
        let zeros = [Float](repeating: 0, count: y.count)
        _ = try BernoulliNLL(from: .logits, reduction: .sum).valueAndGradient(
            predictions: y.span, targets: zeros.span, mask: nil, gradient: &span,
            workspace: Workspace(workers: 1))
        let sigmoids = y.map { y in
            let e = Reference.exp(Double(y))
            return e / (1 + e)
        }
        expectWithinUlps(actual: gradient, oracle: sigmoids, ulps: Tolerances.sigmoidUlps, floor: 0, "σ")
        let tail = y.indices.filter { y[$0] < Exponents.sigmoidIsExponential }
        expectWithinUlps(
            actual: tail.map { gradient[$0] }, oracle: tail.map { Reference.exp(Double(y[$0])) },
            ulps: Tolerances.exponentialUlps, floor: 0, "exp")
    }

    /// Where the exponential is subnormal in Float, its product with a large scale is as accurate as any.
    @Test func subnormalExponentialIsAccurate() throws {
        let y = Exponents.subnormal
        let result = try MaskedSubject.logits.run(
            Self.column(y, target: 0), .sum, scale: Exponents.largeScale)
        expectWithinUlps(
            actual: result.gradient,
            oracle: y.map { Double(Exponents.largeScale) * Reference.exp(Double($0)) },
            ulps: Tolerances.exponentialUlps, floor: 0)
    }

    /// Below −253·ln 2 = −175.4 the exponential is zero, and so are loss and gradient.
    @Test func exponentialUnderflowsToZero() throws {
        let inputs = Self.column([-176, -200, -1e10], target: 0)
        let result = try MaskedSubject.logits.run(inputs, .sum, scale: 1e38)
        #expect(result.values == [0] && result.gradient == [0, 0, 0])
    }

    // MARK: - Logits, one by one

    /// Cells of one element, all with the same target.
    private static func column(_ predictions: [Float], target: Float) -> MaskedInputs {
        MaskedInputs(
            predictions: predictions, targets: predictions.map { _ in target }, mask: nil,
            shape: MatrixShape(rows: predictions.count, columns: 1))
    }

    /// Every single value and gradient, with no floor below which errors are ignored: both signs, both
    /// targets, and every exponent from the one where 1 + e is 2 to the one where e is subnormal.
    @Test(arguments: [Float(0), 1])
    func everyLogitIsAccurate(target: Float) throws {
        let magnitudes = stride(from: Float(0x1p-30).bitPattern, through: Float(86).bitPattern, by: 40_009)
            .map { Float(bitPattern: $0) }
        for logits in [magnitudes, magnitudes.map { -$0 }] {
            let inputs = Self.column(logits, target: target)
            let result = try MaskedSubject.logits.run(inputs, .sumPerCell, scale: 0.7)
            let truth = MaskedSubject.logits.truth(inputs, .sumPerCell)
            expectWithinUlps(
                actual: result.values.map { Float($0) }, oracle: truth.values, floor: 0, "value")
            expectWithinUlps(
                actual: result.gradient, oracle: truth.gradient.map { $0 * Double(Float(0.7)) }, floor: 0,
                "gradient")
            #expect(try MaskedSubject.logits.value(inputs, .sumPerCell) == result.values)
        }
    }

    /// scale·σ(w) is right wherever it is a normal number, even if σ(w) is not. So is its sum with a
    /// gradient.
    @Test(arguments: [Float(1e6), 1e30, -8e37, 1, 0.3, 1e-30], [Float(0), 1])
    func gradientIsRightWhereverItIsNormal(scale: Float, target: Float) throws {
        let logits = stride(from: Float(60), through: 172, by: 0.03125).map { target == 1 ? $0 : -$0 }
        let inputs = Self.column(logits, target: target)
        let truth = MaskedSubject.logits.truth(inputs, .sum).gradient.map { $0 * Double(scale) }
        let normal = truth.indices.filter { abs(truth[$0]) >= Double(Float.leastNormalMagnitude) }
        #expect(scale < 1e6 || normal.count > 1_200)
        let initial = [Float](repeating: 0, count: logits.count)
        for gradient in [
            try MaskedSubject.logits.run(inputs, .sum, scale: scale).gradient,
            try MaskedSubject.logits.run(inputs, .sum, scale: scale, addingTo: initial).gradient,
        ] {
            expectWithinUlps(
                actual: normal.map { gradient[$0] }, oracle: normal.map { truth[$0] }, floor: 0)
        }
    }

    /// Elements that are too small for a Float, although their sum is not, alone and together with larger
    /// ones.
    @Test(arguments: [[Float(-95)], [-100], [-88, -110], [-95, -20], [-103.5, -95, -87, -87.5]])
    func tinyElementsAddUp(_ pattern: [Float]) throws {
        let shape = MatrixShape(rows: 64, columns: 1_201)
        let logits = (0..<64 * 1_201).map { pattern[$0 % pattern.count] }
        let inputs = MaskedInputs(
            predictions: logits, targets: logits.map { _ in 0 }, mask: nil, shape: shape)
        let expected = pattern.map { Reference.exp(Double($0)) }
        let truth = logits.indices.reduce(0) { $0 + expected[$1 % pattern.count] }
        let result = try MaskedSubject.logits.run(inputs, .sum, scale: 1e6)
        // Relative, because a Float as small as some of these has no bits to spare.
        expectClose(
            result.values[0], truth,
            Tolerance(relative: Tolerances.elementwiseUlps * 0x1p-24, absolute: 0))
        #expect(try MaskedSubject.logits.value(inputs, .sum) == result.values)
    }

    /// Any number of elements, from any place on: the kernel's last ones are padded.
    @Test func logitsOfAnyCountAndPlace() throws {
        let whole = MaskedSubject.logits.inputs(columns: 160, selecting: 0.6)
        let gradient = try MaskedSubject.logits.run(whole, .sum).gradient
        let mask = try #require(whole.mask)
        for count in Array(1...17) + [31, 32, 33, 63, 64, 65, 127, 128, 129] {
            for start in [0, 1, 7, 16, 31] where mask[start..<start + count].contains(true) {
                let range = start..<start + count
                var part = MaskedInputs(
                    predictions: Array(whole.predictions[range]), targets: Array(whole.targets[range]),
                    mask: Array(mask[range]), shape: MatrixShape(rows: 1, columns: count))
                let result = try MaskedSubject.logits.run(part, .sum)
                MaskedSubject.logits.expectTruth(result, of: part, .sum)
                expectSameBits(result.gradient, Array(gradient[range]), "\(count) from \(start)")
                for i in 0..<count where !part.selects(i) {
                    part.predictions[i] = [.nan, .infinity, -.infinity][i % 3]
                    part.targets[i] = [.nan, 1, 0][i % 3]
                }
                #expect(try MaskedSubject.logits.run(part, .sum).bits == result.bits)
            }
        }
    }

    /// A kernel takes a logarithm every 8,192 elements at most; here lanes multiply to 2 to some hundreds.
    @Test func productsOfManyLogits() throws {
        for logit: Float in [0, -1e-3, 0.5, -3, -17, -40] {
            let count = 8_191
            let inputs = MaskedInputs(
                predictions: [Float](repeating: logit, count: count),
                targets: [Float](repeating: 0, count: count), mask: nil,
                shape: MatrixShape(rows: 1, columns: count))
            MaskedSubject.logits.expectTruth(
                try MaskedSubject.logits.run(inputs, .sum), of: inputs, .sum, "logit \(logit)")
        }
    }
}
