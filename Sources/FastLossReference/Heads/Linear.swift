// The fully connected layer that every head is made of.

extension Reference {
    /// A fully connected layer, applied to each row x_r.
    ///
    ///     y_r = W x_r + b
    ///     dx_r = Wᵀ dy_r        dW = Σ_r dy_r x_rᵀ        db = Σ_r dy_r
    ///
    /// Source: PyTorch `Linear`.
    public struct Linear<T: ReferenceScalar>: HeadParameters {
        /// Elements of an input row.
        public let inputWidth: Int
        /// Elements of an output row.
        public let outputWidth: Int
        /// W, `outputWidth` × `inputWidth`.
        public var weight: [T]
        /// b, `outputWidth` elements; nil in a layer without bias.
        public var bias: [T]?

        /// A layer whose parameters are all zero.
        @inlinable
        public init(inputWidth: Int, outputWidth: Int, hasBias: Bool = true) {
            self.inputWidth = inputWidth
            self.outputWidth = outputWidth
            weight = [T](repeating: 0, count: outputWidth * inputWidth)
            bias = hasBias ? [T](repeating: 0, count: outputWidth) : nil
        }

        @inlinable
        public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
            bias == nil ? [("weight", \.weight)] : [("weight", \.weight), ("bias", \.bias!)]
        }

        /// The output of every row of `input`.
        @inlinable
        public func value(input x: [T]) -> [T] {
            let rows = rowCount(x.count, width: inputWidth)
            var y = [T](repeating: 0, count: rows * outputWidth)
            for r in 0..<rows {
                for j in 0..<outputWidth {
                    var sum: T = 0
                    for i in 0..<inputWidth { sum += weight[j * inputWidth + i] * x[r * inputWidth + i] }
                    y[r * outputWidth + j] = sum + (bias?[j] ?? 0)
                }
            }
            return y
        }

        /// Carries a gradient of the output back to the parameters and to the input.
        @inlinable
        public func gradients(outputGradient dy: [T], input x: [T]) -> (parameters: Self, input: [T]) {
            let rows = rowCount(x.count, width: inputWidth)
            precondition(dy.count == rows * outputWidth)
            var parameters = Linear(inputWidth: inputWidth, outputWidth: outputWidth, hasBias: bias != nil)
            var dx = [T](repeating: 0, count: rows * inputWidth)
            for r in 0..<rows {
                for j in 0..<outputWidth {
                    let g = dy[r * outputWidth + j]
                    for i in 0..<inputWidth {
                        parameters.weight[j * inputWidth + i] += g * x[r * inputWidth + i]
                        dx[r * inputWidth + i] += weight[j * inputWidth + i] * g
                    }
                    parameters.bias?[j] += g
                }
            }
            return (parameters, dx)
        }
    }
}
