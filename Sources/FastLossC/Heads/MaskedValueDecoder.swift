// The decoder of expression values from the cell embedding in the C interface.

import CFastLoss
import FastLoss
import FastLossHeads

extension fastloss_masked_value_decoder: SizedStruct {
    static var firstSize: Int { 120 }
    static var name: String { "fastloss_masked_value_decoder" }
    mutating func setDefaults() {
        hidden_width = 64
        nonzero_form = fastloss_nonzero_form(FASTLOSS_NONZERO_LOGITS)
    }
}

extension fastloss_masked_value_inputs: SizedStruct {
    static var firstSize: Int { 128 }
    static var name: String { "fastloss_masked_value_inputs" }
}

extension fastloss_masked_value_gradients: SizedStruct {
    static var firstSize: Int { 144 }
    static var name: String { "fastloss_masked_value_gradients" }
    mutating func setDefaults() { scale = 1 }
}

extension MaskedValueDecoder.Style {
    fileprivate init(_ value: fastloss_query_style) throws(CallError) {
        switch Int(value) {
        case FASTLOSS_QUERY_INNER_PRODUCT: self = .innerProduct
        case FASTLOSS_QUERY_INNER_PRODUCT_DETACHED: self = .innerProductDetached
        case FASTLOSS_QUERY_CONCAT: self = .concatQuery
        case FASTLOSS_QUERY_SUM: self = .sumQuery
        default: throw .invalidEnumeration(name: "style", value: value)
        }
    }
}

/// The sizes of the decoder's layers.
private struct LayerSizes {
    let style: MaskedValueDecoder.Style
    let width: Int64
    let hiddenWidth: Int64
    let explicitZeros: Bool
    let batchEmbeddings: Bool

    /// Throws if a size is out of range, or if the style has no such part.
    init(_ decoder: fastloss_masked_value_decoder) throws(CallError) {
        style = try MaskedValueDecoder.Style(decoder.style)
        width = decoder.width
        hiddenWidth = decoder.hidden_width
        explicitZeros = decoder.explicit_zeros
        batchEmbeddings = decoder.batch_embeddings
        try checkHeadSize("width", width)
        try checkHeadSize("hiddenWidth", hiddenWidth)
        guard style.isInnerProduct || !(explicitZeros || batchEmbeddings) else {
            throw .head(
                .invalidInput(
                    argument: explicitZeros ? "explicitZeros" : "batchEmbeddings",
                    requirement: "false for a query style"))
        }
    }

    var query: Int64 { style == .concatQuery ? hiddenWidth : width }
    var answer: Int64 { batchEmbeddings ? 2 * width : width }
    var hiddenInputs: Int64 { style == .concatQuery ? width + hiddenWidth : width }
}

extension Call {
    fileprivate func parameters(
        _ decoder: fastloss_masked_value_decoder, _ sizes: LayerSizes
    ) throws(CallError) -> MaskedValueParameters {
        let query = try linear(
            decoder.gene2query, outputs: sizes.query, inputs: sizes.width,
            LayerNames("gene2query.weight", "gene2query.bias"))
        var answers = InlineArray<2, LinearParameters?>(repeating: nil)
        guard sizes.style.isInnerProduct else {
            let first = try linear(
                decoder.fc1, outputs: sizes.hiddenWidth, inputs: sizes.hiddenInputs,
                LayerNames("fc1.weight", "fc1.bias"))
            let slope = try memory(decoder.hidden_activation, count: 1, "hidden_activation")
            let second = try linear(
                decoder.fc2, outputs: 1, inputs: sizes.hiddenWidth, LayerNames("fc2.weight", "fc2.bias"))
            return MaskedValueParameters(
                query: query, answers: answers,
                hidden: HiddenParameters(
                    first: first, slope: try required(slope, "hidden_activation"), second: second))
        }
        let weight = try input(
            decoder.w_weight,
            Strides(rows: sizes.answer, columns: sizes.width, stride: sizes.width, of: "w_weight"))
        answers[0] = LinearParameters(
            weight: elements(weight).baseAddress, bias: nil, outputs: Int(sizes.answer),
            inputs: Int(sizes.width))
        if sizes.explicitZeros {
            answers[1] = try linear(
                decoder.w_zero_logit, outputs: sizes.answer, inputs: sizes.width,
                LayerNames("w_zero_logit.weight", "w_zero_logit.bias"))
        }
        return MaskedValueParameters(query: query, answers: answers, hidden: nil)
    }

