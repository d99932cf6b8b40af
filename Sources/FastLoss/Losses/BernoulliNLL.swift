// Bernoulli negative log-likelihood of explicit zeros.

/// Bernoulli negative log-likelihood of "this gene is expressed" (scGPT: `criterion_neg_log_bernoulli`).
///
/// Upstream calls the predictions `zero_probs` and "explicit zero probability", but they are the
/// probabilities of a value *above* zero.
///
///     z = 1 if t > 0, else 0 (also for a NaN target)
///     from probabilities p:  p̃ = clamp(p, ε, 1 − ε), ε = 2⁻²³
///                            L = −Σ m·(z·log p̃ + (1 − z)·log(1 − p̃)) / M
///                            ∂L/∂p = (m/M)·(p − z)/(p(1 − p)) for ε ≤ p ≤ 1 − ε, else 0
///     from logits y:         L = Σ m·(log(1 + eʸ) − z·y) / M
///                            ∂L/∂y = (m/M)·(σ(y) − z)
///
/// Both forms agree for p = σ(y) with |y| ≤ 15.94. Beyond, the probability form is clamped, as upstream's is:
/// an element is at most 23·ln 2 ≈ 15.94, and its gradient is 0. The logit form has no clamp: for a wrong
/// prediction it grows linearly and its gradient tends to ±1; for a right one the gradient is accurate to the
/// last bits if, with its scale (up to 2¹²⁶), it is a normal `Float`.
///
/// A selected probability that is NaN or outside [0, 1] throws
/// ``LossError/probabilityOutOfRange(argument:probability:index:)``; upstream throws for such a value outside
/// the mask, too. A NaN logit propagates.
///
/// Source: `criterion_neg_log_bernoulli` in scGPT's `loss.py`, over PyTorch's `Bernoulli.log_prob`.
public struct BernoulliNLL: MaskedLoss {
    /// What the predictions are.
    public enum Form: Equatable, Sendable {
        /// Probabilities in [0, 1], after the sigmoid: upstream's form, with its clamp.
        case probabilities
        /// Logits, before the sigmoid: stable and without the clamp. The gradient is that of the logits.
        case logits
    }

    /// Whether the predictions are probabilities or logits.
    public var form: Form
    /// How the selected elements become one number.
    public var reduction: LossReduction
    /// The result if nothing is selected.
    public var whenEmpty: EmptySelectionRule

    /// A loss of predictions in this form, with this reduction and this rule for empty masks.
    public init(
        from form: Form = .probabilities, reduction: LossReduction = .mean,
        whenEmpty: EmptySelectionRule = .error
    ) {
        self.form = form
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    /// The negative log-likelihood of ``form``.
    public var elementwiseLoss: ElementwiseLoss { .bernoulliNLL(form) }
}
