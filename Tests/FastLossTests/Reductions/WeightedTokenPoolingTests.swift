// Weighted pooling, plain and normalised, one weighting and several: against the oracle, and every error.

import FastLoss
import FastLossReference
import Testing

@Suite struct WeightedTokenPoolingTests {
    /// One and several weightings; below, at and above the tokens of one product (64); odd sizes.
    static let problems: [Problem] = [
        Problem(TokenShape(cells: 1, tokens: 1, width: 1), weightings: 1),
        Problem(TokenShape(cells: 5, tokens: 13, width: 7), weightings: 1),
        Problem(TokenShape(cells: 2, tokens: 1201, width: 33), weightings: 1),
        Problem(TokenShape(cells: 3, tokens: 5, width: 513), weightings: 1),
        Problem(TokenShape(cells: 1, tokens: 1, width: 3), weightings: 3),
        Problem(TokenShape(cells: 3, tokens: 63, width: 17), weightings: 3),
        Problem(TokenShape(cells: 3, tokens: 64, width: 16), weightings: 17),
        Problem(TokenShape(cells: 2, tokens: 65, width: 129), weightings: 17),
        Problem(TokenShape(cells: 2, tokens: 301, width: 5), weightings: 3),
    ]

    @Test(arguments: try Golden.cases(of: "TokenPooling"), [false, true])
    func matchesPyTorch(_ golden: Golden, normalized: Bool) throws {
        let problem = Problem(
            shape: try golden.tokenShape, weightings: try golden.int("weightings"),
            states: try golden.floats("states"), weights: try golden.floats("weights"),
            embeddingGradient: try golden.floats("weightedOutputGradient"))
        let name = normalized ? "normalized" : "weighted"
        let results = try problem.run(normalized: normalized)
        let scales = problem.scales(normalized: normalized)
        let (shape, weightings) = (problem.shape, problem.weightings)
        // Cell by cell: one whose sum is zero has a gradient of the size of 1e12.
        for cell in 0..<shape.cells {
            func expect(_ fast: [Float], _ stem: String, _ columns: Int, scale: Double) throws {
                let row = cell * columns..<(cell + 1) * columns
                expectAsAccurateAsNaive(
                    fast: Array(fast[row]), naive: Array(try golden.single(stem)[row]),
                    truth: Array(try golden.truth(stem)[row]), scale: scale, "\(stem), cell \(cell)")
            }
            try expect(results.embeddings, name, weightings * shape.width, scale: scales.embeddings[cell])
            try expect(
                results.statesGradient, "\(name)StatesGradient", shape.tokens * shape.width,
                scale: scales.statesGradient[cell])
            try expect(
                results.weightsGradient, "\(name)WeightsGradient", weightings * shape.tokens,
                scale: scales.weightsGradient[cell])
        }
    }

    @Test(arguments: problems, [false, true])
    func isAsAccurateAsTheNaiveLoop(_ problem: Problem, normalized: Bool) throws {
        problem.expect(
            try problem.run(normalized: normalized), naive: problem.naive(normalized: normalized),
            truth: problem.oracle(normalized: normalized), scales: problem.scales(normalized: normalized))
    }

    @Test(arguments: problems, [false, true])
    func gradientsAccumulateAndScale(_ problem: Problem, normalized: Bool) throws {
        let scale: Float = -0.375
        let accumulated = try problem.run(
            normalized: normalized, scale: scale, before: (problem.states, problem.weights))
        var (naive, truth) = (problem.naive(normalized: normalized), problem.oracle(normalized: normalized))
        naive.statesGradient = zip(problem.states, naive.statesGradient).map { $0 + scale * $1 }
        naive.weightsGradient = zip(problem.weights, naive.weightsGradient).map { $0 + scale * $1 }
        truth.statesGradient = zip(problem.states, truth.statesGradient).map {
            Double($0) + Double(scale) * $1
        }
        truth.weightsGradient = zip(problem.weights, truth.weightsGradient).map {
            Double($0) + Double(scale) * $1
        }
        var scales = problem.scales(normalized: normalized)
        scales.statesGradient = scales.statesGradient.map { $0 + problem.states.norm }
        scales.weightsGradient = scales.weightsGradient.map { $0 + problem.weights.norm }
        problem.expect(accumulated, naive: naive, truth: truth, scales: scales)
    }

