// The expression decoder on masked tokens against PyTorch's goldens, the oracle, and its own laws.

import FastLoss
import FastLossHeads
import FastLossReference
import Testing

@Suite struct ExpressionDecoderTests {
    /// Outputs and every gradient, for gradients of the outputs that the golden gives.
    @Test(arguments: try Golden.cases(of: "ExpressionDecoder"))
    func matchesPyTorch(_ golden: Golden) throws {
        let width = try golden.int("width")
        var batch = DecoderBatch(
            decoder: try ExpressionDecoder(
                width: width, explicitZeros: try golden.flag("explicitZeros"),
                batchEmbeddings: try golden.flag("usesBatchLabels")),
            cells: try golden.int("cells"), tokens: try golden.int("tokens"))
        batch.decoder.nonzeroForm = .probabilities
        batch.parameters = try batch.decoder.layout.values(of: golden)
        batch.states = try golden.floats("states")
        if batch.decoder.hasBatchEmbeddings {
            batch.embeddings = try golden.floats("batchEmbeddings")
            batch.labels = (0..<Int32(batch.cells)).map { $0 }
        }
        var results = try batch.predictions(workers: 2)
        let gradients = try batch.gradients(
            predictions: golden.floats("outputGradient.predictions"),
            nonzero: golden.optionalValues("outputGradient.nonzeroProbabilities"))
        results.merge(gradients.results(batch.decoder)) { $1 }
        try golden.expectResults(results)
    }

    /// The fused losses and their gradients at sizes around every block, against the oracle.
    @Test(arguments: DecoderShape.all)
    func fusedLossesMatchTheOracle(_ shape: DecoderShape) throws {
        let batch = try DecoderBatch(shape)
        for form in [BernoulliNLL.Form.logits, .probabilities] {
            var batch = batch
            batch.decoder.nonzeroForm = form
            let (losses, gradients) = try batch.valueAndGradients(workers: 2)
            let value = try batch.value()
            #expect(value == losses)
            let truth = batch.truth
            expectClose(losses.squaredError, truth.squaredError, Tolerances.headValue, "MSE")
            expectClose(losses.nonzero ?? 0, truth.nonzero ?? 0, Tolerances.headValue, "NLL")
            expectClose(losses.relativeError, truth.relativeError, Tolerances.headValue, "relative error")
            for (name, actual) in gradients.results(batch.decoder) {
                expectNormwise(
                    actual: actual, oracle: try #require(truth.gradients[name]),
                    tolerance: Tolerances.headNormwise, "\(form) \(name)")
            }
        }
    }

    /// Bitwise the same results for any number of workers.
    @Test func workersDoNotChangeABit() throws {
        let batch = try DecoderBatch(DecoderShape(cells: 7, tokens: 300, width: 65, batches: 3))
        let (losses, gradients) = try batch.valueAndGradients(workers: 1)
        for workers in [2, 3, 8] {
            let (otherLosses, others) = try batch.valueAndGradients(workers: workers)
            #expect(otherLosses == losses)
            expectSameBits(others.all, gradients.all, "\(workers) workers")
        }
    }

