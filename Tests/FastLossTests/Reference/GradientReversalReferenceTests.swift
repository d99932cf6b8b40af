// Both gradients around a gradient reversal, against PyTorch.

import FastLossReference
import Testing

@Suite struct GradientReversalReferenceTests {
    /// A linear discriminator behind the reversal: its weights get the plain gradient, the embedding −λ times
    /// the gradient of the discriminator's input.
    @Test(arguments: try Golden.cases(of: "GradientReversal"))
    func matchesPyTorch(_ golden: Golden) throws {
        let (rows, columns) = (try golden.int("rows"), try golden.int("columns"))
        let classes = try golden.int("classes")
        let (embeddings, weights) = (try golden.doubles("embeddings"), try golden.doubles("weights"))
        var logits = [Double](repeating: 0, count: rows * classes)
        for row in 0..<rows {
            for j in 0..<classes {
                for d in 0..<columns {
                    logits[row * classes + j] += embeddings[row * columns + d] * weights[j * columns + d]
                }
            }
        }
        var logitsGradient = logits
        let value = Reference.CrossEntropy.valueAndGradient(
            logits: logits, labels: try golden.int32s("labels"), rows: rows, classes: classes,
            gradient: &logitsGradient)
        var weightsGradient = [Double](repeating: 0, count: classes * columns)
        var inputGradient = [Double](repeating: 0, count: rows * columns)
        for row in 0..<rows {
            for j in 0..<classes {
                let factor = logitsGradient[row * classes + j]
                for d in 0..<columns {
                    weightsGradient[j * columns + d] += factor * embeddings[row * columns + d]
                    inputGradient[row * columns + d] += factor * weights[j * columns + d]
                }
            }
        }
        let embeddingsGradient = Reference.GradientReversal.reversed(
            gradient: inputGradient, strength: try golden.double("strength"))

        expectClose([value], try golden.truth("value"), Tolerances.oracle, "value")
        for (name, actual) in [
            ("logitsGradient", logitsGradient), ("weightsGradient", weightsGradient),
            ("embeddingsGradient", embeddingsGradient),
        ] {
            expectNormwise(
                actual: actual, oracle: try golden.truth(name), tolerance: Tolerances.oracleNormwise, name)
        }
    }
}
