// Means of every cell under many masks at once: gene programmes of the real cells, against nested loops.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var maskedReductions: [Benchmark] {
        // Cells × tokens × masks: 50 gene sets on the real cells; 16 masks at scGPT's length.
        [ProblemShape(700, 765, 50), ProblemShape(64, 1201, 16)].flatMap {
            [maskedReductions($0, .value), maskedReductions($0, .valueAndGradient)]
        }
    }

    private static func maskedReductions(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        Benchmark(kernel: "MaskedReductions", mode: mode, shape: shape, tolerance: 5e-6) { context in
            let (rows, columns, maskCount) = (shape.rows, shape.columns, shape.depth)
            let values = context.cells.batch(cells: rows, tokens: columns).targets
            var generator = SeededGenerator(seed: 9)
            let masks = (0..<maskCount * columns).map { _ in Float.random(in: 0..<1, using: &generator) < 0.3
            }
            let upstream = (0..<rows * maskCount).map { _ in generator.normal() }
            let matrix = MatrixShape(rows: rows, columns: columns)
            let reductions = MaskedReductions()
            let withGradient = mode == .valueAndGradient
            var means = [Float](repeating: 0, count: rows * maskCount)
            var gradient = [Float](repeating: 0, count: rows * columns)
            var naiveGradient = gradient
            // One product of 2·B·L·K, another for the gradient.
            let work = Work(
                flops: (withGradient ? 4 : 2) * shape.count,
                bytes: 4 * (rows * columns + rows * maskCount) * (withGradient ? 2 : 1) + maskCount * columns,
                limitedBy: .arithmetic)
            let fastloss: (Workspace) throws -> Float = { workspace in
                var meansSpan = means.mutableSpan
                try reductions.value(
                    values: values.span, masks: masks.span, shape: matrix, maskCount: maskCount,
                    outputs: &meansSpan,
                    workspace: workspace)
                if withGradient {
                    var gradientSpan = gradient.mutableSpan
                    try reductions.gradient(
                        outputGradient: upstream.span, masks: masks.span, shape: matrix, maskCount: maskCount,
                        gradient: &gradientSpan, workspace: workspace)
                }
                return means[0]
            }
            let naive: () throws -> Float = {
                let means = Reference.MaskedReductions.means(
                    values: values, rows: rows, columns: columns, masks: masks, maskCount: maskCount)
                if withGradient {
                    Reference.MaskedReductions.meansGradient(
                        outputGradient: upstream, rows: rows, columns: columns, masks: masks,
                        maskCount: maskCount,
                        gradient: &naiveGradient)
                }
                return means[0]
            }
            return Prepared(
                work: work,
                maxRelativeError: { workspace in
                    _ = try fastloss(workspace)
                    let truth = Reference.MaskedReductions.means(
                        values: values.map(Double.init), rows: rows, columns: columns, masks: masks,
                        maskCount: maskCount)
                    let error = largestRelativeError(of: means, to: truth, floor: 1e-12)
                    guard withGradient else { return error }
                    var truthGradient = [Double](repeating: 0, count: rows * columns)
                    Reference.MaskedReductions.meansGradient(
                        outputGradient: upstream.map(Double.init), rows: rows, columns: columns, masks: masks,
                        maskCount: maskCount, gradient: &truthGradient)
                    return max(error, normwiseRelativeError(of: gradient, to: truthGradient))
                },
                fastloss: fastloss,
                naive: naive)
        }
    }
}
