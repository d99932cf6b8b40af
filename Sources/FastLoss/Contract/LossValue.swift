// The vocabulary that every loss shares: how it reduces, what it returns, and what it does when there is nothing to reduce.

/// A loss and how many elements it was computed from.
public struct LossValue: Equatable, Sendable {
    /// The loss. Sums are carried in double, so it is given as one; a `Float` holds it to half an ulp.
    public var value: Double

    /// How many elements (for cross-entropy: rows) were selected.
    public var selectedCount: Int

    public init(value: Double, selectedCount: Int) {
        self.value = value
        self.selectedCount = selectedCount
    }
}

/// How the selected elements of a value loss become one number.
///
/// For one number per cell there are separate verbs, `valuePerCell` and `valueAndGradientPerCell`.
public enum LossReduction: Equatable, Sendable {
    /// Σ / number of selected elements, which is what scGPT and scFormer train on.
    case mean
    /// Σ over the selected elements.
    case sum
}

/// What a loss does when no element is selected: an empty mask, only ignored labels, no rows.
///
/// One rule for every loss and reduction.
public enum EmptySelectionRule: Equatable, Sendable {
    /// Throws ``LossError/emptySelection(loss:row:)`` and leaves all outputs as they were.
    case error
    /// The value is 0 and so is the gradient.
    case zero
    /// The value is NaN, which is what upstream computes as 0/0; the gradient is what PyTorch makes of it: NaN for the
    /// masked losses, 0 for cross-entropy.
    case nan
}

extension EmptySelectionRule {
    /// The value of a loss that has nothing to reduce, or the error that says so.
    package func value(loss: String, row: Int?) throws(LossError) -> Double {
        switch self {
        case .error: throw .emptySelection(loss: loss, row: row)
        case .zero: 0
        case .nan: .nan
        }
    }
}

/// What is done with a gradient buffer.
public enum GradientUpdate: Equatable, Sendable {
    /// The buffer receives the gradient, whatever it held.
    case overwrite
    /// The gradient is added to what the buffer holds: several terms share one embedding's gradient.
    case accumulate
}
