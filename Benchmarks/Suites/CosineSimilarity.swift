// The cosine-similarity matrix itself against two nested loops of dot products.

import FastLoss
import FastLossReference

extension Suites {
    static var cosineSimilarity: [Benchmark] {
        ProblemShape.pairs.map { shape in
            Benchmark(
                kernel: "CosineSimilarity", mode: .value, shape: shape, tolerance: 1e-6, naiveTimedAt: shape.naivePairs,
                isQuick: shape.isQuickPairs
            ) { context in
                let (rows, depth) = (shape.rows, shape.depth)
                let embeddings = context.cells.embeddings(cells: rows, depth: depth)
                let matrix = MatrixShape(rows: rows, columns: depth)
                let workspace = Workspace(workers: context.workers)
                var similarities = [Float](repeating: 0, count: rows * rows)
                // Half of S by symmetry; the embeddings are read and the whole matrix is written.
                let work = Work(
                    flops: rows * rows * depth, bytes: 4 * rows * (depth + rows), limitedBy: .arithmetic)
                let fastloss: () throws -> Float = {
                    var span = similarities.mutableSpan
                    try CosineSimilarity().matrix(
                        embeddings: embeddings.span, shape: matrix, similarities: &span, workspace: workspace)
                    return similarities[rows - 1]
                }
                return Prepared(
                    maxRelativeError: {
                        _ = try fastloss()
                        // Similarities near 0 are sums that cancel: their error is relative to the largest, 1.
                        return largestRelativeError(
                            of: similarities,
                            to: Reference.CosineSimilarity.matrix(
                                embeddings: embeddings.map(Double.init), rows: rows, columns: depth),
                            floor: 1)
                    },
                    fastloss: Implementation(work: work, threads: context.workers, call: fastloss),
                    naive: shape.naivePairs == nil
                        ? Implementation(work: work) {
                            Reference.CosineSimilarity.matrix(embeddings: embeddings, rows: rows, columns: depth)[rows - 1]
                        } : nil,
                    workspace: workspace)
            }
        }
    }
}
