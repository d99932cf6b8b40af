// Masked mean squared error: the loss of masked gene modelling and of its cell-embedding form.

/// Masked mean squared error (scGPT: `masked_mse_loss`; the loss of MLM/MGM/GEP and of MVC/GEPC).
///
///     L = Σ m·(x − t)² / M,   M = Σ m        ∂L/∂x = 2m(x − t)/M
///
/// with x the predictions, t the targets and m the mask. With ``LossReduction/sum`` the division by M is left out.
///
/// Source: `masked_mse_loss` in scGPT's `loss.py`, which multiplies by the mask and so lets a NaN outside it through;
/// here the mask selects.
public struct MaskedMSE: MaskedLoss {
    public var reduction: LossReduction
    public var whenEmpty: EmptySelectionRule

    public init(reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error) {
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    public var elementwiseLoss: ElementwiseLoss { .squaredError }
}
