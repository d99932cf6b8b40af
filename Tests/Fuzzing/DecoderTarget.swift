// The decoders of expression values, in all styles: losses, outputs and gradients against the oracle, wrong
// counts, labels and genes, and hostile numbers.

import FastLoss
import FastLossHeads
import FastLossReference

enum DecoderTarget {
    static func run(_ input: inout FuzzInput) throws {
        if input.bool() {
            var call = try ExpressionDecoderCall(&input)
            try call.run()
        } else {
            var call = try MaskedValueCall(&input)
            try call.run()
        }
    }
}

/// What the calls of both decoders have in common.
private struct DecoderBatch {
    var cells: Int
    var tokens: Int
    var width: Int
    var isHostile: Bool
    var targets: [Float]
    var mask: [Bool]?
    var batches: BatchEmbeddingArrays?
    var weights: DecoderWeights
    var scale: Float
    var update: GradientUpdate
    var rule: EmptySelectionRule
    var form: BernoulliNLL.Form
    var workers: Int

    init(_ input: inout FuzzInput, hasBatches: Bool) {
        cells = input.rarely(32) ? 0 : input.int(1...3)
        tokens = input.rarely(32) ? 0 : input.int(1...5)
        width = input.int(1...5)
        isHostile = input.rarely(8)
        targets = input.small(input.count(cells * tokens), hostile: isHostile)
        if input.bool() { mask = input.mask(input.count(cells * tokens)) }
        if hasBatches != input.rarely(64) {
            let count = input.int(1...3)
            let embeddings = input.small(input.count(count * width), hostile: isHostile)
            batches = BatchEmbeddingArrays(
                embeddings: embeddings,
                labels: input.indices(input.count(cells), below: embeddings.count / width))
        }
        let factors: [Float] = [1, 2, 0.5, -1, 0]
        weights = DecoderWeights(
            squaredError: input.choice(factors),
            nonzero: input.rarely(64) ? input.number(.mixed) : input.choice(factors))
        scale = input.rarely(64) ? input.number(.mixed) : input.choice([1, 0.5, -3])
        update = input.choice([.overwrite, .accumulate])
        rule = input.choice([.error, .zero, .nan])
        form = input.choice([.logits, .probabilities])
        workers = 1 + input.int(0...1)
    }

    func selects(_ index: Int) -> Bool { mask?[index] ?? true }
    var selections: [Bool] { mask ?? [Bool](repeating: true, count: cells * tokens) }
    var start: Float { update == .accumulate ? 0.75 : -12345 }

    /// What is wrong with the inputs that both decoders have.
    func mistakes(hasBatches: Bool, explicitZeros: Bool) -> Set<ExpectedError> {
        var mistakes: Set<ExpectedError> = []
        let count = cells * tokens
        if targets.count != count || (mask?.count ?? count) != count { mistakes.insert(.shape) }
        let factors = [weights.squaredError * scale, explicitZeros ? weights.nonzero * scale : 0]
        if ([weights.squaredError, weights.nonzero, scale] + factors).contains(where: { !$0.isFinite }) {
            mistakes.insert(.parameter)
        }
        if hasBatches != (batches != nil) { mistakes.insert(.other) }
        if let batches {
            let rows = batches.embeddings.count / width
            if batches.embeddings.count != rows * width || batches.labels.count != cells {
                mistakes.insert(.shape)
            }
            if !batches.labels.allSatisfy({ (0..<rows).contains(Int($0)) }) { mistakes.insert(.index) }
        }
        if mistakes.isEmpty, rule == .error, !(0..<count).contains(where: selects) { mistakes.insert(.empty) }
        return mistakes
    }

    /// Whether the oracle can judge the result.
    var isJudged: Bool {
        !isHostile && abs(weights.nonzero) <= 2 && abs(scale) <= 3 && cells * tokens > 0
    }

    /// Judges what decoders give without a masked token; whether there is one.
    func hasSelection(_ losses: DecoderLosses, _ gradients: [[Float]?]) throws -> Bool {
        let selected = (0..<cells * tokens).count(where: selects)
        guard losses.selectedCount == selected else { throw Wrong("\(losses.selectedCount) selected") }
        guard selected == 0 else { return true }
        for value in [losses.squaredError, losses.relativeError, losses.nonzero] {
            guard let value else { continue }
            guard rule == .zero ? value == 0 : value.isNaN else { throw Wrong("empty: \(value)") }
        }
        let from = update == .accumulate ? start : 0
        for element in gradients.compactMap(\.self).joined() {
            guard rule == .zero ? element == from : element.isNaN else { throw Wrong("empty: \(element)") }
        }
        return false
    }

