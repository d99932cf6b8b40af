// Softmax cross-entropy with an ignored label: cell types (CLS), batch labels (DAB), and the rows of CCE.

extension Reference {
    /// Cross-entropy of class logits against labels, over the rows whose label is not the ignored one.
    ///
    ///     ℓ_i = log Σ_j exp(z_ij) − z_i,y(i)        ∂ℓ_i/∂z_ij = softmax_j(z_i) − 1[j = y(i)]
    ///
    /// The mean is over the valid rows; the rows that are ignored have a zero gradient and are not read.
    ///
    /// Source: PyTorch `cross_entropy`, which scGPT uses for cell types (CLS) and batch labels (DAB).
    public enum CrossEntropy {
        /// The reduced loss.
        @inlinable
        public static func value<T: ReferenceScalar>(
            logits: [T], labels: [Int32], rows: Int, classes: Int, ignoredLabel: Int32 = -100,
            reduction: Reduction = .mean
        ) -> T {
            precondition(logits.count == rows * classes && labels.count == rows)
            var sum: T = 0
            var valid = 0
            for row in 0..<rows where labels[row] != ignoredLabel {
                let label = Int(labels[row])
                precondition((0..<classes).contains(label), "row \(row) has the label \(label)")
                let (maximum, excess) = maximumAndExcess(logits: logits, start: row * classes, count: classes)
                sum += T.log1p(excess) - (logits[row * classes + label] - maximum)
                valid += 1
            }
            return reduction == .mean ? sum / T(valid) : sum
        }

        /// The reduced loss, and its gradient with respect to the logits.
        @inlinable
        public static func valueAndGradient<T: ReferenceScalar>(
            logits: [T], labels: [Int32], rows: Int, classes: Int, ignoredLabel: Int32 = -100,
            reduction: Reduction = .mean, gradientScale: T = 1, gradient: inout [T]
        ) -> T {
            precondition(gradient.count == rows * classes && labels.count == rows)
            let valid = labels.count(where: { $0 != ignoredLabel })
            let factor = reduction == .mean ? gradientScale / T(valid) : gradientScale
            for row in 0..<rows {
                let start = row * classes
                guard labels[row] != ignoredLabel else {
                    for j in 0..<classes { gradient[start + j] = 0 }
                    continue
                }
                let label = Int(labels[row])
                let (maximum, excess) = maximumAndExcess(logits: logits, start: start, count: classes)
                var others: T = 0
                for j in 0..<classes where j != label {
                    let probability = T.exp(logits[start + j] - maximum) / (1 + excess)
                    gradient[start + j] = factor * probability
                    others += probability
                }
                // softmax_y − 1, as minus the other classes' share: it cancels where the model is confident.
                gradient[start + label] = -factor * others
            }
            return value(
                logits: logits, labels: labels, rows: rows, classes: classes, ignoredLabel: ignoredLabel,
                reduction: reduction)
        }

        /// The row's largest logit, and Σ exp(z_j − maximum) over the *other* logits.
        ///
        /// Subtracting the maximum keeps logits of ±1e4 finite; leaving its own term, which is exactly 1, out
        /// of the sum lets `log1p` keep the loss of a confident row, far below the rounding of 1 + excess.
        @inlinable
        static func maximumAndExcess<T: ReferenceScalar>(
            logits: [T], start: Int, count: Int
        ) -> (maximum: T, excess: T) {
            var largest = start
            for j in start..<start + count where logits[j] > logits[largest] { largest = j }
            var excess: T = 0
            for j in start..<start + count where j != largest {
                excess += T.exp(logits[j] - logits[largest])
            }
            return (logits[largest], excess)
        }
    }
}
