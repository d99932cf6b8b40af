// The decoders together with the losses that integration trains them on.

import FastLossReference
import Testing

@Suite struct HeadLossesReferenceTests {
    /// The gradients of MSE and Bernoulli NLL under one mask enter the head as the gradients of its outputs.
    @Test(arguments: try Golden.cases(of: "ExpressionDecoder").filter(Self.selectsSomething))
    func expressionDecoder(_ golden: Golden) throws {
        let subject = try HeadLosses(golden)
        var head = try ExpressionDecoderCase<Double>(golden)
        let outputs = head.outputs
        head.outputGradients = subject.gradients(of: outputs)
        expectCentralDifferences(
            of: {
                var moved = head
                moved.parameters = $0
                return subject.value(of: moved.outputs)
            }, at: head.parameters, gradient: head.gradients.parameters, golden.name)
    }

    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder").filter(Self.selectsSomething))
    func maskedValueDecoder(_ golden: Golden) throws {
        let subject = try HeadLosses(golden)
        var head = try MaskedValueDecoderCase<Double>(golden)
        let outputs = head.outputs
        head.outputGradients = subject.gradients(of: outputs)
        expectCentralDifferences(
            of: {
                var moved = head
                moved.parameters = $0
                return subject.value(of: moved.outputs)
            }, at: head.parameters, gradient: head.gradients.parameters, golden.name)
    }

    /// A mean over nothing has no value to compare with.
    static func selectsSomething(_ golden: Golden) throws -> Bool {
        try golden.bools("mask").contains(true)
    }
}

/// MSE of the predictions, and Bernoulli NLL where there are probabilities, over a golden's mask.
private struct HeadLosses {
    let mask: [Bool]
    let targets: [Double]

    init(_ golden: Golden) throws {
        mask = try golden.bools("mask")
        var random = RandomInputs(seed: 3)
        // Of the predictions' size: central differences lose what a large loss rounds away.
        targets = random.targets(mask.count).map { Double($0) / 50 }
    }

    func value(of outputs: Reference.DecoderOutputs<Double>) -> Double {
        let error = Reference.MaskedMSE.value(
            predictions: outputs.predictions, targets: targets, mask: mask)
        guard let probabilities = outputs.nonzeroProbabilities else { return error }
        return error
            + Reference.BernoulliNLL.value(probabilities: probabilities, targets: targets, mask: mask)
    }

    func gradients(of outputs: Reference.DecoderOutputs<Double>) -> Reference.DecoderOutputs<Double> {
        var gradients = outputs
        _ = Reference.MaskedMSE.valueAndGradient(
            predictions: outputs.predictions, targets: targets, mask: mask, gradient: &gradients.predictions)
        if let probabilities = outputs.nonzeroProbabilities {
            var gradient = probabilities
            _ = Reference.BernoulliNLL.valueAndGradient(
                probabilities: probabilities, targets: targets, mask: mask, gradient: &gradient)
            gradients.nonzeroProbabilities = gradient
        }
        return gradients
    }
}
