// Pooling by the first token and by the mean of all: against the oracle, and every error.

import FastLoss
import FastLossReference
import Foundation
import Testing

@Suite struct TokenPoolingTests {
    /// One token, one number, sizes around a cache line and around the strip of 512 columns, and odd sizes.
    static let shapes: [TokenShape] = [
        TokenShape(cells: 1, tokens: 1, width: 1), TokenShape(cells: 3, tokens: 1, width: 17),
        TokenShape(cells: 2, tokens: 1201, width: 1), TokenShape(cells: 5, tokens: 13, width: 15),
        TokenShape(cells: 2, tokens: 64, width: 16), TokenShape(cells: 1, tokens: 7, width: 511),
        TokenShape(cells: 3, tokens: 5, width: 513), TokenShape(cells: 2, tokens: 3, width: 1031),
    ]

    @Test(arguments: try Golden.cases(of: "TokenPooling"), TokenPooling.allCases)
    func matchesPyTorch(_ golden: Golden, pooling: TokenPooling) throws {
        let shape = try golden.tokenShape
        let name = pooling == .cls ? "cls" : "average"
        expectWithinUlps(
            actual: try pooling.value(states: golden.floats("states"), shape: shape),
            oracle: try golden.truth(name), name)
        expectWithinUlps(
            actual: try pooling.gradient(embeddingGradient: golden.floats("outputGradient"), shape: shape),
            oracle: try golden.truth("\(name)StatesGradient"), "\(name) gradient")
    }

    @Test(arguments: shapes, TokenPooling.allCases)
    func isWithinUlpsOfTheOracle(_ shape: TokenShape, pooling: TokenPooling) throws {
        let inputs = Inputs(shape)
        expectWithinUlps(
            actual: try pooling.value(states: inputs.states, shape: shape), oracle: inputs.oracle(pooling))
        expectWithinUlps(
            actual: try pooling.gradient(embeddingGradient: inputs.embeddingGradient, shape: shape),
            oracle: inputs.gradientOracle(pooling))
    }

    @Test(arguments: shapes, TokenPooling.allCases)
    func gradientAccumulatesAndScales(_ shape: TokenShape, pooling: TokenPooling) throws {
        let inputs = Inputs(shape)
        let scale: Float = -0.375
        var gradient = inputs.states
        try inputs.gradient(pooling, into: &gradient, scale: scale, update: .accumulate)
        let truth = zip(inputs.states, inputs.gradientOracle(pooling)).map { Double($0) + Double(scale) * $1 }
        // The sum is rounded to the size of what it is added to.
        expectAsAccurateAsNaive(
            fast: gradient, naive: truth.map { Float($0) }, truth: truth, scale: inputs.states.norm)
    }

    /// A gradient of the size from which it is written past the caches, in rows that start anywhere in a
    /// cache line.
    @Test func streamedGradientsAreTheSame() throws {
        let shape = TokenShape(cells: 3, tokens: 2805, width: 1001)
        let inputs = Inputs(embeddingGradientOf: shape)
        var gradient = [Float].untouched(shape.cells * shape.tokens * shape.width)
        try inputs.gradient(.average, into: &gradient)
        // Few tokens, and so not streamed; scaled to the same mean.
        let expected = try TokenPooling.average.gradient(
            embeddingGradient: inputs.embeddingGradient, shape: TokenShape(cells: 3, tokens: 5, width: 1001),
            gradientScale: 5 / 2805)
        for cell in 0..<shape.cells {
            let first = Array(
                gradient[cell * shape.tokens * shape.width..<(cell * shape.tokens + 1) * shape.width])
            expectWithinUlps(
                actual: first,
                oracle: expected[cell * 5 * shape.width..<(cell * 5 + 1) * shape.width].map { Double($0) })
            let differing = (0..<shape.tokens).filter { token in
                gradient.withUnsafeBytes { bytes in
                    let row = (cell * shape.tokens + token) * shape.width * MemoryLayout<Float>.stride
                    return memcmp(bytes.baseAddress! + row, first, first.count * MemoryLayout<Float>.stride)
                        != 0
                }
            }
            #expect(differing.isEmpty, "tokens of cell \(cell) whose gradient is not the first one's")
        }
    }

