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
    static func embeddings(_ input: inout FuzzInput, _ shape: MatrixShape) -> [Float] {
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
        guard let oracle = PairOracle.elastic(x, shape, threshold: threshold, scale: Double(scale)) else {
            return
        }
        try oracle.judgeValue("ECS", value)
        try oracle.first.judgeGradient("ECS's gradient", gradient, start: 0)
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
        guard
            let oracle = PairOracle.contrastive(
                first, second, shape, temperature: temperature, scale: Double(scale))
        else { return }
        try oracle.judgeValue("CCE", value)
        try oracle.first.judgeGradient("CCE's first gradient", firstGradient, start: 0)
        try oracle.second.judgeGradient("CCE's second gradient", secondGradient, start: 0)
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
        let ordinary = PairOracle.hasOnlyOrdinarySizes(x)
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
}
