// Cross-entropy: exact cases, goldens, the oracle, extremes, ignored labels, updates, order, every error.

import FastLoss
import FastLossReference
import Testing

@Suite struct CrossEntropyTests {
    struct Inputs: Sendable {
        var logits: [Float]
        var labels: [Int32]
        var classes: Int

        static func random(rows: Int, classes: Int, ignored: Double = 0.3, scale: Double = 3) -> Inputs {
            var random = RandomInputs(seed: 11)
            var labels = random.labels(rows, classes: classes, ignored: ignored)
            // At least one row counts.
            if rows > 0 { labels[0] = Int32(classes - 1) }
            return Inputs(
                logits: random.normals(rows * classes, scale: scale), labels: labels, classes: classes)
        }

        func truth<T: ReferenceScalar>(
            _ reduction: Reference.Reduction, _: T.Type
        ) -> (
            value: T, gradient: [T]
        ) {
            var gradient = logits.map { T($0) }
            let value = Reference.CrossEntropy.valueAndGradient(
                logits: gradient, labels: labels, rows: labels.count, classes: classes, reduction: reduction,
                gradient: &gradient)
            return (value, gradient)
        }
    }

    struct Result: Equatable {
        var loss: LossValue
        var gradient: [Float]
        var bits: [UInt64] { [loss.value.bitPattern] + gradient.map { UInt64($0.bitPattern) } }
    }

