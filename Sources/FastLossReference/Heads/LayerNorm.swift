// The normalisation of rows in the classifiers and in the encoder of batch labels.

extension Reference {
    /// Layer normalisation of each row of D elements.
    ///
    ///     μ = Σ_i x_i / D        s² = Σ_i (x_i − μ)² / D        n_i = (x_i − μ) / √(s² + ε)
    ///     y_i = w_i n_i + b_i
    ///     dw_i = Σ_rows dy_i n_i        db_i = Σ_rows dy_i
    ///     dn_i = w_i dy_i        dx_i = (dn_i − Σ_j dn_j / D − n_i Σ_j dn_j n_j / D) / √(s² + ε)
    ///
    /// Source: PyTorch `LayerNorm`, with its default of ε.
    public struct LayerNorm<T: ReferenceScalar>: HeadParameters {
        /// D, the elements of a row.
        public let width: Int
        /// ε, which keeps the divisor of a constant row away from zero.
        public let epsilon: T
        /// w, one factor per column.
        public var weight: [T]
        /// b, one summand per column.
        public var bias: [T]

        /// A layer whose parameters are all zero.
        @inlinable
        public init(width: Int, epsilon: T = 1e-5) {
            self.width = width
            self.epsilon = epsilon
            weight = [T](repeating: 0, count: width)
            bias = [T](repeating: 0, count: width)
        }

        @inlinable
        public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
            [("weight", \.weight), ("bias", \.bias)]
        }

        /// The output of every row of `input`.
        @inlinable
        public func value(input x: [T]) -> [T] {
            let (n, _) = normalized(x)
            return n.indices.map { weight[$0 % width] * n[$0] + bias[$0 % width] }
        }

        /// Carries a gradient of the output back to the parameters and to the input.
        @inlinable
        public func gradients(outputGradient dy: [T], input x: [T]) -> (parameters: Self, input: [T]) {
            precondition(dy.count == x.count)
            let (n, deviations) = normalized(x)
            var parameters = LayerNorm(width: width, epsilon: epsilon)
            var dx = x
            for (r, deviation) in deviations.enumerated() {
                var mean: T = 0
                var projection: T = 0
                for i in 0..<width {
                    let k = r * width + i
                    parameters.weight[i] += dy[k] * n[k]
                    parameters.bias[i] += dy[k]
                    mean += weight[i] * dy[k]
                    projection += weight[i] * dy[k] * n[k]
                }
                mean /= T(width)
                projection /= T(width)
                for i in 0..<width {
                    let k = r * width + i
                    dx[k] = (weight[i] * dy[k] - mean - n[k] * projection) / deviation
                }
            }
            return (parameters, dx)
        }

        /// n, and √(s² + ε) of every row.
        @inlinable
        func normalized(_ x: [T]) -> (rows: [T], deviations: [T]) {
            var n = x
            var deviations = [T](repeating: 0, count: rowCount(x.count, width: width))
            for r in deviations.indices {
                let row = r * width..<(r + 1) * width
                let mean = x[row].reduce(0, +) / T(width)
                var squares: T = 0
                for k in row { squares += (x[k] - mean) * (x[k] - mean) }
                deviations[r] = (squares / T(width) + epsilon).squareRoot()
                for k in row { n[k] = (x[k] - mean) / deviations[r] }
            }
            return (n, deviations)
        }
    }
}
