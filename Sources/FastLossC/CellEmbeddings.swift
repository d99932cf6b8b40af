// The losses of cell embeddings in the C interface: elastic cell similarity, contrastive cell embedding, and
// the cosine similarities.

import CFastLoss
import FastLoss

@c @implementation
public func fastloss_elastic_cell_similarity(
    _ rows: Int64, _ columns: Int64, _ embeddings: UnsafePointer<Float>?, _ embeddingsStride: Int64,
    _ options: UnsafePointer<fastloss_elastic_options>?, _ gradient: UnsafePointer<fastloss_gradient>?,
    _ workspace: OpaquePointer?, _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try fastloss_elastic_options.read(options)
        let similarity = ElasticCellSimilarity(
            threshold: options.threshold, whenEmpty: try EmptySelectionRule(options.when_empty))
        let embeddings = try call.input(
            embeddings, Strides(rows: rows, columns: columns, stride: embeddingsStride, of: "embeddings"))
        let gradient = try call.gradient(gradient, rows: rows, columns: columns)
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                try ElasticCellSimilarity.Plan(
                    similarity, embeddings: call.span(embeddings), shape: shape, into: call.output(gradient),
                    in: &layout)
            })
    }
}

@c @implementation
public func fastloss_contrastive_cell_embedding(
    _ rows: Int64, _ columns: Int64, _ first: UnsafePointer<Float>?, _ firstStride: Int64,
    _ second: UnsafePointer<Float>?, _ secondStride: Int64,
    _ options: UnsafePointer<fastloss_contrastive_options>?,
    _ firstGradient: UnsafePointer<fastloss_gradient>?, _ secondGradient: UnsafePointer<fastloss_gradient>?,
    _ workspace: OpaquePointer?, _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try fastloss_contrastive_options.read(options)
        let contrastive = ContrastiveCellEmbedding(
            temperature: options.temperature, whenEmpty: try EmptySelectionRule(options.when_empty))
        let first = try call.input(
            first, Strides(rows: rows, columns: columns, stride: firstStride, of: "first"))
        let second = try call.input(
            second, Strides(rows: rows, columns: columns, stride: secondStride, of: "second"))
        let firstGradient = try call.gradient(
            firstGradient, rows: rows, columns: columns, named: "first_gradient")
        let secondGradient = try call.gradient(
            secondGradient, rows: rows, columns: columns, named: "second_gradient")
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                try ContrastiveCellEmbedding.Plan(
                    contrastive, first: call.span(first), second: call.span(second), shape: shape,
                    into: call.output(firstGradient), call.output(secondGradient), in: &layout)
            })
    }
}

@c @implementation
public func fastloss_cosine_similarity(
    _ rows: Int64, _ columns: Int64, _ embeddings: UnsafePointer<Float>?, _ embeddingsStride: Int64,
    _ similarities: UnsafeMutablePointer<Float>?, _ similaritiesStride: Int64, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let embeddings = try call.input(
            embeddings, Strides(rows: rows, columns: columns, stride: embeddingsStride, of: "embeddings"))
        let similarities = try call.output(
            similarities, Strides(rows: rows, columns: rows, stride: similaritiesStride, of: "similarities"))
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        try call.run { (layout) throws(LossError) in
            try CosineSimilarity.Plan(
                embeddings: call.span(embeddings), shape: shape, similarities: call.buffer(similarities),
                in: &layout)
        }
    }
}
