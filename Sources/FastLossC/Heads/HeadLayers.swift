// What the calls of all heads take: layers, gradients of layers, and decoders' targets and losses.

import CFastLoss
import FastLoss
import FastLossHeads

/// The names of a layer's parameters in messages.
struct LayerNames {
    let weight: String
    let bias: String

    init(_ weight: String, _ bias: String) {
        self.weight = weight
        self.bias = bias
    }
}

extension Call {
    /// The memory of an input; in place only, so for what has no gaps.
    func memory(
        _ pointer: UnsafePointer<Float>?, count: Int64, _ name: String
    ) throws(CallError) -> UnsafePointer<Float>? {
        UnsafePointer(buffer(try input(pointer, Strides(count: count, of: name))).baseAddress)
    }

    /// The memory of an output without gaps; nil if it is not wanted.
    func memory(
        _ pointer: UnsafeMutablePointer<Float>?, count: Int64, _ name: String, _ update: GradientUpdate
    ) throws(CallError) -> UnsafeMutablePointer<Float>? {
        guard pointer != nil else { return nil }
        return buffer(try output(pointer, Strides(count: count, of: name), update: update)).baseAddress
    }

    /// A linear layer.
    func linear(
        _ layer: fastloss_layer, outputs: Int64, inputs: Int64, _ names: LayerNames
    ) throws(CallError) -> LinearParameters {
        let weight = try input(
            layer.weight, Strides(rows: outputs, columns: inputs, stride: inputs, of: names.weight))
        return LinearParameters(
            weight: UnsafePointer(buffer(weight).baseAddress),
            bias: try memory(layer.bias, count: outputs, names.bias), outputs: Int(outputs),
            inputs: Int(inputs))
    }

    /// A linear layer's gradients.
    func linear(
        _ layer: fastloss_layer_gradient, outputs: Int64, inputs: Int64, _ names: LayerNames,
        _ update: GradientUpdate
    ) throws(CallError) -> LinearGradients {
        var weight: UnsafeMutablePointer<Float>?
        if layer.weight != nil {
            let strides = Strides(rows: outputs, columns: inputs, stride: inputs, of: names.weight)
            weight = buffer(try output(layer.weight, strides, update: update)).baseAddress
        }
        return LinearGradients(
            weight: weight, bias: try memory(layer.bias, count: outputs, names.bias, update))
    }

    /// Throws if there is a gradient for a layer that the head does not have.
    func reject(_ layer: fastloss_layer_gradient, _ names: LayerNames) throws(CallError) {
        try reject(layer.weight, names.weight)
        try reject(layer.bias, names.bias)
    }

    /// Throws if there is a gradient for a part that the head does not have.
    func reject(_ gradient: UnsafeMutablePointer<Float>?, _ name: String) throws(CallError) {
        guard gradient == nil else { throw .gradientOfAbsentPart(name) }
    }

    /// The gradient of a matrix of the model's outputs; nil if it is not wanted.
    func gradient(
        _ view: fastloss_mutable_view, rows: Int64, columns: Int64, _ name: String, _ type: ElementType,
        _ update: GradientUpdate
    ) throws(CallError) -> TakenOutput? {
        guard view.data != nil else { return nil }
        return try output(
            view.data, Strides(rows: rows, columns: columns, stride: view.stride, of: name), type,
            update: update)
    }

    /// A matrix of the model's outputs.
    func input(
        _ view: fastloss_view, rows: Int64, columns: Int64, _ name: String, _ type: ElementType
    ) throws(CallError) -> TakenOutput {
        try input(view.data, Strides(rows: rows, columns: columns, stride: view.stride, of: name), type)
    }

    /// A gradient for a head's plan, under the name that the plan uses; nil if it is not wanted.
    func headGradient(
        _ taken: TakenOutput?, named name: String, scale: Double = 1, update: GradientUpdate
    ) -> GradientOutput? {
        taken.map { output($0, named: name, scale: scale, update: update) }
    }

    /// A mask; nil if everything is selected.
    func mask(
        _ view: fastloss_mask_view, rows: Int64, columns: Int64
    ) throws(CallError) -> Taken<Bool>? {
        guard view.data != nil else { return nil }
        return try input(view.data, Strides(rows: rows, columns: columns, stride: view.stride, of: "mask"))
    }

    /// The elements of an input.
    func elements<Element>(_ taken: Taken<Element>) -> UnsafeBufferPointer<Element> {
        UnsafeBufferPointer(buffer(taken))
    }

    /// The memory of an optional output.
    func optionalBuffer<Element>(_ taken: Taken<Element>?) -> UnsafeMutableBufferPointer<Element>? {
        guard let taken else { return nil }
        return buffer(taken)
    }
}

/// Throws unless a size of a head is in the range of the heads.
func checkHeadSize(_ name: String, _ size: Int64) throws(CallError) {
    do throws(LossError) {
        try checkSize(name, Int(clamping: size))
    } catch {
        throw .head(error)
    }
}

/// Throws unless a factor is finite.
func checkFinite(_ name: String, _ value: Float) throws(CallError) {
    guard value.isFinite else {
        throw .head(.invalidParameter(name: name, value: Double(value), requirement: "finite"))
    }
}

// MARK: - Batch embeddings

/// One embedding for each batch, and the batch of each cell.
struct TakenBatches {
    private let embeddings: TakenOutput
    private let labels: Taken<Int32>

    init(
        _ embeddings: fastloss_view, _ type: ElementType, _ labels: UnsafePointer<Int32>?, cells: Int64,
        count: Int64, width: Int64, _ call: borrowing Call
    ) throws(CallError) {
        self.embeddings = try call.input(embeddings, rows: count, columns: width, "batch_embeddings", type)
        self.labels = try call.input(labels, Strides(count: cells, of: "batch_labels"))
    }

