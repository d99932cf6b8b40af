// Value losses: each form, reduction, rule and update against the oracle's elements.

import FastLoss
import FastLossReference

enum MaskedLossTarget {
    private typealias Form = ElementwiseOracle.Form

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
        var mistakes: Set<ExpectedError> = []
        if targets.count != count || (mask?.count ?? count) != count
            || (hasGradient && gradient.count != count) || (perCell && values.count != rows)
        {
            mistakes.insert(.shape)
        }
        if hasGradient && !scale.isFinite { mistakes.insert(.parameter) }
        if mistakes.isEmpty {
            let groups = perCell ? (0..<rows).map { $0 * columns..<($0 + 1) * columns } : [0..<count]
            if rule == .error, groups.isEmpty || groups.contains(where: { !$0.contains(where: selects) }) {
                mistakes.insert(.empty)
            } else if form == .probabilities,
                (0..<count).contains(where: { selects($0) && !(predictions[$0] >= 0 && predictions[$0] <= 1) }
                )
            {
                mistakes.insert(.probability)
            }
        }

        var value: LossValue?
        var selected = 0
        let succeeded = try succeeds(expectingOneOf: mistakes) { () throws(LossError) in
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
            if mistakes == [.probability] { return }
            guard gradient.allSatisfy({ $0 == start }), values.allSatisfy({ $0 == -1 }) else {
                throw Wrong("an output was touched by a call that threw")
            }
            return
        }
        guard (value?.selectedCount ?? selected) == (0..<count).count(where: selects) else {
            throw Wrong("selected \(value?.selectedCount ?? selected) elements")
        }

        let oracle = ElementwiseOracle(form, predictions: predictions, targets: targets, mask: mask)
        for group in 0..<(perCell ? rows : 1) {
            let range = perCell ? group * columns..<(group + 1) * columns : 0..<count
            try oracle.judgeValue(
                "value \(group)", value?.value ?? Double(values[group]), of: range, reduction, rule)
            guard hasGradient else { continue }
            try oracle.judgeGradient(
                "gradient", gradient, of: range, reduction, rule, scale: Double(scale),
                start: update == .accumulate ? start : 0)
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
}
