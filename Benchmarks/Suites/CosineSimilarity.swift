// The cosine-similarity matrix against two nested loops of dot products.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var cosineSimilarity: [Benchmark] {
        ProblemShape.pairs.map { shape in
            Benchmark(
                kernel: "CosineSimilarity", mode: .value, shape: shape, tolerance: 1e-6,
                naiveTimedAt: shape.naivePairs,
                isQuick: shape.isQuickPairs
            ) { context in
                let (rows, depth) = (shape.rows, shape.depth)
                let embeddings = context.cells.embeddings(cells: rows, depth: depth)
                let matrix = MatrixShape(rows: rows, columns: depth)
                var similarities = [Float](repeating: 0, count: rows * rows)
                var product = similarities
                // Half of S by symmetry; the embeddings are read and the whole matrix is written.
                let work = Work(
                    flops: rows * rows * depth, bytes: 4 * rows * (depth + rows), limitedBy: .arithmetic)
                let fastloss: (Workspace) throws -> Float = { workspace in
                    var span = similarities.mutableSpan
                    try CosineSimilarity().matrix(
                        embeddings: embeddings.span, shape: matrix, similarities: &span, workspace: workspace)
                    return similarities[rows - 1]
                }
                return Prepared(
                    work: work,
                    maxRelativeError: { workspace in
                        _ = try fastloss(workspace)
                        if shape.needsPairTruth {
                            let truth = PairTruth(embeddings, rows: rows, columns: depth, floor: 1e-12)
                            return largestRelativeError(
                                of: truth.sample.flatMap { similarities[$0 * rows..<($0 + 1) * rows] },
                                to: truth.sampledSimilarities, floor: 1)
                        }
                        // Similarities near 0 are sums that cancel: their error is relative to the largest,
                        // 1.
                        return largestRelativeError(
                            of: similarities,
                            to: Reference.CosineSimilarity.matrix(
                                embeddings: embeddings.map(Double.init), rows: rows, columns: depth),
                            floor: 1)
                    },
                    fastloss: fastloss,
                    naive: shape.naivePairs == nil
                        ? {
                            Reference.CosineSimilarity.matrix(
                                embeddings: embeddings, rows: rows, columns: depth)[rows - 1]
                        } : nil,
                    rival: Rival(.sgemm) { workspace in
                        plainProduct(embeddings, shape: matrix, into: &product, workspace)
                        return product[rows - 1]
                    })
            }
        }
    }

    /// E·Eᵀ by OpenBLAS: all B² elements in one product, of whose rows every worker
    /// takes its share.
    private static func plainProduct(
        _ embeddings: [Float], shape: MatrixShape, into product: inout [Float], _ workspace: Workspace
    ) {
        let share = (shape.rows + workspace.workers - 1) / workspace.workers
        embeddings.withUnsafeBufferPointer { embeddings in
            product.withUnsafeMutableBufferPointer { product in
                guard let base = embeddings.baseAddress, let result = product.baseAddress else { return }
                let all = MatrixPointer(base, rows: shape.rows, columns: shape.columns)
                forEachTask(workspace.workers, workers: workspace.workers, estimatedNanoseconds: .infinity) {
                    task, _ in
                    let start = min(task * share, shape.rows)
                    let part = MatrixPointer(
                        base + start * shape.columns, rows: min(share, shape.rows - start),
                        columns: shape.columns)
                    BLAS.multiplyTransposedRight(
                        part, all, into: result + start * shape.rows, stride: shape.rows)
                }
            }
        }
    }
}
