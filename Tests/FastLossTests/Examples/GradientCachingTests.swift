// Gradient caching: micro-batches give the gradient of the whole batch.

import FastLoss
import RankThreads
import Testing

/// embedding = W·cell, with W: width × genes.
private struct LinearEncoder: EmbeddingModel {
    let genes: Int
    let width: Int
    var weights: [Float]
    var gradient: [Double]

    func embeddings(of cells: [Float]) -> [Float] {
        stride(from: 0, to: cells.count, by: genes).flatMap { start in
            (0..<width).map { column in
                (0..<genes).reduce(Float(0)) { $0 + weights[column * genes + $1] * cells[start + $1] }
            }
        }
    }

    mutating func backward(_ cells: [Float], gradient upstream: ArraySlice<Float>) {
        for (index, value) in upstream.enumerated() {
            let (row, column) = index.quotientAndRemainder(dividingBy: width)
            for gene in 0..<genes {
                gradient[column * genes + gene] += Double(value) * Double(cells[row * genes + gene])
            }
        }
    }
}

@Suite struct GradientCachingTests {
    @Test(arguments: [[7], [3, 4], [1, 5, 0, 2]])
    func `micro-batches give the gradient of the whole batch`(counts: [Int]) throws {
        var random = RandomInputs(seed: 31)
        let (genes, width) = (6, 5)
        let model = LinearEncoder(
            genes: genes, width: width, weights: random.normals(genes * width),
            gradient: Array(repeating: 0, count: genes * width))
        let batch = RankBatch(counts: counts, columns: genes)
        let cells = random.normals(batch.rows * genes)
        let loss = ElasticCellSimilarity(threshold: 0.3)

        var whole = model
        let embeddings = whole.embeddings(of: cells)
        let expected = try loss.valueAndGradient(
            embeddings: embeddings, shape: MatrixShape(rows: batch.rows, columns: width))
        whole.backward(cells, gradient: expected.gradient[...])

        var cached = model
        let value = try cachedStep(
            &cached, over: counts.indices.map { batch.part($0, of: cells) }, loss, workspace: Workspace())
        #expect(value == expected.loss)
        #expect(cached.gradient.contains { $0 != 0 })
        let distance = zip(cached.gradient, whole.gradient).map { $0 - $1 }.norm / whole.gradient.norm
        #expect(distance <= Tolerances.oracleNormwise)
    }

    /// CCE has two encodings: each micro-batch passes its slice of either gradient back.
    @Test(arguments: [[7], [3, 4], [1, 5, 0, 2]])
    func `micro-batches with two encodings`(counts: [Int]) throws {
        var random = RandomInputs(seed: 32)
        let (genes, width) = (6, 5)
        let model = LinearEncoder(
            genes: genes, width: width, weights: random.normals(genes * width),
            gradient: Array(repeating: 0, count: genes * width))
        let batch = RankBatch(counts: counts, columns: genes)
        let cells = random.normals(batch.rows * genes)
        let again = zip(cells, random.normals(cells.count)).map { $0 + 0.3 * $1 }
        let shape = MatrixShape(rows: batch.rows, columns: width)
        let loss = ContrastiveCellEmbedding(temperature: 0.2)

        var whole = model
        let expected = try loss.valueAndGradient(
            first: whole.embeddings(of: cells), second: whole.embeddings(of: again), shape: shape)
        whole.backward(cells, gradient: expected.firstGradient[...])
        whole.backward(again, gradient: expected.secondGradient[...])

        var cached = model
        let parts = counts.indices.map { (batch.part($0, of: cells), batch.part($0, of: again)) }
        let result = try loss.valueAndGradient(
            first: parts.flatMap { cached.embeddings(of: $0.0) },
            second: parts.flatMap { cached.embeddings(of: $0.1) }, shape: shape)
        var start = 0
        for (count, part) in zip(counts, parts) {
            let own = start..<start + count * width
            cached.backward(part.0, gradient: result.firstGradient[own])
            cached.backward(part.1, gradient: result.secondGradient[own])
            start = own.upperBound
        }
        #expect(result.loss == expected.loss)
        #expect(cached.gradient.contains { $0 != 0 })
        let distance = zip(cached.gradient, whole.gradient).map { $0 - $1 }.norm / whole.gradient.norm
        #expect(distance <= Tolerances.oracleNormwise)
    }
}
