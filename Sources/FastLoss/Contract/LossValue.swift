// The types that all losses share: reductions, results, the rule for empty selections, gradient updates.

/// A loss and the number of elements that it was computed from.
public struct LossValue: Equatable, Sendable {
    /// The loss, summed in double precision.
    public var value: Double

    /// The number of selected elements; of rows for cross-entropy.
    public var selectedCount: Int

    /// How many of the B² pairs ``ElasticCellSimilarity`` summed in closed form; 0 for other losses.
    public var certifiedPairs: Int

    /// A loss of `selectedCount` elements.
    public init(value: Double, selectedCount: Int, certifiedPairs: Int = 0) {
        self.value = value
        self.selectedCount = selectedCount
        self.certifiedPairs = certifiedPairs
    }
}

/// How the selected elements of a loss become one number.
///
/// `valuePerCell` and `valueAndGradientPerCell` apply it to each cell.
public enum LossReduction: Equatable, Sendable {
    /// The sum divided by the number of selected elements: what scGPT and scFormer train on.
    case mean
    /// The sum over the selected elements.
    case sum
}

/// The result of a loss if no element is selected: an empty mask, only ignored labels, no rows.
///
/// Every loss and every reduction follows it.
public enum EmptySelectionRule: Equatable, Sendable {
    /// Throws ``LossError/emptySelection(loss:row:)``; all outputs keep their contents.
    case error
    /// The value and the gradient are 0.
    case zero
    /// The value is NaN, upstream's 0/0. The gradient is PyTorch's: NaN for the masked losses, 0 for
    /// cross-entropy.
    case nan
}

extension EmptySelectionRule {
    /// The value of an empty selection, or its error.
    package func value(loss: String, row: Int?) throws(LossError) -> Double {
        switch self {
        case .error: throw .emptySelection(loss: loss, row: row)
        case .zero: 0
        case .nan: .nan
        }
    }
}

/// How a call writes a gradient buffer.
public enum GradientUpdate: Equatable, Sendable {
    /// The gradient replaces the contents of the buffer.
    case overwrite
    /// The gradient is added to the contents of the buffer, for example the gradient of another loss.
    case accumulate
}
