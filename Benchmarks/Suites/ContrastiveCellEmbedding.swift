// Contrastive cell embedding against nested loops.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var contrastiveCellEmbedding: [Benchmark] {
        ProblemShape.pairs.flatMap {
            [contrastiveCellEmbedding($0, .value), contrastiveCellEmbedding($0, .valueAndGradient)]
        }
    }

    private static func contrastiveCellEmbedding(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        Benchmark(
            kernel: "ContrastiveCellEmbedding", mode: mode, shape: shape, tolerance: 5e-6,
            naiveTimedAt: shape.naivePairs, isQuick: shape.isQuickPairs
        ) { context in
            let (rows, depth) = (shape.rows, shape.depth)
            let first = context.cells.embeddings(cells: rows, depth: depth, noiseSeed: 7)
            let second = context.cells.embeddings(cells: rows, depth: depth, noiseSeed: 8)
            let matrix = MatrixShape(rows: rows, columns: depth)
            let loss = ContrastiveCellEmbedding()
            let withGradient = mode == .valueAndGradient
            var firstGradient = [Float](repeating: 0, count: rows * depth)
            var secondGradient = firstGradient
            var naiveFirst = firstGradient
            var naiveSecond = firstGradient
            // A, dN₁ and dN₂ are products of 2·B²·D each; both encodings are read, both gradients written.
            let work = Work(
                flops: (withGradient ? 6 : 2) * rows * rows * depth,
                bytes: (withGradient ? 16 : 8) * rows * depth,
                limitedBy: .arithmetic)
            let fastloss: (Workspace) throws -> Float = { workspace in
                guard withGradient else {
                    return Float(
                        try loss.value(
                            first: first.span, second: second.span, shape: matrix, workspace: workspace
                        ).value)
                }
                var firstSpan = firstGradient.mutableSpan
                var secondSpan = secondGradient.mutableSpan
                return Float(
                    try loss.valueAndGradient(
                        first: first.span, second: second.span, shape: matrix, firstGradient: &firstSpan,
                        secondGradient: &secondSpan, workspace: workspace
                    ).value)
            }
            let naive: () throws -> Float = {
                withGradient
                    ? Reference.ContrastiveCellEmbedding.valueAndGradient(
                        first: first, second: second, rows: rows, columns: depth, firstGradient: &naiveFirst,
                        secondGradient: &naiveSecond)
                    : Reference.ContrastiveCellEmbedding.value(
                        first: first, second: second, rows: rows, columns: depth)
            }
            return Prepared(
                work: work,
                maxRelativeError: { workspace in
                    let value = try fastloss(workspace)
                    if shape.needsPairTruth {
                        let firstTruth = PairTruth(first, rows: rows, columns: depth, floor: 1e-8)
                        let secondTruth = PairTruth(second, rows: rows, columns: depth, floor: 1e-8)
                        let expected = firstTruth.contrastive(
                            with: secondTruth, temperature: Double(loss.temperature))
                        let error = relativeError(of: value, to: expected.value)
                        guard withGradient else { return error }
                        return max(
                            error,
                            normwiseRelativeError(
                                of: firstTruth.sampled(firstGradient), to: expected.first.gradient,
                                scale: euclideanNorm(expected.first.norms)),
                            normwiseRelativeError(
                                of: secondTruth.sampled(secondGradient), to: expected.second.gradient,
                                scale: euclideanNorm(expected.second.norms)))
                    }
                    let (firstDoubles, secondDoubles) = (first.map(Double.init), second.map(Double.init))
                    guard withGradient else {
                        return relativeError(
                            of: value,
                            to: Reference.ContrastiveCellEmbedding.value(
                                first: firstDoubles, second: secondDoubles, rows: rows, columns: depth))
                    }
                    let truth = Reference.ContrastiveCellEmbedding.evaluate(
                        first: firstDoubles, second: secondDoubles, rows: rows, columns: depth)
                    return max(
                        relativeError(of: value, to: truth.value),
                        normwiseRelativeError(
                            of: firstGradient, to: truth.firstGradient,
                            scale: euclideanNorm(truth.firstNormsBeforeProjection)),
                        normwiseRelativeError(
                            of: secondGradient, to: truth.secondGradient,
                            scale: euclideanNorm(truth.secondNormsBeforeProjection)))
                },
                fastloss: fastloss,
                naive: shape.naivePairs == nil ? naive : nil)
        }
    }
}
