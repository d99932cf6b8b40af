// Negative log-likelihood of "this value is non-zero": the loss of the explicit zero-probability heads.

extension Reference {
    /// Bernoulli negative log-likelihood of z = 1[target > 0] over the selected positions.
    ///
    /// From a probability p, clamped to p̃ = min(max(p, ε), 1 − ε):
    ///
    ///     ℓ = −log p̃ where z = 1, −log(1 − p̃) where z = 0
    ///     ∂ℓ/∂p = (p − z) / (p (1 − p)) for ε ≤ p ≤ 1 − ε, else 0
    ///
    /// From a logit y, without a clamp (the two forms differ beyond |y| = 15.942, where the clamp begins):
    ///
    ///     ℓ = softplus(−y) where z = 1, softplus(y) where z = 0        ∂ℓ/∂y = σ(y) − z
    ///
    /// A NaN target is not greater than zero and counts as z = 0. ε is float32's 2⁻²³ also in the Double
    /// oracle, because it is part of the definition and not of the arithmetic.
    ///
    /// Source: scGPT `criterion_neg_log_bernoulli` (PyTorch `Bernoulli(probs).log_prob`).
    public enum BernoulliNLL {
        /// The reduced loss of probabilities.
        @inlinable
        public static func value<T: ReferenceScalar>(
            probabilities: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean,
            epsilon: T = 0x1p-23
        ) -> T {
            precondition(probabilities.count == targets.count && probabilities.count == mask.count)
            var sum: T = 0
            var selected = 0
            for i in 0..<mask.count where mask[i] {
                sum += element(probability: probabilities[i], isNonzero: targets[i] > 0, epsilon: epsilon)
                selected += 1
            }
            return reduction == .mean ? sum / T(selected) : sum
        }

        /// The reduced loss of probabilities, and its gradient with respect to them.
        @inlinable
        public static func valueAndGradient<T: ReferenceScalar>(
            probabilities: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean,
            epsilon: T = 0x1p-23, gradientScale: T = 1, gradient: inout [T]
        ) -> T {
            precondition(gradient.count == probabilities.count)
            let selected = mask.count(where: { $0 })
            let factor = reduction == .mean ? gradientScale / T(selected) : gradientScale
            for i in 0..<mask.count {
                gradient[i] =
                    mask[i]
                    ? factor
                        * elementGradient(
                            probability: probabilities[i], isNonzero: targets[i] > 0, epsilon: epsilon)
                    : 0
            }
            return value(
                probabilities: probabilities, targets: targets, mask: mask, reduction: reduction,
                epsilon: epsilon)
        }

        /// One mean per row of probabilities, over the row's own selected positions.
        @inlinable
        public static func perCellValues<T: ReferenceScalar>(
            probabilities: [T], targets: [T], mask: [Bool], rows: Int, columns: Int, epsilon: T = 0x1p-23
        ) -> [T] {
            precondition(probabilities.count == rows * columns)
            precondition(targets.count == rows * columns && mask.count == rows * columns)
            return (0..<rows).map { row in
                var sum: T = 0
                var selected = 0
                for i in row * columns..<(row + 1) * columns where mask[i] {
                    sum += element(
                        probability: probabilities[i], isNonzero: targets[i] > 0, epsilon: epsilon)
                    selected += 1
                }
                return sum / T(selected)
            }
        }

        /// One mean per row of probabilities, and the gradient of the sum of the rows' means.
        @inlinable
        public static func perCellValuesAndGradient<T: ReferenceScalar>(
            probabilities: [T], targets: [T], mask: [Bool], rows: Int, columns: Int, epsilon: T = 0x1p-23,
            gradientScale: T = 1, gradient: inout [T]
        ) -> [T] {
            precondition(gradient.count == rows * columns)
            for row in 0..<rows {
                let row = row * columns..<(row + 1) * columns
                let factor = gradientScale / T(mask[row].count(where: { $0 }))
                for i in row {
                    gradient[i] =
                        mask[i]
                        ? factor
                            * elementGradient(
                                probability: probabilities[i], isNonzero: targets[i] > 0, epsilon: epsilon)
                        : 0
                }
            }
            return perCellValues(
                probabilities: probabilities, targets: targets, mask: mask, rows: rows, columns: columns,
                epsilon: epsilon)
        }

