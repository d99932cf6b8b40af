// Bernoulli negative log-likelihood, from probabilities and from logits, against the loop with one logarithm
// per element.

import FastLoss
import FastLossReference

private enum ProbabilityReference: MaskedGradientReference {
    static func value<T: ReferenceScalar>(_ predictions: [T], _ targets: [T], _ mask: [Bool]) -> T {
        Reference.BernoulliNLL.value(probabilities: predictions, targets: targets, mask: mask)
    }

    static func valueAndGradient<T: ReferenceScalar>(
        _ predictions: [T], _ targets: [T], _ mask: [Bool], gradient: inout [T]
    ) -> T {
        Reference.BernoulliNLL.valueAndGradient(
            probabilities: predictions, targets: targets, mask: mask, gradient: &gradient)
    }
}

private enum LogitReference: MaskedGradientReference {
    static func value<T: ReferenceScalar>(_ predictions: [T], _ targets: [T], _ mask: [Bool]) -> T {
        Reference.BernoulliNLL.valueFromLogits(logits: predictions, targets: targets, mask: mask)
    }

    static func valueAndGradient<T: ReferenceScalar>(
        _ predictions: [T], _ targets: [T], _ mask: [Bool], gradient: inout [T]
    ) -> T {
        Reference.BernoulliNLL.valueAndGradientFromLogits(
            logits: predictions, targets: targets, mask: mask, gradient: &gradient)
    }
}

extension Suites {
    static var bernoulliNLL: [Benchmark] {
        // 1 − p, a logarithm, add; a division and a product more for the gradient.
        valueRows(
            kernel: "BernoulliNLL", loss: BernoulliNLL(), reference: ProbabilityReference.self,
            flopsPerElement: 3,
            predictions: { $0.nonZeroProbabilities() })
            + gradientRows(
                kernel: "BernoulliNLL", loss: BernoulliNLL(), reference: ProbabilityReference.self,
                flopsPerElement: 5, predictions: { $0.nonZeroProbabilities() })
            // An exponential, 1 + e, a logarithm, two sums; a division and a product more for the gradient.
            + valueRows(
                kernel: "BernoulliNLL", variant: "logits", loss: BernoulliNLL(from: .logits),
                reference: LogitReference.self, flopsPerElement: 5, predictions: { $0.nonZeroLogits() })
            + gradientRows(
                kernel: "BernoulliNLL", variant: "logits", loss: BernoulliNLL(from: .logits),
                reference: LogitReference.self, flopsPerElement: 7, predictions: { $0.nonZeroLogits() })
    }
}
