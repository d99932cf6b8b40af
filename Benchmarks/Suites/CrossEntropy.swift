// Cross-entropy: the real cell types, annotation with many types, and a large vocabulary.

import BenchmarkData
import FastLoss
import FastLossReference

extension Suites {
    static var crossEntropy: [Benchmark] {
        // The real cells have 10 types; the others stand for a fine annotation and for labels of an atlas.
        [(700, 10), (32, 50), (4096, 1000)].flatMap { rows, classes in
            [
                crossEntropy(ProblemShape(rows, classes), .value),
                crossEntropy(ProblemShape(rows, classes), .valueAndGradient),
            ]
        }
    }

    private static func crossEntropy(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        Benchmark(kernel: "CrossEntropy", mode: mode, shape: shape, tolerance: elementwiseTolerance) {
            context in
            let classes = shape.columns
            let batch = context.cells.batch(cells: shape.rows, tokens: 1)
            let labels = batch.cellTypes
            let logits = batch.classLogits(labels: labels, classes: classes)
            let loss = CrossEntropy()
            var gradient = [Float](repeating: 0, count: shape.count)
            var naiveGradient = gradient
            let withGradient = mode == .valueAndGradient
            // Subtract, exponential, add; a product more for the gradient. Logits are read, gradients
            // written.
            let work = Work(
                flops: (withGradient ? 4 : 3) * shape.count, bytes: (withGradient ? 8 : 4) * shape.count,
                limitedBy: .memory)
            let fastloss: (Workspace) throws -> Float = { workspace in
                guard withGradient else {
                    return Float(
                        try loss.value(
                            logits: logits.span, labels: labels.span, classes: classes, workspace: workspace
                        ).value)
                }
                var span = gradient.mutableSpan
                return Float(
                    try loss.valueAndGradient(
                        logits: logits.span, labels: labels.span, classes: classes, gradient: &span,
                        workspace: workspace
                    ).value)
            }
            let naive: () throws -> Float = {
                withGradient
                    ? Reference.CrossEntropy.valueAndGradient(
                        logits: logits, labels: labels, rows: shape.rows, classes: classes,
                        gradient: &naiveGradient)
                    : Reference.CrossEntropy.value(
                        logits: logits, labels: labels, rows: shape.rows, classes: classes)
            }
            return Prepared(
                work: work,
                maxRelativeError: { workspace in
                    var truth = [Double](repeating: 0, count: shape.count)
                    let value = Reference.CrossEntropy.valueAndGradient(
                        logits: logits.map(Double.init), labels: labels, rows: shape.rows, classes: classes,
                        gradient: &truth)
                    let error = relativeError(of: try fastloss(workspace), to: value)
                    return withGradient
                        ? max(error, largestRelativeError(of: gradient, to: truth, floor: 1e-12)) : error
                },
                fastloss: fastloss,
                naive: naive)
        }
    }
}
