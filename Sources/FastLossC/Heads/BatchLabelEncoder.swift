// The encoder of batch labels in the C interface.

import CFastLoss
import FastLoss
import FastLossHeads

extension fastloss_batch_label_encoder: SizedStruct {
    static var firstSize: Int { 48 }
    static var name: String { "fastloss_batch_label_encoder" }
}

extension fastloss_batch_label_encoder_gradients: SizedStruct {
    static var firstSize: Int { 40 }
    static var name: String { "fastloss_batch_label_encoder_gradients" }
    mutating func setDefaults() { scale = 1 }
}

extension Call {
    fileprivate func encoder(
        _ encoder: fastloss_batch_label_encoder
    ) throws(CallError) -> LabelEncoderParameters {
        let width = encoder.width
        try checkHeadSize("labelCount", encoder.label_count)
        try checkHeadSize("width", width)
        let table = try input(
            encoder.embedding,
            Strides(rows: encoder.label_count, columns: width, stride: width, of: "embedding"))
        return LabelEncoderParameters(
            labels: Int(encoder.label_count), width: Int(width), table: elements(table).baseAddress,
            norm: LayerNormParameters(
                weight: try memory(encoder.enc_norm.weight, count: width, "enc_norm.weight"),
                bias: try memory(encoder.enc_norm.bias, count: width, "enc_norm.bias")))
    }

    fileprivate func gradients(
        _ gradients: fastloss_batch_label_encoder_gradients, of encoder: fastloss_batch_label_encoder,
        _ update: GradientUpdate
    ) throws(CallError) -> LabelEncoderGradients {
        let width = encoder.width
        var table: UnsafeMutablePointer<Float>?
        if gradients.embedding != nil {
            let strides = Strides(
                rows: encoder.label_count, columns: width, stride: width, of: "gradients.embedding")
            table = buffer(try output(gradients.embedding, strides, update: update)).baseAddress
        }
        return LabelEncoderGradients(
            table: table,
            norm: LayerNormGradients(
                weight: try memory(
                    gradients.enc_norm.weight, count: width, "gradients.enc_norm.weight", update),
                bias: try memory(
                    gradients.enc_norm.bias, count: width, "gradients.enc_norm.bias", update)))
    }
}

@c @implementation
public func fastloss_batch_label_encoder_embed(
    _ encoder: UnsafePointer<fastloss_batch_label_encoder>?, _ rows: Int64, _ labels: UnsafePointer<Int32>?,
    _ embeddings: UnsafeMutablePointer<Float>?, _ embeddingsStride: Int64, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let encoder = try fastloss_batch_label_encoder.read(required(encoder, "encoder"))
        let parameters = try call.encoder(encoder)
        let labels = try call.input(labels, Strides(count: rows, of: "labels"))
        let embeddings = try call.output(
            embeddings,
            Strides(rows: rows, columns: encoder.width, stride: embeddingsStride, of: "embeddings"))
        try call.runHead { (layout) throws(LossError) in
            try LabelEncoderPlan(
                parameters, labels: call.elements(labels), embeddings: call.buffer(embeddings), in: &layout)
        }
    }
}

@c @implementation
public func fastloss_batch_label_encoder_gradient(
    _ encoder: UnsafePointer<fastloss_batch_label_encoder>?, _ rows: Int64, _ labels: UnsafePointer<Int32>?,
    _ embeddingsGradient: UnsafePointer<Float>?, _ embeddingsGradientStride: Int64,
    _ gradients: UnsafePointer<fastloss_batch_label_encoder_gradients>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let encoder = try fastloss_batch_label_encoder.read(required(encoder, "encoder"))
        let gradients = try fastloss_batch_label_encoder_gradients.read(required(gradients, "gradients"))
        let update = try GradientUpdate(gradients.update, of: "gradients")
        let parameters = try call.encoder(encoder)
        let labels = try call.input(labels, Strides(count: rows, of: "labels"))
        let embeddingsGradient = try call.input(
            embeddingsGradient,
            Strides(
                rows: rows, columns: encoder.width, stride: embeddingsGradientStride,
                of: "embeddings_gradient"))
        let places = try call.gradients(gradients, of: encoder, update)
        try call.runHead { (layout) throws(LossError) in
            try LabelEncoderGradientPlan(
                parameters, labels: call.elements(labels),
                embeddingsGradient: call.elements(embeddingsGradient), into: places, scale: gradients.scale,
                update: update, in: &layout)
        }
    }
}
