// Value losses: each form, reduction, rule and update against the oracle's elements.

import FastLoss
import FastLossReference

enum MaskedLossTarget {
    private enum Form: CaseIterable { case squaredError, probabilities, logits, relativeError }

    static func run(_ input: inout FuzzInput) throws {
        let form = input.choice(Form.allCases)
        let (rows, columns) = (input.int(0...5), input.int(0...37))
        let count = rows * columns
        let reduction = input.choice([LossReduction.mean, .sum])
        let rule = input.choice([EmptySelectionRule.error, .zero, .nan])
        let predictions = form == .probabilities ? input.probabilities(count) : input.numbers(count)
        let targets = input.numbers(input.count(count))
        let mask: [Bool]? = input.bool() ? input.mask(input.count(count)) : nil
        let scale = input.scale()
        let update = input.choice([GradientUpdate.overwrite, .accumulate])
        let perCell = input.bool()
        let start: Float = update == .accumulate ? 0.75 : -12345
        var gradient = [Float](repeating: start, count: input.count(count))
        var values = [Float](repeating: -1, count: input.count(rows))
        let metric = metric(form, reduction, rule)
        let workspace = Workspace(workers: 1 + input.int(0...1))
        let selects = { (index: Int) in mask?[index] ?? true }

        let hasGradient = form != .relativeError
        var expected: ExpectedError?
        if targets.count != count || (mask?.count ?? count) != count
            || (hasGradient && gradient.count != count) || (perCell && values.count != rows)
        {
            expected = .shape
        } else if hasGradient && !scale.isFinite {
            expected = .parameter
        } else {
            let groups = perCell ? (0..<rows).map { $0 * columns..<($0 + 1) * columns } : [0..<count]
            if rule == .error, groups.isEmpty || groups.contains(where: { !$0.contains(where: selects) }) {
                expected = .empty
            } else if form == .probabilities,
                (0..<count).contains(where: { selects($0) && !(predictions[$0] >= 0 && predictions[$0] <= 1) }
                )
            {
                expected = .probability
            }
        }

        var value: LossValue?
        var selected = 0
        let succeeded = try succeeds(expecting: expected) { () throws(LossError) in
            var gradientSpan = gradient.mutableSpan
            var valueSpan = values.mutableSpan
            let loss = metric as? any MaskedLoss
            switch (loss, perCell) {
            case (let loss?, true):
                selected = try loss.valueAndGradientPerCell(
                    predictions: predictions.span, targets: targets.span, mask: mask?.span,
                    shape: MatrixShape(rows: rows, columns: columns), values: &valueSpan,
                    gradient: &gradientSpan, gradientScale: scale, update: update, workspace: workspace)
            case (nil, true):
                selected = try metric.valuePerCell(
                    predictions: predictions.span, targets: targets.span, mask: mask?.span,
                    shape: MatrixShape(rows: rows, columns: columns), values: &valueSpan,
                    workspace: workspace)
            case (let loss?, false):
                value = try loss.valueAndGradient(
                    predictions: predictions.span, targets: targets.span, mask: mask?.span,
                    gradient: &gradientSpan, gradientScale: scale, update: update, workspace: workspace)
            case (nil, false):
                value = try metric.value(
                    predictions: predictions.span, targets: targets.span, mask: mask?.span,
                    workspace: workspace)
            }
        }
        guard succeeded else {
            if expected == .probability { return }
            guard gradient.allSatisfy({ $0 == start }), values.allSatisfy({ $0 == -1 }) else {
                throw Wrong("an output was touched by a call that threw")
            }
            return
        }
        guard (value?.selectedCount ?? selected) == (0..<count).count(where: selects) else {
            throw Wrong("selected \(value?.selectedCount ?? selected) elements")
        }

        let truth = Elements<Double>(form, predictions, targets)
        let naive = Elements<Float>(form, predictions, targets)
        for group in 0..<(perCell ? rows : 1) {
            let range = perCell ? group * columns..<(group + 1) * columns : 0..<count
            let indices = range.filter(selects)
            let actual = value?.value ?? Double(values[group])
            let divisor = reduction == .mean ? Double(indices.count) : 1
            if indices.isEmpty {
                guard rule == .zero ? actual == 0 : actual.isNaN else { throw Wrong("empty: \(actual)") }
            } else {
                let sum = indices.reduce(0) { $0 + truth.values[$1] } / divisor
                let naiveSum = indices.reduce(Float(0)) { $0 + naive.values[$1] }
                let size = indices.reduce(0) { $0 + abs(truth.values[$1]) } / divisor
                let error = indices.reduce(0) { $0 + abs(Double(naive.values[$1]) - truth.values[$1]) }
                try judge(
                    "value \(group)", actual, truth: sum, naive: Double(naiveSum),
                    allowed: error / divisor + rounding(size, ulps: 8))
            }
            guard hasGradient else { continue }
            let factor = Double(scale) / divisor
            let naiveFactor = reduction == .mean ? scale / Float(indices.count) : scale
            for index in range {
                let actual = Double(gradient[index])
                let from = update == .accumulate ? Double(start) : 0
                guard selects(index) else {
                    let isRight = indices.isEmpty && rule == .nan ? actual.isNaN : actual == from
                    guard isRight else { throw Wrong("gradient[\(index)] outside the mask is \(actual)") }
                    continue
                }
                // The kernels double the scale first, which may overflow where the gradient does not.
                guard (2 * naiveFactor).isFinite else { continue }
                let exact = factor * truth.gradients[index]
                let plain = naiveFactor * naive.gradients[index]
                try judge(
                    "gradient[\(index)]", actual, truth: from + exact, naive: Double(Float(from) + plain),
                    allowed: abs(Double(plain) - exact) + rounding(exact, ulps: 6) + rounding(from, ulps: 2))
            }
        }
    }

    private static func metric(
        _ form: Form, _ reduction: LossReduction, _ rule: EmptySelectionRule
    ) -> any MaskedMetric {
        switch form {
        case .squaredError: MaskedMSE(reduction: reduction, whenEmpty: rule)
        case .probabilities: BernoulliNLL(reduction: reduction, whenEmpty: rule)
        case .logits: BernoulliNLL(from: .logits, reduction: reduction, whenEmpty: rule)
        case .relativeError: MaskedRelativeError(reduction: reduction, whenEmpty: rule)
        }
    }

    /// The value and the gradient of each element as a loss of its own.
    private struct Elements<T: ReferenceScalar> {
        var values: [T]
        var gradients: [T]

        init(_ form: Form, _ predictions: [Float], _ targets: [Float]) {
            let (x, t) = (predictions.map { T($0) }, targets.map { T($0) })
            let mask = [Bool](repeating: true, count: x.count)
            gradients = x
            switch form {
            case .squaredError:
                values = Reference.MaskedMSE.perCellValuesAndGradient(
                    predictions: x, targets: t, mask: mask, rows: x.count, columns: 1, gradient: &gradients)
            case .probabilities:
                values = Reference.BernoulliNLL.perCellValuesAndGradient(
                    probabilities: x, targets: t, mask: mask, rows: x.count, columns: 1, gradient: &gradients)
            case .logits:
                values = Reference.BernoulliNLL.perCellValuesAndGradientFromLogits(
                    logits: x, targets: t, mask: mask, rows: x.count, columns: 1, gradient: &gradients)
            case .relativeError:
                values = Reference.MaskedRelativeError.perCellValues(
                    predictions: x, targets: t, mask: mask, rows: x.count, columns: 1)
            }
        }
    }
}