    /// The losses of outputs, and the gradients of the outputs.
    func losses<T: ReferenceScalar>(
        _ outputs: Reference.DecoderOutputs<T>, _ numbers: HeadNumbers<T>
    ) -> (values: [[Double]], gradients: Reference.DecoderOutputs<T>) {
        let targets = numbers(targets)
        var gradients = outputs
        let squaredError = Reference.MaskedMSE.valueAndGradient(
            predictions: outputs.predictions, targets: targets, mask: selections,
            gradientScale: T(weights.squaredError) * T(scale), gradient: &gradients.predictions)
        let relativeError = Reference.MaskedRelativeError.value(
            predictions: outputs.predictions, targets: targets, mask: selections)
        var values = [[Double(squaredError)], [Double(relativeError)]]
        if let probabilities = outputs.nonzeroProbabilities {
            var gradient = probabilities
            let nonzero = Reference.BernoulliNLL.valueAndGradient(
                probabilities: probabilities, targets: targets, mask: selections,
                gradientScale: T(weights.nonzero) * T(scale), gradient: &gradient)
            let slopes = probabilities.map { $0 * (1 - $0) }
            let factor = T(weights.nonzero) * T(scale) / T(selections.count { $0 })
            gradients.nonzeroProbabilities = zip(
                numbers.gradients(ofLogits: zip(gradient, slopes).map(*), factor: factor),
                zip(slopes, gradient)
            ).map { $1.1 == 0 ? 0 : $0 / $1.0 }
            values.append([Double(nonzero)])
        }
        return (values, gradients)
    }

    /// The losses and the predictions of the masked tokens.
    func results<T: ReferenceScalar>(
        _ losses: [[Double]], _ outputs: Reference.DecoderOutputs<T>
    ) -> HeadResults {
        var results = HeadResults()
        results.values = losses + (losses.count == 2 ? [[]] : [])
        results.values.append(
            outputs.predictions.indices.filter(selects).map { Double(outputs.predictions[$0]) })
        results.isUnclamped = (outputs.nonzeroProbabilities ?? []).allSatisfy { $0 > 1e-5 && $0 < 1 - 1e-5 }
        return results
    }

    /// Judges the predictions of the masked tokens; the others must keep what they were.
    func judgeOutputs(_ predictions: [Float], _ oracle: HeadOracle) throws {
        for (index, prediction) in predictions.enumerated() where !selects(index) && prediction != -12345 {
            throw Wrong("prediction \(index) outside the mask is written")
        }
        try oracle.judgeValue(
            3, "predictions", predictions.indices.filter(selects).map { Double(predictions[$0]) })
    }

    func judge(_ losses: DecoderLosses, _ oracle: HeadOracle) throws {
        try oracle.judgeValue(0, "squared error", [losses.squaredError])
        try oracle.judgeValue(1, "relative error", [losses.relativeError])
        if let nonzero = losses.nonzero { try oracle.judgeValue(2, "nonzero", [nonzero]) }
    }

    /// A NaN that the losses read must be in them. It may only be read under the mask.
    func judgeHostile(_ losses: DecoderLosses) throws {
        let isNaN = targets.indices.contains { selects($0) && targets[$0].isNaN }
        guard !isNaN || losses.squaredError.isNaN else { throw Wrong("NaN is lost: \(losses)") }
    }
}

// MARK: - The expression decoder

private struct ExpressionDecoderCall {
    /// Calls share workspaces: a new one for each call takes most of its time.
    nonisolated(unsafe) private static let workspaces = [Workspace(workers: 1), Workspace(workers: 2)]

    private let batch: DecoderBatch
    private var decoder: ExpressionDecoder
    private let parameters: [Float]
    private let states: [Float]
    private var gradients: ExpressionDecoderGradientArrays
    private let gradientCounts: [(actual: Int, expected: Int)]

    init(_ input: inout FuzzInput) throws {
        let (hasBatches, hasZeros) = (input.bool(), input.bool())
        batch = DecoderBatch(&input, hasBatches: hasBatches)
        decoder = try ExpressionDecoder(
            width: batch.width, explicitZeros: hasZeros, batchEmbeddings: hasBatches)
        (decoder.nonzeroForm, decoder.whenEmpty) = (batch.form, batch.rule)
        parameters = input.small(input.count(decoder.layout.count), hostile: batch.isHostile)
        states = input.small(
            input.count(batch.cells * batch.tokens * batch.width), hostile: batch.isHostile)
        let start = batch.start
        gradients = ExpressionDecoderGradientArrays(
            parameters: [Float](repeating: start, count: input.count(decoder.layout.count)))
        if !input.rarely(8) { gradients.states = [Float](repeating: start, count: input.count(states.count)) }
        if !input.rarely(8), let batches = batch.batches {
            gradients.batchEmbeddings = [Float](
                repeating: start, count: input.count(batches.embeddings.count))
        }
        gradientCounts = [
            (gradients.parameters.count, decoder.layout.count),
            (gradients.states?.count ?? states.count, states.count),
            (
                gradients.batchEmbeddings?.count ?? 0,
                gradients.batchEmbeddings == nil ? 0 : batch.batches?.embeddings.count ?? 0
            ),
        ]
    }