    static func run(
        _ inputs: Inputs, _ loss: CrossEntropy = CrossEntropy(), scale: Float = 1,
        addingTo initial: [Float]? = nil,
        workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> Result {
        var gradient = initial ?? [Float](repeating: -12345, count: inputs.logits.count)
        let value = try run(
            inputs, loss, scale: scale, update: initial == nil ? .overwrite : .accumulate,
            gradient: &gradient,
            workspace: workspace)
        return Result(loss: value, gradient: gradient)
    }

    static func run(
        _ inputs: Inputs, _ loss: CrossEntropy = CrossEntropy(), scale: Float = 1,
        update: GradientUpdate = .overwrite,
        gradient: inout [Float], workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> LossValue {
        var span = gradient.mutableSpan
        return try loss.valueAndGradient(
            logits: inputs.logits.span, labels: inputs.labels.span, classes: inputs.classes, gradient: &span,
            gradientScale: scale, update: update, workspace: workspace)
    }

    private func expectTruth(
        _ inputs: Inputs, scale: Float = 1, _ label: String = "",
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        for (reduction, reference) in [(LossReduction.mean, Reference.Reduction.mean), (.sum, .sum)] {
            let loss = CrossEntropy(reduction: reduction)
            let result = try Self.run(inputs, loss, scale: scale)
            let truth = inputs.truth(reference, Double.self)
            let naive = inputs.truth(reference, Float.self)
            let label = "\(label) \(inputs.labels.count)×\(inputs.classes), \(reduction)"
            expectWithinUlps(
                actual: Float(result.loss.value), oracle: truth.value, floor: 0, label,
                sourceLocation: sourceLocation)
            expectAsAccurateAsNaive(
                fast: Float(result.loss.value), naive: naive.value, truth: truth.value, label,
                sourceLocation: sourceLocation)
            let gradient = truth.gradient.map { $0 * Double(scale) }
            expectWithinUlps(actual: result.gradient, oracle: gradient, label, sourceLocation: sourceLocation)
            expectAsAccurateAsNaive(
                fast: result.gradient, naive: naive.gradient.map { $0 * scale }, truth: gradient, label,
                sourceLocation: sourceLocation)
            #expect(result.loss.selectedCount == inputs.labels.count(where: { $0 != -100 }))
            #expect(
                try loss.value(logits: inputs.logits, labels: inputs.labels, classes: inputs.classes)
                    == result.loss)
        }
    }

    // MARK: - Accuracy

    @Test func equalLogitsAreExact() throws {
        let inputs = Inputs(logits: [3, 3, 3, 3, -8, -8, -8, -8], labels: [2, 0], classes: 4)
        let result = try Self.run(inputs, scale: 2)
        #expect(Float(result.loss.value) == Float(2 * Reference.ln2))
        #expect(result.gradient == [0.25, 0.25, -0.75, 0.25, -0.75, 0.25, 0.25, 0.25])
    }

    @Test(arguments: try Golden.cases(of: "CrossEntropy"))
    func matchesPyTorch(_ golden: Golden) throws {
        let inputs = Inputs(
            logits: try golden.floats("logits"), labels: try golden.int32s("labels"),
            classes: try golden.int("classes"))
        let allIgnored = inputs.labels.allSatisfy { $0 == -100 }
        for (reduction, name) in [(LossReduction.mean, "mean"), (.sum, "sum")] {
            let result = try Self.run(inputs, CrossEntropy(reduction: reduction, whenEmpty: .nan))
            // If all labels are ignored, PyTorch's sum is 0 and its mean NaN. Here `.nan` rules both. The
            // gradient is 0.
            let value = allIgnored ? .nan : try golden.truth(name)[0]
            expectWithinUlps(actual: Float(result.loss.value), oracle: value, floor: 0, name)
            let gradient = try golden.truth(name + "Gradient").map { allIgnored ? 0 : $0 }
            expectWithinUlps(actual: result.gradient, oracle: gradient, name + "Gradient")
        }
    }

    @Test(arguments: [1, 2, 3, 13], [1, 2, 15, 16, 17, 31, 33, 127, 128, 129, 257, 511, 1_023, 1_025])
    func oracleIsMatched(rows: Int, classes: Int) throws {
        try expectTruth(.random(rows: rows, classes: classes), scale: 0.7)
    }

    @Test func manyRows() throws {
        try expectTruth(.random(rows: 1_025, classes: 3))
        try expectTruth(.random(rows: 4_097, classes: 2))
        try expectTruth(.random(rows: 3, classes: 4_097))
    }

    /// Equal terms: all roundings of their sum go in the same direction.
    @Test(arguments: [Float(0.1), 0.7, -3.3])
    func equalTermsDoNotDrift(logit: Float) throws {
        try expectTruth(
            Inputs(logits: [0] + [Float](repeating: logit, count: 4_999), labels: [0], classes: 5_000))
    }

    /// From rows of one certain class to rows where everything is possible.
    @Test(arguments: [1e-3, 0.1, 1, 10, 100, 1e4])
    func logitsOfAnySpread(scale: Double) throws {
        try expectTruth(.random(rows: 20, classes: 37, scale: scale))
        var inputs = Inputs.random(rows: 20, classes: 37, scale: scale)
        // Each row right, and sure of it.
        for row in 0..<20 where inputs.labels[row] >= 0 {
            inputs.logits[row * 37 + Int(inputs.labels[row])] = Float(5 * scale)
        }
        try expectTruth(inputs, "sure")
    }

    @Test func shiftedLogits() throws {
        var inputs = Inputs.random(rows: 9, classes: 20, scale: 1)
        inputs.logits = inputs.logits.map { $0 + 1e4 }
        try expectTruth(inputs)
        inputs.logits = inputs.logits.map { $0 - 2e4 }
        try expectTruth(inputs)
    }

    /// The kernels' exponential, over [−87.3, 0]: the gradient of the wrong class of two is e/(1 + e).
    @Test func exponentialIsAccurate() throws {
        let inputs = Inputs(
            logits: Exponents.sample.flatMap { [0, $0] }, labels: Exponents.sample.map { _ in 0 }, classes: 2)
        let gradient = try Self.run(inputs, CrossEntropy(reduction: .sum)).gradient
        let wrong = Exponents.sample.indices.map { gradient[2 * $0 + 1] }
        let sigmoids = Exponents.sample.map { x in
            let e = Reference.exp(Double(x))
            return e / (1 + e)
        }
        expectWithinUlps(actual: wrong, oracle: sigmoids, ulps: Tolerances.sigmoidUlps, floor: 0)
    }

    /// Where the exponential is subnormal in Float, its product with a large scale is as accurate as any.
    @Test func subnormalExponentialIsAccurate() throws {
        let x = Exponents.subnormal
        let inputs = Inputs(logits: x.flatMap { [0, $0] }, labels: x.map { _ in 0 }, classes: 2)
        let gradient = try Self.run(
            inputs, CrossEntropy(reduction: .sum), scale: Exponents.largeScale
        ).gradient
        expectWithinUlps(
            actual: x.indices.map { gradient[2 * $0 + 1] },
            oracle: x.map { Double(Exponents.largeScale) * Reference.exp(Double($0)) },
            ulps: Tolerances.exponentialUlps, floor: 0)
    }

    /// scale·softmax is right wherever it is a normal number, in short rows and in long ones.
    @Test(arguments: [Float(1e6), -1e30, 1, 0.3, 1e-30], [3, 300])
    func gradientIsRightWhereverItIsNormal(scale: Float, classes: Int) throws {
        let logits = (0..<40 * classes).map { i in
            i % classes == 1 ? Float(5) : -60 - 115 * Float(i) / Float(40 * classes)
        }
        let inputs = Inputs(
            logits: logits, labels: (0..<40).map { $0 % 2 == 0 ? 1 : 2 }, classes: classes)
        let truth = inputs.truth(.sum, Double.self).gradient.map { $0 * Double(scale) }
        let normal = truth.indices.filter { abs(truth[$0]) >= Double(Float.leastNormalMagnitude) }
        let initial = [Float](repeating: 0, count: logits.count)
        let loss = CrossEntropy(reduction: .sum)
        for gradient in [
            try Self.run(inputs, loss, scale: scale).gradient,
            try Self.run(inputs, loss, scale: scale, addingTo: initial).gradient,
        ] {
            expectWithinUlps(
                actual: normal.map { gradient[$0] }, oracle: normal.map { truth[$0] }, floor: 0)
        }
    }

    /// Rows whose losses no Float but their sum can say.
    @Test(arguments: [2, 100])
    func tinyLossesAddUp(classes: Int) throws {
        let rows = 20_000
        let row = (0..<classes).map { $0 == 0 ? Float(0) : -95 }
        let inputs = Inputs(
            logits: (0..<rows).flatMap { _ in row }, labels: [Int32](repeating: 0, count: rows),
            classes: classes)
        let result = try Self.run(inputs, CrossEntropy(reduction: .sum))
        let truth = Double(rows * (classes - 1)) * Reference.exp(-95)
        expectWithinUlps(actual: Float(result.loss.value), oracle: truth, floor: 0)
    }

    // MARK: - Infinities and NaN

    @Test func minusInfinityIsAClassWithoutProbability() throws {
        let without = Inputs(logits: [1, 2, 3, 0, -1, 5], labels: [1, 0], classes: 3)
        let with = Inputs(
            logits: [1, -.infinity, 2, 3, 0, -.infinity, -1, 5], labels: [2, 0], classes: 4)
        let (expected, result) = (try Self.run(without), try Self.run(with))
        #expect(Float(result.loss.value) == Float(expected.loss.value))
        #expect(result.gradient[1] == 0 && result.gradient[5] == 0)
        expectSameBits([0, 2, 3, 4, 6, 7].map { result.gradient[$0] }, expected.gradient)
        // As the label it costs infinitely much.
        let impossible = try Self.run(Inputs(logits: [0, -.infinity], labels: [1], classes: 2))
        #expect(impossible == Result(loss: LossValue(value: .infinity, selectedCount: 1), gradient: [1, -1]))
    }

    @Test(arguments: [Float.nan, Float.infinity], [0, 16, 39])
    func strangeLogitsSpoilTheirRowAlone(logit: Float, place: Int) throws {
        var inputs = Inputs.random(rows: 3, classes: 40, ignored: 0)
        let clean = try Self.run(inputs)
        inputs.logits[40 + place] = logit
        let result = try Self.run(inputs)
        #expect(result.loss.value.isNaN)
        #expect(result.gradient[40..<80].allSatisfy { $0.isNaN })
        expectSameBits(Array(result.gradient[..<40]), Array(clean.gradient[..<40]))
        expectSameBits(Array(result.gradient[80...]), Array(clean.gradient[80...]))
    }

    @Test(arguments: [Float.nan, Float.infinity, -Float.infinity])
    func ignoredRowsAreNotRead(logit: Float) throws {
        var inputs = Inputs.random(rows: 50, classes: 33)
        let expected = try Self.run(inputs)
        for row in 0..<50 where inputs.labels[row] == -100 {
            for j in 0..<33 { inputs.logits[row * 33 + j] = logit }
        }
        #expect(try Self.run(inputs).bits == expected.bits)
        for row in 0..<50 where inputs.labels[row] == -100 {
            #expect(expected.gradient[row * 33..<row * 33 + 33].allSatisfy { $0 == 0 })
        }
    }

    /// Ignoring rows is the same as not having them.
    @Test func ignoringLaw() throws {
        let inputs = Inputs.random(rows: 301, classes: 17)
        let kept = (0..<301).filter { inputs.labels[$0] != -100 }
        let alone = Inputs(
            logits: kept.flatMap { inputs.logits[$0 * 17..<$0 * 17 + 17] },
            labels: kept.map { inputs.labels[$0] },
            classes: 17)
        let (result, expected) = (try Self.run(inputs), try Self.run(alone))
        expectWithinUlps(actual: Float(result.loss.value), oracle: expected.loss.value, floor: 0)
        expectSameBits(kept.flatMap { result.gradient[$0 * 17..<$0 * 17 + 17] }, expected.gradient)
    }

    @Test func anotherIgnoredLabel() throws {
        let inputs = Inputs(logits: [1, 2, 3, 4], labels: [-1, 0], classes: 2)
        let result = try Self.run(inputs, CrossEntropy(ignoredLabel: -1))
        #expect(result.loss.selectedCount == 1 && result.gradient[..<2] == [0, 0])
        // A class may be the ignored one, too.
        let other = Inputs(logits: [1, 2, 3, 4], labels: [1, 0], classes: 2)
        #expect(try Self.run(other, CrossEntropy(ignoredLabel: 0)).gradient[2...] == [0, 0])
    }

    // MARK: - Empty selections

    @Test(arguments: [LossReduction.mean, .sum], [0, 3])
    func emptySelection(reduction: LossReduction, rows: Int) throws {
        let inputs = Inputs(
            logits: [Float](repeating: 1, count: rows * 4), labels: [Int32](repeating: -100, count: rows),
            classes: 4)
        var gradient = [Float](repeating: 6, count: rows * 4)
        expectError(
            "CrossEntropy has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)",
            .emptySelection(loss: "CrossEntropy", row: nil)
        ) { () throws(LossError) in
            _ = try Self.run(inputs, CrossEntropy(reduction: reduction), gradient: &gradient)
        }
        #expect(gradient.allSatisfy { $0 == 6 })
        for (rule, value) in [(EmptySelectionRule.zero, 0.0), (.nan, .nan)] {
            let loss = CrossEntropy(reduction: reduction, whenEmpty: rule)
            let result = try Self.run(inputs, loss)
            #expect(result.loss.value.bitPattern == value.bitPattern && result.loss.selectedCount == 0)
            #expect(result.gradient.allSatisfy { $0 == 0 })
            #expect(try Self.run(inputs, loss, addingTo: gradient).gradient == gradient)
        }
    }

    // MARK: - The gradient's place, and execution

    @Test(arguments: [3, 300])
    func gradientScaleAndUpdate(classes: Int) throws {
        let inputs = Inputs.random(rows: 40, classes: classes)
        let plain = try Self.run(inputs)
        let scaled = try Self.run(inputs, scale: -0.25)
        #expect(scaled.loss == plain.loss)
        expectWithinUlps(actual: scaled.gradient, oracle: plain.gradient.map { Double($0) * -0.25 })
        var random = RandomInputs(seed: 3)
        let initial = random.normals(inputs.logits.count)
        let added = try Self.run(inputs, addingTo: initial)
        #expect(added.loss == plain.loss)
        expectWithinUlps(
            actual: added.gradient, oracle: zip(initial, plain.gradient).map { Double($0) + Double($1) },
            floor: Tolerances.accumulatedFloor)
    }

    @Test(arguments: [(64, 1_201), (20_000, 3), (3, 30_000)])
    func anyNumberOfWorkersGivesTheSameBits(shape: (Int, Int)) throws {
        let inputs = Inputs.random(rows: shape.0, classes: shape.1)
        let expected = try Self.run(inputs, workspace: Workspace(workers: 1)).bits
        for workers in [2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            for _ in 0..<2 { #expect(try Self.run(inputs, workspace: workspace).bits == expected) }
        }
    }

    @Test func workspaceStopsGrowing() throws {
        let workspace = Workspace(workers: 2)
        let inputs = Inputs.random(rows: 500, classes: 101)
        _ = try Self.run(inputs, workspace: workspace)
        let bytes = workspace.byteCount
        _ = try Self.run(inputs, workspace: workspace)
        #expect(workspace.byteCount == bytes)
    }

    @Test func arrayConvenienceAgrees() throws {
        let inputs = Inputs.random(rows: 5, classes: 9)
        let expected = try Self.run(inputs, scale: 3)
        let (loss, gradient) = try CrossEntropy().valueAndGradient(
            logits: inputs.logits, labels: inputs.labels, classes: 9, gradientScale: 3)
        #expect(loss == expected.loss)
        expectSameBits(gradient, expected.gradient)
    }

    // MARK: - Errors

    @Test(arguments: [(Int32(-1), 4), (4, 4), (.max, 4), (.min, 4), (-99, 4), (0, 0)])
    func labelsOutOfRange(label: Int32, classes: Int) {
        for row in [0, 2] {
            var labels = [Int32](repeating: -100, count: 3)
            labels[row] = label
            if row == 0 { labels[2] = label }
            var gradient = [Float](repeating: 6, count: 3 * classes)
            expectError(
                "label \(label) in row \(row) of labels is neither a class (0 to \(classes - 1)) nor the ignored label",
                .labelOutOfRange(argument: "labels", label: label, row: row, classes: classes)
            ) { () throws(LossError) in
                _ = try Self.run(
                    Inputs(
                        logits: [Float](repeating: 0, count: 3 * classes), labels: labels, classes: classes),
                    gradient: &gradient)
            }
            #expect(gradient.allSatisfy { $0 == 6 })
        }
    }

    @Test func shapesThatDisagree() {
        for (logits, gradientCount, classes, message) in [
            (5, 5, 3, "logits has 5 elements, but the other arguments ask for 6"),
            (6, 7, 3, "gradient has 7 elements, but the other arguments ask for 6"),
            (
                6, 6, -3,
                "a shape of 2 rows and -3 columns is not possible: "
                    + "sides must be at least 0 and their product must fit an Int"
            ),
            (
                6, 6, Int.max,
                "a shape of 2 rows and \(Int.max) columns is not possible: "
                    + "sides must be at least 0 and their product must fit an Int"
            ),
        ] {
            var gradient = [Float](repeating: 6, count: gradientCount)
            expectError(message) { () throws(LossError) in
                _ = try Self.run(
                    Inputs(logits: [Float](repeating: 0, count: logits), labels: [0, 1], classes: classes),
                    gradient: &gradient)
            }
            #expect(gradient.allSatisfy { $0 == 6 })
        }
    }

    @Test(arguments: [Float.nan, Float.infinity, -Float.infinity])
    func gradientScaleHasToBeFinite(scale: Float) {
        var gradient: [Float] = [6, 6]
        expectError("gradientScale is \(Double(scale)), but it must be finite") { () throws(LossError) in
            _ = try Self.run(
                Inputs(logits: [1, 2], labels: [0], classes: 2), scale: scale, gradient: &gradient)
        }
        #expect(gradient == [6, 6])
    }

    @Test(arguments: ["logits", "labels"])
    func overlappingGradient(input: String) {
        let memory = TestMemory(floats: 32)
        expectError("output gradient shares memory with \(input)") { () throws(LossError) in
            var gradient = memory.mutable(7, count: 8)
            _ = try CrossEntropy().valueAndGradient(
                logits: memory.floats(input == "logits" ? 0 : 16, count: 8),
                labels: memory.labels(input == "labels" ? 14 : 24, count: 4), classes: 2, gradient: &gradient,
                workspace: Workspace(workers: 1))
        }
        #expect(memory.isUntouched)
    }
}
