// Gradient reversal: what lets a batch discriminator learn while the cell embedding unlearns the batch.

extension Reference {
    /// Identity on the way forward, −λ times the gradient on the way back.
    ///
    /// The discriminator behind it receives the plain gradient of its loss, the cell embedding before it
    /// receives −λ times the gradient with respect to the discriminator's input.
    ///
    /// Source: Ganin and Lempitsky 2015 (arXiv:1409.7495); scGPT `grad_reverse`, λ = 1.
    public enum GradientReversal {
        /// −λ·g: the gradient that reaches the cell embedding.
        @inlinable
        public static func reversed<T: ReferenceScalar>(gradient: [T], strength: T = 1) -> [T] {
            gradient.map { -strength * $0 }
        }
    }
}
