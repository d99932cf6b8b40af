// ECS, CCE and the cosine matrix: rows of very different lengths, equal rows and zero rows against the oracle;
// rows with NaN or infinity must propagate.

import FastLoss
import FastLossReference

enum SimilarityTarget {
    static func run(_ input: inout FuzzInput) throws {
        let shape = MatrixShape(rows: input.int(1...9), columns: input.int(1...21))
        let first = embeddings(&input, shape)
        let second = embeddings(&input, shape)
        let scale = input.choice([Float(1), 0.5, -3])
        let workspace = Workspace(workers: 1 + input.int(0...1))
        switch input.int(0...2) {
        case 0: try elastic(&input, first, shape, scale, workspace)
        case 1: try contrastive(&input, first, second, shape, scale, workspace)
        default: try cosine(first, shape, workspace)
        }
    }

    /// Embeddings in which rows repeat, are scaled by up to 10^±18, and are zero.
    private static func embeddings(_ input: inout FuzzInput, _ shape: MatrixShape) -> [Float] {
        let kind = input.choice([FuzzInput.Numbers.ordinary, .ordinary, .integers, .mixed])
        var rows: [[Float]] = []
        for _ in 0..<shape.rows {
            if input.rarely(8), let earlier = rows.last {
                rows.append(earlier)
                continue
            }
            let factor: Float = input.rarely(8) ? input.choice([0, 1e18, 1e-10]) : 1
            rows.append((0..<shape.columns).map { _ in factor * input.number(kind) })
        }
        return rows.flatMap(\.self)
    }

    private static func hasOnlyOrdinarySizes(_ values: [Float]) -> Bool {
        values.allSatisfy { $0 == 0 || (abs($0) > 1e-18 && abs($0) < 1e25) }
    }

    private static func elastic(
        _ input: inout FuzzInput, _ x: [Float], _ shape: MatrixShape, _ scale: Float, _ workspace: Workspace
    ) throws {
        let threshold = input.rarely(16) ? input.number(.bits) : Float(input.int(-10...10)) / 10
        var gradient = [Float](repeating: -12345, count: x.count)
        var value = 0.0
        let isValid = threshold >= -1 && threshold <= 1
        let succeeded = try succeeds(expecting: isValid ? nil : .parameter) { () throws(LossError) in
            var span = gradient.mutableSpan
            value = try ElasticCellSimilarity(threshold: threshold).valueAndGradient(
                embeddings: x.span, shape: shape, gradient: &span, gradientScale: scale, workspace: workspace
            ).value
        }
        guard succeeded else { return }
        guard x.allSatisfy(\.isFinite) else {
            guard !value.isFinite || shape.rows == 1 else { throw Wrong("NaN is lost: \(value)") }
            return
        }
        guard hasOnlyOrdinarySizes(x) else { return }
        let truth = Reference.ElasticCellSimilarity.evaluate(
            embeddings: x.map { Double($0) }, rows: shape.rows, columns: shape.columns,
            threshold: Double(threshold), gradientScale: Double(scale))
        try judge("ECS", value, truth: truth.value, naive: 0, allowed: 4e-6)
        let similarities = Reference.CosineSimilarity.matrix(
            embeddings: x.map { Double($0) }, rows: shape.rows, columns: shape.columns)
        // The gradient jumps at 0, where float may see the other sign.
        guard similarities.allSatisfy({ abs($0) > 1e-6 }) else { return }
        try rows(gradient, truth.gradient, x, shape, "ECS") {
            Double(abs(scale)) * 16e-6 / Double(shape.rows) / $0
        }
    }

