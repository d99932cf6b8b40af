// Masked mean squared error against the loop that squares one difference after the other.

import FastLoss
import FastLossReference

private enum MaskedMSEReference: MaskedGradientReference {
    static func value<T: ReferenceScalar>(_ predictions: [T], _ targets: [T], _ mask: [Bool]) -> T {
        Reference.MaskedMSE.value(predictions: predictions, targets: targets, mask: mask)
    }

    static func valueAndGradient<T: ReferenceScalar>(
        _ predictions: [T], _ targets: [T], _ mask: [Bool], gradient: inout [T]
    ) -> T {
        Reference.MaskedMSE.valueAndGradient(
            predictions: predictions, targets: targets, mask: mask, gradient: &gradient)
    }
}

extension Suites {
    static var maskedMSE: [Benchmark] {
        // Subtract, square, add.
        valueRows(
            kernel: "MaskedMSE", loss: MaskedMSE(), reference: MaskedMSEReference.self, flopsPerElement: 3,
            predictions: { $0.predictions() })
            // … and scale.
            + gradientRows(
                kernel: "MaskedMSE", loss: MaskedMSE(), reference: MaskedMSEReference.self,
                flopsPerElement: 4,
                predictions: { $0.predictions() })
            // Half the bytes of predictions and gradient. A gradient is rounded to 8 bits.
            + gradientRows(
                kernel: "MaskedMSE", variant: "bfloat16", loss: MaskedMSE(),
                reference: MaskedMSEReference.self, element: BFloat16.self,
                shapes: [ProblemShape(4096, 1201)],
                tolerance: 0x1p-8 + elementwiseTolerance, flopsPerElement: 4,
                predictions: { $0.predictions() })
    }
}
