// The classifiers of cell types and of batches in the C interface.

import CFastLoss
import FastLoss
import FastLossHeads

extension fastloss_classifier: SizedStruct {
    static var firstSize: Int { 56 }
    static var name: String { "fastloss_classifier" }
}

extension fastloss_classifier_gradients: SizedStruct {
    static var firstSize: Int { 56 }
    static var name: String { "fastloss_classifier_gradients" }
    mutating func setDefaults() { scale = 1 }
}

/// A classifier among the matrices of a call.
private struct TakenClassifier {
    let parameters: ClassifierParameters
    let width: Int64
    let classes: Int64
    let cellEmbeddings: ElementType
    let blockCount: Int

    init(
        _ pointer: UnsafePointer<fastloss_classifier>?, named name: String, _ call: borrowing Call
    ) throws(CallError) {
        let classifier = try fastloss_classifier.read(required(pointer, name))
        width = classifier.width
        classes = classifier.classes
        try checkHeadSize("width", width)
        try checkHeadSize("classes", classes)
        cellEmbeddings = try ElementType(classifier.cell_embeddings_type, "cell_embeddings_type")
        try checkReserved(classifier.reserved, "reserved")
        guard (0...Int64(FASTLOSS_CLASSIFIER_BLOCK_CAPACITY)).contains(classifier.block_count) else {
            throw .head(
                .invalidParameter(
                    name: "blockCount", value: Double(classifier.block_count),
                    requirement: "between 0 and FASTLOSS_CLASSIFIER_BLOCK_CAPACITY, 16"))
        }
        blockCount = Int(classifier.block_count)
        var table: UnsafePointer<UnsafePointer<Float>?>?
        if blockCount > 0 {
            let blocks = try required(classifier.blocks, "blocks")
            try checkAlignment(blocks, "blocks")
            for index in 0..<blockCount {
                _ = try call.linear(
                    blocks[index].linear, outputs: width, inputs: width,
                    LayerNames("blocks.linear.weight", "blocks.linear.bias"))
                _ = try call.memory(blocks[index].norm.weight, count: width, "blocks.norm.weight")
                _ = try call.memory(blocks[index].norm.bias, count: width, "blocks.norm.bias")
            }
            // A block is four pointers in the order of its members.
            table = UnsafeRawPointer(blocks).assumingMemoryBound(to: UnsafePointer<Float>?.self)
        }
        let output = try call.linear(
            classifier.out_layer, outputs: classes, inputs: width,
            LayerNames("out_layer.weight", "out_layer.bias"))
        parameters = ClassifierParameters(blocks: table, count: blockCount, output: output)
    }
}

/// The gradients of a call.
private struct TakenClassifierGradients {
    let scale: Float
    private let update: GradientUpdate
    private let cellEmbeddings: TakenOutput?
    private let parameters: ClassifierParameterGradients

    init(
        _ gradients: fastloss_classifier_gradients, of classifier: TakenClassifier, cells: Int64,
        _ call: borrowing Call
    ) throws(CallError) {
        scale = gradients.scale
        update = try GradientUpdate(gradients.update, of: "gradients")
        cellEmbeddings = try call.gradient(
            gradients.cell_embeddings, rows: cells, columns: classifier.width, "gradients.cell_embeddings",
            classifier.cellEmbeddings, update)
        var table: UnsafePointer<UnsafeMutablePointer<Float>?>?
        if let blocks = gradients.blocks {
            try checkAlignment(blocks, "gradients.blocks")
            for index in 0..<classifier.blockCount {
                _ = try call.linear(
                    blocks[index].linear, outputs: classifier.width, inputs: classifier.width,
                    LayerNames("gradients.blocks.linear.weight", "gradients.blocks.linear.bias"), update)
                _ = try call.memory(
                    blocks[index].norm.weight, count: classifier.width, "gradients.blocks.norm.weight",
                    update)
                _ = try call.memory(
                    blocks[index].norm.bias, count: classifier.width, "gradients.blocks.norm.bias", update)
            }
            table = UnsafeRawPointer(blocks).assumingMemoryBound(to: UnsafeMutablePointer<Float>?.self)
        }
        let output = try call.linear(
            gradients.out_layer, outputs: classifier.classes, inputs: classifier.width,
            LayerNames("gradients.out_layer.weight", "gradients.out_layer.bias"), update)
        parameters = ClassifierParameterGradients(blocks: table, output: output)
    }

