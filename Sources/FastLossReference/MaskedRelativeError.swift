// Masked relative error: a metric without a gradient that scGPT logs with its losses.

extension Reference {
    /// Mean relative error over the selected positions.
    ///
    ///     Σ_m |x − t| / (t + 1e-6) / M
    ///
    /// A target of zero therefore contributes |x|·1e6, so values in the millions are normal for data with
    /// zeros.
    ///
    /// Source: scGPT `masked_relative_error`.
    public enum MaskedRelativeError {
        /// The reduced metric.
        @inlinable
        public static func value<T: ReferenceScalar>(
            predictions: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean,
            epsilon: T = 1e-6
        ) -> T {
            precondition(predictions.count == targets.count && predictions.count == mask.count)
            var sum: T = 0
            var selected = 0
            for i in 0..<mask.count where mask[i] {
                sum += element(prediction: predictions[i], target: targets[i], epsilon: epsilon)
                selected += 1
            }
            return reduction == .mean ? sum / T(selected) : sum
        }

        /// One mean per row, over the row's own selected positions; NaN for a row without any.
        @inlinable
        public static func perCellValues<T: ReferenceScalar>(
            predictions: [T], targets: [T], mask: [Bool], rows: Int, columns: Int, epsilon: T = 1e-6
        ) -> [T] {
            precondition(predictions.count == rows * columns)
            precondition(targets.count == rows * columns && mask.count == rows * columns)
            return (0..<rows).map { row in
                var sum: T = 0
                var selected = 0
                for i in row * columns..<(row + 1) * columns where mask[i] {
                    sum += element(prediction: predictions[i], target: targets[i], epsilon: epsilon)
                    selected += 1
                }
                return sum / T(selected)
            }
        }

        /// One position's relative error. Negative where the target is below −epsilon, as upstream.
        @inlinable
        static func element<T: ReferenceScalar>(prediction: T, target: T, epsilon: T) -> T {
            abs(prediction - target) / (target + epsilon)
        }
    }
}
