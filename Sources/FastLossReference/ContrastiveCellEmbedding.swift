// Contrastive cell embedding (CCE): two encodings of a cell should find each other among all cells.

extension Reference {
    /// Contrastive loss between two encodings of the same B cells.
    ///
    ///     A_ij = cos(E₁ᵢ, E₂ⱼ) / τ        L = mean over i of −log softmax_i(A_i)
    ///     dA = (softmax_row(A) − I) / B    dN₁ = dA·N₂ / τ    dN₂ = dAᵀ·N₁ / τ
    ///
    /// Row i of the second matrix is the right answer for row i of the first; only rows of A are normalised,
    /// so the loss is not symmetric in its two arguments.
    ///
    /// Complexity: O(B²·D) time, O(B² + B·D) memory.
    ///
    /// Source: scGPT and scFormer `Similarity` (τ = 0.5) with `CrossEntropyLoss`; SimCSE, Gao et al. 2021.
    public enum ContrastiveCellEmbedding {
        /// A value with both gradients, and the yardsticks for the gradients' errors.
        public struct Evaluation<T: ReferenceScalar>: Sendable {
            /// The loss.
            public let value: T
            /// The gradient with respect to the first encoding, row-major.
            public let firstGradient: [T]
            /// The gradient with respect to the second encoding, row-major.
            public let secondGradient: [T]
            /// ‖dN₁ᵢ‖ / max(‖E₁ᵢ‖, floor) of every row of the first encoding.
            public let firstNormsBeforeProjection: [T]
            /// ‖dN₂ᵢ‖ / max(‖E₂ᵢ‖, floor) of every row of the second encoding.
            public let secondNormsBeforeProjection: [T]

            @inlinable
            init(
                value: T, firstGradient: [T], secondGradient: [T], firstNormsBeforeProjection: [T],
                secondNormsBeforeProjection: [T]
            ) {
                self.value = value
                self.firstGradient = firstGradient
                self.secondGradient = secondGradient
                self.firstNormsBeforeProjection = firstNormsBeforeProjection
                self.secondNormsBeforeProjection = secondNormsBeforeProjection
            }
        }

        /// The loss.
        @inlinable
        public static func value<T: ReferenceScalar>(
            first: [T], second: [T], rows: Int, columns: Int, temperature: T = 0.5, floor: T = 1e-8
        ) -> T {
            let (normalizedFirst, _) = CosineSimilarity.normalizedRows(
                embeddings: first, rows: rows, columns: columns, floor: floor)
            let (normalizedSecond, _) = CosineSimilarity.normalizedRows(
                embeddings: second, rows: rows, columns: columns, floor: floor)
            let logits = logits(
                normalizedFirst: normalizedFirst, normalizedSecond: normalizedSecond, rows: rows,
                columns: columns, temperature: temperature)
            return CrossEntropy.value(
                logits: logits, labels: ownLabels(rows: rows), rows: rows, classes: rows)
        }

        /// The loss, and its gradients with respect to both encodings.
        @inlinable
        public static func valueAndGradient<T: ReferenceScalar>(
            first: [T], second: [T], rows: Int, columns: Int, temperature: T = 0.5, floor: T = 1e-8,
            gradientScale: T = 1, firstGradient: inout [T], secondGradient: inout [T]
        ) -> T {
            precondition(firstGradient.count == rows * columns && secondGradient.count == rows * columns)
            let evaluation = evaluate(
                first: first, second: second, rows: rows, columns: columns, temperature: temperature,
                floor: floor, gradientScale: gradientScale)
            firstGradient = evaluation.firstGradient
            secondGradient = evaluation.secondGradient
            return evaluation.value
        }

        /// The loss with its gradients and their sizes before the projection.
        @inlinable
        public static func evaluate<T: ReferenceScalar>(
            first: [T], second: [T], rows: Int, columns: Int, temperature: T = 0.5, floor: T = 1e-8,
            gradientScale: T = 1
        ) -> Evaluation<T> {
            let (normalizedFirst, firstNorms) = CosineSimilarity.normalizedRows(
                embeddings: first, rows: rows, columns: columns, floor: floor)
            let (normalizedSecond, secondNorms) = CosineSimilarity.normalizedRows(
                embeddings: second, rows: rows, columns: columns, floor: floor)
            let logits = logits(
                normalizedFirst: normalizedFirst, normalizedSecond: normalizedSecond, rows: rows,
                columns: columns, temperature: temperature)

            var similarityGradient = [T](repeating: 0, count: rows * rows)
            let value = CrossEntropy.valueAndGradient(
                logits: logits, labels: ownLabels(rows: rows), rows: rows, classes: rows,
                gradientScale: gradientScale, gradient: &similarityGradient)

            var normalizedFirstGradient = [T](repeating: 0, count: rows * columns)
            var normalizedSecondGradient = [T](repeating: 0, count: rows * columns)
            for i in 0..<rows {
                for j in 0..<rows {
                    let pair = similarityGradient[i * rows + j] / temperature
                    for d in 0..<columns {
                        normalizedFirstGradient[i * columns + d] += pair * normalizedSecond[j * columns + d]
                        normalizedSecondGradient[j * columns + d] += pair * normalizedFirst[i * columns + d]
                    }
                }
            }

            var firstGradient = [T](repeating: 0, count: rows * columns)
            let firstNormsBeforeProjection = CosineSimilarity.gradientThroughNormalization(
                normalizedGradient: normalizedFirstGradient, embeddings: first, normalized: normalizedFirst,
                norms: firstNorms, columns: columns, floor: floor, belowFloor: .unclampedDirection,
                gradient: &firstGradient)
            var secondGradient = [T](repeating: 0, count: rows * columns)
            let secondNormsBeforeProjection = CosineSimilarity.gradientThroughNormalization(
                normalizedGradient: normalizedSecondGradient, embeddings: second,
                normalized: normalizedSecond, norms: secondNorms, columns: columns, floor: floor,
                belowFloor: .unclampedDirection, gradient: &secondGradient)
            return Evaluation(
                value: value, firstGradient: firstGradient, secondGradient: secondGradient,
                firstNormsBeforeProjection: firstNormsBeforeProjection,
                secondNormsBeforeProjection: secondNormsBeforeProjection)
        }

        /// A = N₁·N₂ᵀ / τ.
        @inlinable
        static func logits<T: ReferenceScalar>(
            normalizedFirst: [T], normalizedSecond: [T], rows: Int, columns: Int, temperature: T
        ) -> [T] {
            CosineSimilarity.matrix(
                normalizedFirst: normalizedFirst, firstRows: rows, normalizedSecond: normalizedSecond,
                secondRows: rows, columns: columns
            ).map { $0 / temperature }
        }

        /// The labels 0, 1, … B − 1: every cell's right answer is itself.
        @inlinable
        static func ownLabels(rows: Int) -> [Int32] {
            (0..<rows).map { Int32($0) }
        }
    }
}