    func buffers(_ call: borrowing Call) -> BatchEmbeddingBuffers {
        BatchEmbeddingBuffers(embeddings: call.elements(embeddings), labels: call.elements(labels))
    }
}

// MARK: - Outputs, targets and losses of decoders

/// What a decoder's outputs are for.
enum DecoderOutcome {
    /// The outputs.
    case predict(DecoderOutputMemory)
    /// The gradients of a loss of the caller's.
    case given(predictions: (UnsafePointer<Float>?, Int64), nonzero: (UnsafePointer<Float>?, Int64))
    /// The losses.
    case targets(UnsafePointer<fastloss_decoder_targets>?)
}

/// Where a decoder's outputs go, unchecked.
struct DecoderOutputMemory {
    let predictions: UnsafeMutablePointer<Float>?
    let predictionsStride: Int64
    let nonzero: UnsafeMutablePointer<Float>?
    let nonzeroStride: Int64
}

/// The inputs of a decoder's losses, and where its outputs go.
struct TakenOutcome {
    private enum Loss {
        case none
        case given(predictions: Taken<Float>, nonzero: Taken<Float>?)
        case targets(Taken<Float>, DecoderWeights)
    }

    private let loss: Loss
    private var predictions: Taken<Float>?
    private var nonzero: Taken<Float>?

    /// Takes the inputs.
    init(
        _ outcome: DecoderOutcome, rows: Int64, columns: Int64, explicitZeros: Bool, _ call: borrowing Call
    ) throws(CallError) {
        func strides(_ stride: Int64, _ name: String) -> Strides {
            Strides(rows: rows, columns: columns, stride: stride, of: name)
        }
        switch outcome {
        case .predict: loss = .none
        case .given(let predictions, let nonzero):
            let taken = try call.input(predictions.0, strides(predictions.1, "predictions_gradient"))
            guard explicitZeros else {
                try Self.rejectNonzero(nonzero.0 != nil, "nonzeroGradient")
                loss = .given(predictions: taken, nonzero: nil)
                return
            }
            loss = .given(
                predictions: taken,
                nonzero: try call.input(nonzero.0, strides(nonzero.1, "nonzero_gradient")))
        case .targets(let pointer):
            let targets = try fastloss_decoder_targets.read(required(pointer, "targets"))
            try checkFinite("squaredErrorWeight", targets.squared_error_weight)
            try checkFinite("nonzeroWeight", targets.nonzero_weight)
            loss = .targets(
                try call.input(targets.values.data, strides(targets.values.stride, "targets.values")),
                DecoderWeights(
                    squaredError: targets.squared_error_weight, nonzero: targets.nonzero_weight))
        }
    }

    /// Takes the outputs, after all inputs. With a mask, the others keep their contents.
    mutating func takeOutputs(
        _ outcome: DecoderOutcome, rows: Int64, columns: Int64, explicitZeros: Bool, isMasked: Bool,
        _ call: borrowing Call
    ) throws(CallError) {
        guard case .predict(let memory) = outcome else { return }
        let update = isMasked ? GradientUpdate.accumulate : .overwrite
        predictions = try call.output(
            memory.predictions,
            Strides(rows: rows, columns: columns, stride: memory.predictionsStride, of: "predictions"),
            update: update)
        guard memory.nonzero != nil else { return }
        try Self.rejectNonzero(!explicitZeros, "nonzero")
        nonzero = try call.output(
            memory.nonzero,
            Strides(rows: rows, columns: columns, stride: memory.nonzeroStride, of: "nonzero"),
            update: update)
    }

    private static func rejectNonzero(_ isGiven: Bool, _ name: String) throws(CallError) {
        guard !isGiven else {
            throw .head(
                .invalidInput(argument: name, requirement: "NULL for a decoder without explicit zeros"))
        }
    }

    /// The loss for the plans.
    func loss(_ call: borrowing Call) -> DecoderLoss? {
        switch loss {
        case .none: nil
        case .given(let predictions, let nonzero):
            .given(
                predictions: call.elements(predictions),
                nonzero: call.optionalBuffer(nonzero).map { UnsafeBufferPointer($0) })
        case .targets(let targets, let weights): .targets(call.elements(targets), weights)
        }
    }

    /// The outputs for the plans.
    func outputs(_ call: borrowing Call) -> DecoderOutputs? {
        guard let predictions else { return nil }
        return DecoderOutputs(predictions: call.buffer(predictions), nonzero: call.optionalBuffer(nonzero))
    }
}

extension fastloss_decoder_targets: SizedStruct {
    static var firstSize: Int { 32 }
    static var name: String { "fastloss_decoder_targets" }
    mutating func setDefaults() {
        squared_error_weight = 1
        nonzero_weight = 1
    }
}

extension fastloss_decoder_losses: SizedStruct {
    static var firstSize: Int { 40 }
    static var name: String { "fastloss_decoder_losses" }

    init(_ losses: DecoderLosses) {
        self = Self.defaults
        squared_error = losses.squaredError
        nonzero = losses.nonzero ?? .nan
        relative_error = losses.relativeError
        selected_count = Int64(losses.selectedCount)
    }
}

/// Computes a decoder's losses, and writes them to the caller's struct.
func writeLosses(
    _ pointer: UnsafeMutablePointer<fastloss_decoder_losses>?, _ workspace: OpaquePointer?,
    _ body: (borrowing Call) throws(CallError) -> DecoderLosses
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let place = try required(pointer, "losses")
        let size = try fastloss_decoder_losses.checkedSize(place)
        fastloss_decoder_losses(try body(call)).write(to: place, size: size)
    }
}
