// The outputs of a decoder for one block of masked tokens: writing them, their losses, and their gradients.

import CFastLossKernels
import FastLoss

/// The sums over a block of tokens.
struct BlockSums {
    var squaredError = 0.0
    var nonzero = 0.0
    var relativeError = 0.0
    /// The first token whose probability is NaN; `Int.max` if there is none.
    var firstInvalid = Int.max

    static func += (sums: inout BlockSums, block: BlockSums) {
        sums.squaredError += block.squaredError
        sums.nonzero += block.nonzero
        sums.relativeError += block.relativeError
        sums.firstInvalid = min(sums.firstInvalid, block.firstInvalid)
    }

    /// The means over `count` tokens. Throws if a probability was NaN.
    func losses(count: Int, explicitZeros: Bool) throws(LossError) -> DecoderLosses {
        if firstInvalid < .max {
            throw .probabilityOutOfRange(
                argument: "nonzero", probability: .nan, index: firstInvalid)
        }
        let divisor = Double(count)
        return DecoderLosses(
            squaredError: squaredError / divisor, nonzero: explicitZeros ? nonzero / divisor : nil,
            relativeError: relativeError / divisor, selectedCount: count)
    }
}

extension DecoderLosses {
    /// The losses of no tokens.
    init(emptyValue: Double, explicitZeros: Bool) {
        self.init(
            squaredError: emptyValue, nonzero: explicitZeros ? emptyValue : nil, relativeError: emptyValue,
            selectedCount: 0)
    }
}

/// Where a decoder's outputs go, for the masked tokens alone.
package struct DecoderOutputs {
    let predictions: UnsafeMutableBufferPointer<Float>
    let nonzero: UnsafeMutableBufferPointer<Float>?

    package init(
        predictions: UnsafeMutableBufferPointer<Float>, nonzero: UnsafeMutableBufferPointer<Float>?
    ) {
        self.predictions = predictions
        self.nonzero = nonzero
    }

    /// Throws unless the counts fit `total` tokens.
    func check(total: Int, explicitZeros: Bool) throws(LossError) {
        try checkCount("predictions", predictions.count, is: total)
        guard let nonzero else { return }
        guard explicitZeros else {
            throw .invalidInput(
                argument: "nonzero", requirement: "nil for a decoder without explicit zeros")
        }
        try checkCount("nonzero", nonzero.count, is: total)
    }

    /// The memory of spans, under the rule of `Span.memory`.
    init(predictions: inout MutableSpan<Float>, nonzero: inout MutableSpan<Float>?) {
        self.predictions = predictions.memory
        self.nonzero = nonzero == nil ? nil : nonzero!.memory
    }

    /// The memory of arrays, each the only owner of its elements from now on.
    init(predictions: inout [Float], nonzero: inout [Float]?) {
        self.predictions = predictions.uniqueMemory
        self.nonzero = nonzero?.uniqueMemory
    }
}

/// What happens to the outputs of a block of masked tokens.
struct TokenOutputs {
    /// The most tokens that are processed together: their floats are on the stack.
    static let mostTokens = 64
    /// A number for each token of such a group: ``mostTokens`` of them.
    typealias Places = InlineArray<64, Int>

    /// How the gradients of the outputs are formed.
    private enum Gradients {
        /// By the losses against B·L targets; the factors contain 1/M and the caller's scale.
        case losses(targets: UnsafePointer<Float>, squaredErrorScale: Float, nonzeroScale: Float)
        /// By the caller.
        case given(predictions: UnsafePointer<Float>, nonzero: UnsafePointer<Float>?, scale: Float)
        case none
    }

    private let gradients: Gradients
    private let outputs: DecoderOutputs?
    private let form: BernoulliNLL.Form
    /// Whether the losses write the gradients of the outputs.
    private let mode: fastloss_write_mode

    /// - Parameters:
    ///   - wantsGradients: whether the outputs are replaced by their gradients.
    ///   - selected: the number of masked tokens, which the means are divided by.
    init(
        _ loss: DecoderLoss?, into outputs: DecoderOutputs?, form: BernoulliNLL.Form, scale: Float,
        selected: Int, wantsGradients: Bool
    ) {
        mode = wantsGradients ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT
        self.outputs = outputs
        self.form = form
        switch loss {
        case .targets(let targets, let weights):
            let share = Double(scale) / Double(max(1, selected))
            gradients = .losses(
                targets: pointer(targets), squaredErrorScale: Float(Double(weights.squaredError) * share),
                nonzeroScale: Float(Double(weights.nonzero) * share))
        case .given(let predictions, let nonzero):
            gradients = .given(
                predictions: pointer(predictions), nonzero: nonzero.map(pointer), scale: scale)
        case nil: gradients = .none
        }
    }