    fileprivate func parameters(
        _ gradients: fastloss_masked_value_gradients, _ sizes: LayerSizes, _ update: GradientUpdate
    ) throws(CallError) -> MaskedValueParameterGradients {
        let zeroNames = LayerNames("gradients.w_zero_logit.weight", "gradients.w_zero_logit.bias")
        let firstNames = LayerNames("gradients.fc1.weight", "gradients.fc1.bias")
        let secondNames = LayerNames("gradients.fc2.weight", "gradients.fc2.bias")
        let query = try linear(
            gradients.gene2query, outputs: sizes.query, inputs: sizes.width,
            LayerNames("gradients.gene2query.weight", "gradients.gene2query.bias"), update)
        var answers = InlineArray<2, LinearGradients?>(repeating: nil)
        guard sizes.style.isInnerProduct else {
            try reject(gradients.w_weight, "gradients.w_weight")
            try reject(gradients.w_zero_logit, zeroNames)
            let first = try linear(
                gradients.fc1, outputs: sizes.hiddenWidth, inputs: sizes.hiddenInputs, firstNames, update)
            let slope = try memory(
                gradients.hidden_activation, count: 1, "gradients.hidden_activation", update)
            let second = try linear(
                gradients.fc2, outputs: 1, inputs: sizes.hiddenWidth, secondNames, update)
            return MaskedValueParameterGradients(
                query: query, answers: answers,
                hidden: HiddenGradients(first: first, slope: slope, second: second))
        }
        try reject(gradients.fc1, firstNames)
        try reject(gradients.hidden_activation, "gradients.hidden_activation")
        try reject(gradients.fc2, secondNames)
        var weight: UnsafeMutablePointer<Float>?
        if gradients.w_weight != nil {
            let strides = Strides(
                rows: sizes.answer, columns: sizes.width, stride: sizes.width, of: "gradients.w_weight")
            weight = buffer(try output(gradients.w_weight, strides, update: update)).baseAddress
        }
        answers[0] = LinearGradients(weight: weight, bias: nil)
        if sizes.explicitZeros {
            answers[1] = try linear(
                gradients.w_zero_logit, outputs: sizes.answer, inputs: sizes.width, zeroNames, update)
        } else {
            try reject(gradients.w_zero_logit, zeroNames)
        }
        return MaskedValueParameterGradients(query: query, answers: answers, hidden: nil)
    }
}

/// The element types of a decoder's inputs.
private struct EmbeddingTypes {
    let cells: ElementType
    let genes: ElementType
    let batches: ElementType

    init(_ inputs: fastloss_masked_value_inputs) throws(CallError) {
        cells = try ElementType(inputs.cell_embeddings_type, "cell_embeddings_type")
        genes = try ElementType(inputs.gene_embeddings_type, "gene_embeddings_type")
        batches = try ElementType(inputs.batch_embeddings_type, "batch_embeddings_type")
        try checkReserved(inputs.reserved, "inputs.reserved")
    }
}

/// The gradients of a call.
private struct TakenMaskedValueGradients {
    let scale: Float
    private let update: GradientUpdate
    private let cellEmbeddings: TakenOutput?
    private let genes: TakenOutput?
    private let batchEmbeddings: TakenOutput?
    private let parameters: MaskedValueParameterGradients

    init(
        _ gradients: fastloss_masked_value_gradients, _ sizes: LayerSizes,
        _ inputs: fastloss_masked_value_inputs, _ types: EmbeddingTypes, _ call: borrowing Call
    ) throws(CallError) {
        scale = gradients.scale
        update = try GradientUpdate(gradients.update, of: "gradients")
        cellEmbeddings = try call.gradient(
            gradients.cell_embeddings, rows: inputs.cells, columns: sizes.width, "gradients.cell_embeddings",
            types.cells, update)
        genes = try call.gradient(
            gradients.gene_embeddings, rows: inputs.gene_count, columns: sizes.width,
            "gradients.gene_embeddings", types.genes, update)
        if sizes.batchEmbeddings {
            batchEmbeddings = try call.gradient(
                gradients.batch_embeddings, rows: inputs.batch_count, columns: sizes.width,
                "gradients.batch_embeddings", types.batches, update)
        } else {
            try call.reject(gradients.batch_embeddings.data, "gradients.batch_embeddings")
            batchEmbeddings = nil
        }
        parameters = try call.parameters(gradients, sizes, update)
    }

    func buffers(_ call: borrowing Call) -> MaskedValueBuffers {
        MaskedValueBuffers(
            parameters: parameters,
            cellEmbeddings: call.headGradient(
                cellEmbeddings, named: "gradients.cellEmbeddings", update: update),
            genes: call.headGradient(genes, named: "gradients.genes", update: update),
            batchEmbeddings: call.headGradient(
                batchEmbeddings, named: "gradients.batchEmbeddings", update: update), update: update)
    }
}