    /// Squares of such states neither fit a Float nor survive in one.
    @Test(arguments: [Float(1e18), 1e-18], [1, 3])
    func statesOfAnySize(factor: Float, weightings: Int) throws {
        var problem = Problem(TokenShape(cells: 3, tokens: 9, width: 21), weightings: weightings)
        // Weights of the inverse size, so that the sums stay above the floor and the gradients within Float.
        problem.weights = problem.weights.map { $0 * (factor < 1 ? 1e10 : 1) }
        problem.states = problem.states.map { $0 * factor }
        problem.expect(
            try problem.run(normalized: true), naive: nil, truth: problem.oracle(normalized: true),
            scales: problem.scales(normalized: true))
    }

    @Test(arguments: [1, 3])
    func aSumBelowTheFloorHasAConstantDenominator(weightings: Int) throws {
        var problem = Problem(TokenShape(cells: 3, tokens: 4, width: 5), weightings: weightings)
        problem.weights = problem.weights.map { $0 * 1e-14 }
        for index in 0..<weightings * 4 { problem.weights[index] = 0 }
        problem.expect(
            try problem.run(normalized: true), naive: nil, truth: problem.oracle(normalized: true),
            scales: problem.scales(normalized: true))
    }

    /// Weights multiply: a NaN state makes NaN also under a weight of zero, in its own cell and number.
    @Test(arguments: [1, 3])
    func notANumberStaysInItsPlace(weightings: Int) throws {
        var problem = Problem(TokenShape(cells: 2, tokens: 3, width: 4), weightings: weightings)
        problem.states[(1 * 3 + 2) * 4 + 1] = .nan
        for k in 0..<weightings { problem.weights[(weightings + k) * 3 + 2] = 0 }
        let sums = try problem.run(normalized: false).embeddings
        #expect(sums.indices.filter { sums[$0].isNaN } == (0..<weightings).map { (weightings + $0) * 4 + 1 })
        let normalized = try problem.run(normalized: true).embeddings
        #expect(normalized.prefix(weightings * 4).allSatisfy { $0.isFinite })
        #expect(normalized.dropFirst(weightings * 4).allSatisfy { $0.isNaN })
    }