    func buffers(cellFactor: Double, _ call: borrowing Call) -> ClassifierBuffers {
        ClassifierBuffers(
            parameters: parameters,
            cellEmbeddings: call.headGradient(
                cellEmbeddings, named: "gradients.cellEmbeddings", scale: cellFactor, update: update),
            update: update)
    }
}

/// One call of a classifier.
private struct ClassifierCall {
    /// What the logits are for.
    enum Outcome {
        case predict(UnsafeMutablePointer<Float>?, Int64)
        case given(UnsafePointer<Float>?, Int64)
        case labels(UnsafePointer<Int32>?, CrossEntropy)
    }

    let classifier: UnsafePointer<fastloss_classifier>?
    /// Nil for a decoder of cell types.
    let lambda: Float?
    let cells: Int64
    let cellEmbeddings: UnsafePointer<Float>?
    let stride: Int64
    var isDiscriminator = false

    func run(
        _ outcome: Outcome, _ gradients: UnsafePointer<fastloss_classifier_gradients>?, _ call: borrowing Call
    ) throws(CallError) -> LossValue {
        let taken = try TakenClassifier(
            classifier, named: isDiscriminator ? "discriminator" : "decoder", call)
        if let lambda { try checkFinite("lambda", lambda) }
        let embeddings = try call.input(
            cellEmbeddings,
            Strides(rows: cells, columns: taken.width, stride: stride, of: "cell_embeddings"),
            taken.cellEmbeddings)
        var given: Taken<Float>?
        var labels: Taken<Int32>?
        if case .given(let pointer, let stride) = outcome {
            given = try call.input(
                pointer, Strides(rows: cells, columns: taken.classes, stride: stride, of: "logits_gradient"))
        }
        if case .labels(let pointer, _) = outcome {
            labels = try call.input(pointer, Strides(count: cells, of: "labels"))
        }
        let takenGradients =
            gradients == nil
            ? nil
            : try TakenClassifierGradients(
                fastloss_classifier_gradients.read(gradients), of: taken, cells: cells, call)
        var logits: Taken<Float>?
        if case .predict(let pointer, let stride) = outcome {
            logits = try call.output(
                pointer, Strides(rows: cells, columns: taken.classes, stride: stride, of: "logits"))
        }
        return try call.runHead { (layout) throws(LossError) in
            var loss: ClassifierLoss?
            if let given { loss = .given(call.elements(given)) }
            if let labels, case .labels(_, let crossEntropy) = outcome {
                loss = .labels(call.elements(labels), crossEntropy)
            }
            return try ClassifierPlan(
                ClassifierOptions(
                    name: isDiscriminator ? "AdversarialDiscriminator" : "CellTypeDecoder",
                    width: Int(taken.width), classes: Int(taken.classes),
                    activation: isDiscriminator ? .leakyReLU : .relu),
                cellEmbeddings: call.elements(embeddings), cells: Int(clamping: cells),
                parameters: taken.parameters, loss: loss, logits: call.optionalBuffer(logits),
                gradients: takenGradients?.buffers(cellFactor: -Double(lambda ?? -1), call),
                gradientScale: takenGradients?.scale ?? 1, in: &layout)
        }
    }
}

// MARK: - The decoder of cell types

@c @implementation
public func fastloss_cell_type_decoder_predict(
    _ decoder: UnsafePointer<fastloss_classifier>?, _ cells: Int64, _ cellEmbeddings: UnsafePointer<Float>?,
    _ cellEmbeddingsStride: Int64, _ logits: UnsafeMutablePointer<Float>?, _ logitsStride: Int64,
    _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        _ = try ClassifierCall(
            classifier: decoder, lambda: nil, cells: cells, cellEmbeddings: cellEmbeddings,
            stride: cellEmbeddingsStride
        ).run(.predict(logits, logitsStride), nil, call)
    }
}

