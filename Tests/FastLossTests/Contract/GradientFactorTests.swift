// The factors of a gradient, a term's weight, the caller's scale and −λ, are multiplied in double and judged
// afterwards.

import FastLoss
import Testing

@Suite struct GradientFactorTests {
    private static let logits: [Float] = [0, 0]

    private static func adversarial(
        lambda: Float, scale: Float
    ) throws(LossError) -> (discriminator: [Float], embedding: [Float]) {
        let loss = DomainAdversarialLoss(reversal: GradientReversal(lambda: lambda))
        var (discriminator, embedding): ([Float], [Float]) = ([0, 0], [0, 0])
        var first = discriminator.mutableSpan
        var second = embedding.mutableSpan
        _ = try loss.valueAndGradient(
            logits: logits.span, labels: [0].span, classes: 2, discriminatorGradient: &first,
            embeddingGradient: &second, gradientScale: scale, workspace: Workspace(workers: 1))
        return (discriminator, embedding)
    }

    @Test(arguments: [(Float(0x1p100), Float(0x1p-100)), (0x1p-100, 0x1p100), (0x1p60, 0x1p60)])
    func aProductThatIsAFloat(lambda: Float, scale: Float) throws {
        let gradients = try Self.adversarial(lambda: lambda, scale: scale)
        #expect(gradients.discriminator == [-scale / 2, scale / 2])
        #expect(gradients.embedding == [lambda * scale / 2, -lambda * scale / 2])
    }

    @Test func aProductThatIsNoFloat() {
        expectError(
            "lambda · gradientScale is -1.0000000300949327e+60, but it must be at most 3.4e38 in magnitude"
        ) {
            () throws(LossError) in _ = try Self.adversarial(lambda: 1e30, scale: 1e30)
        }
        expectError("gradientScale is inf, but it must be finite") { () throws(LossError) in
            _ = try Self.adversarial(lambda: 1, scale: .infinity)
        }
        expectError("lambda is nan, but it must be finite") { () throws(LossError) in
            _ = try Self.adversarial(lambda: .nan, scale: 1)
        }
    }

    /// λ·weight alone is no float; with the scale it is 2¹⁰.
    @Test func inAnObjective() throws {
        var objective = TotalObjective(weights: TermValues(batch: 0x1p70))
        objective.domainAdversarial.reversal.lambda = 0x1p70
        let inputs = ObjectiveInputs(
            shape: MatrixShape(rows: 1, columns: 0),
            batches: Classification(logits: Self.logits.span, labels: [0].span, classes: 2))
        var reversed: [Float] = [0, 0]
        var gradients = ObjectiveGradients(reversedBatchLogits: reversed.mutableSpan)
        _ = try objective.valueAndGradient(
            inputs, gradients: &gradients, gradientScale: 0x1p-130, workspace: Workspace(workers: 1))
        _ = consume gradients
        #expect(reversed == [0x1p9, -0x1p9])
    }
}
