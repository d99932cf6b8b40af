// The rows of an elementwise masked loss: real cells, scGPT's shapes, and one that is larger than any cache.

import BenchmarkData
import FastLoss
import FastLossReference

/// The reference of an elementwise masked loss, in any precision.
protocol MaskedReference {
    static func value<T: ReferenceScalar>(_ predictions: [T], _ targets: [T], _ mask: [Bool]) -> T
}

/// The reference of a loss with a gradient.
protocol MaskedGradientReference: MaskedReference {
    static func valueAndGradient<T: ReferenceScalar>(
        _ predictions: [T], _ targets: [T], _ mask: [Bool], gradient: inout [T]
    ) -> T
}

extension ProblemShape {
    /// The shapes of masked gene modelling: the real cells, integration, pretraining, and 59 MB that only
    /// memory can hold.
    static let maskedValues: [ProblemShape] = [
        ProblemShape(700, 765), ProblemShape(64, 1201), ProblemShape(512, 1200), ProblemShape(4096, 1201),
    ]

    /// Whether `--quick` keeps the shape.
    var isQuickMasked: Bool { rows < 4096 }
}

/// 4 ulp of a Float: what the losses promise for values and elementwise gradients.
let elementwiseTolerance = 4 * 0x1p-23

extension Suites {
    /// Rows of the value alone.
    ///
    /// - Parameters:
    ///   - flopsPerElement: of one selected element, as the guide in Harness/Benchmark.swift counts.
    ///   - predictions: what a model would output for a batch.
    static func valueRows<R: MaskedReference>(
        kernel: String, variant: String? = nil, loss: some MaskedMetric, reference: R.Type,
        flopsPerElement: Int,
        predictions: @escaping (TrainingBatch) -> [Float]
    ) -> [Benchmark] {
        ProblemShape.maskedValues.map { shape in
            Benchmark(
                kernel: kernel, variant: variant, mode: .value, shape: shape, tolerance: elementwiseTolerance,
                isQuick: shape.isQuickMasked
            ) { context in
                let batch = context.cells.batch(cells: shape.rows, tokens: shape.columns)
                let x = predictions(batch)
                // Predictions and targets are read as Float, the mask as Bool.
                let work = Work(
                    flops: flopsPerElement * batch.maskedCount, bytes: 9 * shape.count, limitedBy: .memory)
                let fastloss: (Workspace) throws -> Float = { workspace in
                    Float(
                        try loss.value(
                            predictions: x.span, targets: batch.targets.span, mask: batch.mask.span,
                            workspace: workspace
                        ).value)
                }
                return Prepared(
                    work: work,
                    maxRelativeError: { workspace in
                        let truth = R.value(x.map(Double.init), batch.targets.map(Double.init), batch.mask)
                        return relativeError(of: try fastloss(workspace), to: truth)
                    },
                    fastloss: fastloss,
                    naive: { R.value(x, batch.targets, batch.mask) })
            }
        }
    }

    /// Rows of value and gradient.
    static func gradientRows<R: MaskedGradientReference>(
        kernel: String, variant: String? = nil, loss: some MaskedLoss, reference: R.Type,
        flopsPerElement: Int,
        predictions: @escaping (TrainingBatch) -> [Float]
    ) -> [Benchmark] {
        ProblemShape.maskedValues.map { shape in
            Benchmark(
                kernel: kernel, variant: variant, mode: .valueAndGradient, shape: shape,
                tolerance: elementwiseTolerance, isQuick: shape.isQuickMasked
            ) { context in
                let batch = context.cells.batch(cells: shape.rows, tokens: shape.columns)
                let x = predictions(batch)
                var gradient = [Float](repeating: 0, count: shape.count)
                var naiveGradient = gradient
                // As for the value, and the gradient is written.
                let work = Work(
                    flops: flopsPerElement * batch.maskedCount, bytes: 13 * shape.count, limitedBy: .memory)
                let fastloss: (Workspace) throws -> Float = { workspace in
                    var span = gradient.mutableSpan
                    return Float(
                        try loss.valueAndGradient(
                            predictions: x.span, targets: batch.targets.span, mask: batch.mask.span,
                            gradient: &span,
                            workspace: workspace
                        ).value)
                }
                return Prepared(
                    work: work,
                    maxRelativeError: { workspace in
                        var truth = [Double](repeating: 0, count: shape.count)
                        let value = R.valueAndGradient(
                            x.map(Double.init), batch.targets.map(Double.init), batch.mask, gradient: &truth)
                        return max(
                            relativeError(of: try fastloss(workspace), to: value),
                            largestRelativeError(of: gradient, to: truth, floor: 1e-12))
                    },
                    fastloss: fastloss,
                    naive: {
                        R.valueAndGradient(x, batch.targets, batch.mask, gradient: &naiveGradient)
                    })
            }
        }
    }
}
