// Elastic cell similarity against three nested loops.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var elasticCellSimilarity: [Benchmark] {
        ProblemShape.pairs.flatMap {
            [elasticCellSimilarity($0, .value), elasticCellSimilarity($0, .valueAndGradient)]
        }
            // The library promises at most 64 MiB in addition to the embeddings and their gradient of 32 MiB
            // each.
            + [elasticCellSimilarity(.hugePairs, .valueAndGradient, mostScratch: 64 << 20)]
            // Embeddings whose signs the certificate proves; all of them, and five eighths.
            + [EmbeddingCones.one, .eight].flatMap { cones in
                [ProblemShape(2048, 2048, 128), ProblemShape(4096, 4096, 512), .hugePairs].map {
                    elasticCellSimilarity($0, .valueAndGradient, cones, mostScratch: 64 << 20)
                }
            }
    }

    private static func elasticCellSimilarity(
        _ shape: ProblemShape, _ mode: Mode, _ cones: EmbeddingCones? = nil, mostScratch: Int? = nil
    ) -> Benchmark {
        let small = cones == nil ? shape.naivePairs : ProblemShape(2048, 2048, 128)
        return Benchmark(
            kernel: "ElasticCellSimilarity", variant: cones?.rawValue, mode: mode, shape: shape,
            tolerance: 5e-6, naiveTimedAt: small == shape ? nil : small, mostScratch: mostScratch,
            isQuick: shape.isQuickPairs
        ) { context in
            let (rows, depth) = (shape.rows, shape.depth)
            let embeddings =
                cones?.embeddings(cells: rows, depth: depth)
                ?? context.cells.embeddings(cells: rows, depth: depth)
            let matrix = MatrixShape(rows: rows, columns: depth)
            let loss = ElasticCellSimilarity(threshold: 0.8)
            let withGradient = mode == .valueAndGradient
            var gradient = [Float](repeating: 0, count: rows * depth)
            var naiveGradient = gradient
            // Half of S by symmetry: B²·D; and dN = G·N, 2·B²·D. In a cone, D takes the place of one B; of
            // eight cones, three eighths of the pairs are computed.
            let others =
                switch cones {
                case nil: rows
                case .one: depth
                case .eight: 3 * rows / 8 + depth
                }
            let work = Work(
                flops: (withGradient ? 3 : 1) * rows * others * depth,
                bytes: (withGradient ? 8 : 4) * rows * depth,
                limitedBy: .arithmetic)
            let fastloss: (Workspace) throws -> Float = { workspace in
                guard withGradient else {
                    return Float(
                        try loss.value(embeddings: embeddings.span, shape: matrix, workspace: workspace).value
                    )
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
                work: work,
                maxRelativeError: { workspace in
                    let value = try fastloss(workspace)
                    if shape.needsPairTruth {
                        let truth = PairTruth(embeddings, rows: rows, columns: depth, floor: 1e-12)
                        let expected = truth.elasticCellSimilarity(threshold: Double(loss.threshold))
                        let error = relativeError(of: value, to: expected.value)
                        return withGradient
                            ? max(
                                error,
                                normwiseRelativeError(
                                    of: truth.sampled(gradient), to: expected.gradient,
                                    scale: euclideanNorm(expected.normsBeforeProjection)))
                            : error
                    }
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
                            of: gradient, to: truth.gradient,
                            scale: euclideanNorm(truth.normsBeforeProjection)))
                },
                fastloss: fastloss,
                naive: small == nil || small == shape ? naive : nil)
        }
    }
}
