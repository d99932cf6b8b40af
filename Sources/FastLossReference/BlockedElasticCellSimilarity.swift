// Elastic cell similarity block by block: a baseline of plain loops that reuses what is in the caches.

extension Reference.ElasticCellSimilarity {
    /// The loss and its gradient, over blocks of rows, without the B×B matrix.
    ///
    /// The sums of ``valueAndGradient(embeddings:rows:columns:threshold:floor:gradientScale:gradient:)`` in
    /// another order. Two blocks of rows stay in the first levels of cache while all their pairs are visited.
    /// Four dot products are formed at a time, because a single one waits for each of its sums. A careful
    /// programmer would write the loops like this before using a matrix product. The benchmarks of the
    /// objective compare with it, because otherwise ECS would take most of the naive loop's time.
    ///
    /// Complexity: O(B²·D) time, O(B·D) memory.
    @inlinable
    public static func blockedValueAndGradient<T: ReferenceScalar>(
        embeddings: [T], rows: Int, columns: Int, threshold: T, floor: T = 1e-12, gradientScale: T = 1,
        gradient: inout [T]
    ) -> T {
        precondition(gradient.count == rows * columns)
        let (normalized, norms) = Reference.CosineSimilarity.normalizedRows(
            embeddings: embeddings, rows: rows, columns: columns, floor: floor)
        let factor = -4 * gradientScale / T(rows * rows)
        var normalizedGradient = [T](repeating: 0, count: rows * columns)
        var sum: T = 0

        func visit(_ i: Int, _ j: Int, _ similarity: T) {
            let positive = i == j || similarity <= 0 ? 0 : similarity
            sum += 1 - (positive - threshold) * (positive - threshold)
            guard i != j, !(similarity <= 0) else { return }
            let pair = factor * (similarity - threshold)
            for d in 0..<columns { normalizedGradient[i * columns + d] += pair * normalized[j * columns + d] }
        }

        let block = 32
        for firstStart in stride(from: 0, to: rows, by: block) {
            for secondStart in stride(from: 0, to: rows, by: block) {
                let secondEnd = min(rows, secondStart + block)
                for i in firstStart..<min(rows, firstStart + block) {
                    for j in stride(from: secondStart, to: secondEnd, by: 4) {
                        // Beyond the end the last row stands in; its products are not looked at.
                        let (b, c, e) = (min(j + 1, rows - 1), min(j + 2, rows - 1), min(j + 3, rows - 1))
                        var dots: (T, T, T, T) = (0, 0, 0, 0)
                        for d in 0..<columns {
                            let x = normalized[i * columns + d]
                            dots.0 += x * normalized[j * columns + d]
                            dots.1 += x * normalized[b * columns + d]
                            dots.2 += x * normalized[c * columns + d]
                            dots.3 += x * normalized[e * columns + d]
                        }
                        visit(i, j, dots.0)
                        if j + 1 < secondEnd { visit(i, j + 1, dots.1) }
                        if j + 2 < secondEnd { visit(i, j + 2, dots.2) }
                        if j + 3 < secondEnd { visit(i, j + 3, dots.3) }
                    }
                }
            }
        }
        _ = Reference.CosineSimilarity.gradientThroughNormalization(
            normalizedGradient: normalizedGradient, embeddings: embeddings, normalized: normalized,
            norms: norms,
            columns: columns, floor: floor, belowFloor: .constantDenominator, gradient: &gradient)
        return sum / T(rows * rows)
    }
}
