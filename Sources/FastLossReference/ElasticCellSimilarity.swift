// Elastic cell similarity (ECS): pushes similar cells together and leaves dissimilar ones alone.

extension Reference {
    /// Elastic cell similarity of B cell embeddings.
    ///
    ///     C_ij = relu(S_ij) off the diagonal, 0 on it        L = Σ_ij (1 − (C_ij − β)²) / B²
    ///     G_ij = −2 (C_ij − β) 1[i ≠ j, S_ij > 0] / B²       dN_i = 2 Σ_j G_ij N_j
    ///
    /// with S the cosine similarities, N the normalised rows and β the threshold. The denominator counts the
    /// diagonal: each diagonal element and each pair that is not positive contributes 1 − β².
    ///
    /// Complexity: O(B²·D) time, O(B² + B·D) memory.
    ///
    /// Source: scGPT `TransformerModel`, `loss_ecs`, over PyTorch `normalize`.
    public enum ElasticCellSimilarity {
        /// A value with its gradient, and the yardstick for the gradient's error.
        public struct Evaluation<T: ReferenceScalar>: Sendable {
            /// The loss.
            public let value: T
            /// The gradient with respect to the embeddings, row-major.
            public let gradient: [T]
            /// ‖dN_i‖ / max(‖E_i‖, floor) of every row: the gradient's size before the normalisation's
            /// projection, which may cancel most of it.
            public let normsBeforeProjection: [T]

            @inlinable
            init(value: T, gradient: [T], normsBeforeProjection: [T]) {
                self.value = value
                self.gradient = gradient
                self.normsBeforeProjection = normsBeforeProjection
            }
        }

        /// The loss.
        @inlinable
        public static func value<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, threshold: T, floor: T = 1e-12
        ) -> T {
            let similarities = CosineSimilarity.matrix(
                embeddings: embeddings, rows: rows, columns: columns, floor: floor)
            return value(similarities: similarities, rows: rows, threshold: threshold)
        }

        /// The loss, and its gradient with respect to the embeddings.
        @inlinable
        public static func valueAndGradient<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, threshold: T, floor: T = 1e-12,
            gradientScale: T = 1, gradient: inout [T]
        ) -> T {
            precondition(gradient.count == rows * columns)
            let evaluation = evaluate(
                embeddings: embeddings, rows: rows, columns: columns, threshold: threshold, floor: floor,
                gradientScale: gradientScale)
            gradient = evaluation.gradient
            return evaluation.value
        }

        /// The loss with its gradient and the gradient's size before the projection.
        @inlinable
        public static func evaluate<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, threshold: T, floor: T = 1e-12, gradientScale: T = 1
        ) -> Evaluation<T> {
            let (normalized, norms) = CosineSimilarity.normalizedRows(
                embeddings: embeddings, rows: rows, columns: columns, floor: floor)
            let similarities = CosineSimilarity.matrix(
                normalizedFirst: normalized, firstRows: rows, normalizedSecond: normalized, secondRows: rows,
                columns: columns)

            let factor = -4 * gradientScale / T(rows * rows)
            var normalizedGradient = [T](repeating: 0, count: rows * columns)
            for i in 0..<rows {
                for j in 0..<rows where j != i && !(similarities[i * rows + j] <= 0) {
                    let pair = factor * (similarities[i * rows + j] - threshold)
                    for d in 0..<columns {
                        normalizedGradient[i * columns + d] += pair * normalized[j * columns + d]
                    }
                }
            }

            var gradient = [T](repeating: 0, count: rows * columns)
            let normsBeforeProjection = CosineSimilarity.gradientThroughNormalization(
                normalizedGradient: normalizedGradient, embeddings: embeddings, normalized: normalized,
                norms: norms, columns: columns, floor: floor, belowFloor: .constantDenominator,
                gradient: &gradient)
            return Evaluation(
                value: value(similarities: similarities, rows: rows, threshold: threshold),
                gradient: gradient, normsBeforeProjection: normsBeforeProjection)
        }

        /// The same from D×D sums, if no similarity is negative: relu does nothing there.
        ///
        ///     G = NᵀN,  s = Σ_i N_i        Σ_ij (S_ij − β)² = ‖G‖² − 2β‖s‖² + β²B²
        ///     Σ_j (S_ij − β) N_j = N_i·G − β·s
        ///
        /// The diagonal counts β² instead of (S_ii − β)² and has no gradient. Two batches whose similarities
        /// with each other are not negative have ⟨G₁, G₂⟩, s₁·s₂ and B₁·B₂ instead.
        ///
        /// Complexity: O(B·D²) time, O(B·D + D²) memory.
        @inlinable
        public static func evaluateInClosedForm<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, threshold: T, floor: T = 1e-12, gradientScale: T = 1
        ) -> Evaluation<T> {
            let (normalized, norms) = CosineSimilarity.normalizedRows(
                embeddings: embeddings, rows: rows, columns: columns, floor: floor)
            var products = [T](repeating: 0, count: columns * columns)
            var total = [T](repeating: 0, count: columns)
            var diagonal: T = 0
            var squares = [T](repeating: 0, count: rows)
            for i in 0..<rows {
                let row = normalized[i * columns..<(i + 1) * columns]
                for (k, x) in row.enumerated() {
                    total[k] += x
                    squares[i] += x * x
                    for (l, y) in row.enumerated() { products[k * columns + l] += x * y }
                }
                diagonal += (squares[i] - threshold) * (squares[i] - threshold) - threshold * threshold
            }
            let count = T(rows * rows)
            let squaredProducts: T = products.reduce(0) { $0 + $1 * $1 }
            let squaredTotal: T = total.reduce(0) { $0 + $1 * $1 }
            let sum =
                squaredProducts - 2 * threshold * squaredTotal + threshold * threshold * count - diagonal

            let factor = -4 * gradientScale / count
            var normalizedGradient = [T](repeating: 0, count: rows * columns)
            for i in 0..<rows {
                for l in 0..<columns {
                    var element = (threshold - squares[i]) * normalized[i * columns + l]
                    for k in 0..<columns {
                        element += normalized[i * columns + k] * products[k * columns + l]
                    }
                    normalizedGradient[i * columns + l] = factor * (element - threshold * total[l])
                }
            }
            var gradient = [T](repeating: 0, count: rows * columns)
            let normsBeforeProjection = CosineSimilarity.gradientThroughNormalization(
                normalizedGradient: normalizedGradient, embeddings: embeddings, normalized: normalized,
                norms: norms, columns: columns, floor: floor, belowFloor: .constantDenominator,
                gradient: &gradient)
            return Evaluation(
                value: 1 - sum / count, gradient: gradient, normsBeforeProjection: normsBeforeProjection)
        }

        /// The loss of a matrix of similarities. The comparison lets a NaN through where `max` might not.
        @inlinable
        static func value<T: ReferenceScalar>(similarities: [T], rows: Int, threshold: T) -> T {
            var sum: T = 0
            for i in 0..<rows {
                for j in 0..<rows {
                    let similarity = similarities[i * rows + j]
                    let positive = i == j || similarity <= 0 ? 0 : similarity
                    sum += 1 - (positive - threshold) * (positive - threshold)
                }
            }
            return sum / T(rows * rows)
        }
    }
}
