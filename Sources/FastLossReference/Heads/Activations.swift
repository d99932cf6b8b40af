// The functions between the layers of the heads, each with its gradient.

extension Reference {
    /// A function applied to each element that has no parameters.
    ///
    /// At the kink, the derivative is the one from below: 0 for `relu`, the slope for `leakyReLU`.
    public enum Activation: Sendable, CaseIterable {
        /// max(x, 0).
        case relu
        /// x where x > 0, and 0.01·x elsewhere: PyTorch's default slope.
        case leakyReLU
        /// 1 / (1 + exp(−x)).
        case sigmoid

        /// The function of every element.
        @inlinable
        public func value<T: ReferenceScalar>(input: [T]) -> [T] {
            switch self {
            // The comparison lets a NaN through where `max` might not.
            case .relu: input.map { $0 <= 0 ? 0 : $0 }
            case .leakyReLU: input.map { $0 > 0 ? $0 : 0.01 * $0 }
            case .sigmoid: input.map { 1 / (1 + T.exp(-$0)) }
            }
        }

        /// Carries a gradient of the output back to the input.
        @inlinable
        public func gradient<T: ReferenceScalar>(outputGradient: [T], input: [T]) -> [T] {
            precondition(outputGradient.count == input.count)
            switch self {
            case .relu: return zip(outputGradient, input).map { $1 <= 0 ? 0 : $0 }
            case .leakyReLU: return zip(outputGradient, input).map { $1 > 0 ? $0 : 0.01 * $0 }
            case .sigmoid: return zip(outputGradient, value(input: input)).map { $0 * $1 * (1 - $1) }
            }
        }
    }

    /// The leaky rectifier whose slope a is a parameter, one for all columns.
    ///
    ///     y = x where x > 0, a·x elsewhere        dx = dy, or a·dy        da = Σ x·dy where x ≤ 0
    ///
    /// Source: PyTorch `PReLU`, which starts with a = 0.25.
    public struct PReLU<T: ReferenceScalar>: HeadParameters {
        /// a, one element.
        public var weight: [T]

        /// A layer with the slope 0.
        @inlinable
        public init() { weight = [0] }

        @inlinable
        public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] { [("weight", \.weight)] }

        /// The function of every element.
        @inlinable
        public func value(input: [T]) -> [T] { input.map { $0 > 0 ? $0 : weight[0] * $0 } }

        /// Carries a gradient of the output back to the slope and to the input.
        @inlinable
        public func gradients(outputGradient dy: [T], input x: [T]) -> (parameters: Self, input: [T]) {
            precondition(dy.count == x.count)
            var parameters = PReLU()
            var dx = dy
            for k in x.indices where !(x[k] > 0) {
                parameters.weight[0] += x[k] * dy[k]
                dx[k] = weight[0] * dy[k]
            }
            return (parameters, dx)
        }
    }
}
