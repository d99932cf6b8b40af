// The nearest neighbours of cells, and how their labels agree: what the integration of batches is judged by.

import FastLoss

/// The K nearest neighbours of every cell among all others.
///
///     purity = share of pairs (cell, neighbour) with the same label
///     mixing = share of such pairs with different labels / share of all pairs of cells with different labels
///
/// Integration keeps cell types apart and mixes batches: the purity of types is near 1, and the mixing of
/// batches near 1, which is a mixture as if by chance. If batches are apart, their mixing is near 0.
///
/// Every pair is compared, in double. This takes 2·B²·D flops, B² log B comparisons, and 8·B·(D + K) bytes.
public struct NearestNeighbors: Equatable, Sendable {
    /// Which neighbours are near.
    public enum Metric: Equatable, Sendable {
        /// A small Euclidean distance.
        case euclidean
        /// A large cosine similarity of the rows, as ECS and CCE use. Rows are divided by max(‖row‖₂, 1e-12).
        case cosine
    }

    /// The number B of cells.
    public let cells: Int

    /// The number K of neighbours of a cell.
    public let count: Int

    /// B·K indices of cells: the neighbours of each cell, nearest first, and in ascending order at equal
    /// distances.
    public let indices: [Int]

    /// Finds the neighbours.
    ///
    /// - Parameters:
    ///   - embeddings: B·D finite numbers, one cell after the other.
    ///   - shape: B rows of D columns.
    ///   - count: K, the number of neighbours, at least 1 and less than B.
    ///   - metric: which neighbours are near.
    /// - Throws: `LossError` if the shape disagrees, if `count` is outside its range, or if an embedding is NaN
    ///   or infinite.
    public init(
        embeddings: [Float], shape: MatrixShape, count: Int = 15, metric: Metric = .cosine
    ) throws(LossError) {
        try checkFinite("embeddings", embeddings, shape)
        guard count >= 1, count < shape.rows else {
            throw .invalidParameter(
                name: "count", value: Double(count),
                requirement: "at least 1 and less than the number of cells, \(shape.rows)")
        }
        (cells, self.count) = (shape.rows, count)
        let rows = (0..<shape.rows).map { row in
            let elements = embeddings[row * shape.columns..<(row + 1) * shape.columns].map(Double.init)
            let norm = metric == .cosine ? max(dot(elements, elements).squareRoot(), 1e-12) : 1
            return elements.map { $0 / norm }
        }
        let squares = rows.map { metric == .cosine ? 0 : dot($0, $0) }
        var indices: [Int] = []
        indices.reserveCapacity(shape.rows * count)
        for cell in rows.indices {
            // ‖a − b‖² without ‖a‖², which is the same for all b; or −2 times the cosine.
            let distances = rows.indices.map { squares[$0] - 2 * dot(rows[cell], rows[$0]) }
            let others = rows.indices.filter { $0 != cell }
            indices += others.sorted { (distances[$0], $0) < (distances[$1], $1) }.prefix(count)
        }
        self.indices = indices
    }

    /// The mean share of a cell's neighbours that have its label, from 0 to 1.
    ///
    /// - Parameter labels: one for each cell; any numbers.
    /// - Throws: `LossError` if the number of labels is not B.
    public func purity(of labels: [Int32]) throws(LossError) -> Double {
        try checkCount("labels", labels.count, is: cells)
        let same = indices.indices.count { labels[indices[$0]] == labels[$0 / count] }
        return Double(same) / Double(indices.count)
    }

    /// The share of neighbours with another label, divided by the share of such cells among all others: 0 or
    /// more, and 1 in a mixture as if by chance. NaN if all labels are equal.
    ///
    /// - Parameter labels: one for each cell; any numbers.
    /// - Throws: `LossError` if the number of labels is not B.
    public func mixing(of labels: [Int32]) throws(LossError) -> Double {
        let different = 1 - (try purity(of: labels))
        var sizes: [Int32: Int] = [:]
        for label in labels { sizes[label, default: 0] += 1 }
        let others = labels.reduce(0) { $0 + cells - (sizes[$1] ?? 0) }
        return different / (Double(others) / (Double(cells) * Double(cells - 1)))
    }
}

private func dot(_ a: [Double], _ b: [Double]) -> Double {
    var sum = 0.0
    for index in a.indices { sum += a[index] * b[index] }
    return sum
}