    /// Writes the outputs of `count` tokens where they are wanted, computes their losses, and replaces them by
    /// their gradients if those are wanted.
    ///
    /// - Parameters:
    ///   - rows: the place of each token among all tokens.
    ///   - predictions: the predicted values.
    ///   - logits: of a value that is not zero; nil without explicit zeros.
    func process(
        _ count: Int, rows: UnsafePointer<Int>, predictions: UnsafeMutablePointer<Float>,
        logits: UnsafeMutablePointer<Float>?
    ) -> BlockSums {
        var sums = BlockSums()
        for start in stride(from: 0, to: count, by: Self.mostTokens) {
            sums += processGroup(
                min(Self.mostTokens, count - start), rows: rows + start, predictions: predictions + start,
                logits: logits.map { $0 + start })
        }
        return sums
    }

    private func processGroup(
        _ count: Int, rows: UnsafePointer<Int>, predictions: UnsafeMutablePointer<Float>,
        logits: UnsafeMutablePointer<Float>?
    ) -> BlockSums {
        write(count, rows, predictions, logits)
        switch gradients {
        case .none: return BlockSums()
        case .given(let givenPredictions, let givenNonzero, let scale):
            for token in 0..<count { predictions[token] = scale * givenPredictions[rows[token]] }
            guard let logits, let givenNonzero else { return BlockSums() }
            if form == .probabilities { kernels.activate(logits, nil, count, FASTLOSS_SIGMOID) }
            for token in 0..<count {
                // The derivative of the sigmoid, from its output.
                let slope = form == .probabilities ? logits[token] * (1 - logits[token]) : 1
                logits[token] = scale * givenNonzero[rows[token]] * slope
            }
            return BlockSums()
        case .losses(let targets, let squaredErrorScale, let nonzeroScale):
            return replaceByLossGradients(
                count, rows, targets, squaredErrorScale, nonzeroScale, predictions, logits)
        }
    }

    private func write(
        _ count: Int, _ rows: UnsafePointer<Int>, _ predictions: UnsafePointer<Float>,
        _ logits: UnsafePointer<Float>?
    ) {
        guard let outputs else { return }
        for token in 0..<count { outputs.predictions[rows[token]] = predictions[token] }
        guard let nonzero = outputs.nonzero, let logits else { return }
        withFloats(Self.mostTokens) { values in
            values.update(from: logits, count: count)
            if form == .probabilities { kernels.activate(values, nil, count, FASTLOSS_SIGMOID) }
            for token in 0..<count { nonzero[rows[token]] = values[token] }
        }
    }

    private func replaceByLossGradients(
        _ count: Int, _ rows: UnsafePointer<Int>, _ allTargets: UnsafePointer<Float>,
        _ squaredErrorScale: Float, _ nonzeroScale: Float, _ predictions: UnsafeMutablePointer<Float>,
        _ logits: UnsafeMutablePointer<Float>?
    ) -> BlockSums {
        withFloats(2 * Self.mostTokens) { targets in
            let inputs = targets + Self.mostTokens
            for token in 0..<count { targets[token] = allTargets[rows[token]] }
            var sums = BlockSums()
            inputs.update(from: predictions, count: count)
            sums.relativeError =
                kernels.masked_relative_error(
                    inputs, targets, everythingSelected, count, 0, nil, FASTLOSS_NO_OUTPUT, FASTLOSS_FLOAT32,
                    false
                ).sum
            sums.squaredError =
                kernels.masked_mse(
                    inputs, targets, everythingSelected, count, squaredErrorScale, predictions, mode,
                    FASTLOSS_FLOAT32, false
                ).sum
            guard let logits else { return sums }
            inputs.update(from: logits, count: count)
            let isLogit = form == .logits
            if !isLogit { kernels.activate(inputs, nil, count, FASTLOSS_SIGMOID) }
            let partial = (isLogit ? kernels.bernoulli_nll_logits : kernels.bernoulli_nll)(
                inputs, targets, everythingSelected, count, nonzeroScale, logits, mode, FASTLOSS_FLOAT32,
                false)
            if !isLogit, mode == FASTLOSS_OVERWRITE {
                kernels.activation_gradient(logits, inputs, count, FASTLOSS_SIGMOID)
            }
            sums.nonzero = partial.sum
            if partial.invalid > 0 {
                for token in 0..<count where inputs[token].isNaN {
                    sums.firstInvalid = min(sums.firstInvalid, rows[token])
                }
            }
            return sums
        }
    }
}

/// Calls `body` with memory for `count` floats, at most 256, on the stack.
func withFloats<Result>(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Result) -> Result {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { memory in
        guard let floats = memory.baseAddress else { preconditionFailure("\(count) floats have no address") }
        return body(floats)
    }
}
