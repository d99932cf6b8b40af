// The masked reductions and unweighted token pooling of the C interface.

import CFastLoss
import FastLoss

// MARK: - Masked reductions

extension MaskedReductions {
    fileprivate init(_ options: UnsafePointer<fastloss_masked_options>?) throws(CallError) {
        let options = try MaskedOptions(options)
        try options.predictions.checkIsFloat("options.predictions")
        self.init(reduction: options.reduction, whenEmpty: options.whenEmpty)
    }
}

@c @implementation
public func fastloss_masked_reductions(
    _ rows: Int64, _ columns: Int64, _ maskCount: Int64, _ values: UnsafePointer<Float>?,
    _ valuesStride: Int64, _ masks: UnsafePointer<Bool>?, _ masksStride: Int64,
    _ options: UnsafePointer<fastloss_masked_options>?, _ outputs: UnsafeMutablePointer<Float>?,
    _ outputsStride: Int64, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let reductions = try MaskedReductions(options)
        let values = try call.input(
            values, Strides(rows: rows, columns: columns, stride: valuesStride, of: "values"))
        let masks = try call.input(
            masks, Strides(rows: maskCount, columns: columns, stride: masksStride, of: "masks"))
        let outputs = try call.output(
            outputs, Strides(rows: rows, columns: maskCount, stride: outputsStride, of: "outputs"))
        try call.run { (layout) throws(LossError) in
            try MaskedReductions.ValuePlan(
                reductions, values: call.span(values), masks: call.span(masks),
                shape: MatrixShape(rows: Int(rows), columns: Int(columns)), maskCount: Int(maskCount),
                outputs: call.buffer(outputs), in: &layout)
        }
    }
}

@c @implementation
public func fastloss_masked_reductions_gradient(
    _ rows: Int64, _ columns: Int64, _ maskCount: Int64, _ outputGradient: UnsafePointer<Float>?,
    _ outputGradientStride: Int64, _ masks: UnsafePointer<Bool>?, _ masksStride: Int64,
    _ options: UnsafePointer<fastloss_masked_options>?, _ gradient: UnsafePointer<fastloss_gradient>?,
    _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let reductions = try MaskedReductions(options)
        let outputGradient = try call.input(
            outputGradient,
            Strides(rows: rows, columns: maskCount, stride: outputGradientStride, of: "output_gradient"))
        let masks = try call.input(
            masks, Strides(rows: maskCount, columns: columns, stride: masksStride, of: "masks"))
        let gradient = try required(try call.gradient(gradient, rows: rows, columns: columns), "gradient")
        try call.run { (layout) throws(LossError) in
            try MaskedReductions.GradientPlan(
                reductions, outputGradient: call.span(outputGradient), masks: call.span(masks),
                shape: MatrixShape(rows: Int(rows), columns: Int(columns)), maskCount: Int(maskCount),
                into: call.output(gradient), in: &layout)
        }
    }
}

// MARK: - Token pooling

extension TokenPooling {
    fileprivate init(_ pooling: fastloss_pooling) throws(CallError) {
        switch Int(pooling) {
        case FASTLOSS_POOLING_CLS: self = .cls
        case FASTLOSS_POOLING_AVERAGE: self = .average
        default: throw .invalidEnumeration(name: "pooling", value: pooling)
        }
    }
}

extension TokenShape {
    /// The sides from C, unchecked. The call that uses the shape checks them.
    init(_ cells: Int64, _ tokens: Int64, _ width: Int64) {
        self.init(cells: Int(clamping: cells), tokens: Int(clamping: tokens), width: Int(clamping: width))
    }
}

@c @implementation
public func fastloss_token_pooling(
    _ pooling: fastloss_pooling, _ cells: Int64, _ tokens: Int64, _ width: Int64,
    _ states: UnsafePointer<Float>?, _ tokenStride: Int64, _ cellStride: Int64,
    _ embeddings: UnsafeMutablePointer<Float>?, _ embeddingsStride: Int64, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let pooling = try TokenPooling(pooling)
        var shape = TokenShape(cells, tokens, width)
        let strides = Strides(shape, tokenStride: tokenStride, cellStride: cellStride, of: "states")
        let taken: Taken<Float>
        if pooling == .cls && tokens > 1 {
            // Pack the first tokens only.
            taken = try call.firstTokens(states, strides)
            shape.tokens = 1
        } else {
            taken = try call.input(states, strides)
        }
        let embeddings = try call.output(
            embeddings, Strides(rows: cells, columns: width, stride: embeddingsStride, of: "embeddings"))
        try call.run { (layout) throws(LossError) in
            try TokenPooling.ValuePlan(
                pooling, states: call.span(taken), shape: shape, embeddings: call.buffer(embeddings),
                in: &layout)
        }
    }
}

@c @implementation
public func fastloss_token_pooling_gradient(
    _ pooling: fastloss_pooling, _ cells: Int64, _ tokens: Int64, _ width: Int64,
    _ embeddingGradient: UnsafePointer<Float>?, _ embeddingGradientStride: Int64,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let pooling = try TokenPooling(pooling)
        let shape = TokenShape(cells, tokens, width)
        let embeddingGradient = try call.input(
            embeddingGradient,
            Strides(rows: cells, columns: width, stride: embeddingGradientStride, of: "embedding_gradient"))
        let gradient = try call.gradient(gradient, shape)
        try call.run { (layout) throws(LossError) in
            try TokenPooling.GradientPlan(
                pooling, embeddingGradient: call.span(embeddingGradient), shape: shape,
                into: call.output(gradient), in: &layout)
        }
    }
}
