// The embedding of each cell's batch, given once for each distinct batch.

import FastLoss

/// Embeddings and labels as spans.
public typealias BatchEmbeddings = BatchEmbeddingFields<Span<Float>, Span<Int32>>

/// Embeddings and labels as arrays, which may be stored anywhere.
public typealias BatchEmbeddingArrays = BatchEmbeddingFields<[Float], [Int32]>

/// One embedding for each of K batches, and the batch of each cell.
///
/// scGPT repeats the embedding for every token, B·L·D numbers. Here each is given once: a decoder then
/// multiplies it once per batch, and not once per token. Its forms are ``BatchEmbeddings`` and
/// ``BatchEmbeddingArrays``.
public struct BatchEmbeddingFields<Floats: ~Escapable, Labels: ~Escapable>: ~Escapable {
    /// K·D values, such as the output of ``BatchLabelEncoder``.
    public var embeddings: Floats
    /// B labels in 0..<K.
    public var labels: Labels

    /// Embeddings and labels. The call that uses them checks their counts.
    @_lifetime(copy embeddings, copy labels)
    public init(embeddings: consuming Floats, labels: consuming Labels) {
        self.embeddings = embeddings
        self.labels = labels
    }
}

extension BatchEmbeddingFields: Escapable where Floats: Escapable, Labels: Escapable {}
extension BatchEmbeddingFields: Sendable
where Floats: Sendable & ~Escapable, Labels: Sendable & ~Escapable {}

/// The memory of batch embeddings.
package typealias BatchEmbeddingBuffers = BatchEmbeddingFields<
    ModelElements, UnsafeBufferPointer<Int32>
>

extension BatchEmbeddingFields where Floats: ~Escapable, Labels == Span<Int32> {
    /// The memory of the spans, under the rule of `Span.memory`.
    func buffers<Element: ModelOutputElement>() -> BatchEmbeddingBuffers where Floats == Span<Element> {
        BatchEmbeddingBuffers(embeddings: ModelElements(embeddings), labels: labels.memory)
    }
}

extension BatchEmbeddingFields<[Float], [Int32]> {
    /// The memory of the arrays.
    func buffers() -> BatchEmbeddingBuffers {
        BatchEmbeddingBuffers(embeddings: ModelElements(embeddings.span), labels: labels.span.memory)
    }
}

/// The memory of batch embeddings, checked.
struct CheckedBatches {
    /// K × D.
    let embeddings: ModelMatrix
    let labels: UnsafePointer<Int32>

    /// Throws unless batches are given exactly if they are wanted, and fit.
    static func check(
        _ batches: BatchEmbeddingBuffers?, wanted: Bool, cells: Int, width: Int
    ) throws(LossError) -> CheckedBatches? {
        guard wanted else {
            guard batches == nil else {
                throw .invalidInput(
                    argument: "batches", requirement: "nil for a decoder without batch embeddings")
            }
            return nil
        }
        guard let batches else {
            throw .invalidInput(
                argument: "batches", requirement: "given to a decoder with batch embeddings")
        }
        return try CheckedBatches(batches, cells: cells, width: width)
    }

    /// Throws unless there are K·`width` elements, and a label in 0..<K for each cell.
    private init(_ batches: BatchEmbeddingBuffers, cells: Int, width: Int) throws(LossError) {
        let count = width == 0 ? 0 : batches.embeddings.count / width
        try checkCount("batches.embeddings", batches.embeddings.count, is: count * width)
        try checkCount("batches.labels", batches.labels.count, is: cells)
        try checkIndices("batches.labels", batches.labels, below: count)
        embeddings = ModelMatrix(batches.embeddings, rows: count, columns: width)
        labels = pointer(batches.labels)
    }
}
