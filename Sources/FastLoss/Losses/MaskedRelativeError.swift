// Masked relative error: the metric that is logged beside the losses.

/// Masked relative error, a metric without a gradient (scGPT: `masked_relative_error`).
///
///     E = Σ m·|x − t| / (t + 10⁻⁶) / M
///
/// A target of 0 contributes |x|·10⁶, so over explicit zeros values above a million are normal.
///
/// Source: `masked_relative_error` in scGPT's `loss.py`.
public struct MaskedRelativeError: MaskedMetric {
    public var reduction: LossReduction
    public var whenEmpty: EmptySelectionRule

    public init(reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error) {
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    public var elementwiseMetric: ElementwiseMetric { .relativeError }
}