    private var mistakes: Set<ExpectedError> {
        var mistakes: Set<ExpectedError> = []
        if parameters.count != decoder.layout.count
            || states.count != batch.cells * batch.tokens * batch.width
            || gradientCounts.contains(where: { $0.actual != $0.expected })
        {
            mistakes.insert(.shape)
        }
        let others = batch.mistakes(
            hasBatches: decoder.hasBatchEmbeddings, explicitZeros: decoder.hasExplicitZeros)
        if mistakes.isEmpty || others != [.empty] { mistakes.formUnion(others) }
        return mistakes
    }

    mutating func run() throws {
        let inputs = ExpressionDecoderArrays(
            shape: TokenShape(cells: batch.cells, tokens: batch.tokens, width: batch.width), states: states,
            mask: batch.mask, batches: batch.batches)
        let workspace = Self.workspaces[batch.workers - 1]
        var losses: DecoderLosses?
        let canBeNaN = batch.form == .probabilities && decoder.hasExplicitZeros && batch.isHostile
        let succeeded = try succeeds(
            expectingOneOf: mistakes, possible: canBeNaN ? [.probability] : []
        ) { () throws(LossError) in
            losses = try decoder.valueAndGradient(
                inputs, targets: batch.targets, parameters: parameters, weights: batch.weights,
                gradients: &gradients, gradientScale: batch.scale, update: batch.update, workspace: workspace)
        }
        let all = [gradients.parameters, gradients.states, gradients.batchEmbeddings]
        guard succeeded, let losses else {
            guard canBeNaN || all.compactMap(\.self).joined().allSatisfy({ $0 == batch.start }) else {
                throw Wrong("a call that threw wrote")
            }
            return
        }
        guard try batch.hasSelection(losses, all) else { return }
        if batch.isHostile { try batch.judgeHostile(losses) }
        guard batch.isJudged else { return }
        let oracle = HeadOracle(truth: results, naive: results)
        try batch.judge(losses, oracle)
        try judgePredictions(inputs, oracle, workspace)
        guard oracle.truth.isUnclamped else { return }
        try oracle.judgeGradients(all, start: batch.update == .accumulate ? batch.start : 0)
    }

    /// The outputs of masked tokens; the others must stay.
    private func judgePredictions(
        _ inputs: ExpressionDecoderArrays, _ oracle: HeadOracle, _ workspace: Workspace
    ) throws {
        var predictions = [Float](repeating: -12345, count: batch.cells * batch.tokens)
        var nonzero: [Float]? = nil
        try decoder.predict(
            inputs, parameters: parameters, predictions: &predictions, nonzero: &nonzero, workspace: workspace
        )
        try batch.judgeOutputs(predictions, oracle)
    }

    private func results<T: ReferenceScalar>(_ numbers: HeadNumbers<T>) -> HeadResults {
        var reference = Reference.ExpressionDecoder.Parameters<T>(
            width: batch.width, explicitZeros: decoder.hasExplicitZeros,
            batchLabels: decoder.hasBatchEmbeddings)
        var source = ParameterCursor(setting: numbers(parameters))
        source.visit(&reference)
        let states = numbers(states)
        let perCell = batch.batches.map { gathered(numbers($0.embeddings), $0.labels, width: batch.width) }
        let outputs = Reference.ExpressionDecoder.value(
            parameters: reference, states: states, batchEmbeddings: perCell, cells: batch.cells,
            tokens: batch.tokens)
        let (values, outputGradients) = batch.losses(outputs, numbers)
        var gradients = Reference.ExpressionDecoder.gradients(
            outputGradients: outputGradients, parameters: reference, states: states, batchEmbeddings: perCell,
            cells: batch.cells, tokens: batch.tokens)
        var results = batch.results(values, outputs)
        var collector = ParameterCursor<T>()
        collector.visit(&gradients.parameters)
        results.gradients = [
            ("parameters", collector.collected.map { Double($0) }),
            ("states", gradients.states.map { Double($0) }),
        ]
        if let batches = batch.batches, let rows = gradients.batchEmbeddings {
            results.gradients.append(
                (
                    "batches",
                    summed(rows, by: batches.labels, count: batches.embeddings.count, width: batch.width)
                ))
        }
        for row in 0..<batch.cells * batch.tokens where batch.selects(row) {
            var x = Array(states[row * batch.width..<(row + 1) * batch.width])
            if let perCell {
                let cell = row / batch.tokens
                x += perCell[cell * batch.width..<(cell + 1) * batch.width]
            }
            for perceptron in [reference.fc, reference.zeroLogit].compactMap(\.self) {
                var hidden = x
                for layer in perceptron.layers.prefix(2) {
                    results.kinkDistance = min(results.kinkDistance, kinkDistance(layer, hidden))
                    hidden = Reference.Activation.leakyReLU.value(input: layer.value(input: hidden))
                }
            }
        }
        return results
    }
}

