// The errors of all calls, each with the values that caused it.

/// The error of every throwing call.
///
/// Calls throw before they write any output, so gradients and other output buffers keep their contents. The
/// exceptions are ``probabilityOutOfRange(argument:probability:index:)`` and ``rankFailed(rank:)``.
///
/// Messages name arguments and terms as they are spelled in Swift.
public enum LossError: Error, Equatable, Sendable {
    /// A buffer does not have the number of elements that the other arguments imply.
    case shapeMismatch(argument: String, expected: Int, actual: Int)

    /// A shape has a negative side, or its number of elements exceeds `Int`.
    case invalidShape(rows: Int, columns: Int)

    /// A size exceeds the 32-bit integers of BLAS.
    case dimensionTooLarge(argument: String, value: Int)

    /// A hyper-parameter or scale is outside its range.
    case invalidParameter(name: String, value: Double, requirement: String)

    /// Nothing is selected: the mask is false everywhere, every label is ignored, or there are no rows.
    /// `row` is the first such row if each row has a result of its own, else nil.
    case emptySelection(loss: String, row: Int?)

    /// A label of `argument` is neither a class nor the ignored label.
    case labelOutOfRange(argument: String, label: Int32, row: Int, classes: Int)

    /// An index of `argument` has no row in a table of `count` rows.
    case indexOutOfRange(argument: String, index: Int32, row: Int, count: Int)

    /// A selected probability is NaN or outside [0, 1].
    ///
    /// The call finds it while it writes the gradient: the gradient and value buffers hold unspecified
    /// numbers, also if they were accumulated into. A check before the computation would cost a tenth of it.
    /// Measured: the article Tuning.
    case probabilityOutOfRange(argument: String, probability: Float, index: Int)

    /// An output buffer shares memory with an input or with another output.
    case overlappingBuffers(output: String, other: String)

    /// A term of the total objective is on, but its input is nil.
    case missingInput(term: String, argument: String)

    /// A gradient has a buffer, but its input is nil.
    case gradientWithoutInput(gradient: String)

    /// An argument is given where there must be none, or missing where it is needed.
    case invalidInput(argument: String, requirement: String)

    /// An element that must be finite is NaN or infinite.
    case notFinite(argument: String, value: Float, index: Int)

    /// A LAPACK routine failed with the code `info`.
    case factorizationFailed(routine: String, info: Int)

    /// A rank has another argument than rank `otherRank`. Every rank throws this error.
    case ranksDisagree(argument: String, value: Double, rank: Int, otherValue: Double, otherRank: Int)

    /// A rank threw an error of its own, or did not answer within the communicator's time-out. Every other rank
    /// throws this error. Its output buffers hold unspecified values.
    case rankFailed(rank: Int)

    /// The system has no memory for a call's scratch arrays or result. The workspace remains usable.
    case outOfMemory(call: String, bytes: Int)
}

extension LossError: CustomStringConvertible {
    /// The error in one sentence, with the offending values.
    public var description: String { String(message) }
}

extension LossError {
    /// The description. Making it allocates no memory.
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
        case .indexOutOfRange(let argument, let index, let row, let count):
            "\(index) in row \(row) of \(argument) is not in 0..<\(count)"
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
        case .invalidInput(let argument, let requirement):
            "\(argument) must be \(requirement)"
        case .notFinite(let argument, let value, let index):
            "\(argument) is \(value) at element \(index), but it must be finite"
        case .factorizationFailed(let routine, let info):
            "LAPACK's \(routine) did not converge (info \(info))"
        case .ranksDisagree(let argument, let value, let rank, let otherValue, let otherRank):
            "rank \(rank) has \(value) for \(argument), but rank \(otherRank) has \(otherValue)"
        case .rankFailed(let rank):
            """
            rank \(rank) failed or did not answer in time; \
            output buffers of this call hold unspecified values
            """
        case .outOfMemory(let call, let bytes):
            "\(call) could not allocate \(bytes) bytes of scratch memory"
        }
    }
}
