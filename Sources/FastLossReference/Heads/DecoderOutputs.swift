// What the two decoders of expression values give.

extension Reference {
    /// What a decoder of expression values gives for B × L tokens, or the gradients of a loss with respect to
    /// that.
    public struct DecoderOutputs<T: ReferenceScalar>: Equatable, Sendable {
        /// The predicted values, B × L.
        public var predictions: [T]
        /// The probabilities of a value that is not zero, B × L; nil without explicit zeros.
        public var nonzeroProbabilities: [T]?

        /// Outputs or their gradients.
        @inlinable
        public init(predictions: [T], nonzeroProbabilities: [T]? = nil) {
            self.predictions = predictions
            self.nonzeroProbabilities = nonzeroProbabilities
        }

        @inlinable
        var requiredProbabilities: [T] {
            guard let nonzeroProbabilities else { preconditionFailure("the head has explicit zeros") }
            return nonzeroProbabilities
        }
    }
}