// MARK: - The masked-value decoder

private struct MaskedValueCall {
    /// Calls share workspaces: a new one for each call takes most of its time.
    nonisolated(unsafe) private static let workspaces = [Workspace(workers: 1), Workspace(workers: 2)]

    private let batch: DecoderBatch
    private var decoder: MaskedValueDecoder
    private let parameters: [Float]
    private let cellEmbeddings: [Float]
    private let geneTable: [Float]
    private let genes: [Int32]
    private var gradients: MaskedValueGradientArrays
    private let gradientCounts: [(actual: Int, expected: Int)]

    init(_ input: inout FuzzInput) throws {
        let style = input.choice(MaskedValueDecoder.Style.allCases)
        let hasBatches = style.isInnerProduct && input.bool()
        let hasZeros = style.isInnerProduct && input.bool()
        batch = DecoderBatch(&input, hasBatches: hasBatches)
        decoder = try MaskedValueDecoder(
            style: style, width: batch.width, hiddenWidth: input.int(1...4), explicitZeros: hasZeros,
            batchEmbeddings: hasBatches)
        (decoder.nonzeroForm, decoder.whenEmpty) = (batch.form, batch.rule)
        parameters = input.small(input.count(decoder.layout.count), hostile: batch.isHostile)
        cellEmbeddings = input.small(input.count(batch.cells * batch.width), hostile: batch.isHostile)
        let geneCount = input.int(1...6)
        geneTable = input.small(input.count(geneCount * batch.width), hostile: batch.isHostile)
        // One list of genes for all cells, or one for each.
        let tokens = input.bool() ? batch.tokens : batch.cells * batch.tokens
        genes = input.indices(input.count(tokens), below: geneTable.count / batch.width)
        let start = batch.start
        func gradient(_ input: inout FuzzInput, _ count: Int) -> [Float]? {
            input.rarely(8) ? nil : [Float](repeating: start, count: input.count(count))
        }
        gradients = MaskedValueGradientArrays(
            parameters: [Float](repeating: start, count: input.count(decoder.layout.count)))
        gradients.cellEmbeddings = gradient(&input, cellEmbeddings.count)
        gradients.genes = gradient(&input, geneTable.count)
        if let batches = batch.batches {
            gradients.batchEmbeddings = gradient(&input, batches.embeddings.count)
        }
        gradientCounts = [
            (gradients.parameters.count, decoder.layout.count),
            (gradients.cellEmbeddings?.count ?? cellEmbeddings.count, cellEmbeddings.count),
            (gradients.genes?.count ?? geneTable.count, geneTable.count),
            (
                gradients.batchEmbeddings?.count ?? 0,
                gradients.batchEmbeddings == nil ? 0 : batch.batches?.embeddings.count ?? 0
            ),
        ]
    }

    private var mistakes: Set<ExpectedError> {
        var mistakes: Set<ExpectedError> = []
        let rows = geneTable.count / batch.width
        if parameters.count != decoder.layout.count || cellEmbeddings.count != batch.cells * batch.width
            || geneTable.count != rows * batch.width
            || (genes.count != batch.tokens && genes.count != batch.cells * batch.tokens)
            || gradientCounts.contains(where: { $0.actual != $0.expected })
        {
            mistakes.insert(.shape)
        }
        if !genes.allSatisfy({ (0..<rows).contains(Int($0)) }) { mistakes.insert(.index) }
        let others = batch.mistakes(
            hasBatches: decoder.hasBatchEmbeddings, explicitZeros: decoder.hasExplicitZeros)
        if mistakes.isEmpty || others != [.empty] { mistakes.formUnion(others) }
        return mistakes
    }