    @Test(
        arguments: [
            TokenShape(cells: 0, tokens: 3, width: 4), TokenShape(cells: 2, tokens: 0, width: 4),
            TokenShape(cells: 2, tokens: 3, width: 0), TokenShape(cells: 2, tokens: 3, width: 4),
        ], [0, 1, 3])
    func sidesOfZero(_ shape: TokenShape, weightings: Int) throws {
        guard shape.cells * shape.tokens * shape.width * weightings == 0 else { return }
        let problem = Problem(shape, weightings: weightings)
        for normalized in [false, true] {
            let results = try problem.run(normalized: normalized)
            #expect(
                results.embeddings == [Float](repeating: 0, count: shape.cells * weightings * shape.width))
            #expect(
                results.norms == (normalized ? [Double](repeating: 0, count: shape.cells * weightings) : []))
            #expect(results.statesGradient == [Float](repeating: 0, count: problem.states.count))
            #expect(results.weightsGradient == [Float](repeating: 0, count: problem.weights.count))
        }
    }

    @Test(arguments: [1, 3], [false, true])
    func workersDoNotChangeABit(weightings: Int, normalized: Bool) throws {
        let problem = Problem(TokenShape(cells: 7, tokens: 101, width: 259), weightings: weightings)
        let one = try problem.run(normalized: normalized, workers: 1)
        for workers in [2, 3, 8] {
            let many = try problem.run(normalized: normalized, workers: workers)
            expectSameBits(many.embeddings, one.embeddings, "\(workers) workers, embeddings")
            expectSameBits(many.statesGradient, one.statesGradient, "\(workers) workers, states' gradient")
            expectSameBits(many.weightsGradient, one.weightsGradient, "\(workers) workers, weights' gradient")
            #expect(many.norms == one.norms)
        }
    }

    @Test func arraysGiveTheSame() throws {
        let problem = Problem(TokenShape(cells: 2, tokens: 3, width: 4), weightings: 2)
        let plain = try problem.run(normalized: false, scale: 2)
        #expect(
            try WeightedTokenPooling().value(
                states: problem.states, weights: problem.weights, shape: problem.shape, weightings: 2)
                == plain.embeddings)
        let plainGradients = try WeightedTokenPooling().gradients(
            embeddingGradient: problem.embeddingGradient, states: problem.states, weights: problem.weights,
            shape: problem.shape, weightings: 2, gradientScale: 2)
        #expect(plainGradients == (plain.statesGradient, plain.weightsGradient))

        let unit = try problem.run(normalized: true, scale: 2)
        let value = try NormalizedWeightedTokenPooling().value(
            states: problem.states, weights: problem.weights, shape: problem.shape, weightings: 2)
        #expect(value == (unit.embeddings, unit.norms))
        let unitGradients = try NormalizedWeightedTokenPooling().gradients(
            embeddingGradient: problem.embeddingGradient, embeddings: value.embeddings, norms: value.norms,
            states: problem.states, weights: problem.weights, shape: problem.shape, weightings: 2,
            gradientScale: 2)
        #expect(unitGradients == (unit.statesGradient, unit.weightsGradient))
    }
}

// MARK: - Errors

extension WeightedTokenPoolingTests {
    private static let shape = TokenShape(cells: 2, tokens: 3, width: 4)

    private func message(_ body: () throws -> Void) -> String? {
        #expect(throws: LossError.self) { try body() }?.description
    }

