// Elastic cell similarity against three nested loops.

import FastLoss
import FastLossReference

extension Suites {
    static var elasticCellSimilarity: [Benchmark] {
        ProblemShape.pairs.flatMap { [elasticCellSimilarity($0, .value), elasticCellSimilarity($0, .valueAndGradient)] }
    }

    private static func elasticCellSimilarity(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        Benchmark(
            kernel: "ElasticCellSimilarity", mode: mode, shape: shape, tolerance: 5e-6,
            naiveTimedAt: shape.naivePairs, isQuick: shape.isQuickPairs
        ) { context in
            let (rows, depth) = (shape.rows, shape.depth)
            let embeddings = context.cells.embeddings(cells: rows, depth: depth)
            let matrix = MatrixShape(rows: rows, columns: depth)
            let workspace = Workspace(workers: context.workers)
            let loss = ElasticCellSimilarity(threshold: 0.8)
            let withGradient = mode == .valueAndGradient
            var gradient = [Float](repeating: 0, count: rows * depth)
            var naiveGradient = gradient
            // Half of S by symmetry: B²·D; and dN = G·N, 2·B²·D.
            let work = Work(
                flops: (withGradient ? 3 : 1) * rows * rows * depth, bytes: (withGradient ? 8 : 4) * rows * depth,
                limitedBy: .arithmetic)
            let fastloss: () throws -> Float = {
                guard withGradient else {
                    return Float(
                        try loss.value(embeddings: embeddings.span, shape: matrix, workspace: workspace).value)
                }
                var span = gradient.mutableSpan
                return Float(
                    try loss.valueAndGradient(
                        embeddings: embeddings.span, shape: matrix, gradient: &span, workspace: workspace
                    ).value)
            }
            let naive: () throws -> Float = {
                withGradient
                    ? Reference.ElasticCellSimilarity.valueAndGradient(
                        embeddings: embeddings, rows: rows, columns: depth, threshold: loss.threshold,
                        gradient: &naiveGradient)
                    : Reference.ElasticCellSimilarity.value(
                        embeddings: embeddings, rows: rows, columns: depth, threshold: loss.threshold)
            }
            return Prepared(
                maxRelativeError: {
                    let value = try fastloss()
                    let (doubles, threshold) = (embeddings.map(Double.init), Double(loss.threshold))
                    guard withGradient else {
                        return relativeError(
                            of: value,
                            to: Reference.ElasticCellSimilarity.value(
                                embeddings: doubles, rows: rows, columns: depth, threshold: threshold))
                    }
                    let truth = Reference.ElasticCellSimilarity.evaluate(
                        embeddings: doubles, rows: rows, columns: depth, threshold: threshold)
                    return max(
                        relativeError(of: value, to: truth.value),
                        normwiseRelativeError(
                            of: gradient, to: truth.gradient, scale: euclideanNorm(truth.normsBeforeProjection)))
                },
                fastloss: Implementation(work: work, threads: context.workers, call: fastloss),
                naive: shape.naivePairs == nil ? Implementation(work: work, call: naive) : nil,
                workspace: workspace)
        }
    }
}