    mutating func run() throws {
        let inputs = MaskedValueArrays(
            shape: MatrixShape(rows: batch.cells, columns: batch.tokens), cellEmbeddings: cellEmbeddings,
            genes: GeneEmbeddingArrays(embeddings: geneTable, indices: genes), mask: batch.mask,
            batches: batch.batches)
        let workspace = Self.workspaces[batch.workers - 1]
        var losses: DecoderLosses?
        let canBeNaN = batch.form == .probabilities && decoder.hasExplicitZeros && batch.isHostile
        let succeeded = try succeeds(
            expectingOneOf: mistakes, possible: canBeNaN ? [.probability] : []
        ) { () throws(LossError) in
            losses = try decoder.valueAndGradient(
                inputs, targets: batch.targets, parameters: parameters, weights: batch.weights,
                gradients: &gradients, gradientScale: batch.scale, update: batch.update, workspace: workspace)
        }
        let all = [
            gradients.parameters, gradients.cellEmbeddings, gradients.genes, gradients.batchEmbeddings,
        ]
        guard succeeded, let losses else {
            guard canBeNaN || all.compactMap(\.self).joined().allSatisfy({ $0 == batch.start }) else {
                throw Wrong("a call that threw wrote")
            }
            return
        }
        guard try batch.hasSelection(losses, all) else { return }
        if batch.isHostile { try batch.judgeHostile(losses) }
        guard batch.isJudged else { return }
        let oracle = HeadOracle(truth: results, naive: results)
        try batch.judge(losses, oracle)
        var predictions = [Float](repeating: -12345, count: batch.cells * batch.tokens)
        var nonzero: [Float]? = nil
        try decoder.predict(
            inputs, parameters: parameters, predictions: &predictions, nonzero: &nonzero, workspace: workspace
        )
        try batch.judgeOutputs(predictions, oracle)
        guard oracle.truth.isUnclamped else { return }
        try oracle.judgeGradients(all, start: batch.update == .accumulate ? batch.start : 0)
    }

    private func results<T: ReferenceScalar>(_ numbers: HeadNumbers<T>) -> HeadResults {
        let (cells, tokens, width) = (batch.cells, batch.tokens, batch.width)
        var reference = Reference.MaskedValueDecoder.Parameters<T>(
            style: Reference.MaskedValueDecoder.Style(rawValue: decoder.style.rawValue) ?? .innerProduct,
            width: width, hiddenWidth: decoder.hiddenWidth, explicitZeros: decoder.hasExplicitZeros,
            batchLabels: decoder.hasBatchEmbeddings)
        var source = ParameterCursor(setting: numbers(parameters))
        source.visit(&reference)
        let embeddings = numbers(cellEmbeddings)
        let perCell = batch.batches.map { gathered(numbers($0.embeddings), $0.labels, width: width) }
        let indices = genes.count == cells * tokens ? genes : (0..<cells).flatMap { _ in genes }
        let perToken = gathered(numbers(geneTable), indices, width: width)
        let outputs = Reference.MaskedValueDecoder.value(
            parameters: reference, cellEmbeddings: embeddings, batchEmbeddings: perCell,
            geneEmbeddings: perToken, cells: cells, tokens: tokens)
        let (values, outputGradients) = batch.losses(outputs, numbers)
        var gradients = Reference.MaskedValueDecoder.gradients(
            outputGradients: outputGradients, parameters: reference, cellEmbeddings: embeddings,
            batchEmbeddings: perCell, geneEmbeddings: perToken, cells: cells, tokens: tokens)
        var results = batch.results(values, outputs)
        var collector = ParameterCursor<T>()
        collector.visit(&gradients.parameters)
        results.gradients = [
            ("parameters", collector.collected.map { Double($0) }),
            ("cells", gradients.cellEmbeddings.map { Double($0) }),
            ("genes", summed(gradients.geneEmbeddings, by: indices, count: geneTable.count, width: width)),
        ]
        if let batches = batch.batches, let rows = gradients.batchEmbeddings {
            results.gradients.append(
                ("batches", summed(rows, by: batches.labels, count: batches.embeddings.count, width: width)))
        }
        guard let fc1 = reference.fc1 else { return results }
        let queries = Reference.Activation.sigmoid.value(
            input: reference.gene2query.value(input: perToken))
        let queryWidth = reference.gene2query.outputWidth
        for row in 0..<cells * tokens where batch.selects(row) {
            let cell = Array(embeddings[row / tokens * width..<(row / tokens + 1) * width])
            let query = Array(queries[row * queryWidth..<(row + 1) * queryWidth])
            let x = decoder.style == .concatQuery ? cell + query : zip(cell, query).map(+)
            results.kinkDistance = min(results.kinkDistance, kinkDistance(fc1, x))
        }
        return results
    }
}