        /// The reduced loss of logits.
        @inlinable
        public static func valueFromLogits<T: ReferenceScalar>(
            logits: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean
        ) -> T {
            precondition(logits.count == targets.count && logits.count == mask.count)
            var sum: T = 0
            var selected = 0
            for i in 0..<mask.count where mask[i] {
                sum += element(logit: logits[i], isNonzero: targets[i] > 0)
                selected += 1
            }
            return reduction == .mean ? sum / T(selected) : sum
        }

        /// The reduced loss of logits, and its gradient with respect to them.
        @inlinable
        public static func valueAndGradientFromLogits<T: ReferenceScalar>(
            logits: [T], targets: [T], mask: [Bool], reduction: Reduction = .mean,
            gradientScale: T = 1, gradient: inout [T]
        ) -> T {
            precondition(gradient.count == logits.count)
            let selected = mask.count(where: { $0 })
            let factor = reduction == .mean ? gradientScale / T(selected) : gradientScale
            for i in 0..<mask.count {
                gradient[i] =
                    mask[i] ? factor * elementGradient(logit: logits[i], isNonzero: targets[i] > 0) : 0
            }
            return valueFromLogits(logits: logits, targets: targets, mask: mask, reduction: reduction)
        }

        /// One mean per row of logits, over the row's own selected positions.
        @inlinable
        public static func perCellValuesFromLogits<T: ReferenceScalar>(
            logits: [T], targets: [T], mask: [Bool], rows: Int, columns: Int
        ) -> [T] {
            precondition(logits.count == rows * columns)
            precondition(targets.count == rows * columns && mask.count == rows * columns)
            return (0..<rows).map { row in
                var sum: T = 0
                var selected = 0
                for i in row * columns..<(row + 1) * columns where mask[i] {
                    sum += element(logit: logits[i], isNonzero: targets[i] > 0)
                    selected += 1
                }
                return sum / T(selected)
            }
        }

        /// One mean per row of logits, and the gradient of the sum of the rows' means.
        @inlinable
        public static func perCellValuesAndGradientFromLogits<T: ReferenceScalar>(
            logits: [T], targets: [T], mask: [Bool], rows: Int, columns: Int,
            gradientScale: T = 1, gradient: inout [T]
        ) -> [T] {
            precondition(gradient.count == rows * columns)
            for row in 0..<rows {
                let row = row * columns..<(row + 1) * columns
                let factor = gradientScale / T(mask[row].count(where: { $0 }))
                for i in row {
                    gradient[i] =
                        mask[i] ? factor * elementGradient(logit: logits[i], isNonzero: targets[i] > 0) : 0
                }
            }
            return perCellValuesFromLogits(
                logits: logits, targets: targets, mask: mask, rows: rows, columns: columns)
        }

        /// One position's loss. Comparisons rather than `min` and `max`, so that a NaN passes through.
        @inlinable
        static func element<T: ReferenceScalar>(probability: T, isNonzero: Bool, epsilon: T) -> T {
            let clamped =
                probability < epsilon ? epsilon : probability > 1 - epsilon ? 1 - epsilon : probability
            return isNonzero ? -T.log(clamped) : -T.log1p(-clamped)
        }

        /// One position's ∂ℓ/∂p; the fraction (p − z)/(p (1 − p)) is −1/p or 1/(1 − p).
        @inlinable
        static func elementGradient<T: ReferenceScalar>(probability: T, isNonzero: Bool, epsilon: T) -> T {
            if probability < epsilon || probability > 1 - epsilon { return 0 }
            return isNonzero ? -1 / probability : 1 / (1 - probability)
        }

        /// One position's loss: softplus(x) = max(x, 0) + log(1 + e^−|x|), of x = −y or y.
        @inlinable
        static func element<T: ReferenceScalar>(logit: T, isNonzero: Bool) -> T {
            let x = isNonzero ? -logit : logit
            return (x < 0 ? 0 : x) + T.log1p(T.exp(-abs(x)))
        }

        /// One position's ∂ℓ/∂y = σ(y) − z. For z = 1 it is computed as −σ(−y), which avoids cancellation.
        @inlinable
        static func elementGradient<T: ReferenceScalar>(logit: T, isNonzero: Bool) -> T {
            isNonzero ? -sigmoid(-logit) : sigmoid(logit)
        }

        /// 1 / (1 + e^−x), without overflow for large negative x.
        @inlinable
        static func sigmoid<T: ReferenceScalar>(_ x: T) -> T {
            if x < 0 {
                let exponential = T.exp(x)
                return exponential / (1 + exponential)
            }
            return 1 / (1 + T.exp(-x))
        }
    }
}
