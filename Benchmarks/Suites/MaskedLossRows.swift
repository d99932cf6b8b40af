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
    ///
    /// - Parameters:
    ///   - element: the type of predictions and gradient. The naive loop reads the same numbers as Float.
    ///   - tolerance: for the gradient; a value has `elementwiseTolerance`.
    static func gradientRows<R: MaskedGradientReference, Element: ModelOutputElement>(
        kernel: String, variant: String? = nil, loss: some MaskedLoss, reference: R.Type,
        element: Element.Type = Float.self, shapes: [ProblemShape] = ProblemShape.maskedValues,
        tolerance: Double = elementwiseTolerance, flopsPerElement: Int,
        predictions: @escaping (TrainingBatch) -> [Float]
    ) -> [Benchmark] {
        shapes.map { shape in
            Benchmark(
                kernel: kernel, variant: variant, mode: .valueAndGradient, shape: shape,
                tolerance: tolerance, isQuick: shape.isQuickMasked
            ) { context in
                let batch = context.cells.batch(cells: shape.rows, tokens: shape.columns)
                let elements = predictions(batch).map { Element($0) }
                let x = elements.map(\.float)
                var gradient = elements
                var naiveGradient = [Float](repeating: 0, count: shape.count)
                // Predictions are read and the gradient is written; targets are Float, the mask is Bool.
                let work = Work(
                    flops: flopsPerElement * batch.maskedCount,
                    bytes: (5 + 2 * MemoryLayout<Element>.size) * shape.count, limitedBy: .memory)
                let fastloss: (Workspace) throws -> Float = { workspace in
                    var span = gradient.mutableSpan
                    return Float(
                        try loss.valueAndGradient(
                            predictions: elements.span, targets: batch.targets.span,
                            mask: batch.mask.span, gradient: &span, workspace: workspace
                        ).value)
                }
                return Prepared(
                    work: work,
                    maxRelativeError: { workspace in
                        var truth = [Double](repeating: 0, count: shape.count)
                        let value = R.valueAndGradient(
                            x.map(Double.init), batch.targets.map(Double.init), batch.mask, gradient: &truth)
                        let error = relativeError(of: try fastloss(workspace), to: value)
                        // Of another type, the value is as accurate as that of Float.
                        guard error <= elementwiseTolerance else { return .infinity }
                        return max(
                            error, largestRelativeError(of: gradient.map(\.float), to: truth, floor: 1e-12))
                    },
                    fastloss: fastloss,
                    naive: {
                        R.valueAndGradient(x, batch.targets, batch.mask, gradient: &naiveGradient)
                    })
            }
        }
    }
}
