// The masked-value decoder, all styles, against PyTorch's goldens, the oracle, and its own laws.

import FastLoss
import FastLossHeads
import FastLossReference
import Testing

@Suite struct MaskedValueDecoderTests {
    /// Outputs and every gradient, for gradients of the outputs that the golden gives.
    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder"))
    func matchesPyTorch(_ golden: Golden) throws {
        let batch = try MaskedValueBatch(golden)
        var results = try batch.predictions(workers: 2)
        let gradients = try batch.gradients(
            predictions: golden.floats("outputGradient.predictions"),
            nonzero: golden.optionalValues("outputGradient.nonzeroProbabilities"))
        results.merge(gradients.results(batch)) { $1 }
        // PyTorch's gradient of each token's copy of its gene; here a gene has one gradient.
        let names = golden.resultNames.filter { $0 != "gradient.geneEmbeddings" }
        #expect(results.keys.sorted() == names)
        for (name, actual) in results {
            expectNormwise(
                actual: actual, oracle: try golden.truth(name), tolerance: Tolerances.headNormwise,
                "\(golden.name): \(name)")
        }
    }

    /// The fused losses and their gradients at sizes around every block, against the oracle.
    @Test(arguments: MaskedValueShape.all)
    func fusedLossesMatchTheOracle(_ shape: MaskedValueShape) throws {
        var batch = try MaskedValueBatch(shape)
        for form in [BernoulliNLL.Form.logits, .probabilities] {
            batch.decoder.nonzeroForm = form
            let (losses, gradients) = try batch.valueAndGradients(workers: 2)
            #expect(try batch.value() == losses)
            let truth = batch.truth
            expectClose(losses.squaredError, truth.squaredError, Tolerances.headValue, "MSE")
            expectClose(losses.nonzero ?? 0, truth.nonzero ?? 0, Tolerances.headValue, "NLL")
            expectClose(losses.relativeError, truth.relativeError, Tolerances.headValue, "relative error")
            for (name, actual) in gradients.results(batch) {
                expectNormwise(
                    actual: actual, oracle: try #require(truth.gradients[name]),
                    tolerance: Tolerances.headNormwise, "\(form) \(name)")
            }
        }
    }