    private static func contrastive(
        _ input: inout FuzzInput, _ first: [Float], _ second: [Float], _ shape: MatrixShape, _ scale: Float,
        _ workspace: Workspace
    ) throws {
        let temperature = input.rarely(16) ? input.number(.bits) : Float(input.int(1...20)) / 10
        let isValid = temperature >= .leastNormalMagnitude && temperature.isFinite
        var (firstGradient, secondGradient) = (first, second)
        var value = 0.0
        let succeeded = try succeeds(expecting: isValid ? nil : .parameter) { () throws(LossError) in
            var firstSpan = firstGradient.mutableSpan
            var secondSpan = secondGradient.mutableSpan
            value = try ContrastiveCellEmbedding(temperature: temperature).valueAndGradient(
                first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
                secondGradient: &secondSpan, gradientScale: scale, workspace: workspace
            ).value
        }
        guard succeeded, temperature >= 0.1 && temperature <= 10 else { return }
        guard first.allSatisfy(\.isFinite), second.allSatisfy(\.isFinite) else {
            guard value.isNaN || shape.rows == 1 else { throw Wrong("NaN is lost: \(value)") }
            return
        }
        guard hasOnlyOrdinarySizes(first + second) else { return }
        let truth = Reference.ContrastiveCellEmbedding.evaluate(
            first: first.map { Double($0) }, second: second.map { Double($0) }, rows: shape.rows,
            columns: shape.columns, temperature: Double(temperature), gradientScale: Double(scale))
        let logit = 1 / Double(temperature)
        try judge("CCE", value, truth: truth.value, naive: 0, allowed: 4e-6 * logit + 1e-6 * truth.value)
        let unit = Double(abs(scale)) * logit * (4e-6 + 4e-6 * logit)
        try rows(firstGradient, truth.firstGradient, first, shape, "CCE's first", floor: 1e-8) { unit / $0 }
        try rows(secondGradient, truth.secondGradient, second, shape, "CCE's second", floor: 1e-8) {
            unit / $0
        }
    }

    private static func cosine(_ x: [Float], _ shape: MatrixShape, _ workspace: Workspace) throws {
        var similarities = [Float](repeating: -12345, count: shape.rows * shape.rows)
        _ = try succeeds(expecting: nil) { () throws(LossError) in
            var span = similarities.mutableSpan
            try CosineSimilarity().matrix(
                embeddings: x.span, shape: shape, similarities: &span, workspace: workspace)
        }
        let rowIsFinite = (0..<shape.rows).map { row in
            x[row * shape.columns..<(row + 1) * shape.columns].allSatisfy(\.isFinite)
        }
        let ordinary = hasOnlyOrdinarySizes(x)
        let truth =
            ordinary
            ? Reference.CosineSimilarity.matrix(
                embeddings: x.map { Double($0) }, rows: shape.rows, columns: shape.columns) : []
        for i in 0..<shape.rows {
            for j in 0..<shape.rows {
                let actual = Double(similarities[i * shape.rows + j])
                if !rowIsFinite[i] || !rowIsFinite[j] {
                    let hasNaN = x[i * shape.columns..<(i + 1) * shape.columns].contains(where: \.isNaN)
                    guard !hasNaN || actual.isNaN else { throw Wrong("similarity \(i), \(j) is \(actual)") }
                } else if ordinary {
                    try judge(
                        "similarity \(i), \(j)", actual, truth: truth[i * shape.rows + j], naive: 0,
                        allowed: 2e-6)
                }
            }
        }
    }

    /// Each row's error against a bound that depends on the row's length.
    private static func rows(
        _ actual: [Float], _ truth: [Double], _ x: [Float], _ shape: MatrixShape, _ name: String,
        floor: Double = 1e-12, allowed: (Double) -> Double
    ) throws {
        for row in 0..<shape.rows {
            let range = row * shape.columns..<(row + 1) * shape.columns
            let length = range.reduce(0) { $0 + Double(x[$1]) * Double(x[$1]) }.squareRoot()
            // Next to the floor, float may see the other side of it.
            if abs(length - floor) < 1e-3 * floor { continue }
            let bound = allowed(max(length, floor))
            // Gradients of rows near the floor exceed float.
            guard bound < 1e30 else { continue }
            for index in range {
                try judge(
                    "\(name) gradient[\(index)]", Double(actual[index]), truth: truth[index], naive: 0,
                    allowed: bound + rounding(truth[index], ulps: 4))
            }
        }
    }
}
