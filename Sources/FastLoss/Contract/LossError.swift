// Everything that can be wrong with a call, each case with the values that make it wrong.

/// What a loss throws when its input cannot be used.
///
/// A thrown error means that no result exists. Except where a case says otherwise, it is thrown before any output is
/// written, so gradients and other output buffers keep what they held.
public enum LossError: Error, Equatable, Sendable {
    /// A buffer does not have the number of elements that the other arguments ask of it.
    case shapeMismatch(argument: String, expected: Int, actual: Int)

    /// A shape has a negative side, or more elements than an `Int` can count.
    case invalidShape(rows: Int, columns: Int)

    /// A size that one BLAS call takes as a 32-bit integer is larger than that.
    case dimensionTooLarge(argument: String, value: Int)

    /// A hyper-parameter or scale is outside its range.
    case invalidParameter(name: String, value: Double, requirement: String)

    /// Nothing is selected: the mask is false everywhere, every label is ignored, or there are no rows at all.
    /// `row` is the first such row where each row is reduced by itself.
    case emptySelection(loss: String, row: Int?)

    /// A label of `argument` is neither a class nor the ignored label.
    case labelOutOfRange(argument: String, label: Int32, row: Int, classes: Int)

    /// A selected probability is NaN or outside [0, 1]. It is found while the gradient is being computed, so the gradient and
    /// value buffers of the call hold unspecified numbers: they are not to be used, accumulated ones included. (Looking for it
    /// first costs 10 % of value and gradient at 64×1201, and 14 % of the value alone, on one Zen 3 core with AVX2.)
    case probabilityOutOfRange(argument: String, probability: Float, index: Int)

    /// An output buffer shares memory with an input or with another output.
    case overlappingBuffers(output: String, other: String)

    /// The total objective has a term on whose input was not given.
    case missingInput(term: String, argument: String)

    /// A gradient was asked of an input that the call was not given.
    case gradientWithoutInput(gradient: String)

    /// An input holds NaN or an infinity where only finite numbers have a result.
    case notFinite(argument: String, value: Float, index: Int)

    /// LAPACK could not finish; `info` is its own code.
    case factorizationFailed(routine: String, info: Int)

    /// The system did not give the scratch memory that a call needs. Nothing has been written. The workspace can be used
    /// again.
    case outOfMemory(call: String, bytes: Int)
}

extension LossError: CustomStringConvertible {
    public var description: String { String(message) }
}

extension LossError {
    /// The description, put together without allocating memory.
    package var message: Message {
        switch self {
        case .shapeMismatch(let argument, let expected, let actual):
            "\(argument) has \(actual) elements, but the other arguments ask for \(expected)"
        case .invalidShape(let rows, let columns):
            """
            a shape of \(rows) rows and \(columns) columns is not possible: \
            sides must be at least 0 and their product must fit an Int
            """
        case .dimensionTooLarge(let argument, let value):
            "\(argument) is \(value), but BLAS takes sizes up to \(Int32.max)"
        case .invalidParameter(let name, let value, let requirement):
            "\(name) is \(value), but it must be \(requirement)"
        case .emptySelection(let loss, nil):
            """
            \(loss) has nothing to average: no element is selected \
            (the EmptySelectionRule .zero or .nan gives a value instead)
            """
        case .emptySelection(let loss, let row?):
            """
            \(loss) has nothing to average in row \(row): no element is selected \
            (the EmptySelectionRule .zero or .nan gives a value instead)
            """
        case .labelOutOfRange(let argument, let label, let row, let classes):
            "label \(label) in row \(row) of \(argument) is neither a class (0 to \(classes - 1)) nor the ignored label"
        case .probabilityOutOfRange(let argument, let probability, let index):
            """
            probability \(probability) at element \(index) of \(argument) is not in [0, 1]; \
            output buffers of this call hold unspecified values (for logits, use BernoulliNLL.Form.logits)
            """
        case .overlappingBuffers(let output, let other):
            "output \(output) shares memory with \(other)"
        case .missingInput(let term, let argument):
            "the objective's term .\(term) is on, but its input \(argument) is nil"
        case .gradientWithoutInput(let gradient):
            "\(gradient) has a buffer, but its input is nil"
        case .notFinite(let argument, let value, let index):
            "\(argument) is \(value) at element \(index), but it must be finite"
        case .factorizationFailed(let routine, let info):
            "LAPACK's \(routine) did not converge (info \(info))"
        case .outOfMemory(let call, let bytes):
            "\(call) could not allocate \(bytes) bytes of scratch memory"
        }
    }
}
