// The oracle of the value losses, element by element, and the judgement of a value and of a gradient by it.

import FastLoss
import FastLossReference

/// A value loss of predictions and targets, each element as a loss of its own.
struct ElementwiseOracle {
    enum Form: CaseIterable { case squaredError, probabilities, logits, relativeError }

    private let truth: Elements<Double>
    private let naive: Elements<Float>
    private let mask: [Bool]?

    init(_ form: Form, predictions: [Float], targets: [Float], mask: [Bool]?) {
        truth = Elements(form, predictions, targets)
        naive = Elements(form, predictions, targets)
        self.mask = mask
    }

    func selects(_ index: Int) -> Bool { mask?[index] ?? true }

    /// Judges the value of the elements of `range`.
    func judgeValue(
        _ name: String, _ actual: Double, of range: Range<Int>, _ reduction: LossReduction,
        _ rule: EmptySelectionRule
    ) throws {
        let indices = range.filter(selects)
        guard !indices.isEmpty else {
            guard rule == .zero ? actual == 0 : actual.isNaN else { throw Wrong("\(name), empty: \(actual)") }
            return
        }
        let divisor = reduction == .mean ? Double(indices.count) : 1
        let sum = indices.reduce(0) { $0 + truth.values[$1] } / divisor
        let naiveSum = indices.reduce(Float(0)) { $0 + naive.values[$1] }
        let size = indices.reduce(0) { $0 + abs(truth.values[$1]) } / divisor
        let error = indices.reduce(0) { $0 + abs(Double(naive.values[$1]) - truth.values[$1]) }
        // Relative errors of either sign may overflow float on the way to their sum, as in PyTorch.
        let finite = indices.reduce(Float(0)) {
            naive.values[$1].isFinite ? $0 + abs(naive.values[$1]) : $0
        }
        if !sum.isNaN, !finite.isFinite { return }
        try judge(
            name, actual, truth: sum, naive: Double(naiveSum),
            allowed: error / divisor + rounding(size, ulps: 8))
    }

    /// Judges the gradient of the elements of `range`.
    ///
    /// - Parameters:
    ///   - scale: the factor of the gradient, before the mean's divisor.
    ///   - start: what an accumulated gradient started from, 0 for one that was overwritten.
    func judgeGradient(
        _ name: String, _ gradient: [Float], of range: Range<Int>, _ reduction: LossReduction,
        _ rule: EmptySelectionRule, scale: Double, start: Float
    ) throws {
        let indices = range.filter(selects)
        let factor = reduction == .mean ? scale / Double(indices.count) : scale
        let from = Double(start)
        for index in range {
            let actual = Double(gradient[index])
            guard selects(index) else {
                let isRight = indices.isEmpty && rule == .nan ? actual.isNaN : actual == from
                guard isRight else { throw Wrong("\(name)[\(index)] outside the mask is \(actual)") }
                continue
            }
            // The kernels double the scale first, which may overflow where the gradient does not.
            guard (2 * Float(factor)).isFinite else { continue }
            let exact = factor * truth.gradients[index]
            let plain = Float(factor) * naive.gradients[index]
            try judge(
                "\(name)[\(index)]", actual, truth: from + exact, naive: Double(start + plain),
                allowed: abs(Double(plain) - exact) + rounding(exact, ulps: 6) + rounding(from, ulps: 2))
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