    /// Bitwise the same results for any number of workers.
    @Test(arguments: MaskedValueDecoder.Style.allCases)
    func workersDoNotChangeABit(_ style: MaskedValueDecoder.Style) throws {
        let batch = try MaskedValueBatch(
            MaskedValueShape(cells: 9, tokens: 200, width: 65, genes: 230, style: style))
        let (losses, gradients) = try batch.valueAndGradients(workers: 1)
        for workers in [2, 3, 8] {
            let (otherLosses, others) = try batch.valueAndGradients(workers: workers)
            #expect(otherLosses == losses)
            for (name, expected) in gradients.results(batch) {
                expectSameBits(try #require(others.results(batch)[name]), expected, "\(name), \(workers)")
            }
        }
    }

    /// Arrays give bitwise what spans give.
    @Test(arguments: MaskedValueDecoder.Style.allCases)
    func arraysAreTheSameAsSpans(_ style: MaskedValueDecoder.Style) throws {
        let batch = try MaskedValueBatch(
            MaskedValueShape(
                cells: 3, tokens: 20, width: 9, genes: 30, style: style, batches: style.isInnerProduct ? 2 : 0
            ))
        let workspace = Workspace(workers: 2)
        let (losses, gradients) = try batch.valueAndGradients(workers: 2)
        var arrays = MaskedValueGradientArrays(batch, value: .nan)
        let others = try batch.decoder.valueAndGradient(
            batch.arrays, targets: batch.targets, parameters: batch.parameters, weights: batch.weights,
            gradients: &arrays, workspace: workspace)
        #expect(others == losses)
        for (name, expected) in gradients.results(batch) {
            expectSameBits(try #require(arrays.results(batch)[name]), expected, name)
        }
        #expect(
            try batch.decoder.value(
                batch.arrays, targets: batch.targets, parameters: batch.parameters, workspace: workspace)
                == losses)
        let nonzeroGradient = batch.decoder.hasExplicitZeros ? batch.targets : nil
        try batch.decoder.gradient(
            batch.arrays, predictionsGradient: batch.targets, nonzeroGradient: nonzeroGradient,
            parameters: batch.parameters, gradients: &arrays, workspace: workspace)
        let given = try batch.gradients(predictions: batch.targets, nonzero: nonzeroGradient)
        for (name, expected) in given.results(batch) {
            expectSameBits(try #require(arrays.results(batch)[name]), expected, name)
        }
        var predictions = [Float](repeating: .nan, count: batch.cells * batch.tokens)
        var nonzero: [Float]? = batch.decoder.hasExplicitZeros ? predictions : nil
        try batch.decoder.predict(
            batch.arrays, parameters: batch.parameters, predictions: &predictions, nonzero: &nonzero,
            workspace: workspace)
        let spans = try batch.predictions(workers: 2)
        expectSameBits(predictions, try #require(spans["predictions"]))
        if let nonzero { expectSameBits(nonzero, try #require(spans["nonzeroProbabilities"])) }
    }

    /// One list of genes for all cells gives the same as the list repeated for each.
    @Test func oneListOfGenesStandsForAllCells() throws {
        var batch = try MaskedValueBatch(MaskedValueShape(cells: 3, tokens: 20, width: 16, genes: 20))
        batch.genes = Array(batch.genes[..<20])
        var repeated = batch
        repeated.genes = batch.genes + batch.genes + batch.genes
        let (losses, gradients) = try batch.valueAndGradients(workers: 2)
        let (others, otherGradients) = try repeated.valueAndGradients(workers: 2)
        #expect(losses == others)
        for (name, expected) in gradients.results(batch) {
            expectSameBits(try #require(otherGradients.results(batch)[name]), expected, name)
        }
    }

    /// Sizes of 0 give outputs and gradients of nothing, and no trap.
    @Test(arguments: MaskedValueDecoder.Style.allCases)
    func emptyShapesAreEmptySelections(_ style: MaskedValueDecoder.Style) throws {
        for (cells, tokens, width) in [(0, 5, 4), (2, 0, 4), (0, 0, 0), (2, 3, 0)] {
            var batch = try MaskedValueBatch(
                MaskedValueShape(cells: 1, tokens: 1, width: width, genes: 3, style: style))
            (batch.cells, batch.tokens) = (cells, tokens)
            batch.cellEmbeddings = [Float](repeating: 1, count: cells * width)
            // Without columns, the number of genes is not known: no token may name one.
            batch.genes = [Int32](repeating: 0, count: width == 0 ? 0 : cells * tokens)
            batch.targets = [Float](repeating: 1, count: cells * tokens)
            batch.mask = [Bool](repeating: true, count: cells * tokens)
            let empty = batch
            let message =
                width == 0 && cells > 0
                ? "genes.indices has 0 elements, but the other arguments ask for 6"
                : LossError.emptySelection(loss: "MaskedValueDecoder", row: nil).description
            expectError(message) { () throws(LossError) in _ = try empty.valueAndGradients(workers: 2) }
        }
    }

    /// Targets outside the mask have no effect, NaN included.
    @Test(arguments: MaskedValueDecoder.Style.allCases)
    func targetsOutsideTheMaskAreNotRead(_ style: MaskedValueDecoder.Style) throws {
        let batch = try MaskedValueBatch(
            MaskedValueShape(cells: 3, tokens: 40, width: 33, genes: 50, style: style))
        var poisoned = batch
        for row in batch.mask.indices where !batch.mask[row] { poisoned.targets[row] = .nan }
        let (losses, gradients) = try batch.valueAndGradients(workers: 2)
        let (others, otherGradients) = try poisoned.valueAndGradients(workers: 2)
        #expect(losses == others)
        for (name, expected) in gradients.results(batch) {
            expectSameBits(try #require(otherGradients.results(batch)[name]), expected, name)
        }
    }

    /// Accumulation adds to what the buffers hold, with the caller's factor.
    @Test(arguments: MaskedValueDecoder.Style.allCases)
    func accumulationAddsToTheBuffers(_ style: MaskedValueDecoder.Style) throws {
        let batch = try MaskedValueBatch(
            MaskedValueShape(
                cells: 5, tokens: 41, width: 31, genes: 60, style: style,
                batches: style.isInnerProduct ? 2 : 0))
        let (_, single) = try batch.valueAndGradients(workers: 2)
        var sum = MaskedValueGradientArrays(batch, value: 1)
        _ = try batch.valueAndGradients(workers: 2, scale: 0.5, into: &sum, update: .accumulate)
        for (name, gradient) in single.results(batch) {
            expectNormwise(
                actual: try #require(sum.results(batch)[name]), oracle: gradient.map { 1 + 0.5 * Double($0) },
                tolerance: Tolerances.headNormwise, name)
        }
    }

    /// An empty mask is an error, or one of the two values.
    @Test(arguments: MaskedValueDecoder.Style.allCases)
    func emptyMasksFollowTheRule(_ style: MaskedValueDecoder.Style) throws {
        var batch = try MaskedValueBatch(
            MaskedValueShape(cells: 2, tokens: 5, width: 4, genes: 6, style: style))
        batch.mask = batch.mask.map { _ in false }
        let empty = batch
        expectError(LossError.emptySelection(loss: "MaskedValueDecoder", row: nil).description) {
            () throws(LossError) in _ = try empty.value()
        }
        for (rule, expected) in [(EmptySelectionRule.zero, Float(0)), (.nan, .nan)] {
            batch.decoder.whenEmpty = rule
            let (losses, gradients) = try batch.valueAndGradients(workers: 1)
            expectClose(losses.squaredError, Double(expected), Tolerances.headValue)
            for (_, gradient) in gradients.results(batch) {
                expectClose(gradient, gradient.map { _ in expected }, Tolerances.headValue)
            }
        }
    }

    /// Wrong inputs are named, and nothing is written.
    @Test func errorsNameTheArgument() throws {
        let batch = try MaskedValueBatch(
            MaskedValueShape(cells: 2, tokens: 5, width: 4, genes: 6, batches: 2))
        func expectMessage(_ message: String, scale: Float = 1, _ change: (inout MaskedValueBatch) -> Void) {
            var changed = batch
            change(&changed)
            let subject = changed
            var gradients = MaskedValueGradientArrays(batch, value: 7)
            expectError(message) { () throws(LossError) in
                _ = try subject.valueAndGradients(workers: 1, scale: scale, into: &gradients)
            }
            for (_, gradient) in gradients.results(batch) { #expect(gradient.allSatisfy { $0 == 7 }) }
        }
        expectMessage("cellEmbeddings has 7 elements, but the other arguments ask for 8") {
            $0.cellEmbeddings.removeLast()
        }
        expectMessage("genes.indices has 9 elements, but the other arguments ask for 10") {
            $0.genes.removeLast()
        }
        expectMessage("genes.embeddings has 23 elements, but the other arguments ask for 20") {
            $0.geneTable.removeLast()
        }
        expectMessage("6 in row 3 of genes.indices is not in 0..<6") {
            $0.genes[3] = 6
        }
        expectMessage(
            "weights.squaredError · gradientScale is -1.6069380442589903e+60, but it must be at most 3.4e38 in magnitude",
            scale: -0x1p100
        ) { $0.weights.squaredError = 0x1p100 }
        expectMessage("batches must be given to a decoder with batch embeddings") { $0.embeddings = [] }
        expectError("explicitZeros must be false for the style \"sum query\"") { () throws(LossError) in
            _ = try MaskedValueDecoder(style: .sumQuery, width: 4, explicitZeros: true)
        }
        for (width, text) in [
            (-1, "-1"), (1 << 28 + 1, "268435457"), (.min, "-9.223372036854776e+18"),
            (.max, "9.223372036854776e+18"),
        ] {
            expectError("width is \(text), but it must be between 0 and 2²⁸") {
                () throws(LossError) in _ = try MaskedValueDecoder(width: width)
            }
        }
    }
}

/// Sizes of a decoder's batch.
struct MaskedValueShape: Sendable, CustomTestStringConvertible {
    var cells: Int
    var tokens: Int
    var width: Int
    var genes: Int
    var style = MaskedValueDecoder.Style.innerProduct
    var hiddenWidth = 10
    var explicitZeros = true
    var batches = 0
    var ratio = 0.4

    var testDescription: String {
        "\(style.rawValue), \(cells)×\(tokens)×\(width), \(genes) genes, \(batches) batches, mask \(ratio)"
    }

    /// Genes around a block and a group, cells around a panel, one and many batches, every style; and enough genes
    /// for the products of the scale of blocks.
    static let all = [
        MaskedValueShape(cells: 1, tokens: 1, width: 1, genes: 1, ratio: 1),
        MaskedValueShape(cells: 3, tokens: 7, width: 5, genes: 7, explicitZeros: false),
        MaskedValueShape(cells: 33, tokens: 20, width: 31, genes: 47, batches: 3),
        MaskedValueShape(cells: 16, tokens: 49, width: 32, genes: 49, batches: 16, ratio: 1),
        MaskedValueShape(cells: 2, tokens: 900, width: 9, genes: 1601, batches: 1, ratio: 1),
        MaskedValueShape(cells: 4, tokens: 60, width: 33, genes: 3, style: .innerProductDetached, batches: 2),
        MaskedValueShape(cells: 5, tokens: 97, width: 33, genes: 100, style: .concatQuery, hiddenWidth: 33),
        MaskedValueShape(cells: 3, tokens: 30, width: 8, genes: 20, style: .concatQuery, hiddenWidth: 1),
        MaskedValueShape(cells: 5, tokens: 97, width: 31, genes: 97, style: .sumQuery, hiddenWidth: 64),
        MaskedValueShape(cells: 1, tokens: 130, width: 16, genes: 60, style: .sumQuery, ratio: 1),
        MaskedValueShape(cells: 3, tokens: 30, width: 128, genes: 1700, batches: 2, ratio: 1),
        MaskedValueShape(cells: 2, tokens: 30, width: 128, genes: 1100, style: .concatQuery, ratio: 1),
    ]
}

/// Everything that a decoder reads, as arrays.
struct MaskedValueBatch: Sendable {
    var decoder: MaskedValueDecoder
    var cells: Int
    var tokens: Int
    var parameters: [Float]
    var cellEmbeddings: [Float]
    var geneTable: [Float]
    var genes: [Int32]
    var targets: [Float]
    var mask: [Bool]
    var embeddings: [Float] = []
    var labels: [Int32] = []
    var weights = DecoderWeights(squaredError: 1, nonzero: 2)

    init(_ shape: MaskedValueShape) throws {
        decoder = try MaskedValueDecoder(
            style: shape.style, width: shape.width, hiddenWidth: shape.hiddenWidth,
            explicitZeros: shape.explicitZeros && shape.style.isInnerProduct,
            batchEmbeddings: shape.batches > 0)
        (cells, tokens) = (shape.cells, shape.tokens)
        var random = RandomInputs(seed: UInt64(shape.cells * 31 + shape.width))
        var generator = SplitMix64(seed: 5)
        parameters = decoder.layout.initialValues(using: &generator)
        cellEmbeddings = random.normals(cells * shape.width)
        geneTable = random.normals(shape.genes * shape.width)
        genes = random.labels(cells * tokens, classes: shape.genes)
        targets = random.targets(cells * tokens).map { $0 / 50 }
        mask =
            shape.ratio < 1
            ? random.mask(cells * tokens, ratio: shape.ratio)
            : [Bool](repeating: true, count: cells * tokens)
        mask[0] = true
        embeddings = random.normals(shape.batches * shape.width)
        if shape.batches > 0 { labels = random.labels(cells, classes: shape.batches) }
    }

    init(_ golden: Golden) throws {
        let style = try #require(
            MaskedValueDecoder.Style(rawValue: String(golden.name.prefix { $0 != ":" })))
        decoder = try MaskedValueDecoder(
            style: style, width: golden.int("width"), hiddenWidth: golden.int("hiddenWidth"),
            explicitZeros: golden.flag("explicitZeros"), batchEmbeddings: golden.flag("usesBatchLabels"))
        decoder.nonzeroForm = .probabilities
        (cells, tokens) = (try golden.int("cells"), try golden.int("tokens"))
        parameters = try decoder.layout.values(of: golden)
        cellEmbeddings = try golden.floats("cellEmbeddings")
        geneTable = try golden.floats("geneTable")
        genes = try golden.int32s("genes")
        targets = [Float](repeating: 0, count: cells * tokens)
        mask = [Bool](repeating: true, count: cells * tokens)
        guard decoder.hasBatchEmbeddings else { return }
        embeddings = try golden.floats("batchEmbeddings")
        labels = (0..<Int32(cells)).map { $0 }
    }

    /// The inputs as arrays.
    var arrays: MaskedValueArrays {
        MaskedValueArrays(
            shape: MatrixShape(rows: cells, columns: tokens), cellEmbeddings: cellEmbeddings,
            genes: GeneEmbeddingArrays(embeddings: geneTable, indices: genes), mask: mask,
            batches: embeddings.isEmpty
                ? nil : BatchEmbeddingArrays(embeddings: embeddings, labels: labels))
    }

    /// Calls `body` with the inputs as spans.
    func withInputs<Result>(
        _ body: (MaskedValueInputs) throws(LossError) -> Result
    ) throws(LossError) -> Result {
        let shape = MatrixShape(rows: cells, columns: tokens)
        guard !embeddings.isEmpty else {
            return try body(
                MaskedValueInputs(
                    shape: shape, cellEmbeddings: cellEmbeddings.span,
                    genes: GeneEmbeddings(embeddings: geneTable.span, indices: genes.span), mask: mask.span))
        }
        return try body(
            MaskedValueInputs(
                shape: shape, cellEmbeddings: cellEmbeddings.span,
                genes: GeneEmbeddings(embeddings: geneTable.span, indices: genes.span), mask: mask.span,
                batches: BatchEmbeddings(embeddings: embeddings.span, labels: labels.span)))
    }

    func value() throws(LossError) -> DecoderLosses {
        try withInputs { (inputs) throws(LossError) in
            try decoder.value(
                inputs, targets: targets.span, parameters: parameters.span, workspace: Workspace(workers: 2))
        }
    }

    func valueAndGradients(workers: Int) throws(LossError) -> (DecoderLosses, MaskedValueGradientArrays) {
        var gradients = MaskedValueGradientArrays(self, value: .nan)
        let losses = try valueAndGradients(workers: workers, into: &gradients)
        return (losses, gradients)
    }

    func valueAndGradients(
        workers: Int, scale: Float = 1, into arrays: inout MaskedValueGradientArrays,
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

    func gradients(predictions: [Float], nonzero: [Float]?) throws(LossError) -> MaskedValueGradientArrays {
        var arrays = MaskedValueGradientArrays(self, value: .nan)
        try arrays.withSpans { (gradients) throws(LossError) in
            try withInputs { (inputs) throws(LossError) in
                try decoder.gradient(
                    inputs, predictionsGradient: predictions.span, nonzeroGradient: nonzero?.span,
                    parameters: parameters.span, gradients: &gradients, workspace: Workspace(workers: 2))
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

extension MaskedValueGradientArrays {
    /// Gradients of a batch's inputs, with this value everywhere.
    init(_ batch: MaskedValueBatch, value: Float) {
        func array(_ count: Int) -> [Float] { [Float](repeating: value, count: count) }
        self.init(
            parameters: array(batch.decoder.layout.count),
            cellEmbeddings: array(batch.cells * batch.decoder.width), genes: array(batch.geneTable.count),
            batchEmbeddings: batch.embeddings.isEmpty ? nil : array(batch.embeddings.count))
    }

    /// Calls `body` with the same memory as spans.
    mutating func withSpans<Result>(
        _ body: (inout MaskedValueGradients) throws(LossError) -> Result
    ) throws(LossError) -> Result {
        // Spans of properties of one variable would be overlapping accesses to it.
        var (parameters, cells, genes) = (self.parameters, cellEmbeddings ?? [], self.genes ?? [])
        var batches = batchEmbeddings ?? []
        let hasBatches = batchEmbeddings != nil
        defer {
            self = MaskedValueGradientArrays(
                parameters: parameters, cellEmbeddings: cells, genes: genes,
                batchEmbeddings: hasBatches ? batches : nil)
        }
        guard hasBatches else {
            var gradients = MaskedValueGradients(
                parameters: parameters.mutableSpan, cellEmbeddings: cells.mutableSpan,
                genes: genes.mutableSpan)
            return try body(&gradients)
        }
        var gradients = MaskedValueGradients(
            parameters: parameters.mutableSpan, cellEmbeddings: cells.mutableSpan, genes: genes.mutableSpan,
            batchEmbeddings: batches.mutableSpan)
        return try body(&gradients)
    }

    /// Every gradient under its name in a golden.
    func results(_ batch: MaskedValueBatch) -> [String: [Float]] {
        var results = ["gradient.cellEmbeddings": cellEmbeddings ?? [], "gradient.geneTable": genes ?? []]
        results["gradient.batchEmbeddings"] = batchEmbeddings
        for parameter in batch.decoder.layout.parameters {
            results["gradient.\(parameter.name)"] = Array(parameters[parameter.range])
        }
        return results
    }
}

// MARK: - The oracle

extension MaskedValueBatch {
    /// The losses and gradients of the oracle, in double precision over all tokens.
    var truth: DecoderTruth {
        let width = decoder.width
        var reference = Reference.MaskedValueDecoder.Parameters<Double>(
            style: .init(rawValue: decoder.style.rawValue)!, width: width, hiddenWidth: decoder.hiddenWidth,
            explicitZeros: decoder.hasExplicitZeros, batchLabels: decoder.hasBatchEmbeddings)
        for (name, array) in reference.stateDict {
            reference[keyPath: array] = parameters[decoder.layout[name]!.range].map(Double.init)
        }
        let perCell: [Double]? =
            decoder.hasBatchEmbeddings
            ? labels.flatMap { embeddings[Int($0) * width..<(Int($0) + 1) * width].map(Double.init) } : nil
        let perToken = genes.flatMap { geneTable[Int($0) * width..<(Int($0) + 1) * width].map(Double.init) }
        let targets = targets.map(Double.init)
        let outputs = Reference.MaskedValueDecoder.value(
            parameters: reference, cellEmbeddings: cellEmbeddings.map(Double.init), batchEmbeddings: perCell,
            geneEmbeddings: perToken, cells: cells, tokens: tokens)
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
        let gradients = Reference.MaskedValueDecoder.gradients(
            outputGradients: outputGradients, parameters: reference,
            cellEmbeddings: cellEmbeddings.map(Double.init), batchEmbeddings: perCell,
            geneEmbeddings: perToken, cells: cells, tokens: tokens)
        var results = gradients.parameters.gradientResults
        results["gradient.cellEmbeddings"] = gradients.cellEmbeddings
        results["gradient.geneTable"] = sums(
            of: gradients.geneEmbeddings, by: genes, count: geneTable.count, width: width)
        if let perCell = gradients.batchEmbeddings {
            results["gradient.batchEmbeddings"] = sums(
                of: perCell, by: labels, count: embeddings.count, width: width)
        }
        return DecoderTruth(
            squaredError: squaredError, nonzero: nonzero,
            relativeError: Reference.MaskedRelativeError.value(
                predictions: outputs.predictions, targets: targets, mask: mask),
            gradients: results)
    }
}

/// The sums of the rows that have the same index.
func sums(of rows: [Double], by indices: [Int32], count: Int, width: Int) -> [Double] {
    var sums = [Double](repeating: 0, count: count)
    for (row, index) in indices.enumerated() {
        for i in 0..<width { sums[Int(index) * width + i] += rows[row * width + i] }
    }
    return sums
}
