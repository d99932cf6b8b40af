// CCE: exact cases, goldens, the oracle at panel edges, temperatures, embeddings of any size, updates, order,
// every error.

import FastLoss
import FastLossReference
import Testing

@Suite struct ContrastiveCellEmbeddingTests {
    struct Pair: Sendable {
        var first: [Float]
        var second: [Float]
        var shape: EmbeddingShape

        static func random(_ shape: EmbeddingShape, noise: Double = 0.3, seed: UInt64 = 31) -> Pair {
            var random = RandomInputs(seed: seed)
            let first = random.embeddings(rows: shape.rows, columns: shape.columns)
            return Pair(first: first, second: random.secondEncoding(of: first, noise: noise), shape: shape)
        }
    }

    struct Result: Equatable {
        var loss: LossValue
        var first: [Float]
        var second: [Float]
        var bits: [UInt64] {
            [loss.value.bitPattern] + [first, second].joined().map { UInt64($0.bitPattern) }
        }
    }

    static func run(
        _ pair: Pair, temperature: Float = 0.5, scale: Float = 1, addingTo initial: [Float]? = nil,
        workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> Result {
        var first = initial ?? [Float](repeating: -12345, count: pair.first.count)
        var second = initial ?? [Float](repeating: -12345, count: pair.second.count)
        let loss = try run(
            pair.first, pair.second, pair.shape.matrix, temperature: temperature, scale: scale,
            update: initial == nil ? .overwrite : .accumulate, firstGradient: &first, secondGradient: &second,
            workspace: workspace)
        return Result(loss: loss, first: first, second: second)
    }

    static func run(
        _ first: [Float], _ second: [Float], _ shape: MatrixShape, temperature: Float = 0.5,
        whenEmpty: EmptySelectionRule = .error, scale: Float = 1, update: GradientUpdate = .overwrite,
        firstGradient: inout [Float], secondGradient: inout [Float],
        workspace: Workspace = Workspace(workers: 2)
    ) throws(LossError) -> LossValue {
        var firstSpan = firstGradient.mutableSpan
        var secondSpan = secondGradient.mutableSpan
        return try ContrastiveCellEmbedding(temperature: temperature, whenEmpty: whenEmpty).valueAndGradient(
            first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
            secondGradient: &secondSpan, gradientScale: scale, update: update, workspace: workspace)
    }

    /// Values and gradients against the oracle, and against the naive loop where that can compute the rows at
    /// all.
    private func expectTruth(
        _ pair: Pair, temperature: Float = 0.5, scale: Float = 1, cancelling: Double = 0,
        comparesNaive: Bool = true,
        _ label: String = "", sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let shape = pair.shape
        let result = try Self.run(pair, temperature: temperature, scale: scale)
        let value = try ContrastiveCellEmbedding(temperature: temperature).value(
            first: pair.first, second: pair.second, shape: shape.matrix)
        #expect(value == result.loss, "\(label)", sourceLocation: sourceLocation)
        let truth = Reference.ContrastiveCellEmbedding.evaluate(
            first: pair.first.doubles, second: pair.second.doubles, rows: shape.rows, columns: shape.columns,
            temperature: Double(temperature), gradientScale: Double(scale))
        let label = "\(label) \(shape), temperature \(temperature)"
        expectClose(
            result.loss.value, truth.value, Self.valueTolerance(temperature), label,
            sourceLocation: sourceLocation)
        let naive =
            comparesNaive
            ? Reference.ContrastiveCellEmbedding.evaluate(
                first: pair.first, second: pair.second, rows: shape.rows, columns: shape.columns,
                temperature: temperature, gradientScale: scale) : nil
        let rule = Tolerances.contrastive(Tolerances.accuracyRule, temperature: temperature)
        if let naive {
            expectAsAccurateAsNaive(
                fast: Float(result.loss.value), naive: naive.value, truth: truth.value, tolerance: rule,
                label,
                sourceLocation: sourceLocation)
        }
        for (side, embeddings, before, fast, exact, slow) in [
            (
                "first", pair.first, truth.firstNormsBeforeProjection, result.first, truth.firstGradient,
                naive?.firstGradient
            ),
            (
                "second", pair.second, truth.secondNormsBeforeProjection, result.second, truth.secondGradient,
                naive?.secondGradient
            ),
        ] {
            let yardstick = EmbeddingYardstick(
                embeddings: embeddings, columns: shape.columns, before: before, floor: 1e-8)
            yardstick.expect(
                fast, exact, tolerance: Self.gradientTolerance(temperature),
                cancelling: cancelling * Double(scale),
                "\(label) \(side)", sourceLocation: sourceLocation)
            guard let slow else { continue }
            yardstick.expectAsAccurateAsNaive(
                fast, naive: slow, exact, tolerance: rule, "\(label) \(side)", sourceLocation: sourceLocation)
        }
    }

    private static func valueTolerance(_ temperature: Float) -> Tolerance {
        Tolerance(
            relative: Tolerances.contrastive(Tolerances.embeddingValue.relative, temperature: temperature),
            absolute: Tolerances.contrastiveFloor)
    }

    private static func gradientTolerance(_ temperature: Float) -> Double {
        Tolerances.contrastive(Tolerances.embeddingGradient, temperature: temperature)
    }

    // MARK: - Accuracy

    /// All cells alike: every answer is as good as every other.
    @Test func equalCellsAreExact() throws {
        let cells = [Float](repeating: 3, count: 4)
        let result = try Self.run(
            Pair(first: cells, second: cells, shape: EmbeddingShape(rows: 4, columns: 1)))
        #expect(Float(result.loss.value) == Float(2 * Reference.ln2))
        #expect(result.first == [0, 0, 0, 0] && result.second == [0, 0, 0, 0])
    }

    @Test func oneCellFindsItself() throws {
        let result = try Self.run(
            Pair(first: [3, 4], second: [-4, 3], shape: EmbeddingShape(rows: 1, columns: 2)))
        #expect(
            result == Result(loss: LossValue(value: 0, selectedCount: 1), first: [0, 0], second: [0, 0]))
    }

