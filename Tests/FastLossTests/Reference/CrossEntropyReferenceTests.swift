// The oracle of cross-entropy against PyTorch and central differences.

import FastLossReference
import Testing

@Suite struct CrossEntropyReferenceTests {
    static let reductions: [(Reference.Reduction, String)] = [(.mean, "mean"), (.sum, "sum")]

    @Test(arguments: try Golden.cases(of: "CrossEntropy"))
    func matchesPyTorch(_ golden: Golden) throws {
        let labels = try golden.int32s("labels")
        let (rows, classes) = (try golden.int("rows"), try golden.int("classes"))
        for (reduction, name) in Self.reductions {
            var gradient = [Double].untouched(rows * classes)
            let value = Reference.CrossEntropy.valueAndGradient(
                logits: try golden.doubles("logits"), labels: labels, rows: rows, classes: classes,
                reduction: reduction, gradient: &gradient)
            expectClose([value], try golden.truth(name), Tolerances.oracle, name)
            expectClose(gradient, try golden.truth(name + "Gradient"), Tolerances.oracle, name + "Gradient")

            var naive = [Float].untouched(rows * classes)
            let naiveValue = Reference.CrossEntropy.valueAndGradient(
                logits: try golden.floats("logits"), labels: labels, rows: rows, classes: classes,
                reduction: reduction, gradient: &naive)
            // Against the truth: float32 PyTorch reports a confident row's loss as exactly zero.
            expectNormwise(
                actual: [naiveValue], oracle: try golden.truth(name), tolerance: Tolerances.naiveNormwise,
                name)
            expectNormwise(
                actual: naive, oracle: try golden.truth(name + "Gradient"),
                tolerance: Tolerances.naiveNormwise, name + "Gradient")
        }
    }

    @Test func gradientMatchesCentralDifferences() {
        var random = RandomInputs(seed: 4)
        let logits = random.normals(6 * 5, scale: 3).doubles
        let labels = random.labels(6, classes: 5, ignored: 0.3)
        for (reduction, name) in Self.reductions {
            var gradient = logits
            _ = Reference.CrossEntropy.valueAndGradient(
                logits: logits, labels: labels, rows: 6, classes: 5, reduction: reduction,
                gradient: &gradient)
            expectCentralDifferences(
                of: {
                    Reference.CrossEntropy.value(
                        logits: $0, labels: labels, rows: 6, classes: 5, reduction: reduction)
                }, at: logits, gradient: gradient, name)
        }
    }

    /// 1 + 4e^−40 is 1 in Double; the loss is not zero for that.
    @Test func confidentRowKeepsItsLoss() {
        let value = Reference.CrossEntropy.value(
            logits: [20, -20, -20, -20, -20], labels: [0], rows: 1, classes: 5)
        expectClose(value, 4 * Double.exp(-40), Tolerances.oracle)
    }
}
