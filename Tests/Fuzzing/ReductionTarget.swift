// Masked reductions and token pooling, values and gradients, against sums of the oracle.

import FastLoss
import FastLossReference

enum ReductionTarget {
    static func run(_ input: inout FuzzInput) throws {
        let workspace = Workspace(workers: 1 + input.int(0...1))
        if input.bool() { try reductions(&input, workspace) } else { try pooling(&input, workspace) }
    }

    private static func reductions(_ input: inout FuzzInput, _ workspace: Workspace) throws {
        let shape = MatrixShape(rows: input.int(0...6), columns: input.int(0...35))
        let masks = input.int(0...5)
        let values = input.numbers(input.count(shape.rows * shape.columns))
        let selections = input.mask(input.count(masks * shape.columns))
        let reduction = input.choice([LossReduction.mean, .sum])
        let rule = input.choice([EmptySelectionRule.error, .zero, .nan])
        var outputs = [Float](repeating: -12345, count: shape.rows * masks)
        var expected: ExpectedError?
        let counts =
            selections.count == masks * shape.columns
            ? (0..<masks).map { mask in
                (0..<shape.columns).count { selections[mask * shape.columns + $0] }
            } : []
        if values.count != shape.rows * shape.columns || selections.count != masks * shape.columns {
            expected = .shape
        } else if rule == .error, counts.contains(0), reduction == .mean {
            expected = .empty
        }
        // A sum over nothing has a rule of its own, which the tests of the type state.
        if reduction == .sum, counts.contains(0) { return }
        let loss = MaskedReductions(reduction: reduction, whenEmpty: rule)
        let succeeded = try succeeds(expecting: expected) { () throws(LossError) in
            var span = outputs.mutableSpan
            try loss.value(
                values: values.span, masks: selections.span, shape: shape, maskCount: masks, outputs: &span,
                workspace: workspace)
        }
        guard succeeded else {
            guard outputs.allSatisfy({ $0 == -12345 }) else { throw Wrong("a call that threw wrote") }
            return
        }
        for row in 0..<shape.rows {
            for mask in 0..<masks {
                let actual = Double(outputs[row * masks + mask])
                let chosen = (0..<shape.columns).filter { selections[mask * shape.columns + $0] }
                    .map { values[row * shape.columns + $0] }
                if chosen.isEmpty {
                    guard rule == .zero ? actual == 0 : actual.isNaN else { throw Wrong("empty: \(actual)") }
                    continue
                }
                try judgeSum(
                    "row \(row), mask \(mask)", actual, chosen,
                    divisor: reduction == .mean ? Double(chosen.count) : 1)
            }
        }
    }

    private static func pooling(_ input: inout FuzzInput, _ workspace: Workspace) throws {
        let shape = TokenShape(cells: input.int(0...3), tokens: input.int(0...9), width: input.int(0...19))
        let weightings = input.int(1...3)
        let states = input.numbers(input.count(shape.cells * shape.tokens * shape.width))
        let weights = input.numbers(input.count(shape.cells * weightings * shape.tokens))
        let isRight =
            states.count == shape.cells * shape.tokens * shape.width
            && weights.count == shape.cells * weightings * shape.tokens
        var embeddings = [Float](repeating: -12345, count: shape.cells * weightings * shape.width)
        let succeeded = try succeeds(expecting: isRight ? nil : .shape) { () throws(LossError) in
            var span = embeddings.mutableSpan
            try WeightedTokenPooling().value(
                states: states.span, weights: weights.span, shape: shape, weightings: weightings,
                embeddings: &span, workspace: workspace)
        }
        guard succeeded else { return }
        for cell in 0..<shape.cells {
            for weighting in 0..<weightings {
                for column in 0..<shape.width {
                    let place = (cell * weightings + weighting) * shape.width + column
                    let pairs = (0..<shape.tokens).map { token in
                        (
                            weights[(cell * weightings + weighting) * shape.tokens + token],
                            states[(cell * shape.tokens + token) * shape.width + column]
                        )
                    }
                    try judgeProducts(
                        "embedding \(place)", Double(embeddings[place]), pairs,
                        inSinglePrecision: weightings > 1)
                }
            }
        }
    }

    private static func judgeSum(
        _ name: @autoclosure () -> String, _ actual: Double, _ terms: [Float], divisor: Double
    ) throws {
        let truth = terms.reduce(0) { $0 + Double($1) } / divisor
        let size = terms.reduce(0) { $0 + abs(Double($1)) } / divisor
        // The largest partial sum of any order.
        let naive = terms.reduce(Float(0)) { $0 + abs($1) }
        try judge(
            name(), actual, truth: truth, naive: Double(naive),
            allowed: rounding(size, ulps: Double(terms.count) + 2))
    }

    /// - Parameter inSinglePrecision: whether the sum is a product of matrices in float, not a sum in double.
    private static func judgeProducts(
        _ name: @autoclosure () -> String, _ actual: Double, _ pairs: [(Float, Float)],
        inSinglePrecision: Bool
    ) throws {
        let truth = pairs.reduce(0) { $0 + Double($1.0) * Double($1.1) }
        let size = pairs.reduce(0) { $0 + abs(Double($1.0) * Double($1.1)) }
        let naive = pairs.reduce(Float(0)) { $0 + abs($1.0 * $1.1) }
        // Finite terms that overflow float can meet an infinity of the other sign, as in PyTorch.
        let finite = pairs.reduce(Float(0)) {
            $1.0.isFinite && $1.1.isFinite ? $0 + abs($1.0 * $1.1) : $0
        }
        if inSinglePrecision, truth.isInfinite, !finite.isFinite { return }
        try judge(
            name(), actual, truth: truth, naive: Double(naive),
            allowed: rounding(size, ulps: Double(pairs.count) + 2)
                + Double(pairs.count) * 0x1p-149)
    }
}