    /// There is no mask. A NaN state affects only its own element of its own cell.
    @Test func notANumberStaysInItsPlace() throws {
        let shape = TokenShape(cells: 2, tokens: 3, width: 4)
        var states = Inputs(shape).states
        states[(1 * 3 + 2) * 4 + 1] = .nan
        let average = try TokenPooling.average.value(states: states, shape: shape)
        #expect(average.indices.filter { average[$0].isNaN } == [5])
        #expect(try TokenPooling.cls.value(states: states, shape: shape).allSatisfy(\.isFinite))
    }

    @Test(arguments: TokenPooling.allCases)
    func noCellsAndNoWidth(pooling: TokenPooling) throws {
        for shape in [TokenShape(cells: 0, tokens: 3, width: 4), TokenShape(cells: 2, tokens: 3, width: 0)] {
            #expect(try pooling.value(states: [], shape: shape).isEmpty)
            #expect(try pooling.gradient(embeddingGradient: [], shape: shape).isEmpty)
        }
    }

    @Test(arguments: TokenPooling.allCases)
    func workersDoNotChangeABit(pooling: TokenPooling) throws {
        let shape = TokenShape(cells: 7, tokens: 101, width: 515)
        let inputs = Inputs(shape)
        func run(_ workers: Int) throws -> (embeddings: [Float], gradient: [Float]) {
            let workspace = Workspace(workers: workers)
            var embeddings = [Float].untouched(shape.cells * shape.width)
            try inputs.value(pooling, into: &embeddings, workspace)
            var gradient = [Float].untouched(inputs.states.count)
            try inputs.gradient(pooling, into: &gradient, workspace)
            return (embeddings, gradient)
        }
        let one = try run(1)
        for workers in [2, 3, 8] {
            let many = try run(workers)
            expectSameBits(many.embeddings, one.embeddings, "\(workers) workers, embeddings")
            expectSameBits(many.gradient, one.gradient, "\(workers) workers, gradient")
        }
    }
}

// MARK: - Errors

extension TokenPoolingTests {
    @Test(arguments: TokenPooling.allCases)
    func noTokensIsAnError(pooling: TokenPooling) {
        let shape = TokenShape(cells: 2, tokens: 0, width: 3)
        let message = "shape.tokens is 0, but it must be at least 1"
        let value = #expect(throws: LossError.self) { try pooling.value(states: [], shape: shape) }
        #expect(value?.description == message)
        let gradient = #expect(throws: LossError.self) {
            try pooling.gradient(embeddingGradient: [0, 0, 0, 0, 0, 0], shape: shape)
        }
        #expect(gradient?.description == message)
    }

    @Test(arguments: TokenPooling.allCases)
    func countsThatDisagree(pooling: TokenPooling) {
        let shape = TokenShape(cells: 2, tokens: 3, width: 4)
        let inputs = Inputs(shape)
        func message(_ body: () throws -> Void) -> String? {
            #expect(throws: LossError.self) { try body() }?.description
        }

        #expect(
            message { _ = try pooling.value(states: Array(inputs.states.dropLast()), shape: shape) }
                == "states has 23 elements, but the other arguments ask for 24")
        var embeddings = [Float].untouched(7)
        #expect(
            message { try inputs.value(pooling, into: &embeddings) }
                == "embeddings has 7 elements, but the other arguments ask for 8")
        #expect(
            message { _ = try pooling.gradient(embeddingGradient: [1], shape: shape) }
                == "embeddingGradient has 1 elements, but the other arguments ask for 8")
        var gradient = [Float].untouched(25)
        #expect(
            message { try inputs.gradient(pooling, into: &gradient) }
                == "gradient has 25 elements, but the other arguments ask for 24")
        gradient.removeLast()
        #expect(
            message { try inputs.gradient(pooling, into: &gradient, scale: .nan) }
                == "gradientScale is nan, but it must be finite")
        #expect(embeddings == .untouched(7) && gradient == .untouched(24))
    }

    @Test(arguments: [
        (TokenShape(cells: -1, tokens: 3, width: 4), LossError.invalidShape(rows: -1, columns: 3)),
        (TokenShape(cells: 1, tokens: -3, width: 4), .invalidShape(rows: 1, columns: -3)),
        (TokenShape(cells: 2, tokens: 3, width: -4), .invalidShape(rows: 6, columns: -4)),
        (TokenShape(cells: 2, tokens: 3, width: .max), .invalidShape(rows: 6, columns: .max)),
    ])
    func impossibleShapes(_ shape: TokenShape, error: LossError) {
        #expect(throws: error) { try TokenPooling.average.value(states: [], shape: shape) }
        #expect(throws: error) { try TokenPooling.average.gradient(embeddingGradient: [], shape: shape) }
    }

    @Test(arguments: TokenPooling.allCases)
    func outputsMayNotOverlapInputs(pooling: TokenPooling) {
        let shape = TokenShape(cells: 1, tokens: 1, width: 4)
        var memory = [Float](repeating: 0, count: 7)
        memory.withUnsafeMutableBufferPointer { memory in
            let input = Span(_unsafeElements: UnsafeBufferPointer(rebasing: memory[0..<4]))
            var output = MutableSpan(_unsafeElements: UnsafeMutableBufferPointer(rebasing: memory[3..<7]))
            let error = #expect(throws: LossError.self) {
                try pooling.value(states: input, shape: shape, embeddings: &output, workspace: Workspace())
            }
            #expect(error?.description == "output embeddings shares memory with states")
            #expect(throws: LossError.overlappingBuffers(output: "gradient", other: "embeddingGradient")) {
                try pooling.gradient(
                    embeddingGradient: input, shape: shape, gradient: &output, workspace: Workspace())
            }
        }
    }
}

