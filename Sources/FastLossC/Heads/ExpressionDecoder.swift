// The decoder of expression values from token states in the C interface.

import CFastLoss
import FastLoss
import FastLossHeads

extension fastloss_expression_decoder: SizedStruct {
    static var firstSize: Int { 128 }
    static var name: String { "fastloss_expression_decoder" }
    mutating func setDefaults() { nonzero_form = fastloss_nonzero_form(FASTLOSS_NONZERO_LOGITS) }
}

extension fastloss_expression_decoder_inputs: SizedStruct {
    static var firstSize: Int { 96 }
    static var name: String { "fastloss_expression_decoder_inputs" }
}

extension fastloss_expression_decoder_gradients: SizedStruct {
    static var firstSize: Int { 152 }
    static var name: String { "fastloss_expression_decoder_gradients" }
    mutating func setDefaults() { scale = 1 }
}

/// The names of a perceptron's layers.
private struct PerceptronNames {
    let first: LayerNames
    let second: LayerNames
    let third: LayerNames

    static let fc = PerceptronNames(
        first: LayerNames("fc.first.weight", "fc.first.bias"),
        second: LayerNames("fc.second.weight", "fc.second.bias"),
        third: LayerNames("fc.third.weight", "fc.third.bias"))
    static let zeroLogit = PerceptronNames(
        first: LayerNames("zero_logit.first.weight", "zero_logit.first.bias"),
        second: LayerNames("zero_logit.second.weight", "zero_logit.second.bias"),
        third: LayerNames("zero_logit.third.weight", "zero_logit.third.bias"))
    static let fcGradient = PerceptronNames(
        first: LayerNames("gradients.fc.first.weight", "gradients.fc.first.bias"),
        second: LayerNames("gradients.fc.second.weight", "gradients.fc.second.bias"),
        third: LayerNames("gradients.fc.third.weight", "gradients.fc.third.bias"))
    static let zeroLogitGradient = PerceptronNames(
        first: LayerNames("gradients.zero_logit.first.weight", "gradients.zero_logit.first.bias"),
        second: LayerNames("gradients.zero_logit.second.weight", "gradients.zero_logit.second.bias"),
        third: LayerNames("gradients.zero_logit.third.weight", "gradients.zero_logit.third.bias"))
}

extension Call {
    fileprivate func perceptron(
        _ perceptron: fastloss_perceptron, inputs: Int64, width: Int64, _ names: PerceptronNames
    ) throws(CallError) -> PerceptronParameters {
        PerceptronParameters(
            first: try linear(perceptron.first, outputs: width, inputs: inputs, names.first),
            second: try linear(perceptron.second, outputs: width, inputs: width, names.second),
            third: try linear(perceptron.third, outputs: 1, inputs: width, names.third))
    }

    fileprivate func perceptron(
        _ perceptron: fastloss_perceptron_gradient, inputs: Int64, width: Int64, _ names: PerceptronNames,
        _ update: GradientUpdate
    ) throws(CallError) -> PerceptronGradients {
        PerceptronGradients(
            first: try linear(perceptron.first, outputs: width, inputs: inputs, names.first, update),
            second: try linear(perceptron.second, outputs: width, inputs: width, names.second, update),
            third: try linear(perceptron.third, outputs: 1, inputs: width, names.third, update))
    }
}

/// The element types of a decoder's inputs.
private struct StateTypes {
    let states: ElementType
    let batchEmbeddings: ElementType

    init(_ inputs: fastloss_expression_decoder_inputs) throws(CallError) {
        states = try ElementType(inputs.states_type, "states_type")
        batchEmbeddings = try ElementType(inputs.batch_embeddings_type, "batch_embeddings_type")
    }
}

/// The gradients of a call.
private struct TakenExpressionGradients {
    let scale: Float
    private let update: GradientUpdate
    private var perceptrons = InlineArray<2, PerceptronGradients?>(repeating: nil)
    private let states: TakenOutput?
    private let batchEmbeddings: TakenOutput?

    init(
        _ gradients: fastloss_expression_decoder_gradients, of decoder: fastloss_expression_decoder,
        _ inputs: fastloss_expression_decoder_inputs, _ types: StateTypes, _ call: borrowing Call
    ) throws(CallError) {
        scale = gradients.scale
        update = try GradientUpdate(gradients.update, of: "gradients")
        let shape = TokenShape(inputs.cells, inputs.tokens, decoder.width)
        states =
            gradients.states == nil
            ? nil
            : try call.output(
                gradients.states,
                Strides(
                    shape, tokenStride: gradients.states_token_stride,
                    cellStride: gradients.states_cell_stride, of: "gradients.states"), types.states,
                update: update)
        if decoder.batch_embeddings {
            batchEmbeddings = try call.gradient(
                gradients.batch_embeddings, rows: inputs.batch_count, columns: decoder.width,
                "gradients.batch_embeddings", types.batchEmbeddings, update)
        } else {
            try call.reject(gradients.batch_embeddings.data, "gradients.batch_embeddings")
            batchEmbeddings = nil
        }
        let columns = decoder.batch_embeddings ? 2 * decoder.width : decoder.width
        perceptrons[0] = try call.perceptron(
            gradients.fc, inputs: columns, width: decoder.width, PerceptronNames.fcGradient, update)
        let names = PerceptronNames.zeroLogitGradient
        if decoder.explicit_zeros {
            perceptrons[1] = try call.perceptron(
                gradients.zero_logit, inputs: columns, width: decoder.width, names, update)
        } else {
            try call.reject(gradients.zero_logit.first, names.first)
            try call.reject(gradients.zero_logit.second, names.second)
            try call.reject(gradients.zero_logit.third, names.third)
        }
    }

