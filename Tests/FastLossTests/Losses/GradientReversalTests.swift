// Gradient reversal, and the adversarial batch loss on it: goldens, signs, updates, errors.

import FastLoss
import FastLossReference
import Testing

@Suite struct GradientReversalTests {
    @Test(arguments: [Float(1), 0.25, 0, -2])
    func reverses(lambda: Float) throws {
        let gradient: [Float] = [1, -2, 0.5, 0, .infinity, .nan]
        let reversed = try GradientReversal(lambda: lambda).backward(gradient: gradient)
        expectSameBits(Array(reversed[..<4]), gradient[..<4].map { $0 * -lambda })
        #expect(reversed[4] == -lambda * .infinity || lambda == 0 && reversed[4].isNaN)
        #expect(reversed[5].isNaN)
    }

    @Test func accumulates() throws {
        let gradient: [Float] = [1, 2, 3]
        var sum: [Float] = [10, 10, 10]
        var span = sum.mutableSpan
        try GradientReversal(lambda: 2).backward(
            gradient: gradient.span, reversed: &span, update: .accumulate)
        #expect(sum == [8, 6, 4])
    }

    @Test func nothingToReverse() throws {
        #expect(try GradientReversal().backward(gradient: []) == [])
    }

    /// A linear discriminator behind the reversal, as PyTorch sees it from both sides.
    @Test(arguments: try Golden.cases(of: "GradientReversal"))
    func matchesPyTorch(_ golden: Golden) throws {
        let (rows, columns, classes) = (
            try golden.int("rows"), try golden.int("columns"), try golden.int("classes")
        )
        let weights = try golden.doubles("weights")
        let loss = DomainAdversarialLoss(reversal: GradientReversal(lambda: try golden.float("strength")))
        let result = try Self.run(
            loss, logits: try golden.truth("logits").map { Float($0) }, labels: try golden.int32s("labels"),
            classes: classes)
        expectNormwise(
            actual: [result.loss.value], oracle: try golden.truth("value"),
            tolerance: Tolerances.roundedLogits)
        expectNormwise(
            actual: result.discriminator, oracle: try golden.truth("logitsGradient"),
            tolerance: Tolerances.roundedLogits)
        // Through the discriminator: dE = dZ·W.
        let embeddings = (0..<rows * columns).map { index in
            (0..<classes).reduce(0.0) {
                $0 + Double(result.embedding[index / columns * classes + $1])
                    * weights[$1 * columns + index % columns]
            }
        }
        expectNormwise(
            actual: embeddings, oracle: try golden.truth("embeddingsGradient"),
            tolerance: Tolerances.roundedLogits)
    }

