// The losses of a decoder of expression values, and their factors in its gradient.

import FastLoss

/// The losses of a decoder's outputs over the masked tokens.
public struct DecoderLosses: Equatable, Sendable {
    /// The mean squared error of the predictions, as `MaskedMSE` computes it.
    public var squaredError: Double
    /// The negative log-likelihood of "this gene is expressed", as `BernoulliNLL` computes it; nil in a
    /// decoder without explicit zeros.
    public var nonzero: Double?
    /// The mean relative error of the predictions, a metric: see `MaskedRelativeError`.
    public var relativeError: Double
    /// The number of masked tokens, M.
    public var selectedCount: Int
}

/// The factors of a decoder's two losses in its gradient.
public struct DecoderWeights: Equatable, Sendable {
    /// The factor of the mean squared error.
    public var squaredError: Float
    /// The factor of the negative log-likelihood.
    public var nonzero: Float

    /// Both losses as they are, unless other factors are given.
    public init(squaredError: Float = 1, nonzero: Float = 1) {
        self.squaredError = squaredError
        self.nonzero = nonzero
    }
}

/// What a decoder's outputs are compared with.
package enum DecoderLoss {
    /// Mean squared error and explicit zeros, against B·L targets.
    case targets(UnsafeBufferPointer<Float>, DecoderWeights)
    /// A loss of the caller's, by the B·L gradients of each output.
    case given(predictions: UnsafeBufferPointer<Float>, nonzero: UnsafeBufferPointer<Float>?)

    /// Throws unless the counts fit `total` tokens, and both factors are finite, also times the caller's scale.
    func check(total: Int, explicitZeros: Bool, gradientScale: Float) throws(LossError) {
        try checkParameter("gradientScale", gradientScale, "finite") { $0.isFinite }
        switch self {
        case .targets(let targets, let weights):
            try checkCount("targets", targets.count, is: total)
            try checkParameter("weights.squaredError", weights.squaredError, "finite") { $0.isFinite }
            try checkParameter("weights.nonzero", weights.nonzero, "finite") { $0.isFinite }
            let scale = Double(gradientScale)
            try checkFactor("weights.squaredError · gradientScale", Double(weights.squaredError) * scale)
            if explicitZeros {
                try checkFactor("weights.nonzero · gradientScale", Double(weights.nonzero) * scale)
            }
        case .given(let predictions, let nonzero):
            try checkCount("predictionsGradient", predictions.count, is: total)
            guard explicitZeros == (nonzero != nil) else {
                throw .invalidInput(
                    argument: "nonzeroGradient",
                    requirement: explicitZeros
                        ? "given to a decoder with explicit zeros"
                        : "nil for a decoder without explicit zeros")
            }
            if let nonzero { try checkCount("nonzeroGradient", nonzero.count, is: total) }
        }
    }

    /// The value of every loss if no token is masked. Throws if the rule says so.
    func emptyValue(_ rule: EmptySelectionRule, decoder: String) throws(LossError) -> Double {
        guard case .targets = self else { return 0 }
        return try rule.value(loss: decoder, row: nil)
    }

    /// The memory of its inputs, for the overlap check.
    var inputs: (NamedMemory, NamedMemory?) {
        switch self {
        case .targets(let targets, _): (NamedMemory("targets", targets), nil)
        case .given(let predictions, let nonzero):
            (
                NamedMemory("predictionsGradient", predictions),
                NamedMemory("nonzeroGradient", ifGiven: nonzero)
            )
        }
    }
}