    @Test func noColumns() throws {
        let result = try Self.run(Pair(first: [], second: [], shape: EmbeddingShape(rows: 8, columns: 0)))
        #expect(Float(result.loss.value) == Float(3 * Reference.ln2))
    }

    @Test(arguments: try Golden.cases(of: "ContrastiveCellEmbedding"))
    func matchesPyTorch(_ golden: Golden) throws {
        let shape = EmbeddingShape(rows: try golden.int("rows"), columns: try golden.int("columns"))
        let pair = Pair(first: try golden.floats("first"), second: try golden.floats("second"), shape: shape)
        let temperature = try golden.float("temperature")
        let result = try Self.run(pair, temperature: temperature)
        let truth = Reference.ContrastiveCellEmbedding.evaluate(
            first: pair.first.doubles, second: pair.second.doubles, rows: shape.rows, columns: shape.columns,
            temperature: Double(temperature))
        expectClose([result.loss.value], try golden.truth("value"), Self.valueTolerance(temperature), "value")
        for (side, embeddings, before, gradient) in [
            ("first", pair.first, truth.firstNormsBeforeProjection, result.first),
            ("second", pair.second, truth.secondNormsBeforeProjection, result.second),
        ] {
            EmbeddingYardstick(embeddings: embeddings, columns: shape.columns, before: before, floor: 1e-8)
                .expect(
                    gradient, try golden.truth(side + "Gradient"),
                    tolerance: Self.gradientTolerance(temperature), side)
        }
    }

    @Test(arguments: EmbeddingShape.all)
    func oracleIsMatched(_ shape: EmbeddingShape) throws {
        try expectTruth(.random(shape), scale: 10)
    }

    @Test(arguments: [Float(0.01), 0.02, 0.05, 0.1, 0.5, 1, 10], [0.3, 3])
    func temperatures(_ temperature: Float, noise: Double) throws {
        for (rows, columns) in [(20, 16), (130, 5)] {
            try expectTruth(
                .random(EmbeddingShape(rows: rows, columns: columns), noise: noise), temperature: temperature,
                "noise \(noise)")
        }
    }

    /// Cells that find themselves almost beyond doubt: the loss is e⁻¹⁰⁰, below every normal Float, and with
    /// a large scale the gradient is as accurate as any.
    @Test func certaintyIsAccurate() throws {
        let cells: [Float] = [1, 0, 0, 1]
        let pair = Pair(first: cells, second: cells, shape: EmbeddingShape(rows: 2, columns: 2))
        for scale: Float in [1e12, 1e30] {
            let result = try Self.run(pair, temperature: 0.01, scale: scale)
            let truth = Reference.ContrastiveCellEmbedding.evaluate(
                first: cells.doubles, second: cells.doubles, rows: 2, columns: 2,
                temperature: Double(Float(0.01)), gradientScale: Double(scale))
            let tolerance = Tolerance(
                relative: Tolerances.contrastive(0, temperature: 0.01), absolute: 0)
            expectClose(result.loss.value, truth.value, tolerance)
            expectClose(result.first, truth.firstGradient, tolerance)
            expectClose(result.second, truth.secondGradient, tolerance)
            #expect(truth.firstGradient[1] > 0)
        }
    }