    /// The discriminator's gradient is cross-entropy's to the bit, the embedding's is −λ times it.
    @Test(arguments: [Float(1), 0.5, 3])
    func adversarialLossIsCrossEntropyTurned(lambda: Float) throws {
        let inputs = CrossEntropyTests.Inputs.random(rows: 64, classes: 5)
        let expected = try CrossEntropyTests.run(inputs, scale: 0.3)
        let loss = DomainAdversarialLoss(reversal: GradientReversal(lambda: lambda))
        let result = try Self.run(
            loss, logits: inputs.logits, labels: inputs.labels, classes: inputs.classes, scale: 0.3)
        #expect(result.loss == expected.loss)
        expectSameBits(result.discriminator, expected.gradient)
        expectSameBits(result.embedding, expected.gradient.map { $0 * -lambda })
        #expect(
            try loss.value(
                logits: inputs.logits.span, labels: inputs.labels.span, classes: 5, workspace: Workspace())
                == expected.loss)
    }

    @Test func emptySelectionGivesNeitherSideAGradient() throws {
        let loss = DomainAdversarialLoss(crossEntropy: CrossEntropy(whenEmpty: .nan))
        let result = try Self.run(loss, logits: [1, 2], labels: [-100], classes: 2)
        #expect(result.loss.value.isNaN)
        #expect(result.discriminator == [0, 0] && result.embedding == [0, 0])
    }

    // MARK: - Errors

    @Test(arguments: [Float.nan, Float.infinity, -Float.infinity])
    func lambdaHasToBeFinite(lambda: Float) {
        let reversal = GradientReversal(lambda: lambda)
        expectError("lambda is \(Double(lambda)), but it must be finite") { () throws(LossError) in
            _ = try reversal.backward(gradient: [1])
        }
        expectError("lambda is \(Double(lambda)), but it must be finite") { () throws(LossError) in
            _ = try Self.run(
                DomainAdversarialLoss(reversal: reversal), logits: [1, 2], labels: [0], classes: 2)
        }
    }

    @Test func countsAndOverlapOfTheReversal() {
        let memory = TestMemory(floats: 32)
        expectError("reversed has 7 elements, but the other arguments ask for 8") { () throws(LossError) in
            var reversed = memory.mutable(8, count: 7)
            try GradientReversal().backward(gradient: memory.floats(0, count: 8), reversed: &reversed)
        }
        expectError("output reversed shares memory with gradient") { () throws(LossError) in
            var reversed = memory.mutable(7, count: 8)
            try GradientReversal().backward(gradient: memory.floats(0, count: 8), reversed: &reversed)
        }
    }

    /// Places of logits (8), labels (4), the discriminator's gradient (8) and the embedding's (8).
    @Test(arguments: [
        ([0, 16, 7, 24], "output discriminatorGradient shares memory with logits"),
        ([0, 15, 8, 24], "output discriminatorGradient shares memory with labels"),
        ([0, 24, 8, 7], "output embeddingGradient shares memory with logits"),
        ([0, 31, 8, 24], "output embeddingGradient shares memory with labels"),
        ([0, 36, 8, 15], "output embeddingGradient shares memory with discriminatorGradient"),
    ])
    func overlaps(places: [Int], message: String) {
        let memory = TestMemory(floats: 64)
        expectError(message) { () throws(LossError) in
            var discriminator = memory.mutable(places[2], count: 8)
            var embedding = memory.mutable(places[3], count: 8)
            _ = try DomainAdversarialLoss().valueAndGradient(
                logits: memory.floats(places[0], count: 8), labels: memory.labels(places[1], count: 4),
                classes: 2,
                discriminatorGradient: &discriminator, embeddingGradient: &embedding,
                workspace: Workspace(workers: 1))
        }
        #expect(memory.isUntouched)
    }

    @Test func wrongArgumentsTouchNeitherGradient() {
        for (counts, labels, scale, message) in [
            (
                [3, 4, 4], [Int32(0), 1], Float(1), "logits has 3 elements, but the other arguments ask for 4"
            ),
            (
                [4, 5, 4], [0, 1], 1,
                "discriminatorGradient has 5 elements, but the other arguments ask for 4"
            ),
            ([4, 4, 3], [0, 1], 1, "embeddingGradient has 3 elements, but the other arguments ask for 4"),
            (
                [4, 4, 4], [0, 2], 1,
                "label 2 in row 1 of labels is neither a class (0 to 1) nor the ignored label"
            ),
            ([4, 4, 4], [0, 1], .nan, "gradientScale is nan, but it must be finite"),
            (
                [4, 4, 4], [-100, -100], 1,
                "CrossEntropy has nothing to average: no element is selected "
                    + "(the EmptySelectionRule .zero or .nan gives a value instead)"
            ),
        ] {
            var discriminator = [Float](repeating: 6, count: counts[1])
            var embedding = [Float](repeating: 7, count: counts[2])
            expectError(message) { () throws(LossError) in
                let logits = [Float](repeating: 0, count: counts[0])
                _ = try Self.run(
                    DomainAdversarialLoss(), logits: logits, labels: labels, classes: 2, scale: scale,
                    discriminator: &discriminator, embedding: &embedding)
            }
            #expect(discriminator.allSatisfy { $0 == 6 } && embedding.allSatisfy { $0 == 7 })
        }
    }

    private struct Result {
        var loss: LossValue
        var discriminator: [Float]
        var embedding: [Float]
    }

    private static func run(
        _ loss: DomainAdversarialLoss, logits: [Float], labels: [Int32], classes: Int, scale: Float = 1
    ) throws(LossError) -> Result {
        var discriminator = [Float](repeating: -12345, count: logits.count)
        var embedding = discriminator
        let value = try run(
            loss, logits: logits, labels: labels, classes: classes, scale: scale,
            discriminator: &discriminator,
            embedding: &embedding)
        return Result(loss: value, discriminator: discriminator, embedding: embedding)
    }

    private static func run(
        _ loss: DomainAdversarialLoss, logits: [Float], labels: [Int32], classes: Int, scale: Float,
        discriminator: inout [Float], embedding: inout [Float]
    ) throws(LossError) -> LossValue {
        var discriminatorSpan = discriminator.mutableSpan
        var embeddingSpan = embedding.mutableSpan
        return try loss.valueAndGradient(
            logits: logits.span, labels: labels.span, classes: classes,
            discriminatorGradient: &discriminatorSpan,
            embeddingGradient: &embeddingSpan, gradientScale: scale, workspace: Workspace(workers: 2))
    }
}