/// Runs one call of the decoder.
private func run(
    _ decoder: UnsafePointer<fastloss_masked_value_decoder>?,
    _ inputs: UnsafePointer<fastloss_masked_value_inputs>?, _ outcome: DecoderOutcome,
    _ gradients: UnsafePointer<fastloss_masked_value_gradients>?, _ call: borrowing Call
) throws(CallError) -> DecoderLosses {
    let decoder = try fastloss_masked_value_decoder.read(required(decoder, "decoder"))
    let inputs = try fastloss_masked_value_inputs.read(required(inputs, "inputs"))
    let sizes = try LayerSizes(decoder)
    let options = MaskedValueOptions(
        style: sizes.style, width: Int(sizes.width), hiddenWidth: Int(sizes.hiddenWidth),
        hasExplicitZeros: sizes.explicitZeros, hasBatchEmbeddings: sizes.batchEmbeddings,
        nonzeroForm: try BernoulliNLL.Form(decoder.nonzero_form),
        whenEmpty: try EmptySelectionRule(decoder.when_empty))
    let parameters = try call.parameters(decoder, sizes)
    let (cells, tokens) = (inputs.cells, inputs.tokens)
    let types = try EmbeddingTypes(inputs)
    let cellEmbeddings = try call.input(
        inputs.cell_embeddings, rows: cells, columns: sizes.width, "cell_embeddings", types.cells)
    let geneEmbeddings = try call.input(
        inputs.gene_embeddings, rows: inputs.gene_count, columns: sizes.width, "gene_embeddings", types.genes)
    // One list of genes for all cells, or one for each.
    let genes = try call.input(
        inputs.genes,
        inputs.genes_stride == 0
            ? Strides(count: tokens, of: "genes")
            : Strides(rows: cells, columns: tokens, stride: inputs.genes_stride, of: "genes"))
    let mask = try call.mask(inputs.mask, rows: cells, columns: tokens)
    let batches =
        sizes.batchEmbeddings
        ? try TakenBatches(
            inputs.batch_embeddings, types.batches, inputs.batch_labels, cells: cells,
            count: inputs.batch_count,
            width: sizes.width, call) : nil
    var taken = try TakenOutcome(
        outcome, rows: cells, columns: tokens, explicitZeros: sizes.explicitZeros, call)
    let takenGradients =
        gradients == nil
        ? nil
        : try TakenMaskedValueGradients(
            fastloss_masked_value_gradients.read(gradients), sizes, inputs, types, call)
    try taken.takeOutputs(
        outcome, rows: cells, columns: tokens, explicitZeros: sizes.explicitZeros, isMasked: mask != nil, call
    )

    func arguments(_ call: borrowing Call) throws(LossError) -> MaskedValueArguments {
        try MaskedValueArguments(
            options,
            MaskedValueInputBuffers(
                shape: MatrixShape(rows: Int(clamping: cells), columns: Int(clamping: tokens)),
                cellEmbeddings: call.elements(cellEmbeddings),
                genes: GeneEmbeddingBuffers(
                    embeddings: call.elements(geneEmbeddings), indices: call.elements(genes)),
                mask: mask.map { call.elements($0) }, batches: batches?.buffers(call)),
            parameters: parameters, loss: taken.loss(call), gradients: takenGradients?.buffers(call),
            gradientScale: takenGradients?.scale ?? 1, outputs: taken.outputs(call))
    }
    guard sizes.style.isInnerProduct else {
        return try call.runHead { (layout) throws(LossError) in
            try HiddenQueryPlan(arguments(call), in: &layout)
        }
    }
    return try call.runHead { (layout) throws(LossError) in
        try InnerProductPlan(arguments(call), in: &layout)
    }
}

// MARK: - Exported

@c @implementation
public func fastloss_masked_value_decoder_predict(
    _ decoder: UnsafePointer<fastloss_masked_value_decoder>?,
    _ inputs: UnsafePointer<fastloss_masked_value_inputs>?,
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
public func fastloss_masked_value_decoder_gradient(
    _ decoder: UnsafePointer<fastloss_masked_value_decoder>?,
    _ inputs: UnsafePointer<fastloss_masked_value_inputs>?,
    _ predictionsGradient: UnsafePointer<Float>?, _ predictionsGradientStride: Int64,
    _ nonzeroGradient: UnsafePointer<Float>?, _ nonzeroGradientStride: Int64,
    _ gradients: UnsafePointer<fastloss_masked_value_gradients>?, _ workspace: OpaquePointer?
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
public func fastloss_masked_value_decoder_loss(
    _ decoder: UnsafePointer<fastloss_masked_value_decoder>?,
    _ inputs: UnsafePointer<fastloss_masked_value_inputs>?,
    _ targets: UnsafePointer<fastloss_decoder_targets>?,
    _ gradients: UnsafePointer<fastloss_masked_value_gradients>?, _ workspace: OpaquePointer?,
    _ losses: UnsafeMutablePointer<fastloss_decoder_losses>?
) -> fastloss_status {
    writeLosses(losses, workspace) { (call) throws(CallError) in
        try run(decoder, inputs, .targets(targets), gradients, call)
    }
}
