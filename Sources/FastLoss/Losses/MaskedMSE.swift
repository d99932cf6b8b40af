// Masked mean squared error: the loss of masked gene modelling.

/// Masked mean squared error (scGPT: `masked_mse_loss`; the loss of MLM/MGM/GEP and of MVC/GEPC).
///
///     L = Σ m·(x − t)² / M,   M = Σ m        ∂L/∂x = 2m(x − t)/M
///
/// Here x are the predictions, t the targets and m the mask. ``LossReduction/sum`` does not divide by M.
///
/// Source: `masked_mse_loss` in scGPT's `loss.py`. It multiplies by the mask, so that a NaN outside it makes
/// the loss NaN; here the mask selects.
public struct MaskedMSE: MaskedLoss {
    /// How the selected elements become one number.
    public var reduction: LossReduction
    /// The result if nothing is selected.
    public var whenEmpty: EmptySelectionRule

    /// A loss with this reduction and this rule for empty masks.
    public init(reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error) {
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    /// The squared error.
    public var elementwiseLoss: ElementwiseLoss { .squaredError }
}