    func buffers(_ call: borrowing Call) -> ExpressionDecoderBuffers {
        ExpressionDecoderBuffers(
            perceptrons: perceptrons,
            states: call.headGradient(states, named: "gradients.states", update: update),
            batchEmbeddings: call.headGradient(
                batchEmbeddings, named: "gradients.batchEmbeddings", update: update), update: update)
    }
}

/// Runs one call of the decoder.
private func run(
    _ decoder: UnsafePointer<fastloss_expression_decoder>?,
    _ inputs: UnsafePointer<fastloss_expression_decoder_inputs>?, _ outcome: DecoderOutcome,
    _ gradients: UnsafePointer<fastloss_expression_decoder_gradients>?, _ call: borrowing Call
) throws(CallError) -> DecoderLosses {
    let decoder = try fastloss_expression_decoder.read(required(decoder, "decoder"))
    let inputs = try fastloss_expression_decoder_inputs.read(required(inputs, "inputs"))
    try checkReserved(decoder.reserved, "reserved")
    let width = decoder.width
    try checkHeadSize("width", width)
    let options = ExpressionDecoderOptions(
        width: Int(width), hasExplicitZeros: decoder.explicit_zeros,
        hasBatchEmbeddings: decoder.batch_embeddings,
        nonzeroForm: try BernoulliNLL.Form(decoder.nonzero_form),
        whenEmpty: try EmptySelectionRule(decoder.when_empty))
    let columns = decoder.batch_embeddings ? 2 * width : width
    var parameters = InlineArray<2, PerceptronParameters?>(repeating: nil)
    parameters[0] = try call.perceptron(decoder.fc, inputs: columns, width: width, PerceptronNames.fc)
    if decoder.explicit_zeros {
        parameters[1] = try call.perceptron(
            decoder.zero_logit, inputs: columns, width: width, PerceptronNames.zeroLogit)
    }
    let (cells, tokens) = (inputs.cells, inputs.tokens)
    let shape = TokenShape(cells, tokens, width)
    let types = try StateTypes(inputs)
    let states = try call.input(
        inputs.states,
        Strides(
            shape, tokenStride: inputs.states_token_stride, cellStride: inputs.states_cell_stride,
            of: "states"), types.states)
    let mask = try call.mask(inputs.mask, rows: cells, columns: tokens)
    let batches =
        decoder.batch_embeddings
        ? try TakenBatches(
            inputs.batch_embeddings, types.batchEmbeddings, inputs.batch_labels, cells: cells,
            count: inputs.batch_count,
            width: width, call) : nil
    var taken = try TakenOutcome(
        outcome, rows: cells, columns: tokens, explicitZeros: decoder.explicit_zeros, call)
    let takenGradients =
        gradients == nil
        ? nil
        : try TakenExpressionGradients(
            fastloss_expression_decoder_gradients.read(gradients), of: decoder, inputs, types, call)
    try taken.takeOutputs(
        outcome, rows: cells, columns: tokens, explicitZeros: decoder.explicit_zeros, isMasked: mask != nil,
        call)
    return try call.runHead { (layout) throws(LossError) in
        try ExpressionDecoderPlan(
            options,
            ExpressionDecoderInputBuffers(
                shape: shape, states: call.elements(states), mask: mask.map { call.elements($0) },
                batches: batches?.buffers(call)),
            parameters: parameters, loss: taken.loss(call), gradients: takenGradients?.buffers(call),
            gradientScale: takenGradients?.scale ?? 1, outputs: taken.outputs(call), in: &layout)
    }
}

// MARK: - Exported

@c @implementation
public func fastloss_expression_decoder_predict(
    _ decoder: UnsafePointer<fastloss_expression_decoder>?,
    _ inputs: UnsafePointer<fastloss_expression_decoder_inputs>?,
    _ predictions: UnsafeMutablePointer<Float>?, _ predictionsStride: Int64,
    _ nonzero: UnsafeMutablePointer<Float>?, _ nonzeroStride: Int64, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        _ = try run(
            decoder, inputs,
            .predict(
                DecoderOutputMemory(
                    predictions: predictions, predictionsStride: predictionsStride, nonzero: nonzero,
                    nonzeroStride: nonzeroStride)), nil, call)
    }
}

@c @implementation
public func fastloss_expression_decoder_gradient(
    _ decoder: UnsafePointer<fastloss_expression_decoder>?,
    _ inputs: UnsafePointer<fastloss_expression_decoder_inputs>?,
    _ predictionsGradient: UnsafePointer<Float>?, _ predictionsGradientStride: Int64,
    _ nonzeroGradient: UnsafePointer<Float>?, _ nonzeroGradientStride: Int64,
    _ gradients: UnsafePointer<fastloss_expression_decoder_gradients>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        _ = try run(
            decoder, inputs,
            .given(
                predictions: (predictionsGradient, predictionsGradientStride),
                nonzero: (nonzeroGradient, nonzeroGradientStride)), required(gradients, "gradients"), call)
    }
}

@c @implementation
public func fastloss_expression_decoder_loss(
    _ decoder: UnsafePointer<fastloss_expression_decoder>?,
    _ inputs: UnsafePointer<fastloss_expression_decoder_inputs>?,
    _ targets: UnsafePointer<fastloss_decoder_targets>?,
    _ gradients: UnsafePointer<fastloss_expression_decoder_gradients>?, _ workspace: OpaquePointer?,
    _ losses: UnsafeMutablePointer<fastloss_decoder_losses>?
) -> fastloss_status {
    writeLosses(losses, workspace) { (call) throws(CallError) in
        try run(decoder, inputs, .targets(targets), gradients, call)
    }
}
