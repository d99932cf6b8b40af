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
}
