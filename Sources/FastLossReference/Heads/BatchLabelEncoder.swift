// From batch labels to the embeddings that the decoders concatenate.

extension Reference {
    /// One embedding per cell from the cell's batch label: LayerNorm(embedding_label).
    ///
    /// | array | state dict | shape |
    /// |---|---|---|
    /// | `embedding` | `embedding.weight` | batches × D |
    /// | `norm` | `enc_norm.weight`, `.bias` | D |
    ///
    /// Source: scGPT `BatchLabelEncoder`; its `GeneEncoder`, which makes the gene embeddings of
    /// `MaskedValueDecoder`, is the same function of gene identifiers.
    public enum BatchLabelEncoder {
        /// The table and the normalisation.
        public struct Parameters<T: ReferenceScalar>: HeadParameters {
            /// One row per batch.
            public var embedding: Embedding<T>
            /// Applied to the row of each cell.
            public var norm: LayerNorm<T>

            /// Parameters that are all zero.
            @inlinable
            public init(batches: Int, width: Int) {
                embedding = Embedding(count: batches, width: width)
                norm = LayerNorm(width: width)
            }

            @inlinable
            public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
                arrays(named: "embedding", of: \.embedding) + arrays(named: "enc_norm", of: \.norm)
            }
        }

        /// The embeddings, `labels.count` × D.
        @inlinable
        public static func value<T: ReferenceScalar>(parameters: Parameters<T>, labels: [Int32]) -> [T] {
            parameters.norm.value(input: parameters.embedding.value(indices: labels))
        }

        /// Carries a gradient of the embeddings back to the parameters; a batch without cells has the
        /// gradient zero.
        @inlinable
        public static func gradients<T: ReferenceScalar>(
            outputGradient: [T], parameters: Parameters<T>, labels: [Int32]
        ) -> Parameters<T> {
            var gradients = parameters
            var rows: [T]
            (gradients.norm, rows) = parameters.norm.gradients(
                outputGradient: outputGradient, input: parameters.embedding.value(indices: labels))
            gradients.embedding = parameters.embedding.gradient(outputGradient: rows, indices: labels)
            return gradients
        }
    }
}
