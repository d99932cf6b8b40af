// Nearest neighbours and the agreement of their labels in cases that are known by hand, and every error.

import FastLoss
import FastLossDiagnostics
import Testing

@Suite struct NearestNeighborsTests {
    private let line = MatrixShape(rows: 6, columns: 1)

    @Test func neighboursOfTwoGroups() throws {
        let neighbors = try NearestNeighbors(
            embeddings: [0, 1, 2, 100, 101, 102], shape: line, count: 2, metric: .euclidean)
        // At equal distances the lower index comes first.
        #expect(neighbors.indices == [1, 2, 0, 2, 1, 0, 4, 5, 3, 5, 4, 3])
        // Each of the first three has two neighbours of its type; of the others, two have one and one none.
        expectClose(try neighbors.purity(of: [0, 0, 0, 1, 1, 0]), 8.0 / 12, Tolerances.oracle)
        // Pairs with different labels: 8 of 12 among neighbours, 16 of 30 in all.
        expectClose(
            try neighbors.mixing(of: [0, 1, 0, 0, 1, 0]), (8.0 / 12) / (16.0 / 30), Tolerances.oracle)
        #expect(try neighbors.mixing(of: [4, 4, 4, 4, 4, 4]).isNaN)
    }

    /// With all others as neighbours, batches mix as if by chance whatever the embeddings are.
    @Test(arguments: [NearestNeighbors.Metric.euclidean, .cosine])
    func allNeighboursMixByChance(metric: NearestNeighbors.Metric) throws {
        var random = RandomInputs(seed: 3)
        let neighbors = try NearestNeighbors(
            embeddings: random.normals(21 * 3), shape: MatrixShape(rows: 21, columns: 3), count: 20,
            metric: metric)
        expectClose(
            try neighbors.mixing(of: (0..<21).map { Int32($0 * $0 % 5) }), 1, Tolerances.oracle)
    }

    @Test func cosineIgnoresLengths() throws {
        let embeddings: [Float] = [1, 0, 100, 1, 0, 1, 1, 90, 0, 0]
        let neighbors = try NearestNeighbors(
            embeddings: embeddings, shape: MatrixShape(rows: 5, columns: 2), count: 1)
        #expect(neighbors.indices.prefix(4) == [1, 0, 3, 2])
    }

    @Test func errors() throws {
        #expect(throws: LossError.shapeMismatch(argument: "embeddings", expected: 6, actual: 1)) {
            try NearestNeighbors(embeddings: [1], shape: line)
        }
        #expect(throws: LossError.notFinite(argument: "embeddings", value: -.infinity, index: 1)) {
            try NearestNeighbors(embeddings: [1, -.infinity, 0, 0, 0, 0], shape: line)
        }
        for count in [0, 6] {
            let requirement = "at least 1 and less than the number of cells, 6"
            #expect(
                throws: LossError.invalidParameter(
                    name: "count", value: Double(count), requirement: requirement)
            ) {
                try NearestNeighbors(embeddings: [0, 1, 2, 3, 4, 5], shape: line, count: count)
            }
        }
        let neighbors = try NearestNeighbors(embeddings: [0, 1, 2, 3, 4, 5], shape: line, count: 1)
        #expect(throws: LossError.shapeMismatch(argument: "labels", expected: 6, actual: 2)) {
            try neighbors.purity(of: [1, 2])
        }
        #expect(throws: LossError.shapeMismatch(argument: "labels", expected: 6, actual: 2)) {
            try neighbors.mixing(of: [1, 2])
        }
    }
}