    /// Enough tokens for the scale of blocks: predictions and gradients as those of parts of the batch, which are
    /// of the scale of tiles, and bitwise the same for any number of workers.
    @Test func manyTokensAreTheSumOfTheirParts() throws {
        var batch = try DecoderBatch(DecoderShape(cells: 8, tokens: 400, width: 128, batches: 2))
        let all = batch.mask.count { $0 }
        #expect(all >= 1024)
        let predictions = try batch.predictions(workers: 2)
        let gradients = try batch.gradients(
            predictions: batch.targets, nonzero: batch.targets, workers: 2)
        for workers in [1, 3] {
            let others = try batch.gradients(
                predictions: batch.targets, nonzero: batch.targets, workers: workers)
            expectSameBits(others.all, gradients.all, "\(workers) workers")
        }
        var sums: [String: [Float]] = [:]
        let mask = batch.mask
        for part in 0..<4 {
            batch.mask = mask.indices.map { mask[$0] && $0 % 4 == part }
            #expect(batch.mask.count { $0 } < 1024)
            for (name, values) in try batch.predictions(workers: 2) {
                let whole = try #require(predictions[name])
                for row in batch.mask.indices where batch.mask[row] {
                    #expect(abs(values[row] - whole[row]) <= 1e-5 * max(1, abs(whole[row])))
                }
            }
            let gradients = try batch.gradients(
                predictions: batch.targets, nonzero: batch.targets, workers: 2)
            for (name, values) in gradients.results(batch.decoder) {
                let sum = sums[name] ?? [Float](repeating: 0, count: values.count)
                sums[name] = zip(sum, values).map { $0 + $1 }
            }
        }
        for (name, values) in gradients.results(batch.decoder) {
            expectNormwise(
                actual: values, oracle: try #require(sums[name]).map(Double.init), tolerance: 1e-5, name)
        }
    }

    /// Arrays give bitwise what spans give.
    @Test func arraysAreTheSameAsSpans() throws {
        for batches in [0, 2] {
            let batch = try DecoderBatch(DecoderShape(cells: 3, tokens: 20, width: 9, batches: batches))
            let workspace = Workspace(workers: 2)
            let (losses, gradients) = try batch.valueAndGradients(workers: 2)
            var arrays = ExpressionDecoderGradientArrays(batch, value: .nan)
            let others = try batch.decoder.valueAndGradient(
                batch.arrays, targets: batch.targets, parameters: batch.parameters, weights: batch.weights,
                gradients: &arrays, workspace: workspace)
            #expect(others == losses)
            expectSameBits(arrays.all, gradients.all)
            #expect(
                try batch.decoder.value(
                    batch.arrays, targets: batch.targets, parameters: batch.parameters, workspace: workspace)
                    == losses)
            try batch.decoder.gradient(
                batch.arrays, predictionsGradient: batch.targets, nonzeroGradient: batch.targets,
                parameters: batch.parameters, gradients: &arrays, workspace: workspace)
            expectSameBits(
                arrays.all, try batch.gradients(predictions: batch.targets, nonzero: batch.targets).all)
            var predictions = [Float](repeating: .nan, count: batch.cells * batch.tokens)
            var nonzero: [Float]? = predictions
            try batch.decoder.predict(
                batch.arrays, parameters: batch.parameters, predictions: &predictions, nonzero: &nonzero,
                workspace: workspace)
            let spans = try batch.predictions(workers: 2)
            expectSameBits(predictions, try #require(spans["predictions"]))
            expectSameBits(try #require(nonzero), try #require(spans["nonzeroProbabilities"]))
        }
    }

    /// What lies outside the mask has no effect, NaN included: neither states nor targets.
    @Test func tokensOutsideTheMaskAreNotRead() throws {
        let batch = try DecoderBatch(DecoderShape(cells: 3, tokens: 40, width: 33, batches: 2))
        var poisoned = batch
        for row in batch.mask.indices where !batch.mask[row] {
            poisoned.targets[row] = .nan
            for i in 0..<batch.decoder.width { poisoned.states[row * batch.decoder.width + i] = .nan }
        }
        let (losses, gradients) = try batch.valueAndGradients(workers: 2)
        let (others, otherGradients) = try poisoned.valueAndGradients(workers: 2)
        #expect(losses == others)
        expectSameBits(otherGradients.all, gradients.all)
        let states = try #require(gradients.states)
        for row in batch.mask.indices where !batch.mask[row] {
            for i in 0..<batch.decoder.width {
                #expect(states[row * batch.decoder.width + i] == 0)
            }
        }
    }

    /// Accumulation adds to what the buffers hold, with the caller's factor.
    @Test func accumulationAddsToTheBuffers() throws {
        let batch = try DecoderBatch(DecoderShape(cells: 5, tokens: 41, width: 31, batches: 2))
        let (_, single) = try batch.valueAndGradients(workers: 2)
        var sum = ExpressionDecoderGradientArrays(batch, value: 1)
        _ = try batch.valueAndGradients(workers: 2, scale: 0.5, into: &sum, update: .accumulate)
        func expected(_ gradient: [Float]) -> [Double] { gradient.map { 1 + 0.5 * Double($0) } }
        for (name, gradient) in single.results(batch.decoder) {
            expectNormwise(
                actual: try #require(sum.results(batch.decoder)[name]), oracle: expected(gradient),
                tolerance: Tolerances.headNormwise, name)
        }
    }

    /// An empty mask is an error, or one of the two values.
    @Test func emptyMasksFollowTheRule() throws {
        var batch = try DecoderBatch(DecoderShape(cells: 2, tokens: 5, width: 4, batches: 2))
        batch.mask = batch.mask.map { _ in false }
        let empty = batch
        expectError(LossError.emptySelection(loss: "ExpressionDecoder", row: nil).description) {
            () throws(LossError) in _ = try empty.value()
        }
        for (rule, expected) in [(EmptySelectionRule.zero, Float(0)), (.nan, .nan)] {
            batch.decoder.whenEmpty = rule
            let (losses, gradients) = try batch.valueAndGradients(workers: 1)
            expectClose(losses.squaredError, Double(expected), Tolerances.headValue)
            #expect(losses.selectedCount == 0)
            let all = gradients.all
            expectClose(all, all.map { _ in expected }, Tolerances.headValue)
        }
    }

    /// Sizes of 0 are empty selections; states without columns are decoded to the last bias.
    @Test func emptyShapes() throws {
        for (cells, tokens, width) in [(0, 5, 4), (2, 0, 4), (0, 0, 0)] {
            var batch = DecoderBatch(
                decoder: try ExpressionDecoder(width: width, explicitZeros: true), cells: cells,
                tokens: tokens)
            batch.parameters = [Float](repeating: 1, count: batch.decoder.layout.count)
            let empty = batch
            expectError(LossError.emptySelection(loss: "ExpressionDecoder", row: nil).description) {
                () throws(LossError) in _ = try empty.valueAndGradients(workers: 2)
            }
        }
        var batch = DecoderBatch(decoder: try ExpressionDecoder(width: 0), cells: 2, tokens: 3)
        batch.parameters = [0.5]
        batch.targets = [Float](repeating: 1, count: 6)
        let (losses, gradients) = try batch.valueAndGradients(workers: 2)
        #expect(losses.squaredError == 0.25 && gradients.parameters == [-1])
    }

    /// A NaN under the mask propagates through logits, and has no probability.
    @Test func notANumberIsNoProbability() throws {
        var batch = try DecoderBatch(DecoderShape(cells: 3, tokens: 40, width: 9, ratio: 1))
        for row in [77, 101] { batch.states[row * 9] = .nan }
        #expect(try batch.value().squaredError.isNaN)
        batch.decoder.nonzeroForm = .probabilities
        let subject = batch
        let error = LossError.probabilityOutOfRange(argument: "nonzero", probability: .nan, index: 77)
        expectError(error.description) { () throws(LossError) in _ = try subject.value() }
    }

    /// Wrong inputs are named, and nothing is written.
    @Test func errorsNameTheArgument() throws {
        let batch = try DecoderBatch(DecoderShape(cells: 2, tokens: 5, width: 4, batches: 2))
        func expectMessage(_ message: String, scale: Float = 1, _ change: (inout DecoderBatch) -> Void) {
            var changed = batch
            change(&changed)
            let subject = changed
            var gradients = ExpressionDecoderGradientArrays(batch, value: 7)
            expectError(message) { () throws(LossError) in
                _ = try subject.valueAndGradients(workers: 1, scale: scale, into: &gradients)
            }
            #expect(gradients.all.allSatisfy { $0 == 7 })
        }
        expectMessage("states has 39 elements, but the other arguments ask for 40") { $0.states.removeLast() }
        expectMessage("targets has 9 elements, but the other arguments ask for 10") {
            $0.targets.removeLast()
        }
        expectMessage("mask has 9 elements, but the other arguments ask for 10") { $0.mask.removeLast() }
        expectMessage(
            "parameters has \(batch.parameters.count - 1) elements, but the other arguments ask for \(batch.parameters.count)"
        ) { $0.parameters.removeLast() }
        expectMessage(
            "2 in row 1 of batches.labels is not in 0..<2"
        ) { $0.labels[1] = 2 }
        expectMessage("batches.labels has 1 elements, but the other arguments ask for 2") {
            $0.labels.removeLast()
        }
        expectMessage("weights.nonzero is nan, but it must be finite") { $0.weights.nonzero = .nan }
        expectMessage(
            "weights.squaredError · gradientScale is -1.6069380442589903e+60, but it must be at most 3.4e38 in magnitude",
            scale: -0x1p100
        ) { $0.weights.squaredError = 0x1p100 }
        expectMessage("batches must be given to a decoder with batch embeddings") { $0.embeddings = [] }
    }
}

/// Sizes of a decoder's batch.
struct DecoderShape: Sendable, CustomTestStringConvertible {
    var cells: Int
    var tokens: Int
    var width: Int
    var explicitZeros = true
    var batches = 0
    var ratio = 0.4

    var testDescription: String {
        "\(cells)×\(tokens)×\(width), \(batches) batches\(explicitZeros ? "" : ", no zeros"), mask \(ratio)"
    }

    /// Widths around a panel, tokens around a block and a group, one and many batches.
    static let all = [
        DecoderShape(cells: 1, tokens: 1, width: 1, ratio: 1),
        DecoderShape(cells: 2, tokens: 3, width: 5, explicitZeros: false),
        DecoderShape(cells: 3, tokens: 16, width: 31, batches: 1, ratio: 1),
        DecoderShape(cells: 7, tokens: 7, width: 32, batches: 7, ratio: 1),
        DecoderShape(cells: 2, tokens: 47, width: 33, batches: 2),
        DecoderShape(cells: 4, tokens: 385, width: 17, explicitZeros: false, batches: 3, ratio: 1),
        DecoderShape(cells: 3, tokens: 513, width: 8, ratio: 1),
        DecoderShape(cells: 2, tokens: 20, width: 100, batches: 2, ratio: 0.5),
    ]
}

/// Everything that a decoder reads, as arrays.
struct DecoderBatch: Sendable {
    var decoder: ExpressionDecoder
    var cells: Int
    var tokens: Int
    var parameters: [Float] = []
    var states: [Float] = []
    var targets: [Float] = []
    var mask: [Bool]
    var embeddings: [Float] = []
    var labels: [Int32] = []
    var weights = DecoderWeights(squaredError: 1, nonzero: 2)

    init(decoder: ExpressionDecoder, cells: Int, tokens: Int) {
        self.decoder = decoder
        self.cells = cells
        self.tokens = tokens
        mask = [Bool](repeating: true, count: cells * tokens)
    }

    init(_ shape: DecoderShape) throws {
        self.init(
            decoder: try ExpressionDecoder(
                width: shape.width, explicitZeros: shape.explicitZeros, batchEmbeddings: shape.batches > 0),
            cells: shape.cells, tokens: shape.tokens)
        var random = RandomInputs(seed: UInt64(shape.cells * 31 + shape.width))
        var generator = SplitMix64(seed: 5)
        parameters = decoder.layout.initialValues(using: &generator)
        states = random.normals(cells * tokens * shape.width)
        // Of the predictions' size, so that gradients are not those of the targets alone.
        targets = random.targets(cells * tokens).map { $0 / 50 }
        if shape.ratio < 1 { mask = random.mask(cells * tokens, ratio: shape.ratio) }
        mask[0] = true
        embeddings = random.normals(shape.batches * shape.width)
        if shape.batches > 0 { labels = random.labels(cells, classes: shape.batches) }
    }

    /// The inputs as arrays.
    var arrays: ExpressionDecoderArrays {
        ExpressionDecoderArrays(
            shape: TokenShape(cells: cells, tokens: tokens, width: decoder.width), states: states, mask: mask,
            batches: embeddings.isEmpty
                ? nil : BatchEmbeddingArrays(embeddings: embeddings, labels: labels))
    }

    /// Calls `body` with the inputs as spans.
    func withInputs<Result>(
        _ body: (ExpressionDecoderInputs) throws(LossError) -> Result
    ) throws(LossError) -> Result {
        let shape = TokenShape(cells: cells, tokens: tokens, width: decoder.width)
        guard !embeddings.isEmpty else {
            return try body(ExpressionDecoderInputs(shape: shape, states: states.span, mask: mask.span))
        }
        return try body(
            ExpressionDecoderInputs(
                shape: shape, states: states.span, mask: mask.span,
                batches: BatchEmbeddings(embeddings: embeddings.span, labels: labels.span)))
    }

    func value() throws(LossError) -> DecoderLosses {
        try withInputs { (inputs) throws(LossError) in
            try decoder.value(
                inputs, targets: targets.span, parameters: parameters.span, workspace: Workspace(workers: 2))
        }
    }

    func valueAndGradients(workers: Int) throws(LossError) -> (DecoderLosses, ExpressionDecoderGradientArrays)
    {
        var gradients = ExpressionDecoderGradientArrays(self, value: .nan)
        let losses = try valueAndGradients(workers: workers, into: &gradients)
        return (losses, gradients)
    }

    func valueAndGradients(
        workers: Int, scale: Float = 1, into arrays: inout ExpressionDecoderGradientArrays,
        update: GradientUpdate = .overwrite
    ) throws(LossError) -> DecoderLosses {
        try arrays.withSpans { (gradients) throws(LossError) in
            try withInputs { (inputs) throws(LossError) in
                try decoder.valueAndGradient(
                    inputs, targets: targets.span, parameters: parameters.span, weights: weights,
                    gradients: &gradients, gradientScale: scale, update: update,
                    workspace: Workspace(workers: workers))
            }
        }
    }

    func gradients(
        predictions: [Float], nonzero: [Float]?, workers: Int = 2
    ) throws(LossError) -> ExpressionDecoderGradientArrays {
        var arrays = ExpressionDecoderGradientArrays(self, value: .nan)
        try arrays.withSpans { (gradients) throws(LossError) in
            try withInputs { (inputs) throws(LossError) in
                try decoder.gradient(
                    inputs, predictionsGradient: predictions.span, nonzeroGradient: nonzero?.span,
                    parameters: parameters.span, gradients: &gradients, workspace: Workspace(workers: workers)
                )
            }
        }
        return arrays
    }

    /// The outputs under their names in a golden.
    func predictions(workers: Int) throws(LossError) -> [String: [Float]] {
        var predictions = [Float](repeating: .nan, count: cells * tokens)
        var nonzero = predictions
        var span = predictions.mutableSpan
        var nonzeroSpan: MutableSpan<Float>? = nil
        if decoder.hasExplicitZeros { nonzeroSpan = nonzero.mutableSpan }
        try withInputs { (inputs) throws(LossError) in
            try decoder.predict(
                inputs, parameters: parameters.span, predictions: &span, nonzero: &nonzeroSpan,
                workspace: Workspace(workers: workers))
        }
        var results = ["predictions": predictions]
        if decoder.hasExplicitZeros { results["nonzeroProbabilities"] = nonzero }
        return results
    }
}

extension ExpressionDecoderGradientArrays {
    /// Gradients of a batch's inputs, with this value everywhere.
    init(_ batch: DecoderBatch, value: Float) {
        func array(_ count: Int) -> [Float] { [Float](repeating: value, count: count) }
        self.init(
            parameters: array(batch.decoder.layout.count),
            states: array(batch.cells * batch.tokens * batch.decoder.width),
            batchEmbeddings: batch.embeddings.isEmpty ? nil : array(batch.embeddings.count))
    }

    /// All gradients, one after the other.
    var all: [Float] { parameters + (states ?? []) + (batchEmbeddings ?? []) }

    /// Calls `body` with the same memory as spans.
    mutating func withSpans<Result>(
        _ body: (inout ExpressionDecoderGradients) throws(LossError) -> Result
    ) throws(LossError) -> Result {
        // Spans of properties of one variable would be overlapping accesses to it.
        var (parameters, states) = (self.parameters, self.states ?? [])
        var batches = batchEmbeddings ?? []
        let hasBatches = batchEmbeddings != nil
        defer {
            self = ExpressionDecoderGradientArrays(
                parameters: parameters, states: states, batchEmbeddings: hasBatches ? batches : nil)
        }
        guard hasBatches else {
            var gradients = ExpressionDecoderGradients(
                parameters: parameters.mutableSpan, states: states.mutableSpan)
            return try body(&gradients)
        }
        var gradients = ExpressionDecoderGradients(
            parameters: parameters.mutableSpan, states: states.mutableSpan,
            batchEmbeddings: batches.mutableSpan)
        return try body(&gradients)
    }

    /// Every gradient under its name in a golden.
    func results(_ decoder: ExpressionDecoder) -> [String: [Float]] {
        var results = ["gradient.states": states ?? []]
        results["gradient.batchEmbeddings"] = batchEmbeddings
        for parameter in decoder.layout.parameters {
            results["gradient.\(parameter.name)"] = Array(parameters[parameter.range])
        }
        return results
    }
}

extension ParameterLayout {
    /// The parameters of a golden, in the order of the layout.
    func values(of golden: Golden) throws -> [Float] {
        try parameters.flatMap { parameter in
            let values = try golden.floats(parameter.name)
            try #require(values.count == parameter.range.count, "\(parameter.name)")
            return values
        }
    }
}

// MARK: - The oracle

extension DecoderBatch {
    /// The losses and gradients of the oracle, in double precision over all tokens.
    var truth: DecoderTruth {
        var reference = Reference.ExpressionDecoder.Parameters<Double>(
            width: decoder.width, explicitZeros: decoder.hasExplicitZeros,
            batchLabels: decoder.hasBatchEmbeddings)
        for (name, array) in reference.stateDict {
            reference[keyPath: array] = parameters[decoder.layout[name]!.range].map(Double.init)
        }
        let perCell: [Double]? =
            decoder.hasBatchEmbeddings
            ? labels.flatMap { label in
                embeddings[Int(label) * decoder.width..<(Int(label) + 1) * decoder.width].map(Double.init)
            } : nil
        let states = states.map(Double.init)
        let targets = targets.map(Double.init)
        let outputs = Reference.ExpressionDecoder.value(
            parameters: reference, states: states, batchEmbeddings: perCell, cells: cells, tokens: tokens)
        var outputGradients = outputs
        let squaredError = Reference.MaskedMSE.valueAndGradient(
            predictions: outputs.predictions, targets: targets, mask: mask,
            gradientScale: Double(weights.squaredError), gradient: &outputGradients.predictions)
        var nonzero: Double?
        if let probabilities = outputs.nonzeroProbabilities {
            var gradient = probabilities
            nonzero = Reference.BernoulliNLL.valueAndGradient(
                probabilities: probabilities, targets: targets, mask: mask,
                gradientScale: Double(weights.nonzero), gradient: &gradient)
            outputGradients.nonzeroProbabilities = gradient
        }
        let gradients = Reference.ExpressionDecoder.gradients(
            outputGradients: outputGradients, parameters: reference, states: states,
            batchEmbeddings: perCell, cells: cells, tokens: tokens)
        var results = gradients.parameters.gradientResults
        results["gradient.states"] = gradients.states
        if let perCell = gradients.batchEmbeddings {
            results["gradient.batchEmbeddings"] = sums(
                of: perCell, by: labels, count: embeddings.count, width: decoder.width)
        }
        return DecoderTruth(
            squaredError: squaredError, nonzero: nonzero,
            relativeError: Reference.MaskedRelativeError.value(
                predictions: outputs.predictions, targets: targets, mask: mask),
            gradients: results)
    }
}

/// What the oracle says of a batch.
struct DecoderTruth {
    var squaredError: Double
    var nonzero: Double?
    var relativeError: Double
    var gradients: [String: [Double]]
}
