// The classifier of batches that the cell embedding learns to defeat (DAB, DAR).

extension Reference {
    /// Logits of a cell's batch from its embedding c, B × D, behind a gradient reversal.
    ///
    ///     logits = out_layer(block_n(… block_1(c)))        block = LayerNorm(leakyReLU(Linear(x)))
    ///     dc = −λ · (the gradient with respect to the input of block_1)
    ///
    /// The parameters are those of `NormalizedClassifier`; their gradients are not reversed.
    ///
    /// Source: scGPT `AdversarialDiscriminator` with `reverse_grad`, λ = 1.
    public enum AdversarialDiscriminator {
        /// The logits, B × batches.
        @inlinable
        public static func value<T: ReferenceScalar>(
            parameters: NormalizedClassifier<T>, cellEmbeddings: [T]
        ) -> [T] {
            parameters.value(input: cellEmbeddings, activation: .leakyReLU)
        }

        /// Carries a gradient of the logits back to the parameters and, reversed with the strength λ, to the
        /// cell embeddings.
        @inlinable
        public static func gradients<T: ReferenceScalar>(
            logitsGradient: [T], parameters: NormalizedClassifier<T>, cellEmbeddings: [T],
            reversalStrength: T = 1
        ) -> (parameters: NormalizedClassifier<T>, cellEmbeddings: [T]) {
            let (parameters, input) = parameters.gradients(
                outputGradient: logitsGradient, input: cellEmbeddings, activation: .leakyReLU)
            return (parameters, GradientReversal.reversed(gradient: input, strength: reversalStrength))
        }
    }
}
