// Masked mean squared error: the loss of every expression-value head.

extension Reference {
    /// Squared error over the selected positions.
    ///
    ///     mean = Σ_m (x − t)² / M        ∂mean/∂x = 2 (x − t) / M
    ///
    /// with x the predictions, t the targets, m the mask and M the number of selected positions.
    ///
    /// Source: scGPT `masked_mse_loss`, which multiplies by the mask instead of selecting.
    public enum MaskedMSE {
        /// The reduced loss.
        @inlinable
        public static func value<T: ReferenceScalar>(
            predictions: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean
        ) -> T {
            precondition(predictions.count == targets.count && predictions.count == mask.count)
            var sum: T = 0
            var selected = 0
            for i in 0..<mask.count where mask[i] {
                let difference = predictions[i] - targets[i]
                sum += difference * difference
                selected += 1
            }
            return reduction == .mean ? sum / T(selected) : sum
        }

        /// The reduced loss, and its gradient with respect to the predictions.
        @inlinable
        public static func valueAndGradient<T: ReferenceScalar>(
            predictions: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean,
            gradientScale: T = 1, gradient: inout [T]
        ) -> T {
            precondition(gradient.count == predictions.count)
            let selected = mask.count(where: { $0 })
            let factor = reduction == .mean ? 2 * gradientScale / T(selected) : 2 * gradientScale
            for i in 0..<mask.count {
                gradient[i] = mask[i] ? factor * (predictions[i] - targets[i]) : 0
            }
            return value(predictions: predictions, targets: targets, mask: mask, reduction: reduction)
        }

        /// One mean per row, over the row's own selected positions; NaN for a row without any.
        @inlinable
        public static func perCellValues<T: ReferenceScalar>(
            predictions: [T], targets: [T], mask: [Bool], rows: Int, columns: Int
        ) -> [T] {
            precondition(predictions.count == rows * columns)
            precondition(targets.count == rows * columns && mask.count == rows * columns)
            return (0..<rows).map { row in
                var sum: T = 0
                var selected = 0
                for i in row * columns..<(row + 1) * columns where mask[i] {
                    let difference = predictions[i] - targets[i]
                    sum += difference * difference
                    selected += 1
                }
                return sum / T(selected)
            }
        }

        /// One mean per row, and the gradient of the sum of the rows' means.
        @inlinable
        public static func perCellValuesAndGradient<T: ReferenceScalar>(
            predictions: [T], targets: [T], mask: [Bool], rows: Int, columns: Int,
            gradientScale: T = 1, gradient: inout [T]
        ) -> [T] {
            precondition(gradient.count == rows * columns)
            for row in 0..<rows {
                let row = row * columns..<(row + 1) * columns
                let factor = 2 * gradientScale / T(mask[row].count(where: { $0 }))
                for i in row {
                    gradient[i] = mask[i] ? factor * (predictions[i] - targets[i]) : 0
                }
            }
            return perCellValues(
                predictions: predictions, targets: targets, mask: mask, rows: rows, columns: columns)
        }
    }
}