    @Test(arguments: [false, true])
    func countsThatDisagree(normalized: Bool) {
        let right = Problem(Self.shape, weightings: 2)
        func message(_ change: (inout Problem) -> Void) -> String? {
            var problem = right
            change(&problem)
            return self.message { _ = try problem.run(normalized: normalized) }
        }
        #expect(
            message { $0.states.removeLast() } == "states has 23 elements, but the other arguments ask for 24"
        )
        #expect(
            message { $0.weights.append(0) } == "weights has 13 elements, but the other arguments ask for 12")
        #expect(
            message { $0.embeddingGradient.append(0) }
                == "embeddingGradient has 17 elements, but the other arguments ask for 16")
        #expect(
            self.message { _ = try right.run(normalized: normalized, scale: .infinity) }
                == "gradientScale is inf, but it must be finite")
        #expect(
            self.message { _ = try right.run(normalized: normalized, before: ([1], right.weights)) }
                == "gradient has 1 elements, but the other arguments ask for 24")
        #expect(
            self.message { _ = try right.run(normalized: normalized, before: (right.states, [1])) }
                == "gradient has 1 elements, but the other arguments ask for 12")
    }

    @Test func outputCountsThatDisagree() {
        let problem = Problem(Self.shape, weightings: 2)
        var embeddings = [Float].untouched(15)
        var norms = [Double].untouched(4)
        #expect(
            message {
                var span = embeddings.mutableSpan
                try WeightedTokenPooling().value(
                    states: problem.states.span, weights: problem.weights.span, shape: problem.shape,
                    weightings: 2, embeddings: &span, workspace: Workspace())
            } == "embeddings has 15 elements, but the other arguments ask for 16")
        #expect(
            message { try problem.normalizedValue(&embeddings, &norms) }
                == "embeddings has 15 elements, but the other arguments ask for 16")
        embeddings = .untouched(16)
        norms.removeLast()
        #expect(
            message { try problem.normalizedValue(&embeddings, &norms) }
                == "norms has 3 elements, but the other arguments ask for 4")
        #expect(embeddings == .untouched(16) && norms == .untouched(3))
    }

    @Test func gradientInputsThatDisagree() {
        let problem = Problem(Self.shape, weightings: 2)
        var gradient = [Float].untouched(24)
        func gradientMessage(embeddings: Int, norms: Int) -> String? {
            message {
                var span = gradient.mutableSpan
                try NormalizedWeightedTokenPooling().statesGradient(
                    embeddingGradient: problem.embeddingGradient.span,
                    embeddings: [Float](repeating: 0, count: embeddings).span,
                    norms: [Double](repeating: 1, count: norms).span, weights: problem.weights.span,
                    shape: problem.shape, weightings: 2, gradient: &span, workspace: Workspace())
            }
        }
        #expect(
            gradientMessage(embeddings: 3, norms: 4)
                == "embeddings has 3 elements, but the other arguments ask for 16")
        #expect(
            gradientMessage(embeddings: 16, norms: 5)
                == "norms has 5 elements, but the other arguments ask for 4")
        #expect(gradient == .untouched(24))
    }

    @Test func impossibleShapes() {
        #expect(throws: LossError.invalidShape(rows: 2, columns: -1)) {
            try WeightedTokenPooling().value(states: [], weights: [], shape: Self.shape, weightings: -1)
        }
        #expect(throws: LossError.invalidShape(rows: 1, columns: -3)) {
            try NormalizedWeightedTokenPooling().value(
                states: [], weights: [], shape: TokenShape(cells: 1, tokens: -3, width: 0), weightings: 1)
        }
    }

    @Test(arguments: [
        (TokenShape(cells: 0, tokens: 1 << 31, width: 1), 1, "shape.tokens"),
        (TokenShape(cells: 0, tokens: 1, width: 1 << 31), 1, "shape.width"),
        (TokenShape(cells: 0, tokens: 1, width: 1), 1 << 31, "weightings"),
    ])
    func sizesBeyondBLAS(_ shape: TokenShape, weightings: Int, argument: String) {
        #expect(
            message {
                _ = try WeightedTokenPooling().value(
                    states: [], weights: [], shape: shape, weightings: weightings)
            } == "\(argument) is 2147483648, but BLAS takes sizes up to 2147483647")
    }

    /// Every output against every input, with the two sharing one element.
    @Test func outputsMayNotOverlapInputs() {
        let shape = TokenShape(cells: 1, tokens: 2, width: 2)
        let four: [Float] = [0, 0, 0, 0]
        let (two, norm) = ([Float(0), 0], [Double(1)])
        let (plain, normalized, workspace) = (
            WeightedTokenPooling(), NormalizedWeightedTokenPooling(), Workspace()
        )
        var memory = [Double](repeating: 0, count: 4)
        memory.withUnsafeMutableBytes { bytes in
            func input(_ count: Int) -> UnsafeBufferPointer<Float> {
                UnsafeBufferPointer(
                    rebasing: UnsafeBufferPointer(bytes.assumingMemoryBound(to: Float.self))[..<count])
            }
            func output(after count: Int, _ outputs: Int) -> UnsafeMutableBufferPointer<Float> {
                UnsafeMutableBufferPointer(
                    rebasing: bytes.assumingMemoryBound(to: Float.self)[count - 1..<count - 1 + outputs])
            }
            let norms = UnsafeMutableBufferPointer(rebasing: bytes.assumingMemoryBound(to: Double.self)[..<1])
            let (pair, quad) = (Span(_unsafeElements: input(2)), Span(_unsafeElements: input(4)))
            let sharedNorm = Span(_unsafeElements: UnsafeBufferPointer(norms))

            func expect(_ output: String, _ other: String, _ body: () throws -> Void) {
                #expect(throws: LossError.overlappingBuffers(output: output, other: other)) { try body() }
            }
            // Embeddings and norms of the values.
            var embeddings = MutableSpan(_unsafeElements: output(after: 4, 2))
            var freeNorm = [0.0]
            var freeEmbeddings: [Float] = [0, 0]
            expect("embeddings", "states") {
                try plain.value(
                    states: quad, weights: two.span, shape: shape, embeddings: &embeddings,
                    workspace: workspace)
            }
            expect("embeddings", "states") {
                var norms = freeNorm.mutableSpan
                try normalized.value(
                    states: quad, weights: two.span, shape: shape, embeddings: &embeddings, norms: &norms,
                    workspace: workspace)
            }
            embeddings = MutableSpan(_unsafeElements: output(after: 2, 2))
            expect("embeddings", "weights") {
                try plain.value(
                    states: four.span, weights: pair, shape: shape, embeddings: &embeddings,
                    workspace: workspace)
            }
            expect("embeddings", "weights") {
                var norms = freeNorm.mutableSpan
                try normalized.value(
                    states: four.span, weights: pair, shape: shape, embeddings: &embeddings, norms: &norms,
                    workspace: workspace)
            }
            var sharedNorms = MutableSpan(_unsafeElements: norms)
            expect("norms", "embeddings") {
                try normalized.value(
                    states: four.span, weights: two.span, shape: shape, embeddings: &embeddings,
                    norms: &sharedNorms, workspace: workspace)
            }
            expect("norms", "states") {
                var embeddings = freeEmbeddings.mutableSpan
                try normalized.value(
                    states: quad, weights: two.span, shape: shape, embeddings: &embeddings,
                    norms: &sharedNorms, workspace: workspace)
            }
            expect("norms", "weights") {
                var embeddings = freeEmbeddings.mutableSpan
                try normalized.value(
                    states: four.span, weights: pair, shape: shape, embeddings: &embeddings,
                    norms: &sharedNorms, workspace: workspace)
            }

            // The states' gradient.
            var gradient = MutableSpan(_unsafeElements: output(after: 2, 4))
            expect("gradient", "embeddingGradient") {
                try plain.statesGradient(
                    embeddingGradient: pair, weights: two.span, shape: shape, gradient: &gradient,
                    workspace: workspace)
            }
            expect("gradient", "weights") {
                try plain.statesGradient(
                    embeddingGradient: two.span, weights: pair, shape: shape, gradient: &gradient,
                    workspace: workspace)
            }
            expect("gradient", "embeddings") {
                try normalized.statesGradient(
                    embeddingGradient: two.span, embeddings: pair, norms: norm.span, weights: two.span,
                    shape: shape, gradient: &gradient, workspace: workspace)
            }
            expect("gradient", "norms") {
                try normalized.statesGradient(
                    embeddingGradient: two.span, embeddings: two.span, norms: sharedNorm, weights: two.span,
                    shape: shape, gradient: &gradient, workspace: workspace)
            }

            // The weights' gradient.
            gradient = MutableSpan(_unsafeElements: output(after: 4, 2))
            expect("gradient", "states") {
                try plain.weightsGradient(
                    embeddingGradient: two.span, states: quad, shape: shape, gradient: &gradient,
                    workspace: workspace)
            }
            gradient = MutableSpan(_unsafeElements: output(after: 2, 2))
            expect("gradient", "norms") {
                try normalized.weightsGradient(
                    embeddingGradient: two.span, embeddings: two.span, norms: sharedNorm, states: four.span,
                    shape: shape, gradient: &gradient, workspace: workspace)
            }
        }
    }
}

