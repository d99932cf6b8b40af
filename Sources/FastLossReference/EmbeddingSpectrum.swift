// The singular values of the normalised embeddings, and how many of them count: a collapse shows here first.

extension Reference {
    /// Spectrum of the row-normalised embeddings N, B × D, in Double.
    ///
    /// The singular values come from one-sided Jacobi rotations: columns are rotated in pairs until all are
    /// orthogonal; their lengths are then the singular values. It is slow, O(sweeps · D² · B), short, and
    /// accurate to a few units in the last place of the largest value.
    ///
    /// Sources: Hestenes 1958 for the rotations; Roy and Vetterli 2007, "The effective rank", for the rank.
    public enum EmbeddingSpectrum {
        /// The min(rows, columns) singular values of the normalised rows, largest first.
        @inlinable
        public static func singularValues<T: ReferenceScalar>(
            embeddings: [T], rows: Int, columns: Int, floor: Double = 1e-12
        ) -> [Double] {
            let (normalized, _) = CosineSimilarity.normalizedRows(
                embeddings: embeddings.map { Double($0) }, rows: rows, columns: columns, floor: floor)
            // One-sided rotations want the short side as columns: N and its transpose share singular values.
            let short = min(rows, columns)
            let long = max(rows, columns)
            var vectors = [[Double]](repeating: [Double](repeating: 0, count: long), count: short)
            for row in 0..<rows {
                for column in 0..<columns {
                    let value = normalized[row * columns + column]
                    if rows < columns { vectors[row][column] = value } else { vectors[column][row] = value }
                }
            }
            orthogonalize(&vectors)
            return vectors.map { dot($0, $0).squareRoot() }.sorted(by: >)
        }

        /// exp(−Σ p log p) with p = σ / Σσ: the number of directions in use, between 1 and min(B, D).
        ///
        /// NaN if all singular values are zero.
        @inlinable
        public static func effectiveRank(singularValues: [Double]) -> Double {
            let total = singularValues.reduce(0, +)
            guard total > 0 else { return .nan }
            var entropy = 0.0
            for value in singularValues where value > 0 {
                let share = value / total
                entropy -= share * Double.log(share)
            }
            return Double.exp(entropy)
        }

        /// Rotates pairs of vectors until every pair is orthogonal to working precision.
        @inlinable
        static func orthogonalize(_ vectors: inout [[Double]]) {
            // Convergence is quadratic: a handful of sweeps suffices, and the bound only keeps a NaN from
            // rotating forever.
            for _ in 0..<60 {
                var rotated = false
                for p in vectors.indices {
                    for q in vectors.indices.dropFirst(p + 1) {
                        let alpha = dot(vectors[p], vectors[p])
                        let beta = dot(vectors[q], vectors[q])
                        let gamma = dot(vectors[p], vectors[q])
                        guard abs(gamma) > Double.ulpOfOne * (alpha * beta).squareRoot() else { continue }
                        rotated = true
                        let zeta = (beta - alpha) / (2 * gamma)
                        let sign: Double = zeta < 0 ? -1 : 1
                        let tangent = sign / (abs(zeta) + (1 + zeta * zeta).squareRoot())
                        let cosine = 1 / (1 + tangent * tangent).squareRoot()
                        let sine = cosine * tangent
                        for i in vectors[p].indices {
                            let first = vectors[p][i]
                            let second = vectors[q][i]
                            vectors[p][i] = cosine * first - sine * second
                            vectors[q][i] = sine * first + cosine * second
                        }
                    }
                }
                if !rotated { return }
            }
        }

        @inlinable
        static func dot(_ a: [Double], _ b: [Double]) -> Double {
            var sum = 0.0
            for i in a.indices { sum += a[i] * b[i] }
            return sum
        }
    }
}
