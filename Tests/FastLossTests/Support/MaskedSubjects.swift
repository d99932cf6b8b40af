// The elementwise masked losses as one list, so that what holds for all of them is tested once for each.

import FastLoss
import FastLossReference
import Testing

/// How the elements become numbers, over everything or cell by cell.
enum Aggregation: CaseIterable, Sendable {
    case mean, sum, meanPerCell, sumPerCell

    var isPerCell: Bool { self == .meanPerCell || self == .sumPerCell }
    var reduction: LossReduction { self == .mean || self == .meanPerCell ? .mean : .sum }
    var reference: Reference.Reduction { reduction == .mean ? .mean : .sum }
}

/// The inputs of one call.
struct MaskedInputs: Sendable {
    var predictions: [Float]
    var targets: [Float]
    var mask: [Bool]?
    var shape: MatrixShape

    var count: Int { predictions.count }
    func selects(_ index: Int) -> Bool { mask?[index] ?? true }
}

/// What one call gave.
struct MaskedResult: Equatable {
    /// One value, or one for each cell.
    var values: [Double]
    var selectedCount: Int
    /// Empty for a metric.
    var gradient: [Float]

    /// For comparisons by the bit, in which NaN equals itself.
    var bits: [UInt64] {
        values.map(\.bitPattern) + gradient.map { UInt64($0.bitPattern) } + [UInt64(selectedCount)]
    }
}

/// A masked loss with its oracle and with inputs from its domain.
struct MaskedSubject: Sendable, CustomTestStringConvertible {
    typealias Make = @Sendable (LossReduction, EmptySelectionRule) -> any MaskedMetric

    let testDescription: String
    let make: Make
    let predictions: @Sendable (inout RandomInputs, Int) -> [Float]
    let truth: MaskedLossOracle<Double>
    let naive: MaskedLossOracle<Float>
    var name: String { make(.mean, .error).kernel.name }
    var hasGradient: Bool { make(.mean, .error) is any MaskedLoss }

    static let all = losses + [relativeError]
    static let losses = [mse, probabilities, logits]

    static let mse = MaskedSubject(
        testDescription: "MaskedMSE", make: { MaskedMSE(reduction: $0, whenEmpty: $1) },
        predictions: { $0.predictions($1) }, truth: MaskedMSEReferenceTests.oracle(Double.self),
        naive: MaskedMSEReferenceTests.oracle(Float.self))
    static let probabilities = MaskedSubject(
        testDescription: "BernoulliNLL of probabilities",
        make: { BernoulliNLL(reduction: $0, whenEmpty: $1) },
        predictions: { $0.probabilities($1) },
        truth: BernoulliNLLReferenceTests.fromProbabilities(Double.self),
        naive: BernoulliNLLReferenceTests.fromProbabilities(Float.self))
    static let logits = MaskedSubject(
        testDescription: "BernoulliNLL of logits",
        make: { BernoulliNLL(from: .logits, reduction: $0, whenEmpty: $1) },
        predictions: { $0.normals($1, scale: 6) }, truth: BernoulliNLLReferenceTests.fromLogits(Double.self),
        naive: BernoulliNLLReferenceTests.fromLogits(Float.self))
    static let relativeError = MaskedSubject(
        testDescription: "MaskedRelativeError", make: { MaskedRelativeError(reduction: $0, whenEmpty: $1) },
        predictions: { $0.predictions($1) }, truth: .relativeError, naive: .relativeError)

    /// Inputs of a shape, a share of them selected; with no share given, there is no mask.
    func inputs(rows: Int = 1, columns: Int, selecting ratio: Double? = 0.4, seed: UInt64 = 7) -> MaskedInputs
    {
        var random = RandomInputs(seed: seed)
        let count = rows * columns
        return MaskedInputs(
            predictions: predictions(&random, count), targets: random.targets(count),
            mask: ratio.map { random.mask(count, ratio: $0) },
            shape: MatrixShape(rows: rows, columns: columns))
    }