// MARK: - Problems

extension WeightedTokenPoolingTests {
    /// States under weightings, and a gradient of the embeddings.
    struct Problem: Sendable, CustomTestStringConvertible {
        var shape: TokenShape
        var weightings: Int
        var states: [Float]
        var weights: [Float]
        var embeddingGradient: [Float]

        var testDescription: String { "\(shape.testDescription), \(weightings) weightings" }
    }

    /// What comes out of the three verbs.
    struct Results<T: ReferenceScalar> {
        var embeddings: [T]
        var norms: [Double] = []
        var statesGradient: [T]
        var weightsGradient: [T]
    }

    /// For each cell, the size of each result before its terms cancel.
    struct Scales {
        var embeddings: [Double]
        var statesGradient: [Double]
        var weightsGradient: [Double]
    }
}

extension WeightedTokenPoolingTests.Problem {
    typealias Results = WeightedTokenPoolingTests.Results

    init(_ shape: TokenShape, weightings: Int) {
        let seed = shape.cells * 1_000_003 + shape.tokens * 1009 + shape.width * 31 + weightings
        var random = RandomInputs(seed: UInt64(seed))
        self.shape = shape
        self.weightings = weightings
        states = random.normals(shape.cells * shape.tokens * shape.width)
        weights = random.normals(shape.cells * weightings * shape.tokens)
        embeddingGradient = random.normals(shape.cells * weightings * shape.width)
    }