    /// Beyond e⁻¹⁷³ it is zero, and no NaN.
    @Test func certaintyUnderflowsToZero() throws {
        let result = try Self.run(
            Pair(first: [1, 0, 0, 1], second: [1, 0, 0, 1], shape: EmbeddingShape(rows: 2, columns: 2)),
            temperature: 0.005)
        #expect(
            result
                == Result(
                    loss: LossValue(value: 0, selectedCount: 2), first: [0, 0, 0, 0], second: [0, 0, 0, 0]))
    }

    @Test(arguments: EdgeEmbeddings.allCases)
    func edges(_ edge: EdgeEmbeddings) throws {
        for (rows, columns) in [(2, 3), (7, 16), (130, 5)] {
            let shape = EmbeddingShape(rows: rows, columns: columns)
            var pair = Pair.random(shape)
            // A row's terms are p_ij·N_j/(B·τ), with Σ p = 1: where all N_j are alike, they cancel.
            let terms = 1 / (0.5 * Double(rows).squareRoot())
            pair.first = edge.apply(to: pair.first, shape)
            try expectTruth(pair, cancelling: terms, comparesNaive: false, "\(edge), first")
            pair.second = edge.apply(to: pair.second, shape)
            try expectTruth(pair, cancelling: terms, comparesNaive: false, "\(edge), both")
        }
    }

    @Test(arguments: [Float.nan, Float.infinity, -Float.infinity], [0, 299])
    func strangeRowsPropagate(_ number: Float, row: Int) throws {
        var pair = Pair.random(EmbeddingShape(rows: 300, columns: 4))
        pair.second[row * 4 + 1] = number
        let result = try Self.run(pair)
        #expect(result.loss.value.isNaN)
        // Every cell is compared with the strange one.
        #expect((result.first + result.second).allSatisfy { $0.isNaN })
    }

    // MARK: - The gradients' places, and execution

    @Test(arguments: [3, 130, 600])
    func gradientScaleAndUpdate(rows: Int) throws {
        let pair = Pair.random(EmbeddingShape(rows: rows, columns: 8))
        let plain = try Self.run(pair)
        let scaled = try Self.run(pair, scale: -0.25)
        #expect(scaled.loss == plain.loss)
        expectSameBits(scaled.first + scaled.second, (plain.first + plain.second).map { $0 * -0.25 })
        var random = RandomInputs(seed: 3)
        let initial = random.normals(pair.first.count)
        let added = try Self.run(pair, addingTo: initial)
        #expect(added.loss == plain.loss)
        for (sum, gradient) in [(added.first, plain.first), (added.second, plain.second)] {
            expectWithinUlps(
                actual: sum, oracle: zip(initial, gradient).map { Double($0) + Double($1) },
                floor: Tolerances.accumulatedFloor)
        }
    }

    @Test(arguments: [(129, 64), (600, 33), (1_025, 8)])
    func anyNumberOfWorkersGivesTheSameBits(rows: Int, columns: Int) throws {
        let pair = Pair.random(EmbeddingShape(rows: rows, columns: columns))
        let expected = try Self.run(pair, workspace: Workspace(workers: 1)).bits
        for workers in [2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            for _ in 0..<2 { #expect(try Self.run(pair, workspace: workspace).bits == expected) }
        }
    }

    @Test func workspaceStopsGrowing() throws {
        let workspace = Workspace(workers: 2)
        let pair = Pair.random(EmbeddingShape(rows: 300, columns: 16))
        _ = try Self.run(pair, addingTo: pair.first, workspace: workspace)
        let bytes = workspace.byteCount
        _ = try Self.run(pair, addingTo: pair.first, workspace: workspace)
        _ = try Self.run(pair, workspace: workspace)
        #expect(workspace.byteCount == bytes)
    }

    @Test func arrayConvenienceAgrees() throws {
        let pair = Pair.random(EmbeddingShape(rows: 9, columns: 5))
        let expected = try Self.run(pair, temperature: 0.3, scale: 2)
        let (loss, first, second) = try ContrastiveCellEmbedding(temperature: 0.3).valueAndGradient(
            first: pair.first, second: pair.second, shape: pair.shape.matrix, gradientScale: 2)
        #expect(Result(loss: loss, first: first, second: second) == expected)
    }

    // MARK: - Errors

    @Test func noRowsIsAnEmptySelection() throws {
        let shape = MatrixShape(rows: 0, columns: 4)
        var (first, second): ([Float], [Float]) = ([], [])
        expectError(
            "ContrastiveCellEmbedding has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)",
            .emptySelection(loss: "ContrastiveCellEmbedding", row: nil)
        ) { () throws(LossError) in
            _ = try Self.run([], [], shape, firstGradient: &first, secondGradient: &second)
        }
        for (rule, value) in [(EmptySelectionRule.zero, 0.0), (.nan, .nan)] {
            let loss = try Self.run(
                [], [], shape, whenEmpty: rule, firstGradient: &first, secondGradient: &second)
            #expect(loss.value.bitPattern == value.bitPattern && loss.selectedCount == 0)
        }
    }

    @Test func wrongArgumentsTouchNothing() {
        let impossible = "is not possible: sides must be at least 0 and their product must fit an Int"
        let huge = Int(Int32.max) + 1
        for (counts, shape, temperature, scale, message) in [
            (
                [5, 6, 6, 6], (2, 3), Float(1), Float(1),
                "first has 5 elements, but the other arguments ask for 6"
            ),
            ([6, 5, 6, 6], (2, 3), 1, 1, "second has 5 elements, but the other arguments ask for 6"),
            ([6, 6, 5, 6], (2, 3), 1, 1, "firstGradient has 5 elements, but the other arguments ask for 6"),
            ([6, 6, 6, 7], (2, 3), 1, 1, "secondGradient has 7 elements, but the other arguments ask for 6"),
            ([6, 6, 6, 6], (2, -3), 1, 1, "a shape of 2 rows and -3 columns \(impossible)"),
            ([6, 6, 6, 6], (2, Int.max), 1, 1, "a shape of 2 rows and \(Int.max) columns \(impossible)"),
            ([6, 6, 6, 6], (2, 3), 0, 1, "temperature is 0, but it must be above 0 and finite"),
            ([6, 6, 6, 6], (2, 3), -0.5, 1, "temperature is -0.5, but it must be above 0 and finite"),
            ([6, 6, 6, 6], (2, 3), .nan, 1, "temperature is nan, but it must be above 0 and finite"),
            ([6, 6, 6, 6], (2, 3), .infinity, 1, "temperature is inf, but it must be above 0 and finite"),
            ([6, 6, 6, 6], (2, 3), 1, .nan, "gradientScale is nan, but it must be finite"),
            ([0, 0, 0, 0], (0, huge), 1, 1, "columns is \(huge), but BLAS takes sizes up to \(Int32.max)"),
            ([0, 0, 0, 0], (huge, 0), 1, 1, "rows is \(huge), but BLAS takes sizes up to \(Int32.max)"),
        ] {
            let inputs = counts[..<2].map { [Float](repeating: 1, count: $0) }
            var first = [Float](repeating: 6, count: counts[2])
            var second = [Float](repeating: 7, count: counts[3])
            expectError(message) { () throws(LossError) in
                _ = try Self.run(
                    inputs[0], inputs[1], MatrixShape(rows: shape.0, columns: shape.1),
                    temperature: temperature,
                    scale: scale, firstGradient: &first, secondGradient: &second)
            }
            #expect(first.allSatisfy { $0 == 6 } && second.allSatisfy { $0 == 7 })
        }
    }

    /// Places of first, second, first gradient and second gradient, six floats each.
    @Test(arguments: [
        ([0, 6, 5, 18], "output firstGradient shares memory with first"),
        ([0, 12, 17, 23], "output firstGradient shares memory with second"),
        ([0, 12, 18, 5], "output secondGradient shares memory with first"),
        ([0, 12, 6, 17], "output secondGradient shares memory with second"),
        ([0, 6, 12, 17], "output secondGradient shares memory with firstGradient"),
    ])
    func overlaps(places: [Int], message: String) {
        let memory = TestMemory(floats: 32)
        expectError(message) { () throws(LossError) in
            var first = memory.mutable(places[2], count: 6)
            var second = memory.mutable(places[3], count: 6)
            _ = try ContrastiveCellEmbedding().valueAndGradient(
                first: memory.floats(places[0], count: 6), second: memory.floats(places[1], count: 6),
                shape: MatrixShape(rows: 2, columns: 3), firstGradient: &first, secondGradient: &second,
                workspace: Workspace(workers: 1))
        }
        #expect(memory.isUntouched)
    }

    /// One matrix may be both encodings: inputs may overlap.
    @Test func inputsMayBeTheSame() throws {
        let pair = Pair.random(EmbeddingShape(rows: 30, columns: 5), noise: 0)
        let cells = pair.first
        var (first, second) = (cells, cells)
        let loss = try Self.run(
            cells, cells, pair.shape.matrix, firstGradient: &first, secondGradient: &second)
        #expect(loss == (try Self.run(pair)).loss)
    }
}