@c @implementation
public func fastloss_cell_type_decoder_gradient(
    _ decoder: UnsafePointer<fastloss_classifier>?, _ cells: Int64, _ cellEmbeddings: UnsafePointer<Float>?,
    _ cellEmbeddingsStride: Int64, _ logitsGradient: UnsafePointer<Float>?, _ logitsGradientStride: Int64,
    _ gradients: UnsafePointer<fastloss_classifier_gradients>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        _ = try ClassifierCall(
            classifier: decoder, lambda: nil, cells: cells, cellEmbeddings: cellEmbeddings,
            stride: cellEmbeddingsStride
        ).run(.given(logitsGradient, logitsGradientStride), required(gradients, "gradients"), call)
    }
}

@c @implementation
public func fastloss_cell_type_decoder_loss(
    _ decoder: UnsafePointer<fastloss_classifier>?, _ cells: Int64, _ cellEmbeddings: UnsafePointer<Float>?,
    _ cellEmbeddingsStride: Int64, _ labels: UnsafePointer<Int32>?,
    _ options: UnsafePointer<fastloss_cross_entropy_options>?,
    _ gradients: UnsafePointer<fastloss_classifier_gradients>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try CrossEntropyOptions(options)
        try options.logits.checkIsFloat("options.logits")
        loss.pointee = fastloss_loss_value(
            try ClassifierCall(
                classifier: decoder, lambda: nil, cells: cells, cellEmbeddings: cellEmbeddings,
                stride: cellEmbeddingsStride
            ).run(.labels(labels, options.loss), gradients, call))
    }
}

// MARK: - The discriminator of batches

@c @implementation
public func fastloss_adversarial_discriminator_predict(
    _ discriminator: UnsafePointer<fastloss_classifier>?, _ cells: Int64,
    _ cellEmbeddings: UnsafePointer<Float>?, _ cellEmbeddingsStride: Int64,
    _ logits: UnsafeMutablePointer<Float>?, _ logitsStride: Int64, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        _ = try ClassifierCall(
            classifier: discriminator, lambda: nil, cells: cells, cellEmbeddings: cellEmbeddings,
            stride: cellEmbeddingsStride, isDiscriminator: true
        ).run(.predict(logits, logitsStride), nil, call)
    }
}

@c @implementation
public func fastloss_adversarial_discriminator_gradient(
    _ discriminator: UnsafePointer<fastloss_classifier>?, _ lambda: Float, _ cells: Int64,
    _ cellEmbeddings: UnsafePointer<Float>?, _ cellEmbeddingsStride: Int64,
    _ logitsGradient: UnsafePointer<Float>?, _ logitsGradientStride: Int64,
    _ gradients: UnsafePointer<fastloss_classifier_gradients>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        _ = try ClassifierCall(
            classifier: discriminator, lambda: lambda, cells: cells, cellEmbeddings: cellEmbeddings,
            stride: cellEmbeddingsStride, isDiscriminator: true
        ).run(.given(logitsGradient, logitsGradientStride), required(gradients, "gradients"), call)
    }
}

@c @implementation
public func fastloss_adversarial_discriminator_loss(
    _ discriminator: UnsafePointer<fastloss_classifier>?, _ cells: Int64,
    _ cellEmbeddings: UnsafePointer<Float>?, _ cellEmbeddingsStride: Int64, _ labels: UnsafePointer<Int32>?,
    _ options: UnsafePointer<fastloss_domain_adversarial_options>?,
    _ gradients: UnsafePointer<fastloss_classifier_gradients>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try fastloss_domain_adversarial_options.read(options)
        let crossEntropy = CrossEntropy(
            ignoredLabel: options.ignored_label, reduction: try LossReduction(options.reduction),
            whenEmpty: try EmptySelectionRule(options.when_empty))
        loss.pointee = fastloss_loss_value(
            try ClassifierCall(
                classifier: discriminator, lambda: options.lambda, cells: cells,
                cellEmbeddings: cellEmbeddings, stride: cellEmbeddingsStride, isDiscriminator: true
            ).run(.labels(labels, crossEntropy), gradients, call))
    }
}