    func normalizedValue(
        _ embeddings: inout [Float], _ norms: inout [Double], _ workspace: Workspace = Workspace()
    ) throws {
        var span = embeddings.mutableSpan
        var normSpan = norms.mutableSpan
        try NormalizedWeightedTokenPooling().value(
            states: states.span, weights: weights.span, shape: shape, weightings: weightings,
            embeddings: &span, norms: &normSpan, workspace: workspace)
    }

    /// All verbs. With `before`, the gradients are added to it.
    func run(
        normalized: Bool, scale: Float = 1, before: (states: [Float], weights: [Float])? = nil,
        workers: Int = Workspace.defaultWorkers
    ) throws -> Results<Float> {
        let workspace = Workspace(workers: workers)
        let update: GradientUpdate = before == nil ? .overwrite : .accumulate
        var embeddings = [Float].untouched(shape.cells * weightings * shape.width)
        var norms = [Double].untouched(normalized ? shape.cells * weightings : 0)
        var statesGradient = before?.states ?? .untouched(shape.cells * shape.tokens * shape.width)
        var weightsGradient = before?.weights ?? .untouched(shape.cells * weightings * shape.tokens)
        if normalized {
            let pooling = NormalizedWeightedTokenPooling()
            try normalizedValue(&embeddings, &norms, workspace)
            var statesSpan = statesGradient.mutableSpan
            try pooling.statesGradient(
                embeddingGradient: embeddingGradient.span, embeddings: embeddings.span, norms: norms.span,
                weights: weights.span, shape: shape, weightings: weightings, gradient: &statesSpan,
                gradientScale: scale, update: update, workspace: workspace)
            var weightsSpan = weightsGradient.mutableSpan
            try pooling.weightsGradient(
                embeddingGradient: embeddingGradient.span, embeddings: embeddings.span, norms: norms.span,
                states: states.span, shape: shape, weightings: weightings, gradient: &weightsSpan,
                gradientScale: scale, update: update, workspace: workspace)
        } else {
            let pooling = WeightedTokenPooling()
            var span = embeddings.mutableSpan
            try pooling.value(
                states: states.span, weights: weights.span, shape: shape, weightings: weightings,
                embeddings: &span, workspace: workspace)
            var statesSpan = statesGradient.mutableSpan
            try pooling.statesGradient(
                embeddingGradient: embeddingGradient.span, weights: weights.span, shape: shape,
                weightings: weightings, gradient: &statesSpan, gradientScale: scale, update: update,
                workspace: workspace)
            var weightsSpan = weightsGradient.mutableSpan
            try pooling.weightsGradient(
                embeddingGradient: embeddingGradient.span, states: states.span, shape: shape,
                weightings: weightings, gradient: &weightsSpan, gradientScale: scale, update: update,
                workspace: workspace)
        }
        return Results(
            embeddings: embeddings, norms: norms, statesGradient: statesGradient,
            weightsGradient: weightsGradient)
    }