    /// The fast call, with a gradient where the loss has one.
    func run(
        _ inputs: MaskedInputs, _ aggregation: Aggregation, whenEmpty: EmptySelectionRule = .error,
        scale: Float = 1,
        addingTo initial: [Float]? = nil, workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> MaskedResult {
        // Overwriting starts from what no loss writes, so that an element left out shows.
        var gradient = initial ?? [Float](repeating: -12345, count: inputs.count)
        var values = [Float](repeating: -12345, count: inputs.shape.rows)
        return try run(
            inputs, aggregation, whenEmpty: whenEmpty, scale: scale,
            update: initial == nil ? .overwrite : .accumulate,
            values: &values, gradient: &gradient, workspace: workspace)
    }

    /// The fast call into the caller's arrays, which keep what it leaves there, also when it throws.
    func run(
        _ inputs: MaskedInputs, _ aggregation: Aggregation, whenEmpty: EmptySelectionRule, scale: Float = 1,
        update: GradientUpdate = .overwrite, values: inout [Float], gradient: inout [Float],
        workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> MaskedResult {
        let metric = make(aggregation.reduction, whenEmpty)
        let (x, t, m) = (inputs.predictions.span, inputs.targets.span, inputs.mask?.span)
        var values = values.mutableSpan
        var gradientSpan = gradient.mutableSpan
        let count: Int
        var result: [Double] = []
        switch (metric as? any MaskedLoss, aggregation.isPerCell) {
        case (let loss?, true):
            count = try loss.valueAndGradientPerCell(
                predictions: x, targets: t, mask: m, shape: inputs.shape, values: &values,
                gradient: &gradientSpan,
                gradientScale: scale, update: update, workspace: workspace)
        case (nil, true):
            count = try metric.valuePerCell(
                predictions: x, targets: t, mask: m, shape: inputs.shape, values: &values,
                workspace: workspace)
        case (let loss, false):
            let value: LossValue
            if let loss {
                value = try loss.valueAndGradient(
                    predictions: x, targets: t, mask: m, gradient: &gradientSpan, gradientScale: scale,
                    update: update,
                    workspace: workspace)
            } else {
                value = try metric.value(predictions: x, targets: t, mask: m, workspace: workspace)
            }
            result = [value.value]
            count = value.selectedCount
        }
        if aggregation.isPerCell { result = values.indices.map { Double(values[$0]) } }
        return MaskedResult(
            values: result, selectedCount: count, gradient: metric is any MaskedLoss ? gradient : [])
    }

    /// The value without a gradient.
    func value(
        _ inputs: MaskedInputs, _ aggregation: Aggregation, workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> [Double] {
        try value(inputs.predictions, inputs, aggregation, workspace: workspace)
    }

    /// The same with predictions of any type in place of the inputs' own.
    func value<Element: ModelOutputElement>(
        _ predictions: [Element], _ inputs: MaskedInputs, _ aggregation: Aggregation,
        workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> [Double] {
        let metric = make(aggregation.reduction, .error)
        let (x, t, m) = (predictions.span, inputs.targets.span, inputs.mask?.span)
        guard aggregation.isPerCell else {
            return [try metric.value(predictions: x, targets: t, mask: m, workspace: workspace).value]
        }
        var values = [Float](repeating: -12345, count: inputs.shape.rows)
        var span = values.mutableSpan
        try metric.valuePerCell(
            predictions: x, targets: t, mask: m, shape: inputs.shape, values: &span, workspace: workspace)
        return values.map { Double($0) }
    }
}

extension MaskedLossOracle {
    /// What a fast call should give; cells are evaluated one by one, as losses of their own.
    func callAsFunction(_ inputs: MaskedInputs, _ aggregation: Aggregation) -> (values: [T], gradient: [T]) {
        let rows = aggregation.isPerCell ? inputs.shape.rows : 1
        let columns = rows == 0 ? 0 : inputs.count / rows
        var values: [T] = []
        var gradient: [T] = []
        for row in 0..<rows {
            let range = row * columns..<(row + 1) * columns
            let x = inputs.predictions[range].map { T($0) }
            var rowGradient = x
            values.append(
                reduce(
                    x, inputs.targets[range].map { T($0) }, range.map { inputs.selects($0) },
                    aggregation.reference,
                    &rowGradient))
            gradient += rowGradient
        }
        return (values, gradient)
    }

    /// The metric in the dress of a loss, with an empty gradient.
    static var relativeError: Self {
        Self(
            reduce: { x, t, mask, reduction, gradient in
                gradient = []
                return Reference.MaskedRelativeError.value(
                    predictions: x, targets: t, mask: mask, reduction: reduction)
            },
            perCell: { x, t, mask, rows, columns, gradient in
                gradient = []
                return Reference.MaskedRelativeError.perCellValues(
                    predictions: x, targets: t, mask: mask, rows: rows, columns: columns)
            })
    }
}

/// Checks of one subject against the truth.
extension MaskedSubject {
    /// A result against the oracle in ulp, and against the naive loop by the accuracy rule.
    func expectTruth(
        _ result: MaskedResult, of inputs: MaskedInputs, _ aggregation: Aggregation, scale: Float = 1,
        _ label: String = "", sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let (truth, naive) = (truth(inputs, aggregation), naive(inputs, aggregation))
        let values = result.values.map { Float($0) }
        let label = "\(label) \(aggregation) of \(inputs.shape.rows)×\(inputs.shape.columns)"
        expectWithinUlps(
            actual: values, oracle: truth.values, floor: 0, label, sourceLocation: sourceLocation)
        expectAsAccurateAsNaive(
            fast: values, naive: naive.values, truth: truth.values, label, sourceLocation: sourceLocation)
        guard hasGradient else { return }
        let gradient = truth.gradient.map { $0 * Double(scale) }
        expectWithinUlps(actual: result.gradient, oracle: gradient, label, sourceLocation: sourceLocation)
        expectAsAccurateAsNaive(
            fast: result.gradient, naive: naive.gradient.map { $0 * scale }, truth: gradient, label,
            sourceLocation: sourceLocation)
    }

    /// Every result of a golden against PyTorch's float64. For an empty selection the value is NaN and the
    /// gradient follows ``EmptySelectionRule/nan``: NaN, whereas the golden has no gradient there.
    func expectGolden(_ golden: Golden, input: String) throws {
        let inputs = MaskedInputs(
            predictions: try golden.floats(input), targets: try golden.floats("targets"),
            mask: try golden.bools("mask"),
            shape: MatrixShape(rows: try golden.int("rows"), columns: try golden.int("columns")))
        for (aggregation, name) in [(Aggregation.mean, "mean"), (.sum, "sum"), (.meanPerCell, "perCell")] {
            let result = try run(inputs, aggregation, whenEmpty: .nan)
            var values = try golden.truth(name)
            var gradient = hasGradient ? try golden.truth(name + "Gradient") : []
            let groups = aggregation.isPerCell ? inputs.shape.rows : 1
            for group in 0..<groups {
                let size = inputs.count / groups
                let range = group * size..<(group + 1) * size
                guard !range.contains(where: inputs.selects) else { continue }
                values[group] = .nan
                if hasGradient { for i in range { gradient[i] = .nan } }
            }
            expectWithinUlps(actual: result.values.map { Float($0) }, oracle: values, floor: 0, name)
            expectWithinUlps(actual: result.gradient, oracle: gradient, name + "Gradient")
        }
    }
}
