// Row normalisation, its backward pass, and the matrix of cosine similarities, which ECS and CCE use.

extension Reference {
    /// Cosine similarity between rows: normalise first, then multiply.
    ///
    ///     N_i = E_i / max(‖E_i‖₂, floor)        S_ij = N_i · N_j
    ///
    /// A row of zeros normalises to zeros. Its similarity with every row is 0, itself included.
    ///
    /// Source: PyTorch `normalize` (floor 1e-12, used by ECS) and `cosine_similarity` (floor 1e-8, used by
    /// CCE).
    public enum CosineSimilarity {
        /// How the gradient treats a row whose norm is below the floor.
        public enum BelowFloor: Sendable {
            /// The denominator is the constant floor: dE = dN / floor. PyTorch `normalize`.
            case constantDenominator
            /// The norm's own derivative stays in: dE = (dN − Ê (N·dN)) / floor with Ê = E/‖E‖, or zero for a
            /// row of zeros. PyTorch `cosine_similarity`, whose gradient ignores the clamp.
            case unclampedDirection
        }

        /// The normalised rows, and the rows' norms before they are raised to the floor.
        @inlinable
        public static func normalizedRows<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, floor: T = 1e-12
        ) -> (normalized: [T], norms: [T]) {
            precondition(embeddings.count == rows * columns)
            var normalized = embeddings
            var norms = [T](repeating: 0, count: rows)
            for row in 0..<rows {
                var squares: T = 0
                for i in row * columns..<(row + 1) * columns { squares += embeddings[i] * embeddings[i] }
                norms[row] = squares.squareRoot()
                let denominator = norms[row] < floor ? floor : norms[row]
                for i in row * columns..<(row + 1) * columns { normalized[i] = embeddings[i] / denominator }
            }
            return (normalized, norms)
        }

        /// All similarities between two sets of normalised rows: `firstRows` × `secondRows` values.
        @inlinable
        public static func matrix<T: ReferenceScalar>(
            normalizedFirst: [T], firstRows: Int, normalizedSecond: [T], secondRows: Int, columns: Int
        ) -> [T] {
            precondition(normalizedFirst.count == firstRows * columns)
            precondition(normalizedSecond.count == secondRows * columns)
            var similarities = [T](repeating: 0, count: firstRows * secondRows)
            for i in 0..<firstRows {
                for j in 0..<secondRows {
                    var dot: T = 0
                    for d in 0..<columns {
                        dot += normalizedFirst[i * columns + d] * normalizedSecond[j * columns + d]
                    }
                    similarities[i * secondRows + j] = dot
                }
            }
            return similarities
        }

        /// All similarities between the rows of one matrix: `rows` × `rows` values, the diagonal included.
        @inlinable
        public static func matrix<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, floor: T = 1e-12
        ) -> [T] {
            let (normalized, _) = normalizedRows(
                embeddings: embeddings, rows: rows, columns: columns, floor: floor)
            return matrix(
                normalizedFirst: normalized, firstRows: rows, normalizedSecond: normalized, secondRows: rows,
                columns: columns)
        }

        /// Carries a gradient with respect to the normalised rows back to the rows themselves.
        ///
        ///     dE_i = (dN_i − N_i (N_i · dN_i)) / ‖E_i‖, and below the floor as `belowFloor` says
        ///
        /// The subtraction removes the component along the row and may cancel nearly everything, so the error
        /// of the result is to be judged against what stood there before it: the returned norms,
        /// ‖dN_i‖ / max(‖E_i‖, floor), one per row.
        @inlinable
        public static func gradientThroughNormalization<T: ReferenceScalar>(
            normalizedGradient: [T], embeddings: [T], normalized: [T], norms: [T], columns: Int, floor: T,
            belowFloor: BelowFloor, gradient: inout [T]
        ) -> [T] {
            precondition(gradient.count == embeddings.count && norms.count * columns == embeddings.count)
            return norms.indices.map { row in
                let norm = norms[row]
                let denominator = norm < floor ? floor : norm
                var along: T = 0
                var squares: T = 0
                for i in row * columns..<(row + 1) * columns {
                    along += normalized[i] * normalizedGradient[i]
                    squares += normalizedGradient[i] * normalizedGradient[i]
                }
                let projects = !(norm < floor) || (belowFloor == .unclampedDirection && norm > 0)
                for i in row * columns..<(row + 1) * columns {
                    let direction = projects ? embeddings[i] / norm : 0
                    gradient[i] = (normalizedGradient[i] - direction * along) / denominator
                }
                return squares.squareRoot() / denominator
            }
        }
    }
}
