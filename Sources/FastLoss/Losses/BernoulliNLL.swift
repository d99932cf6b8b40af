// Bernoulli negative log-likelihood of explicit zeros.

/// Bernoulli negative log-likelihood of "this gene is expressed" (scGPT: `criterion_neg_log_bernoulli`, "explicit zero
/// probability", which despite upstream's name `zero_probs` is the probability of a value *above* zero).
///
///     z = 1 if t > 0, else 0 (also for a NaN target)
///     from probabilities p:  p̃ = clamp(p, ε, 1 − ε), ε = 2⁻²³
///                            L = −Σ m·(z·log p̃ + (1 − z)·log(1 − p̃)) / M
///                            ∂L/∂p = (m/M)·(p − z)/(p(1 − p)) for ε ≤ p ≤ 1 − ε, else 0
///     from logits y:         L = Σ m·(log(1 + eʸ) − z·y) / M
///                            ∂L/∂y = (m/M)·(σ(y) − z)
///
/// The two forms agree for p = σ(y) with |y| ≤ 15.94. Beyond, the probability form is clamped, as upstream is: an element is at
/// most 23·ln 2 ≈ 15.94 and its gradient is 0. The logit form has no clamp: it grows linearly and its gradient stays ±1. On
/// the other side its gradient is exact to the last bits wherever it is a normal Float, also where σ is none and the scale
/// (up to 2¹²⁶) makes it one.
///
/// A selected probability that is NaN or outside [0, 1] throws ``LossError/probabilityOutOfRange(argument:probability:index:)``;
/// upstream throws for such a value anywhere. A NaN logit propagates.
///
/// Source: `criterion_neg_log_bernoulli` in scGPT's `loss.py`, over PyTorch's `Bernoulli.log_prob`.
public struct BernoulliNLL: MaskedLoss {
    /// What the predictions are.
    public enum Form: Equatable, Sendable {
        /// Probabilities in [0, 1], after the sigmoid: upstream's form, with its clamp.
        case probabilities
        /// Logits, before the sigmoid: stable, without the clamp, and a gradient for the logits themselves.
        case logits
    }

    public var form: Form
    public var reduction: LossReduction
    public var whenEmpty: EmptySelectionRule

    public init(
        from form: Form = .probabilities, reduction: LossReduction = .mean,
        whenEmpty: EmptySelectionRule = .error
    ) {
        self.form = form
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    public var elementwiseLoss: ElementwiseLoss { .bernoulliNLL(form) }
}
