// ECS: exact cases, goldens, the oracle at tile edges, embeddings of any size, updates, order, every error.

import FastLoss
import FastLossReference
import Testing

@Suite struct ElasticCellSimilarityTests {
    struct Result: Equatable {
        var loss: LossValue
        var gradient: [Float]
        var bits: [UInt64] { [loss.value.bitPattern] + gradient.map { UInt64($0.bitPattern) } }
    }

    static func run(
        _ embeddings: [Float], _ shape: MatrixShape, threshold: Float = 0.8,
        whenEmpty: EmptySelectionRule = .error,
        scale: Float = 1, addingTo initial: [Float]? = nil, workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> Result {
        var gradient = initial ?? [Float](repeating: -12345, count: embeddings.count)
        let loss = try run(
            embeddings, shape, threshold: threshold, whenEmpty: whenEmpty, scale: scale,
            update: initial == nil ? .overwrite : .accumulate, gradient: &gradient, workspace: workspace)
        return Result(loss: loss, gradient: gradient)
    }

    static func run(
        _ embeddings: [Float], _ shape: MatrixShape, threshold: Float = 0.8,
        whenEmpty: EmptySelectionRule = .error,
        scale: Float = 1, update: GradientUpdate = .overwrite, gradient: inout [Float],
        workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> LossValue {
        var span = gradient.mutableSpan
        return try ElasticCellSimilarity(threshold: threshold, whenEmpty: whenEmpty).valueAndGradient(
            embeddings: embeddings.span, shape: shape, gradient: &span, gradientScale: scale, update: update,
            workspace: workspace)
    }

    /// Value and gradient against the oracle; row by row and against the naive loop where rows are of one
    /// size.
    private func expectTruth(
        _ embeddings: [Float], _ shape: EmbeddingShape, threshold: Float, scale: Float = 1,
        comparesNaive: Bool = true,
        _ label: String = "", sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let result = try Self.run(embeddings, shape.matrix, threshold: threshold, scale: scale)
        let value = try ElasticCellSimilarity(threshold: threshold).value(
            embeddings: embeddings, shape: shape.matrix)
        #expect(value == result.loss, "\(label)", sourceLocation: sourceLocation)
        let truth = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings.doubles, rows: shape.rows, columns: shape.columns,
            threshold: Double(threshold),
            gradientScale: Double(scale))
        let label = "\(label) \(shape), threshold \(threshold)"
        expectClose(
            result.loss.value, truth.value, Tolerances.embeddingValue, label, sourceLocation: sourceLocation)
        let yardstick = EmbeddingYardstick(
            embeddings: embeddings, columns: shape.columns, before: truth.normsBeforeProjection, floor: 1e-12)
        yardstick.expect(result.gradient, truth.gradient, label, sourceLocation: sourceLocation)
        guard comparesNaive else { return }
        yardstick.expectEachRow(result.gradient, truth.gradient, label, sourceLocation: sourceLocation)
        let naive = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings, rows: shape.rows, columns: shape.columns, threshold: threshold,
            gradientScale: scale)
        expectAsAccurateAsNaive(
            fast: Float(result.loss.value), naive: naive.value, truth: truth.value, label,
            sourceLocation: sourceLocation)
        yardstick.expectAsAccurateAsNaive(
            result.gradient, naive: naive.gradient, truth.gradient, label, sourceLocation: sourceLocation)
    }

    // MARK: - Accuracy

