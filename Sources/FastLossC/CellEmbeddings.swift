// The losses of cell embeddings in the C interface: elastic cell similarity, contrastive cell embedding, and
// the cosine similarities.

import CFastLoss
import FastLoss

// MARK: - Options

/// The options of elastic cell similarity.
struct ElasticOptions {
    let loss: ElasticCellSimilarity
    /// The type of embeddings and gradient.
    let embeddings: ElementType
    /// Receives the number of certified pairs; nil if it is not wanted.
    private let certifiedPairs: UnsafeMutablePointer<Int64>?

    init(_ pointer: UnsafePointer<fastloss_elastic_options>?) throws(CallError) {
        let options = try fastloss_elastic_options.read(pointer)
        loss = ElasticCellSimilarity(
            threshold: options.threshold, whenEmpty: try EmptySelectionRule(options.when_empty),
            certificate: try ElasticCellSimilarity.Certificate(options.certificate, "options.certificate"))
        embeddings = try ElementType(options.embeddings, "options.embeddings")
        try checkReserved(options.reserved, "options.reserved")
        try checkReserved(options.reserved_last, "options.reserved_last")
        certifiedPairs = options.certified_pairs
        if let certifiedPairs { try checkAlignment(UnsafePointer(certifiedPairs), "options.certified_pairs") }
    }

    /// Writes a result to the caller's memory.
    func write(_ value: LossValue, to loss: UnsafeMutablePointer<fastloss_loss_value>) {
        loss.pointee = fastloss_loss_value(value)
        certifiedPairs?.pointee = Int64(value.certifiedPairs)
    }
}

/// The options of contrastive cell embedding.
struct ContrastiveOptions {
    let loss: ContrastiveCellEmbedding
    /// The type of both embeddings and gradients.
    let embeddings: ElementType

    init(_ pointer: UnsafePointer<fastloss_contrastive_options>?) throws(CallError) {
        let options = try fastloss_contrastive_options.read(pointer)
        loss = ContrastiveCellEmbedding(
            temperature: options.temperature, whenEmpty: try EmptySelectionRule(options.when_empty))
        embeddings = try ElementType(options.embeddings, "options.embeddings")
        try checkReserved(options.reserved, "options.reserved")
    }
}

// MARK: - Calls

@c @implementation
public func fastloss_elastic_cell_similarity(
    _ rows: Int64, _ columns: Int64, _ embeddings: UnsafePointer<Float>?, _ embeddingsStride: Int64,
    _ options: UnsafePointer<fastloss_elastic_options>?, _ gradient: UnsafePointer<fastloss_gradient>?,
    _ workspace: OpaquePointer?, _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try ElasticOptions(options)
        let embeddings = try call.input(
            embeddings, Strides(rows: rows, columns: columns, stride: embeddingsStride, of: "embeddings"),
            options.embeddings)
        let gradient = try call.gradient(gradient, rows: rows, columns: columns, type: options.embeddings)
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        options.write(
            try call.run { (layout) throws(LossError) in
                try ElasticCellSimilarity.Plan(
                    options.loss, embeddings: call.elements(embeddings), shape: shape,
                    into: call.output(gradient), in: &layout)
            }, to: loss)
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
        let options = try ContrastiveOptions(options)
        let type = options.embeddings
        let first = try call.input(
            first, Strides(rows: rows, columns: columns, stride: firstStride, of: "first"), type)
        let second = try call.input(
            second, Strides(rows: rows, columns: columns, stride: secondStride, of: "second"), type)
        let firstGradient = try call.gradient(
            firstGradient, rows: rows, columns: columns, named: "first_gradient", type: type)
        let secondGradient = try call.gradient(
            secondGradient, rows: rows, columns: columns, named: "second_gradient", type: type)
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                try ContrastiveCellEmbedding.Plan(
                    options.loss, first: call.elements(first), second: call.elements(second), shape: shape,
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