    // MARK: The oracle

    func naive(normalized: Bool) -> Results<Float> {
        reference(normalized: normalized, states, weights, embeddingGradient)
    }

    func oracle(normalized: Bool) -> Results<Double> {
        reference(normalized: normalized, states.doubles, weights.doubles, embeddingGradient.doubles)
    }

    private func reference<T: ReferenceScalar>(
        normalized: Bool, _ states: [T], _ weights: [T], _ embeddingGradient: [T]
    ) -> Results<T> {
        var (statesGradient, weightsGradient) = (states, weights)
        Reference.TokenPooling.weightedGradient(
            outputGradient: embeddingGradient, states: states, weights: weights, cells: shape.cells,
            tokens: shape.tokens, width: shape.width, weightings: weightings, normalized: normalized,
            statesGradient: &statesGradient, weightsGradient: &weightsGradient)
        return Results(
            embeddings: Reference.TokenPooling.weighted(
                states: states, weights: weights, cells: shape.cells, tokens: shape.tokens,
                width: shape.width, weightings: weightings, normalized: normalized),
            statesGradient: statesGradient, weightsGradient: weightsGradient)
    }

    /// The plain sums and gradients of absolute values: of the sums, divided by their norms, and of the
    /// gradients before the normalisation's projection.
    func scales(normalized: Bool) -> WeightedTokenPoolingTests.Scales {
        func absolute(_ values: [Float]) -> [Double] { values.map { abs(Double($0)) } }
        var upstream = absolute(embeddingGradient)
        var inverseNorms = [Double](repeating: 1, count: shape.cells * weightings)
        if normalized {
            let sums = oracle(normalized: false).embeddings
            for row in inverseNorms.indices {
                let range = row * shape.width..<(row + 1) * shape.width
                inverseNorms[row] = 1 / max(sums[range].norm, NormalizedWeightedTokenPooling.normFloor)
                for index in range { upstream[index] *= inverseNorms[row] }
            }
        }
        var results = reference(normalized: false, absolute(states), absolute(weights), upstream)
        for index in results.embeddings.indices {
            results.embeddings[index] *= inverseNorms[index / shape.width]
        }
        return WeightedTokenPoolingTests.Scales(
            embeddings: perCell(results.embeddings).map(\.norm),
            statesGradient: perCell(results.statesGradient).map(\.norm),
            weightsGradient: perCell(results.weightsGradient).map(\.norm))
    }

    private func perCell<T>(_ values: [T]) -> [[T]] {
        let size = shape.cells == 0 ? 0 : values.count / shape.cells
        return (0..<shape.cells).map { Array(values[$0 * size..<($0 + 1) * size]) }
    }

    /// The accuracy rule for every single result and cell. Without `naive` only the tolerance is allowed.
    func expect(
        _ fast: Results<Float>, naive: Results<Float>?, truth: Results<Double>,
        scales: WeightedTokenPoolingTests.Scales, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        func expect(
            _ label: String, _ result: (Results<Float>) -> [Float], _ truth: [Double], _ scales: [Double]
        ) {
            let rounded = truth.map { Float($0) }
            for cell in 0..<shape.cells {
                expectAsAccurateAsNaive(
                    fast: perCell(result(fast))[cell], naive: perCell(naive.map(result) ?? rounded)[cell],
                    truth: perCell(truth)[cell], scale: scales[cell], "\(label), cell \(cell)",
                    sourceLocation: sourceLocation)
            }
        }
        expect("embeddings", \.embeddings, truth.embeddings, scales.embeddings)
        expect("states' gradient", \.statesGradient, truth.statesGradient, scales.statesGradient)
        expect("weights' gradient", \.weightsGradient, truth.weightsGradient, scales.weightsGradient)
    }
}
