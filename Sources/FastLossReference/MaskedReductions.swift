// Sums and means of every cell's values under several masks at once.

extension Reference {
    /// Masked sums and means of B rows of L values under K masks of L positions, shared by all rows.
    ///
    ///     sum_bk = Σ_l m_kl x_bl        mean_bk = sum_bk / Σ_l m_kl
    ///     ∂/∂x_bl: Σ_k m_kl g_bk, with g_bk divided by the mask's count for the mean
    ///
    /// A mask selects: a NaN in a position that no mask selects has no effect. A mask that selects no
    /// position has the sum 0 and the mean NaN, and passes no gradient back.
    public enum MaskedReductions {
        /// The sums: `rows` × `maskCount` values.
        @inlinable
        public static func sums<T: ReferenceScalar>(
            values: [T], rows: Int, columns: Int, masks: [Bool], maskCount: Int
        ) -> [T] {
            precondition(values.count == rows * columns && masks.count == maskCount * columns)
            var sums = [T](repeating: 0, count: rows * maskCount)
            for row in 0..<rows {
                for k in 0..<maskCount {
                    for l in 0..<columns where masks[k * columns + l] {
                        sums[row * maskCount + k] += values[row * columns + l]
                    }
                }
            }
            return sums
        }

        /// The means: `rows` × `maskCount` values.
        @inlinable
        public static func means<T: ReferenceScalar>(
            values: [T], rows: Int, columns: Int, masks: [Bool], maskCount: Int
        ) -> [T] {
            var means = sums(
                values: values, rows: rows, columns: columns, masks: masks, maskCount: maskCount)
            for k in 0..<maskCount {
                let count = T(selected(masks: masks, mask: k, columns: columns))
                for row in 0..<rows { means[row * maskCount + k] /= count }
            }
            return means
        }

        /// Carries a gradient of the sums (`rows` × `maskCount`) back to the values.
        @inlinable
        public static func sumsGradient<T: ReferenceScalar>(
            outputGradient: [T], rows: Int, columns: Int, masks: [Bool], maskCount: Int, gradient: inout [T]
        ) {
            precondition(outputGradient.count == rows * maskCount && gradient.count == rows * columns)
            precondition(masks.count == maskCount * columns)
            for row in 0..<rows {
                for l in 0..<columns {
                    var sum: T = 0
                    for k in 0..<maskCount where masks[k * columns + l] {
                        sum += outputGradient[row * maskCount + k]
                    }
                    gradient[row * columns + l] = sum
                }
            }
        }

        /// Carries a gradient of the means (`rows` × `maskCount`) back to the values.
        @inlinable
        public static func meansGradient<T: ReferenceScalar>(
            outputGradient: [T], rows: Int, columns: Int, masks: [Bool], maskCount: Int, gradient: inout [T]
        ) {
            precondition(outputGradient.count == rows * maskCount)
            var sumGradient = outputGradient
            for k in 0..<maskCount {
                let count = T(selected(masks: masks, mask: k, columns: columns))
                for row in 0..<rows { sumGradient[row * maskCount + k] /= count }
            }
            sumsGradient(
                outputGradient: sumGradient, rows: rows, columns: columns, masks: masks,
                maskCount: maskCount, gradient: &gradient)
        }

        /// The number of positions that one mask selects.
        @inlinable
        static func selected(masks: [Bool], mask: Int, columns: Int) -> Int {
            masks[mask * columns..<(mask + 1) * columns].count(where: { $0 })
        }
    }
}
