// The oracle of ECS and CCE, with the error that each row's gradient may have.

import FastLoss
import FastLossReference

/// The value and the gradients of a loss over pairs of cells.
struct PairOracle {
    var value: Double
    var allowedValue: Double
    var first: RowGradients
    var second = RowGradients(width: 0)

    func judgeValue(_ name: String, _ actual: Double) throws {
        try judge(name, actual, truth: value, naive: 0, allowed: allowedValue)
    }

    static func hasOnlyOrdinarySizes(_ values: [Float]) -> Bool {
        values.allSatisfy { $0 == 0 || (abs($0) > 1e-18 && abs($0) < 1e25) }
    }

    /// ECS; nil if the embeddings have sizes for which there is no bound.
    static func elastic(
        _ x: [Float], _ shape: MatrixShape, threshold: Float, scale: Double
    ) -> PairOracle? {
        guard hasOnlyOrdinarySizes(x) else { return nil }
        let truth = Reference.ElasticCellSimilarity.evaluate(
            embeddings: x.map { Double($0) }, rows: shape.rows, columns: shape.columns,
            threshold: Double(threshold), gradientScale: scale)
        let similarities = Reference.CosineSimilarity.matrix(
            embeddings: x.map { Double($0) }, rows: shape.rows, columns: shape.columns)
        var gradient = RowGradients(truth.gradient, of: x, shape, floor: 1e-12) {
            abs(scale) * 16e-6 / Double(shape.rows) / $0
        }
        // The gradient jumps at 0, where float may see the other sign.
        if !similarities.allSatisfy({ abs($0) > 1e-6 }) {
            gradient.allowed = gradient.allowed.map { _ in nil }
        }
        return PairOracle(value: truth.value, allowedValue: 4e-6, first: gradient)
    }

    /// CCE; nil if the embeddings have sizes for which there is no bound.
    static func contrastive(
        _ first: [Float], _ second: [Float], _ shape: MatrixShape, temperature: Float, scale: Double
    ) -> PairOracle? {
        guard hasOnlyOrdinarySizes(first + second) else { return nil }
        let truth = Reference.ContrastiveCellEmbedding.evaluate(
            first: first.map { Double($0) }, second: second.map { Double($0) }, rows: shape.rows,
            columns: shape.columns, temperature: Double(temperature), gradientScale: scale)
        let logit = 1 / Double(temperature)
        let unit = abs(scale) * logit * (4e-6 + 4e-6 * logit)
        return PairOracle(
            value: truth.value, allowedValue: 4e-6 * logit + 1e-6 * truth.value,
            first: RowGradients(truth.firstGradient, of: first, shape, floor: 1e-8) { unit / $0 },
            second: RowGradients(truth.secondGradient, of: second, shape, floor: 1e-8) { unit / $0 })
    }
}

/// The gradient of embeddings, and the largest error of each row; nil for a row without a bound.
struct RowGradients {
    var truth: [Double] = []
    var allowed: [Double?] = []
    private let width: Int

    init(width: Int) { self.width = width }

    /// A gradient whose errors depend on the length of the row.
    init(
        _ truth: [Double], of x: [Float], _ shape: MatrixShape, floor: Double, allowed: (Double) -> Double
    ) {
        self.truth = truth
        width = shape.columns
        self.allowed = (0..<shape.rows).map { row in
            let range = row * shape.columns..<(row + 1) * shape.columns
            let length = range.reduce(0) { $0 + Double(x[$1]) * Double(x[$1]) }.squareRoot()
            // Next to the floor, float may see the other side of it.
            guard abs(length - floor) >= 1e-3 * floor else { return nil }
            let bound = allowed(max(length, floor))
            // Gradients of rows near the floor exceed float.
            return bound < 1e30 ? bound : nil
        }
    }

    /// The sum of two terms' gradients of the same embeddings.
    static func + (a: RowGradients, b: RowGradients) -> RowGradients {
        var sum = a
        sum.truth = zip(a.truth, b.truth).map(+)
        sum.allowed = zip(a.allowed, b.allowed).map { a, b in a.flatMap { a in b.map { a + $0 } } }
        return sum
    }

    /// Judges a gradient that started from `start`, with two roundings of each term.
    func judgeGradient(_ name: String, _ actual: [Float], start: Double) throws {
        for index in truth.indices {
            guard let bound = allowed[index / width] else { continue }
            try judge(
                "\(name)[\(index)]", Double(actual[index]), truth: start + truth[index], naive: 0,
                allowed: bound + rounding(truth[index], ulps: 4) + rounding(start, ulps: 4))
        }
    }
}
