// The classifier of cells by their embedding (CLS).

extension Reference {
    /// Logits of a cell's type from its embedding c, B × D.
    ///
    ///     logits = out_layer(block_n(… block_1(c)))        block = LayerNorm(relu(Linear(x)))
    ///
    /// The parameters are those of `NormalizedClassifier`.
    ///
    /// Source: scGPT `ClsDecoder`.
    public enum CellTypeDecoder {
        /// The logits, B × classes.
        @inlinable
        public static func value<T: ReferenceScalar>(
            parameters: NormalizedClassifier<T>, cellEmbeddings: [T]
        ) -> [T] {
            parameters.value(input: cellEmbeddings, activation: .relu)
        }

        /// Carries a gradient of the logits back to the parameters and to the cell embeddings.
        @inlinable
        public static func gradients<T: ReferenceScalar>(
            logitsGradient: [T], parameters: NormalizedClassifier<T>, cellEmbeddings: [T]
        ) -> (parameters: NormalizedClassifier<T>, cellEmbeddings: [T]) {
            let (parameters, input) = parameters.gradients(
                outputGradient: logitsGradient, input: cellEmbeddings, activation: .relu)
            return (parameters, input)
        }
    }
}
