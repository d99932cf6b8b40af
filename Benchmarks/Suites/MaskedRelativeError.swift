// Masked relative error, the metric.

import FastLoss
import FastLossReference

private enum RelativeErrorReference: MaskedReference {
    static func value<T: ReferenceScalar>(_ predictions: [T], _ targets: [T], _ mask: [Bool]) -> T {
        Reference.MaskedRelativeError.value(predictions: predictions, targets: targets, mask: mask)
    }
}

extension Suites {
    static var maskedRelativeError: [Benchmark] {
        // Subtract, add 10⁻⁶, divide, add.
        valueRows(
            kernel: "MaskedRelativeError", loss: MaskedRelativeError(),
            reference: RelativeErrorReference.self,
            flopsPerElement: 4, predictions: { $0.predictions() })
    }
}
