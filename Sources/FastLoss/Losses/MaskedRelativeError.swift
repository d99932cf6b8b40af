// Masked relative error: a metric that upstream logs with the losses.

/// Masked relative error (scGPT: `masked_relative_error`), a metric without a gradient.
///
///     E = Σ m·|x − t| / (t + 10⁻⁶) / M
///
/// x are the predictions, t the targets, m the mask and M = Σ m. A target of 0 contributes |x|·10⁶: over
/// explicit zeros, values above a million are normal.
///
/// Source: `masked_relative_error` in scGPT's `loss.py`.
public struct MaskedRelativeError: MaskedMetric {
    /// How the selected elements become one number.
    public var reduction: LossReduction
    /// The result if nothing is selected.
    public var whenEmpty: EmptySelectionRule

    /// A metric with this reduction and this rule for empty masks.
    public init(reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error) {
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    /// The relative error.
    public var elementwiseMetric: ElementwiseMetric { .relativeError }
}
