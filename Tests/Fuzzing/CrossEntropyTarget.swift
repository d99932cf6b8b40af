// Cross-entropy: logits of any size, ignored and impossible labels, against the oracle row by row.

import FastLoss
import FastLossReference

enum CrossEntropyTarget {
    static func run(_ input: inout FuzzInput) throws {
        let (rows, classes) = (input.int(0...7), input.int(1...40))
        let ignored: Int32 = input.choice([-100, -1, 0])
        let reduction = input.choice([LossReduction.mean, .sum])
        let rule = input.choice([EmptySelectionRule.error, .zero, .nan])
        let logits = input.numbers(input.count(rows * classes))
        let labels = input.labels(rows, classes: classes, ignored: ignored)
        let scale = input.scale()
        let update = input.choice([GradientUpdate.overwrite, .accumulate])
        let start: Float = update == .accumulate ? 0.75 : -12345
        var gradient = [Float](repeating: start, count: input.count(rows * classes))
        let loss = CrossEntropy(ignoredLabel: ignored, reduction: reduction, whenEmpty: rule)
        let workspace = Workspace(workers: 1 + input.int(0...1))

        let kept = (0..<rows).filter { labels[$0] != ignored }
        var expected: ExpectedError?
        if logits.count != rows * classes || gradient.count != rows * classes {
            expected = .shape
        } else if !scale.isFinite {
            expected = .parameter
        } else if kept.contains(where: { !(0..<classes).contains(Int(labels[$0])) }) {
            expected = .label
        } else if kept.isEmpty, rule == .error {
            expected = .empty
        }

        var value = LossValue(value: 0, selectedCount: 0)
        let succeeded = try succeeds(expecting: expected) { () throws(LossError) in
            var span = gradient.mutableSpan
            value = try loss.valueAndGradient(
                logits: logits.span, labels: labels.span, classes: classes, gradient: &span,
                gradientScale: scale, update: update, workspace: workspace)
        }
        guard succeeded else {
            guard gradient.allSatisfy({ $0 == start }) else { throw Wrong("a call that threw wrote") }
            return
        }
        guard value.selectedCount == kept.count else { throw Wrong("\(value.selectedCount) rows") }
        let divisor = reduction == .mean ? Double(kept.count) : 1
        var (sum, naiveSum, size, error) = (0.0, Float(0), 0.0, 0.0)
        let from = update == .accumulate ? Double(start) : 0
        for row in 0..<rows {
            let range = row * classes..<(row + 1) * classes
            guard labels[row] != ignored else {
                for index in range where Double(gradient[index]) != from {
                    throw Wrong("gradient[\(index)] of an ignored row is \(gradient[index])")
                }
                continue
            }
            let z = Array(logits[range])
            // As documented. So is a row without a largest logit.
            let isNaN =
                z.contains { $0.isNaN || $0 == .infinity } || z.allSatisfy { $0 == -.infinity }
            let (truth, slope) = row64(z, labels[row], isNaN: isNaN)
            let (naive, naiveSlope) = row32(z, labels[row], isNaN: isNaN)
            sum += truth
            naiveSum += naive
            size += abs(truth)
            error += abs(Double(naive) - truth)
            for (index, place) in range.enumerated() {
                let exact = Double(scale) / divisor * slope[index]
                let plain = Float(Double(scale) / divisor) * naiveSlope[index]
                try judge(
                    "gradient[\(place)]", Double(gradient[place]), truth: from + exact,
                    naive: Double(Float(from) + plain),
                    allowed: abs(Double(plain) - exact) + rounding(exact, ulps: 8) + rounding(from, ulps: 2)
                        + rounding(Double(scale) / divisor * 0x1p-126, ulps: 1))
            }
        }
        if kept.isEmpty {
            guard rule == .zero ? value.value == 0 : value.value.isNaN else { throw Wrong("\(value.value)") }
            return
        }
        try judge(
            "value", value.value, truth: sum / divisor, naive: Double(naiveSum),
            allowed: error / divisor + rounding(size / divisor, ulps: 8))
    }

    private static func row64(_ z: [Float], _ label: Int32, isNaN: Bool) -> (Double, [Double]) {
        oracle(z.map { Double($0) }, label, isNaN)
    }

    private static func row32(_ z: [Float], _ label: Int32, isNaN: Bool) -> (Float, [Float]) {
        oracle(z, label, isNaN)
    }

    private static func oracle<T: ReferenceScalar>(_ z: [T], _ label: Int32, _ isNaN: Bool) -> (T, [T]) {
        var gradient = [T](repeating: 0, count: z.count)
        if isNaN { return (.nan, [T](repeating: .nan, count: z.count)) }
        let value = Reference.CrossEntropy.valueAndGradient(
            logits: z, labels: [label], rows: 1, classes: z.count, ignoredLabel: label == -100 ? -1 : -100,
            gradient: &gradient)
        return (value, gradient)
    }
}