    /// Unit vectors of the axes, doubled: similarities 1, 0 and −1.
    @Test func axesAreExact() throws {
        let embeddings: [Float] = [2, 0, 2, 0, 0, 2, -2, 0]
        let result = try Self.run(embeddings, MatrixShape(rows: 4, columns: 2), threshold: 0.5)
        // Two of sixteen pairs are similar, and (1 − 0.5)² is what (0 − 0.5)² is.
        #expect(
            result
                == Result(loss: LossValue(value: 0.75, selectedCount: 4), gradient: [0, 0, 0, 0, 0, 0, 0, 0]))
    }

    @Test(arguments: try Golden.cases(of: "ElasticCellSimilarity"))
    func matchesPyTorch(_ golden: Golden) throws {
        let shape = EmbeddingShape(rows: try golden.int("rows"), columns: try golden.int("columns"))
        let embeddings = try golden.floats("embeddings")
        let threshold = try golden.float("threshold")
        let result = try Self.run(embeddings, shape.matrix, threshold: threshold)
        expectClose([result.loss.value], try golden.truth("value"), Tolerances.embeddingValue, "value")
        let scales = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings.doubles, rows: shape.rows, columns: shape.columns,
            threshold: Double(threshold)
        ).normsBeforeProjection
        expectRowsNormwise(
            actual: result.gradient, oracle: try golden.truth("gradient"), columns: shape.columns,
            scales: scales,
            tolerance: Tolerances.embeddingGradient, "gradient")
    }

    @Test(arguments: EmbeddingShape.all)
    func oracleIsMatched(_ shape: EmbeddingShape) throws {
        var random = RandomInputs(seed: 21)
        let embeddings = random.cells(shape)
        try expectTruth(embeddings, shape, threshold: 0.8, scale: 10)
        if shape.columns == 3 { try expectTruth(embeddings, shape, threshold: 0.3) }
    }

    @Test(arguments: EdgeEmbeddings.allCases, [Float(0.3), 0.5, 0.8, 0.85])
    func edges(_ edge: EdgeEmbeddings, threshold: Float) throws {
        for (rows, columns) in [(2, 3), (7, 16), (130, 5)] {
            let shape = EmbeddingShape(rows: rows, columns: columns)
            var random = RandomInputs(seed: 22)
            let embeddings = edge.apply(to: random.cells(shape), shape)
            let overflows =
                edge == .scaledRows || edge == .hugeRows || edge == .tinyRows || edge == .normsAroundTheFloor
            try expectTruth(embeddings, shape, threshold: threshold, comparesNaive: !overflows, "\(edge)")
        }
    }

    @Test(arguments: [Float(-1), -0.5, 0, 0.25, 1])
    func thresholds(_ threshold: Float) throws {
        var random = RandomInputs(seed: 23)
        let shape = EmbeddingShape(rows: 40, columns: 7)
        try expectTruth(random.cells(shape), shape, threshold: threshold)
    }

    @Test func oneCellHasNoGradient() throws {
        let result = try Self.run([3, 4], MatrixShape(rows: 1, columns: 2), threshold: 0.5)
        #expect(result == Result(loss: LossValue(value: 0.75, selectedCount: 1), gradient: [0, 0]))
    }

    /// Cells without dimensions have similarity 0.
    @Test func noColumns() throws {
        let result = try Self.run([], MatrixShape(rows: 300, columns: 0), threshold: 0.5)
        #expect(result == Result(loss: LossValue(value: 0.75, selectedCount: 300), gradient: []))
    }

    @Test(arguments: [Float.nan, Float.infinity, -Float.infinity], [0, 200])
    func strangeRowsPropagate(_ number: Float, row: Int) throws {
        let shape = EmbeddingShape(rows: 300, columns: 4)
        var random = RandomInputs(seed: 24)
        var embeddings = random.cells(shape)
        embeddings[row * 4 + 1] = number
        let result = try Self.run(embeddings, shape.matrix)
        #expect(result.loss.value.isNaN)
        #expect(result.gradient.allSatisfy { $0.isNaN })
        embeddings[(row + 1) * 4] = .nan
        #expect(try Self.run(embeddings, shape.matrix).loss.value.isNaN)
    }

    // MARK: - The gradient's place, and execution

    @Test(arguments: [3, 130, 600])
    func gradientScaleAndUpdate(rows: Int) throws {
        let shape = EmbeddingShape(rows: rows, columns: 8)
        var random = RandomInputs(seed: 25)
        let embeddings = random.cells(shape)
        let plain = try Self.run(embeddings, shape.matrix)
        let scaled = try Self.run(embeddings, shape.matrix, scale: -0.25)
        #expect(scaled.loss == plain.loss)
        expectSameBits(scaled.gradient, plain.gradient.map { $0 * -0.25 })
        let initial = random.normals(embeddings.count)
        let added = try Self.run(embeddings, shape.matrix, addingTo: initial)
        #expect(added.loss == plain.loss)
        expectWithinUlps(
            actual: added.gradient, oracle: zip(initial, plain.gradient).map { Double($0) + Double($1) },
            floor: Tolerances.accumulatedFloor)
    }

    @Test(arguments: [(129, 64), (600, 33), (1_025, 8)])
    func anyNumberOfWorkersGivesTheSameBits(rows: Int, columns: Int) throws {
        var random = RandomInputs(seed: 26)
        let embeddings = random.embeddings(rows: rows, columns: columns)
        let shape = MatrixShape(rows: rows, columns: columns)
        let expected = try Self.run(embeddings, shape, workspace: Workspace(workers: 1)).bits
        let initial = random.normals(embeddings.count)
        let added = try Self.run(embeddings, shape, addingTo: initial, workspace: Workspace(workers: 1)).bits
        for workers in [2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            for _ in 0..<2 {
                #expect(try Self.run(embeddings, shape, workspace: workspace).bits == expected)
                #expect(
                    try Self.run(embeddings, shape, addingTo: initial, workspace: workspace).bits == added)
            }
        }
    }

    @Test func workspaceStopsGrowing() throws {
        let workspace = Workspace(workers: 2)
        var random = RandomInputs(seed: 27)
        let embeddings = random.embeddings(rows: 300, columns: 16)
        let shape = MatrixShape(rows: 300, columns: 16)
        _ = try Self.run(embeddings, shape, addingTo: embeddings, workspace: workspace)
        let bytes = workspace.byteCount
        _ = try Self.run(embeddings, shape, addingTo: embeddings, workspace: workspace)
        _ = try Self.run(embeddings, shape, workspace: workspace)
        #expect(workspace.byteCount == bytes)
    }

    @Test func arrayConvenienceAgrees() throws {
        let embeddings: [Float] = [1, 2, 3, 4, 5, -6]
        let shape = MatrixShape(rows: 3, columns: 2)
        let expected = try Self.run(embeddings, shape, threshold: 0.3, scale: 2)
        let (loss, gradient) = try ElasticCellSimilarity(threshold: 0.3).valueAndGradient(
            embeddings: embeddings, shape: shape, gradientScale: 2)
        #expect(Result(loss: loss, gradient: gradient) == expected)
    }

    // MARK: - Errors

    @Test func noRowsIsAnEmptySelection() throws {
        let shape = MatrixShape(rows: 0, columns: 4)
        expectError(
            "ElasticCellSimilarity has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)",
            .emptySelection(loss: "ElasticCellSimilarity", row: nil)
        ) { () throws(LossError) in
            _ = try Self.run([], shape)
        }
        #expect(try Self.run([], shape, whenEmpty: .zero).loss == LossValue(value: 0, selectedCount: 0))
        #expect(try Self.run([], shape, whenEmpty: .nan).loss.value.isNaN)
    }

    @Test func wrongArgumentsTouchNothing() {
        let impossible = "is not possible: sides must be at least 0 and their product must fit an Int"
        let huge = Int(Int32.max) + 1
        for (count, gradientCount, shape, threshold, scale, message) in [
            (
                5, 5, (2, 3), Float(0.8), Float(1),
                "embeddings has 5 elements, but the other arguments ask for 6"
            ),
            (6, 7, (2, 3), 0.8, 1, "gradient has 7 elements, but the other arguments ask for 6"),
            (6, 6, (-2, 3), 0.8, 1, "a shape of -2 rows and 3 columns \(impossible)"),
            (6, 6, (Int.max, 3), 0.8, 1, "a shape of \(Int.max) rows and 3 columns \(impossible)"),
            (6, 6, (2, 3), .nan, 1, "threshold is nan, but it must be between -1 and 1"),
            (6, 6, (2, 3), 1.5, 1, "threshold is 1.5, but it must be between -1 and 1"),
            (6, 6, (2, 3), -1.5, 1, "threshold is -1.5, but it must be between -1 and 1"),
            (6, 6, (2, 3), 0.8, .nan, "gradientScale is nan, but it must be finite"),
            (6, 6, (2, 3), 0.8, -.infinity, "gradientScale is -inf, but it must be finite"),
            (0, 0, (0, huge), 0.8, 1, "columns is \(huge), but BLAS takes sizes up to \(Int32.max)"),
            (0, 0, (huge, 0), 0.8, 1, "rows is \(huge), but BLAS takes sizes up to \(Int32.max)"),
        ] {
            let embeddings = [Float](repeating: 1, count: count)
            var gradient = [Float](repeating: 6, count: gradientCount)
            expectError(message) { () throws(LossError) in
                _ = try Self.run(
                    embeddings, MatrixShape(rows: shape.0, columns: shape.1), threshold: threshold,
                    scale: scale,
                    gradient: &gradient)
            }
            #expect(gradient.allSatisfy { $0 == 6 })
        }
    }

    @Test(arguments: [(0, 5), (5, 0), (3, 3)])
    func overlappingGradient(places: (Int, Int)) {
        let memory = TestMemory(floats: 16)
        expectError("output gradient shares memory with embeddings") { () throws(LossError) in
            var gradient = memory.mutable(places.1, count: 6)
            _ = try ElasticCellSimilarity().valueAndGradient(
                embeddings: memory.floats(places.0, count: 6), shape: MatrixShape(rows: 2, columns: 3),
                gradient: &gradient, workspace: Workspace(workers: 1))
        }
        #expect(memory.isUntouched)
    }
}
