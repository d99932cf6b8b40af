// Pooling token states into cell embeddings, average and weighted, against nested loops.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var tokenPooling: [Benchmark] {
        // Cells × tokens × width: integration from scratch and with the pretrained model.
        [ProblemShape(64, 1201, 128), ProblemShape(64, 1201, 512)].flatMap { shape in
            [averagePooling(shape, .value), averagePooling(shape, .valueAndGradient), weightedPooling(shape)]
        }
    }

    private static func averagePooling(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        Benchmark(
            kernel: "TokenPooling", variant: "average", mode: mode, shape: shape, tolerance: 1e-6,
            isQuick: shape.depth < 512
        ) { context in
            let states = tokenStates(shape, context)
            let tokens = TokenShape(cells: shape.rows, tokens: shape.columns, width: shape.depth)
            let withGradient = mode == .valueAndGradient
            let upstream = context.cells.embeddings(cells: shape.rows, depth: shape.depth)
            var embeddings = [Float](repeating: 0, count: shape.rows * shape.depth)
            var gradient = [Float](repeating: 0, count: withGradient ? shape.count : 0)
            var naiveGradient = gradient
            // One sum per state; the states are read, and their gradients written.
            let work = Work(
                flops: shape.count, bytes: (withGradient ? 8 : 4) * shape.count, limitedBy: .memory)
            let fastloss: (Workspace) throws -> Float = { workspace in
                var span = embeddings.mutableSpan
                try TokenPooling.average.value(
                    states: states.span, shape: tokens, embeddings: &span, workspace: workspace)
                if withGradient {
                    var gradientSpan = gradient.mutableSpan
                    try TokenPooling.average.gradient(
                        embeddingGradient: upstream.span, shape: tokens, gradient: &gradientSpan,
                        workspace: workspace)
                }
                return embeddings[0]
            }
            return Prepared(
                work: work,
                maxRelativeError: { workspace in
                    _ = try fastloss(workspace)
                    let truth = Reference.TokenPooling.average(
                        states: states.map(Double.init), cells: shape.rows, tokens: shape.columns,
                        width: shape.depth)
                    let error = normwiseRelativeError(of: embeddings, to: truth)
                    guard withGradient else { return error }
                    var truthGradient = [Double](repeating: 0, count: shape.count)
                    Reference.TokenPooling.averageGradient(
                        outputGradient: upstream.map(Double.init), cells: shape.rows, tokens: shape.columns,
                        width: shape.depth, gradient: &truthGradient)
                    return max(error, largestRelativeError(of: gradient, to: truthGradient, floor: 1e-12))
                },
                fastloss: fastloss,
                naive: {
                    let embeddings = Reference.TokenPooling.average(
                        states: states, cells: shape.rows, tokens: shape.columns, width: shape.depth)
                    if withGradient {
                        Reference.TokenPooling.averageGradient(
                            outputGradient: upstream, cells: shape.rows, tokens: shape.columns,
                            width: shape.depth,
                            gradient: &naiveGradient)
                    }
                    return embeddings[0]
                })
        }
    }

    /// scGPT's `w-pool`, with the token's value as its weight.
    private static func weightedPooling(_ shape: ProblemShape) -> Benchmark {
        Benchmark(
            kernel: "TokenPooling", variant: "w-pool", mode: .value, shape: shape, tolerance: 1e-6,
            isQuick: shape.depth < 512
        ) { context in
            let states = tokenStates(shape, context)
            let weights = context.cells.batch(cells: shape.rows, tokens: shape.columns).targets
            let tokens = TokenShape(cells: shape.rows, tokens: shape.columns, width: shape.depth)
            var embeddings = [Float](repeating: 0, count: shape.rows * shape.depth)
            var norms = [Double](repeating: 0, count: shape.rows)
            // A product and a sum per state.
            let work = Work(flops: 2 * shape.count, bytes: 4 * shape.count, limitedBy: .memory)
            let fastloss: (Workspace) throws -> Float = { workspace in
                var embeddingsSpan = embeddings.mutableSpan
                var normsSpan = norms.mutableSpan
                try NormalizedWeightedTokenPooling().value(
                    states: states.span, weights: weights.span, shape: tokens, embeddings: &embeddingsSpan,
                    norms: &normsSpan, workspace: workspace)
                return embeddings[0]
            }
            return Prepared(
                work: work,
                maxRelativeError: { workspace in
                    _ = try fastloss(workspace)
                    let truth = Reference.TokenPooling.weighted(
                        states: states.map(Double.init), weights: weights.map(Double.init), cells: shape.rows,
                        tokens: shape.columns, width: shape.depth, normalized: true)
                    return normwiseRelativeError(of: embeddings, to: truth)
                },
                fastloss: fastloss,
                naive: {
                    Reference.TokenPooling.weighted(
                        states: states, weights: weights, cells: shape.rows, tokens: shape.columns,
                        width: shape.depth, normalized: true)[0]
                })
        }
    }

    private static func tokenStates(_ shape: ProblemShape, _ context: BenchmarkContext) -> [Float] {
        context.cells.batch(cells: shape.rows, tokens: shape.columns)
            .tokenStates(depth: shape.depth, genes: context.cells.geneCount)
    }
}
