// The messages of the Swift API's errors in the terms of the C interface. They allocate no memory.

import CFastLoss
import FastLoss

extension LossError {
    /// The message in the terms of the C interface.
    ///
    /// Without optimization, the messages of a `switch` take stack space together. A process without memory
    /// cannot grow its stack, so the message about that has a function of its own.
    func message(naming names: Names) -> Message {
        guard case .outOfMemory(let call, let bytes) = self else { return messageOfArguments(names) }
        return Self.messageOfMemory(call, bytes, names)
    }

    private static func messageOfMemory(_ call: String, _ bytes: Int, _ names: Names) -> Message {
        "\(call, names) could not allocate \(bytes) bytes of scratch memory"
    }

    private func messageOfArguments(_ names: Names) -> Message {
        switch self {
        case .shapeMismatch(let argument, let expected, let actual):
            "\(argument, names) has \(actual) elements, but it must have \(expected)"
        case .invalidShape(let rows, let columns):
            """
            a shape of \(rows) rows and \(columns) columns is invalid: both must be at least 0, \
            and the matrix must fit the address space
            """
        case .dimensionTooLarge(let argument, let value):
            "\(argument, names) is \(value), but BLAS takes sizes up to \(Int32.max)"
        case .invalidParameter(let name, let value, let requirement):
            "\(name, names) is \(value), but it must be \(requirement)"
        case .emptySelection(let loss, nil):
            """
            \(loss, names): no element is selected; \
            set \(names.emptyRule) to FASTLOSS_EMPTY_ZERO or FASTLOSS_EMPTY_NAN to get a value instead
            """
        case .emptySelection(let loss, let row?):
            """
            \(loss, names): no element is selected in row \(row); \
            set \(names.emptyRule) to FASTLOSS_EMPTY_ZERO or FASTLOSS_EMPTY_NAN to get a value instead
            """
        case .labelOutOfRange(let argument, let label, let row, let classes):
            """
            label \(label) in row \(row) of \(argument, names) \
            is neither a class (0 to \(classes - 1)) nor the ignored label
            """
        case .indexOutOfRange(let argument, let index, let row, let count):
            "\(index) in row \(row) of \(argument, names) is not in 0..<\(count)"
        case .probabilityOutOfRange(let argument, let probability, let index):
            """
            probability \(probability) at element \(index) of \(argument, names) is not in [0, 1]; \
            all outputs hold unspecified values; for logits, use the logit form
            """
        case .overlappingBuffers(let output, let other):
            "output \(output, names) shares memory with \(other, names)"
        case .missingInput(let term, let argument):
            "the term \(term) is enabled, but \(argument, names) is NULL"
        case .gradientWithoutInput(let gradient):
            "\(gradient, names) has a buffer, but its input is NULL"
        case .invalidInput(let argument, let requirement):
            "\(argument, names) must be \(requirement)"
        case .notFinite(let argument, let value, let index):
            "\(argument, names) is \(value) at element \(index), but it must be finite"
        case .factorizationFailed(let routine, let info):
            "LAPACK's \(routine) did not converge (info \(info))"
        case .ranksDisagree(let argument, let value, let rank, let otherValue, let otherRank):
            "rank \(rank) has \(value) for \(argument, names), but rank \(otherRank) has \(otherValue)"
        case .rankFailed(let rank):
            """
            rank \(rank) failed or did not answer in time; \
            output buffers of this call hold unspecified values
            """
        case .outOfMemory(let call, let bytes):
            Self.messageOfMemory(call, bytes, names)
        }
    }
}

/// Which names of C an error of the Swift API takes.
enum Names {
    /// Those of a loss's own function and its options.
    case function
    /// Those of `fastloss_objective` and its inputs.
    case objective
    /// Those of the structs of a task head.
    case head

    /// The member that decides about empty selections.
    var emptyRule: String {
        switch self {
        case .function, .head: "when_empty"
        case .objective: "the term's when_empty"
        }
    }

    /// The name in C of a parameter whose name is more than the Swift API's in another spelling.
    func exception(_ name: String) -> String? {
        switch (self, name) {
        case (_, "gradientScale"): "scale"
        case (_, "lambda · gradientScale"): "lambda * scale"
        case (_, "weight · gradientScale"): "weight * scale"
        case (_, "weights.squaredError · gradientScale"): "squared_error_weight * scale"
        case (_, "weights.nonzero · gradientScale"): "nonzero_weight * scale"
        case (_, "lambda · weight · gradientScale"): "batch_lambda * weight * scale"
        case (_, "shape.tokens"): "tokens"
        case (_, "shape.width"): "width"
        case (_, "shape.columns"): "columns"
        case (.function, _): nil
        case (.head, "genes.embeddings"): "gene_embeddings"
        case (.head, "genes.indices"): "genes"
        case (.head, "batches.embeddings"): "batch_embeddings"
        case (.head, "batches.labels"): "batch_labels"
        case (.head, _): nil
        case (.objective, "columns"): "width"
        case (.objective, "rows"): "cells"
        case (.objective, "threshold"): "elastic_threshold"
        case (.objective, "temperature"): "contrastive_temperature"
        case (.objective, "lambda"): "batch_lambda"
        case (.objective, "cellTypes.logits"): "cell_type_logits"
        case (.objective, "cellTypes.labels"): "cell_type_labels"
        case (.objective, "batches.logits"): "batch_logits"
        case (.objective, "batches.labels"): "batch_labels"
        case (.objective, "CrossEntropy of cellTypes.labels"): "cross_entropy of cell_type_labels"
        case (.objective, "CrossEntropy of batches.labels"): "cross_entropy of batch_labels"
        default: nil
        }
    }
}

extension Message.StringInterpolation {
    /// Appends a name of the Swift API as C spells it: `genePredictions` as `gene_predictions`.
    fileprivate mutating func appendInterpolation(_ name: String, _ names: Names) {
        if let exception = names.exception(name) {
            appendLiteral(exception)
            return
        }
        var followsLowercase = false
        for character in name.unicodeScalars {
            let isUppercase = ("A"..."Z").contains(character)
            if isUppercase && followsLowercase { appendLiteral("_") }
            followsLowercase = ("a"..."z").contains(character)
            // A string of one character allocates nothing.
            let spelled = isUppercase ? Unicode.Scalar(UInt8(character.value) + 0x20) : character
            appendLiteral(String(Character(spelled)))
        }
    }
}
