// The oracle of the expression decoder against PyTorch, central differences and its restructurings.

import FastLossReference
import Testing

@Suite struct ExpressionDecoderReferenceTests {
    @Test(arguments: try Golden.cases(of: "ExpressionDecoder"))
    func oracleMatchesPyTorch(_ golden: Golden) throws {
        try golden.expectResults(try ExpressionDecoderCase<Double>(golden).results)
    }

    @Test(arguments: try Golden.cases(of: "ExpressionDecoder"))
    func baselineMatchesPyTorch(_ golden: Golden) throws {
        try golden.expectResults(try ExpressionDecoderCase<Float>(golden).results)
    }

    @Test(arguments: try Golden.cases(of: "ExpressionDecoder"))
    func gradientsMatchCentralDifferences(_ golden: Golden) throws {
        let head = try ExpressionDecoderCase<Double>(golden)
        let gradients = head.gradients
        expectCentralDifferences(
            of: {
                var moved = head
                moved.parameters = $0
                return moved.objective
            }, at: head.parameters, gradient: gradients.parameters, golden.name)
        expectCentralDifferences(
            of: {
                var moved = head
                moved.states = $0
                return moved.objective
            }, at: head.states, gradient: gradients.states, "\(golden.name): states")
        guard let embeddings = head.batchEmbeddings else { return }
        expectCentralDifferences(
            of: {
                var moved = head
                moved.batchEmbeddings = $0
                return moved.objective
            }, at: embeddings, gradient: try #require(gradients.batchEmbeddings),
            "\(golden.name): batch embeddings")
    }

    /// W₁[h; e] = W₁ₕh + W₁ₑe + b: the batch label's half is one vector per cell.
    @Test(arguments: try Golden.cases(of: "ExpressionDecoder").filter { $0.hasInput("batchEmbeddings") })
    func firstLayerSplitsIntoStatesAndBatchLabels(_ golden: Golden) throws {
        let head = try ExpressionDecoderCase<Double>(golden)
        let embeddings = try #require(head.batchEmbeddings)
        let layer = head.parameters.fc.layers[0]
        let width = layer.outputWidth
        var halves = [Reference.Linear<Double>](
            repeating: .init(inputWidth: width, outputWidth: width, hasBias: false), count: 2)
        for i in layer.weight.indices {
            let (row, column) = i.quotientAndRemainder(dividingBy: 2 * width)
            halves[column / width].weight[row * width + column % width] = layer.weight[i]
        }
        let fromStates = halves[0].value(input: head.states)
        let fromLabels = halves[1].value(input: embeddings)
        let sums = fromStates.indices.map { i in
            let cell = i / (head.tokens * width)
            return fromStates[i] + fromLabels[cell * width + i % width] + layer.bias![i % width]
        }
        var inputs: [Double] = []
        for row in 0..<head.cells * head.tokens {
            let cell = row / head.tokens
            inputs += head.states[row * width..<(row + 1) * width]
            inputs += embeddings[cell * width..<(cell + 1) * width]
        }
        expectNormwise(
            actual: sums, oracle: layer.value(input: inputs), tolerance: Tolerances.oracleNormwise)
    }

    /// A loss that reads the masked positions alone needs the head for those alone.
    @Test(arguments: try Golden.cases(of: "ExpressionDecoder"))
    func maskedRowsAloneGiveTheSameGradients(_ golden: Golden) throws {
        let head = try ExpressionDecoderCase<Double>(golden)
        let mask = try golden.bools("mask")
        let masked = mask.indices.filter { mask[$0] }
        let width = try golden.int("width")
        func rows(_ values: [Double], _ indices: [Int]) -> [Double] {
            indices.flatMap { values[$0 * width..<($0 + 1) * width] }
        }
        var gathered = head
        gathered.cells = masked.count
        gathered.tokens = 1
        gathered.states = rows(head.states, masked)
        gathered.batchEmbeddings = head.batchEmbeddings.map { rows($0, masked.map { $0 / head.tokens }) }
        gathered.outputGradients.predictions = masked.map { head.outputGradients.predictions[$0] }
        gathered.outputGradients.nonzeroProbabilities = head.outputGradients.nonzeroProbabilities.map { all in
            masked.map { all[$0] }
        }

        let (all, few) = (head.gradients, gathered.gradients)
        for (name, array) in head.parameters.stateDict {
            expectNormwise(
                actual: few.parameters[keyPath: array], oracle: all.parameters[keyPath: array],
                tolerance: Tolerances.oracleNormwise, name)
        }
        var states = [Double](repeating: 0, count: head.states.count)
        var batches = [Double](repeating: 0, count: head.cells * width)
        for (k, row) in masked.enumerated() {
            for i in 0..<width {
                states[row * width + i] = few.states[k * width + i]
                batches[row / head.tokens * width + i] += few.batchEmbeddings?[k * width + i] ?? 0
            }
        }
        expectNormwise(
            actual: states, oracle: all.states, tolerance: Tolerances.oracleNormwise, "states")
        if let oracle = all.batchEmbeddings {
            expectNormwise(
                actual: batches, oracle: oracle, tolerance: Tolerances.oracleNormwise, "batch embeddings")
        }
    }
}

/// A golden's head with everything that it reads.
struct ExpressionDecoderCase<T: ReferenceScalar> {
    var parameters: Reference.ExpressionDecoder.Parameters<T>
    var states: [T]
    var batchEmbeddings: [T]?
    var outputGradients: Reference.DecoderOutputs<T>
    var cells: Int
    var tokens: Int

    init(_ golden: Golden) throws {
        parameters = try golden.filled(
            .init(
                width: golden.int("width"), explicitZeros: golden.flag("explicitZeros"),
                batchLabels: golden.flag("usesBatchLabels")))
        states = try golden.values("states")
        batchEmbeddings = try golden.optionalValues("batchEmbeddings")
        outputGradients = try golden.decoderOutputGradients()
        (cells, tokens) = (try golden.int("cells"), try golden.int("tokens"))
    }

    var outputs: Reference.DecoderOutputs<T> {
        Reference.ExpressionDecoder.value(
            parameters: parameters, states: states, batchEmbeddings: batchEmbeddings, cells: cells,
            tokens: tokens)
    }

    var objective: T { outputs.objective(outputGradients) }

    var gradients: Reference.ExpressionDecoder.Gradients<T> {
        Reference.ExpressionDecoder.gradients(
            outputGradients: outputGradients, parameters: parameters, states: states,
            batchEmbeddings: batchEmbeddings, cells: cells, tokens: tokens)
    }

    /// Everything that the golden has a result for.
    var results: [String: [T]] {
        let gradients = gradients
        var results = outputs.results
        results.merge(gradients.parameters.gradientResults) { $1 }
        results["gradient.states"] = gradients.states
        results["gradient.batchEmbeddings"] = gradients.batchEmbeddings
        return results
    }
}