// MARK: - Inputs

extension TokenShape: CustomTestStringConvertible {
    public var testDescription: String { "\(cells)x\(tokens)x\(width)" }
}

extension Golden {
    var tokenShape: TokenShape {
        get throws { TokenShape(cells: try int("cells"), tokens: try int("tokens"), width: try int("width")) }
    }
}

extension TokenPoolingTests {
    /// States, and a gradient of the embeddings, with the calls and the oracle of both verbs.
    struct Inputs {
        let shape: TokenShape
        let states: [Float]
        let embeddingGradient: [Float]

        init(_ shape: TokenShape) {
            var random = RandomInputs(
                seed: UInt64(shape.cells * 1_000_003 + shape.tokens * 1009 + shape.width))
            self.shape = shape
            states = random.normals(shape.cells * shape.tokens * shape.width)
            embeddingGradient = random.normals(shape.cells * shape.width)
        }

        /// Without states, where there would be many.
        init(embeddingGradientOf shape: TokenShape) {
            var random = RandomInputs(seed: 11)
            self.shape = shape
            states = []
            embeddingGradient = random.normals(shape.cells * shape.width)
        }

        func value(
            _ pooling: TokenPooling, into embeddings: inout [Float], _ workspace: Workspace = Workspace()
        ) throws {
            var span = embeddings.mutableSpan
            try pooling.value(states: states.span, shape: shape, embeddings: &span, workspace: workspace)
        }

        func gradient(
            _ pooling: TokenPooling, into gradient: inout [Float], scale: Float = 1,
            update: GradientUpdate = .overwrite, _ workspace: Workspace = Workspace()
        ) throws {
            var span = gradient.mutableSpan
            try pooling.gradient(
                embeddingGradient: embeddingGradient.span, shape: shape, gradient: &span,
                gradientScale: scale, update: update, workspace: workspace)
        }

        func oracle(_ pooling: TokenPooling) -> [Double] {
            let (cells, tokens, width) = (shape.cells, shape.tokens, shape.width)
            return switch pooling {
            case .cls:
                Reference.TokenPooling.cls(states: states.doubles, cells: cells, tokens: tokens, width: width)
            case .average:
                Reference.TokenPooling.average(
                    states: states.doubles, cells: cells, tokens: tokens, width: width)
            }
        }

        func gradientOracle(_ pooling: TokenPooling) -> [Double] {
            let (cells, tokens, width) = (shape.cells, shape.tokens, shape.width)
            var gradient = [Double](repeating: 0, count: states.count)
            switch pooling {
            case .cls:
                Reference.TokenPooling.clsGradient(
                    outputGradient: embeddingGradient.doubles, cells: cells, tokens: tokens, width: width,
                    gradient: &gradient)
            case .average:
                Reference.TokenPooling.averageGradient(
                    outputGradient: embeddingGradient.doubles, cells: cells, tokens: tokens, width: width,
                    gradient: &gradient)
            }
            return gradient
        }
    }
}
