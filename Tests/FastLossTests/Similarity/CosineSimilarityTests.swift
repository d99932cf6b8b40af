// The cosine-similarity matrix: exact cases, the oracle, symmetry, rows of any size, order, errors.

import FastLoss
import FastLossReference
import Testing

@Suite struct CosineSimilarityTests {
    static func matrix(
        _ embeddings: [Float], _ shape: MatrixShape, workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> [Float] {
        var similarities = [Float](repeating: -12345, count: shape.rows * shape.rows)
        var span = similarities.mutableSpan
        try CosineSimilarity().matrix(
            embeddings: embeddings.span, shape: shape, similarities: &span, workspace: workspace)
        return similarities
    }

    @Test func axesAreExact() throws {
        let similarities = try Self.matrix([2, 0, 0, 4, -8, 0, 0, 0], MatrixShape(rows: 4, columns: 2))
        #expect(similarities == [1, 0, -1, 0, 0, 1, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0])
    }

    @Test(arguments: try Golden.cases(of: "ElasticCellSimilarity"))
    func matchesPyTorch(_ golden: Golden) throws {
        let shape = MatrixShape(rows: try golden.int("rows"), columns: try golden.int("columns"))
        expectClose(
            try Self.matrix(try golden.floats("embeddings"), shape), try golden.truth("similarities"),
            Tolerances.similarity)
    }

    @Test(arguments: EmbeddingShape.all)
    func oracleIsMatched(_ shape: EmbeddingShape) throws {
        var random = RandomInputs(seed: 41)
        let embeddings = random.embeddings(rows: shape.rows, columns: shape.columns)
        let similarities = try Self.matrix(embeddings, shape.matrix)
        let truth = Reference.CosineSimilarity.matrix(
            embeddings: embeddings.doubles, rows: shape.rows, columns: shape.columns)
        expectClose(similarities, truth, Tolerances.similarity, "\(shape)")
        let rows = shape.rows
        for i in 0..<rows {
            for j in 0..<i
            where similarities[i * rows + j].bitPattern != similarities[j * rows + i].bitPattern {
                Issue.record("\(shape): (\(i), \(j)) and (\(j), \(i)) differ")
            }
        }
    }

    @Test(arguments: EdgeEmbeddings.allCases)
    func edges(_ edge: EdgeEmbeddings) throws {
        for (rows, columns) in [(2, 3), (7, 16), (130, 5)] {
            let shape = EmbeddingShape(rows: rows, columns: columns)
            var random = RandomInputs(seed: 42)
            let embeddings = edge.apply(to: random.embeddings(rows: rows, columns: columns), shape)
            expectClose(
                try Self.matrix(embeddings, shape.matrix),
                Reference.CosineSimilarity.matrix(
                    embeddings: embeddings.doubles, rows: rows, columns: columns),
                Tolerances.similarity, "\(edge)")
        }
    }

    @Test func nanFillsItsRowAndColumn() throws {
        var random = RandomInputs(seed: 43)
        var embeddings = random.embeddings(rows: 150, columns: 3)
        embeddings[140 * 3] = .nan
        let similarities = try Self.matrix(embeddings, MatrixShape(rows: 150, columns: 3))
        #expect(
            similarities.indices.allSatisfy { similarities[$0].isNaN == ($0 / 150 == 140 || $0 % 150 == 140) }
        )
    }

    @Test func nothingToCompare() throws {
        #expect(try Self.matrix([], MatrixShape(rows: 0, columns: 3)) == [])
        #expect(try Self.matrix([], MatrixShape(rows: 2, columns: 0)) == [0, 0, 0, 0])
    }

    @Test func anyNumberOfWorkersGivesTheSameBits() throws {
        var random = RandomInputs(seed: 44)
        let shape = MatrixShape(rows: 600, columns: 33)
        let embeddings = random.embeddings(rows: 600, columns: 33)
        let expected = try Self.matrix(embeddings, shape, workspace: Workspace(workers: 1))
        #expect(try CosineSimilarity().matrix(embeddings: embeddings, shape: shape) == expected)
        for workers in [2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            for _ in 0..<2 {
                expectSameBits(try Self.matrix(embeddings, shape, workspace: workspace), expected)
            }
        }
    }

    @Test func errors() {
        let huge = Int(Int32.max) + 1
        for (count, outputCount, shape, message) in [
            (5, 4, (2, 3), "embeddings has 5 elements, but the other arguments ask for 6"),
            (6, 5, (2, 3), "similarities has 5 elements, but the other arguments ask for 4"),
            (
                6, 4, (-2, 3),
                "a shape of -2 rows and 3 columns is not possible: "
                    + "sides must be at least 0 and their product must fit an Int"
            ),
            (0, 0, (0, huge), "columns is \(huge), but BLAS takes sizes up to \(Int32.max)"),
            (0, 0, (huge, 0), "rows is \(huge), but BLAS takes sizes up to \(Int32.max)"),
        ] {
            let embeddings = [Float](repeating: 1, count: count)
            var similarities = [Float](repeating: 6, count: outputCount)
            expectError(message) { () throws(LossError) in
                var span = similarities.mutableSpan
                try CosineSimilarity().matrix(
                    embeddings: embeddings.span, shape: MatrixShape(rows: shape.0, columns: shape.1),
                    similarities: &span, workspace: Workspace(workers: 1))
            }
            #expect(similarities.allSatisfy { $0 == 6 })
        }
        let memory = TestMemory(floats: 16)
        expectError("output similarities shares memory with embeddings") { () throws(LossError) in
            var similarities = memory.mutable(5, count: 4)
            try CosineSimilarity().matrix(
                embeddings: memory.floats(0, count: 6), shape: MatrixShape(rows: 2, columns: 3),
                similarities: &similarities, workspace: Workspace(workers: 1))
        }
        #expect(memory.isUntouched)
    }

    /// The array form makes its result itself, so a shape that has none is refused before.
    @Test func arrayFormOfImpossibleShapes() {
        let (huge, largest) = (Int(Int32.max) + 1, Int(Int32.max))
        let impossible = "is not possible: sides must be at least 0 and their product must fit an Int"
        for (rows, columns, message) in [
            (-1, 3, "a shape of -1 rows and 3 columns \(impossible)"),
            (Int.max, 0, "rows is \(Int.max), but BLAS takes sizes up to \(largest)"),
            (huge, 0, "rows is \(huge), but BLAS takes sizes up to \(largest)"),
            // 16 EiB, and 4 EiB: no machine has them.
            (largest, 0, "CosineSimilarity could not allocate \(Int.max) bytes of scratch memory"),
            (1 << 30, 0, "CosineSimilarity could not allocate \(1 << 62) bytes of scratch memory"),
        ] {
            expectError(message) { () throws(LossError) in
                _ = try CosineSimilarity().matrix(
                    embeddings: [], shape: MatrixShape(rows: rows, columns: columns))
            }
        }
    }
}
