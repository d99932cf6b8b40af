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
        var mistakes: Set<ExpectedError> = []
        if logits.count != rows * classes || gradient.count != rows * classes { mistakes.insert(.shape) }
        if !scale.isFinite { mistakes.insert(.parameter) }
        if kept.contains(where: { !(0..<classes).contains(Int(labels[$0])) }) { mistakes.insert(.label) }
        if mistakes.isEmpty, kept.isEmpty, rule == .error { mistakes.insert(.empty) }

        var value = LossValue(value: 0, selectedCount: 0)
        let succeeded = try succeeds(expectingOneOf: mistakes) { () throws(LossError) in
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
        let oracle = CrossEntropyOracle(logits: logits, labels: labels, classes: classes, ignored: ignored)
        try oracle.judgeValue("value", value.value, reduction, rule)
        try oracle.judgeGradient(
            "gradient", gradient, reduction, scale: Double(scale), start: update == .accumulate ? start : 0)
    }
}

/// The oracle of cross-entropy, row by row.
struct CrossEntropyOracle {
    private var truth: [(value: Double, slopes: [Double])?] = []
    private var naive: [(value: Float, slopes: [Float])?] = []
    private let classes: Int
    private let keptCount: Int

    init(logits: [Float], labels: [Int32], classes: Int, ignored: Int32) {
        self.classes = classes
        keptCount = labels.count { $0 != ignored }
        for (row, label) in labels.enumerated() {
            guard label != ignored else {
                truth.append(nil)
                naive.append(nil)
                continue
            }
            let z = logits[row * classes..<(row + 1) * classes]
            // As documented. So is a row without a largest logit.
            let isNaN = z.contains { $0.isNaN || $0 == .infinity } || z.allSatisfy { $0 == -.infinity }
            truth.append(Self.row(z.map { Double($0) }, label, isNaN))
            naive.append(Self.row(Array(z), label, isNaN))
        }
    }

    private static func row<T: ReferenceScalar>(_ z: [T], _ label: Int32, _ isNaN: Bool) -> (T, [T]) {
        var gradient = [T](repeating: 0, count: z.count)
        if isNaN { return (.nan, [T](repeating: .nan, count: z.count)) }
        let value = Reference.CrossEntropy.valueAndGradient(
            logits: z, labels: [label], rows: 1, classes: z.count, ignoredLabel: label == -100 ? -1 : -100,
            gradient: &gradient)
        return (value, gradient)
    }

    private func divisor(_ reduction: LossReduction) -> Double {
        reduction == .mean ? Double(keptCount) : 1
    }

    func judgeValue(
        _ name: String, _ actual: Double, _ reduction: LossReduction, _ rule: EmptySelectionRule
    ) throws {
        guard keptCount > 0 else {
            guard rule == .zero ? actual == 0 : actual.isNaN else { throw Wrong("\(name), empty: \(actual)") }
            return
        }
        var (sum, naiveSum, size, error) = (0.0, Float(0), 0.0, 0.0)
        for (truth, naive) in zip(truth, naive) {
            guard let truth, let naive else { continue }
            sum += truth.value
            naiveSum += naive.value
            size += abs(truth.value)
            error += abs(Double(naive.value) - truth.value)
        }
        let divisor = divisor(reduction)
        try judge(
            name, actual, truth: sum / divisor, naive: Double(naiveSum),
            allowed: error / divisor + rounding(size / divisor, ulps: 8))
    }

    /// Judges the gradient of the logits.
    ///
    /// - Parameters:
    ///   - scale: the factor of the gradient, before the mean's divisor.
    ///   - start: what an accumulated gradient started from, 0 for one that was overwritten.
    func judgeGradient(
        _ name: String, _ gradient: [Float], _ reduction: LossReduction, scale: Double, start: Float
    ) throws {
        let factor = scale / divisor(reduction)
        let from = Double(start)
        for row in truth.indices {
            let range = row * classes..<(row + 1) * classes
            guard let truth = truth[row], let naive = naive[row] else {
                for index in range where Double(gradient[index]) != from {
                    throw Wrong("\(name)[\(index)] of an ignored row is \(gradient[index])")
                }
                continue
            }
            for (index, place) in range.enumerated() {
                let exact = factor * truth.slopes[index]
                let plain = Float(factor) * naive.slopes[index]
                try judge(
                    "\(name)[\(place)]", Double(gradient[place]), truth: from + exact,
                    naive: Double(start + plain),
                    allowed: abs(Double(plain) - exact) + rounding(exact, ulps: 8) + rounding(from, ulps: 2)
                        + rounding(factor * 0x1p-126, ulps: 1))
            }
        }
    }
}
