// Gradient reversal of a cell embedding's gradient: a pass over memory, which limits any implementation.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var gradientReversal: [Benchmark] {
        [ProblemShape(64, 512), ProblemShape(4096, 512)].map { shape in
            Benchmark(kernel: "GradientReversal", mode: .valueAndGradient, shape: shape, tolerance: 0) {
                context in
                let gradient = context.cells.embeddings(cells: shape.rows, depth: shape.columns)
                var reversed = [Float](repeating: 0, count: shape.count)
                var naiveReversed = reversed
                // One product; one Float read, one written.
                let work = Work(flops: shape.count, bytes: 8 * shape.count, limitedBy: .memory)
                let fastloss: (Workspace) throws -> Float = { _ in
                    var span = reversed.mutableSpan
                    try GradientReversal().backward(gradient: gradient.span, reversed: &span)
                    return reversed[shape.count - 1]
                }
                return Prepared(
                    work: work,
                    maxRelativeError: { workspace in
                        _ = try fastloss(workspace)
                        return largestRelativeError(
                            of: reversed,
                            to: Reference.GradientReversal.reversed(gradient: gradient.map(Double.init)),
                            floor: 1e-12)
                    },
                    fastloss: fastloss,
                    naive: {
                        naiveReversed = Reference.GradientReversal.reversed(gradient: gradient)
                        return naiveReversed[shape.count - 1]
                    })
            }
        }
    }
}
