// The classifiers of cell types and of batches against PyTorch's goldens, the oracle, and their own laws.

import BenchmarkData
import FastLoss
import FastLossHeads
import FastLossReference
import Testing

@Suite struct ClassifierTests {
    static let goldens = try! ["CellTypeDecoder", "AdversarialDiscriminator"].flatMap { stem in
        try Golden.cases(of: stem).map { NamedGolden(stem: stem, golden: $0) }
    }

    /// Logits and every gradient, for gradients of the logits that the golden gives.
    @Test(arguments: goldens)
    func matchesPyTorch(_ named: NamedGolden) throws {
        let golden = named.golden
        let batch = try ClassifierBatch(named)
        var results = ["logits": try batch.logits()]
        let gradients = try batch.gradients(logits: golden.floats("outputGradient.logits"))
        results.merge(gradients.results(batch)) { $1 }
        try golden.expectResults(results)
    }

    /// The fused cross-entropy and its gradients, against the oracle.
    @Test(arguments: ClassifierShape.all)
    func fusedLossMatchesTheOracle(_ shape: ClassifierShape) throws {
        let batch = try ClassifierBatch(shape)
        let (loss, gradients) = try batch.valueAndGradients(workers: 2)
        #expect(try batch.value() == loss)
        let truth = batch.truth
        expectClose(loss.value, truth.value, Tolerances.headValue, "loss")
        #expect(loss.selectedCount == batch.labels.count { $0 != -100 })
        for (name, actual) in gradients.results(batch) {
            expectNormwise(
                actual: actual, oracle: try #require(truth.gradients[name]),
                tolerance: Tolerances.headNormwise, name)
        }
    }

    /// Bitwise the same results for any number of workers, and with accumulation onto zeros.
    @Test func workersDoNotChangeABit() throws {
        let batch = try ClassifierBatch(ClassifierShape(cells: 70, width: 130, classes: 40, isReversed: true))
        let (loss, gradients) = try batch.valueAndGradients(workers: 1)
        for workers in [2, 3, 8] {
            let (other, others) = try batch.valueAndGradients(workers: workers)
            #expect(other == loss)
            expectSameBits(others.parameters, gradients.parameters, "parameters, \(workers) workers")
            expectSameBits(others.cellEmbeddings, gradients.cellEmbeddings, "cells, \(workers) workers")
        }
    }

    /// Accumulation adds to what the buffers hold, with the caller's factor.
    @Test(arguments: [false, true])
    func accumulationAddsToTheBuffers(isReversed: Bool) throws {
        let batch = try ClassifierBatch(
            ClassifierShape(cells: 6, width: 33, classes: 5, isReversed: isReversed))
        let (_, single) = try batch.valueAndGradients(workers: 2)
        var sum = ClassifierGradientArrays(batch, value: 1)
        _ = try batch.valueAndGradients(workers: 2, scale: 0.5, into: &sum, update: .accumulate)
        for (name, gradient) in single.results(batch) {
            expectNormwise(
                actual: try #require(sum.results(batch)[name]), oracle: gradient.map { 1 + 0.5 * Double($0) },
                tolerance: Tolerances.headNormwise, name)
        }
    }

    /// Only ignored labels are an error, or one of the two values with gradients of zero.
    @Test func ignoredLabelsFollowTheRule() throws {
        var batch = try ClassifierBatch(ClassifierShape(cells: 3, width: 4, classes: 2))
        batch.labels = [-100, -100, -100]
        let empty = batch
        expectError(LossError.emptySelection(loss: "CellTypeDecoder", row: nil).description) {
            () throws(LossError) in _ = try empty.value()
        }
        for (rule, expected) in [(EmptySelectionRule.zero, 0.0), (.nan, .nan)] {
            batch.rule = rule
            let (loss, gradients) = try batch.valueAndGradients(workers: 1)
            expectClose(loss.value, expected, Tolerances.headValue)
            #expect((gradients.parameters + gradients.cellEmbeddings).allSatisfy { $0 == 0 })
        }
    }

    /// Wrong inputs are named, and nothing is written.
    @Test func errorsNameTheArgument() throws {
        let batch = try ClassifierBatch(ClassifierShape(cells: 3, width: 4, classes: 2))
        func expectMessage(_ message: String, _ change: (inout ClassifierBatch) -> Void) {
            var changed = batch
            change(&changed)
            let subject = changed
            var gradients = ClassifierGradientArrays(batch, value: 7)
            expectError(message) { () throws(LossError) in
                _ = try subject.valueAndGradients(workers: 1, into: &gradients)
            }
            #expect((gradients.parameters + gradients.cellEmbeddings).allSatisfy { $0 == 7 })
        }
        expectMessage("cellEmbeddings has 11 elements, but the other arguments ask for 12") {
            $0.cellEmbeddings.removeLast()
        }
        expectMessage("label 2 in row 1 of labels is neither a class (0 to 1) nor the ignored label") {
            $0.labels[1] = 2
        }
        let reversed = try ClassifierBatch(
            ClassifierShape(cells: 3, width: 4, classes: 2, isReversed: true, strength: .nan))
        expectError("reversalStrength is nan, but it must be finite") { () throws(LossError) in
            _ = try reversed.valueAndGradients(workers: 1)
        }
    }
}

/// The encoder of batch labels and gene identifiers.
@Suite struct BatchLabelEncoderTests {
    @Test(arguments: try Golden.cases(of: "BatchLabelEncoder"))
    func matchesPyTorch(_ golden: Golden) throws {
        let encoder = try BatchLabelEncoder(labels: golden.int("batches"), width: golden.int("width"))
        let parameters = try encoder.layout.values(of: golden)
        let labels = try golden.int32s("labels")
        let outputGradient = try golden.floats("outputGradient.embeddings")
        var embeddings = [Float](repeating: .nan, count: labels.count * encoder.width)
        var gradient = [Float](repeating: .nan, count: encoder.layout.count)
        var span = embeddings.mutableSpan
        try encoder.embed(
            labels: labels.span, parameters: parameters.span, embeddings: &span,
            workspace: Workspace(workers: 2))
        var gradientSpan = gradient.mutableSpan
        try encoder.gradient(
            labels: labels.span, embeddingsGradient: outputGradient.span, parameters: parameters.span,
            parametersGradient: &gradientSpan, workspace: Workspace())
        var results = ["embeddings": embeddings]
        for parameter in encoder.layout.parameters {
            results["gradient.\(parameter.name)"] = Array(gradient[parameter.range])
        }
        try golden.expectResults(results)

        var sum = [Float](repeating: 1, count: encoder.layout.count)
        var sumSpan = sum.mutableSpan
        try encoder.gradient(
            labels: labels.span, embeddingsGradient: outputGradient.span, parameters: parameters.span,
            parametersGradient: &sumSpan, gradientScale: 0.5, update: .accumulate, workspace: Workspace())
        expectNormwise(
            actual: sum, oracle: gradient.map { 1 + 0.5 * Double($0) }, tolerance: Tolerances.headNormwise)
    }

    /// Without labels, the same bits as with each label once.
    @Test func noLabelsAreAllLabels() throws {
        let encoder = try BatchLabelEncoder(labels: 7, width: 5)
        var generator = SeededGenerator(seed: 3)
        let parameters = encoder.layout.initialValues(using: &generator)
        let outputGradient = (0..<35).map { _ in generator.normal() }
        let all = Array(0..<Int32(7))
        func results(labels: Span<Int32>?) throws -> [[Float]] {
            var embeddings = [Float](repeating: .nan, count: 35)
            var gradient = [Float](repeating: .nan, count: encoder.layout.count)
            var span = embeddings.mutableSpan
            try encoder.embed(
                labels: labels, parameters: parameters.span, embeddings: &span, workspace: Workspace())
            var gradientSpan = gradient.mutableSpan
            try encoder.gradient(
                labels: labels, embeddingsGradient: outputGradient.span, parameters: parameters.span,
                parametersGradient: &gradientSpan, workspace: Workspace())
            return [embeddings, gradient]
        }
        #expect(try results(labels: nil) == results(labels: all.span))
        #expect(try results(labels: nil).joined().allSatisfy(\.isFinite))
    }

    @Test func errorsNameTheArgument() throws {
        let encoder = try BatchLabelEncoder(labels: 2, width: 3)
        let parameters = [Float](repeating: 1, count: encoder.layout.count)
        var embeddings = [Float](repeating: 7, count: 6)
        let labels: [Int32] = [0, 2]
        expectError("2 in row 1 of labels is not in 0..<2") {
            () throws(LossError) in
            var span = embeddings.mutableSpan
            try encoder.embed(
                labels: labels.span, parameters: parameters.span, embeddings: &span, workspace: Workspace())
        }
        #expect(embeddings.allSatisfy { $0 == 7 })
    }
}

/// A golden and the head that it is of.
struct NamedGolden: Sendable, CustomTestStringConvertible {
    let stem: String
    let golden: Golden
    var testDescription: String { "\(stem): \(golden.name)" }
}

/// Sizes of a classifier's batch.
struct ClassifierShape: Sendable, CustomTestStringConvertible {
    var cells: Int
    var width: Int
    var classes: Int
    var blocks = 2
    var isReversed = false
    var strength: Float = 1
    var ignored = 0.0

    var testDescription: String {
        "\(cells)×\(width), \(classes) classes, \(blocks) blocks\(isReversed ? ", λ = \(strength)" : "")"
    }

    static let all = [
        ClassifierShape(cells: 1, width: 3, classes: 1),
        ClassifierShape(cells: 25, width: 33, classes: 7, ignored: 0.3),
        ClassifierShape(cells: 64, width: 64, classes: 50, blocks: 3),
        ClassifierShape(cells: 49, width: 31, classes: 33, blocks: 0),
        ClassifierShape(cells: 30, width: 47, classes: 4, isReversed: true, strength: 0.25),
        ClassifierShape(cells: 24, width: 32, classes: 2, blocks: 1, isReversed: true),
    ]
}

/// Everything that a classifier reads, as arrays.
struct ClassifierBatch: Sendable {
    var isReversed: Bool
    var strength: Float
    var rule = EmptySelectionRule.error
    var width: Int
    var classes: Int
    var blocks: Int
    var layout: ParameterLayout
    var parameters: [Float]
    var cellEmbeddings: [Float]
    var labels: [Int32]

    init(_ shape: ClassifierShape) throws {
        var random = RandomInputs(seed: UInt64(shape.cells * 31 + shape.width))
        (isReversed, strength) = (shape.isReversed, shape.strength)
        (width, classes, blocks) = (shape.width, shape.classes, shape.blocks)
        layout = try CellTypeDecoder(width: width, classes: classes, blocks: blocks).layout
        var generator = SplitMix64(seed: 5)
        parameters = layout.initialValues(using: &generator)
        cellEmbeddings = random.normals(shape.cells * width)
        labels = random.labels(shape.cells, classes: classes, ignored: shape.ignored)
    }

    init(_ named: NamedGolden) throws {
        let golden = named.golden
        isReversed = named.stem == "AdversarialDiscriminator"
        strength = isReversed ? try golden.float("strength") : 1
        (width, classes) = (try golden.int("width"), try golden.int("classes"))
        blocks = try golden.int("blocks")
        layout = try CellTypeDecoder(width: width, classes: classes, blocks: blocks).layout
        parameters = try layout.values(of: golden)
        cellEmbeddings = try golden.floats("cellEmbeddings")
        labels = [Int32](repeating: 0, count: try golden.int("cells"))
    }

    var cellTypeDecoder: CellTypeDecoder {
        get throws(LossError) {
            var decoder = try CellTypeDecoder(width: width, classes: classes, blocks: blocks)
            decoder.crossEntropy.whenEmpty = rule
            return decoder
        }
    }

    var discriminator: AdversarialDiscriminator {
        get throws(LossError) {
            try AdversarialDiscriminator(
                width: width, batches: classes, blocks: blocks, reversalStrength: strength)
        }
    }

    func value() throws(LossError) -> LossValue {
        let workspace = Workspace(workers: 2)
        return isReversed
            ? try discriminator.value(
                cellEmbeddings: cellEmbeddings.span, labels: labels.span, parameters: parameters.span,
                workspace: workspace)
            : try cellTypeDecoder.value(
                cellEmbeddings: cellEmbeddings.span, labels: labels.span, parameters: parameters.span,
                workspace: workspace)
    }

    func logits() throws(LossError) -> [Float] {
        var logits = [Float](repeating: .nan, count: labels.count * classes)
        var span = logits.mutableSpan
        if isReversed {
            try discriminator.predict(
                cellEmbeddings: cellEmbeddings.span, cells: labels.count, parameters: parameters.span,
                logits: &span, workspace: Workspace(workers: 2))
        } else {
            try cellTypeDecoder.predict(
                cellEmbeddings: cellEmbeddings.span, cells: labels.count, parameters: parameters.span,
                logits: &span, workspace: Workspace(workers: 2))
        }
        return logits
    }

    func gradients(logits: [Float]) throws(LossError) -> ClassifierGradientArrays {
        var arrays = ClassifierGradientArrays(self, value: .nan)
        try arrays.withSpans { (gradients) throws(LossError) in
            if isReversed {
                try discriminator.gradient(
                    cellEmbeddings: cellEmbeddings.span, cells: labels.count, logitsGradient: logits.span,
                    parameters: parameters.span, gradients: &gradients, workspace: Workspace(workers: 2))
            } else {
                try cellTypeDecoder.gradient(
                    cellEmbeddings: cellEmbeddings.span, cells: labels.count, logitsGradient: logits.span,
                    parameters: parameters.span, gradients: &gradients, workspace: Workspace(workers: 2))
            }
        }
        return arrays
    }

    func valueAndGradients(workers: Int) throws(LossError) -> (LossValue, ClassifierGradientArrays) {
        var gradients = ClassifierGradientArrays(self, value: .nan)
        let loss = try valueAndGradients(workers: workers, into: &gradients)
        return (loss, gradients)
    }

    func valueAndGradients(
        workers: Int, scale: Float = 1, into arrays: inout ClassifierGradientArrays,
        update: GradientUpdate = .overwrite
    ) throws(LossError) -> LossValue {
        try arrays.withSpans { (gradients) throws(LossError) in
            isReversed
                ? try discriminator.valueAndGradient(
                    cellEmbeddings: cellEmbeddings.span, labels: labels.span, parameters: parameters.span,
                    gradients: &gradients, gradientScale: scale, update: update,
                    workspace: Workspace(workers: workers))
                : try cellTypeDecoder.valueAndGradient(
                    cellEmbeddings: cellEmbeddings.span, labels: labels.span, parameters: parameters.span,
                    gradients: &gradients, gradientScale: scale, update: update,
                    workspace: Workspace(workers: workers))
        }
    }

    /// The loss and the gradients of the oracle.
    var truth: (value: Double, gradients: [String: [Double]]) {
        var reference = Reference.NormalizedClassifier<Double>(
            width: width, classes: classes, blocks: blocks)
        for (name, array) in reference.stateDict {
            reference[keyPath: array] = parameters[layout[name]!.range].map(Double.init)
        }
        let cells = cellEmbeddings.map(Double.init)
        let logits = reference.value(input: cells, activation: isReversed ? .leakyReLU : .relu)
        var logitsGradient = logits
        let value = Reference.CrossEntropy.valueAndGradient(
            logits: logits, labels: labels, rows: labels.count, classes: classes, gradient: &logitsGradient)
        let (gradients, cellGradient) =
            isReversed
            ? Reference.AdversarialDiscriminator.gradients(
                logitsGradient: logitsGradient, parameters: reference, cellEmbeddings: cells,
                reversalStrength: Double(strength))
            : Reference.CellTypeDecoder.gradients(
                logitsGradient: logitsGradient, parameters: reference, cellEmbeddings: cells)
        var results = gradients.gradientResults
        results["gradient.cellEmbeddings"] = cellGradient
        return (value, results)
    }
}

/// A classifier's gradients as arrays.
struct ClassifierGradientArrays {
    var parameters: [Float]
    var cellEmbeddings: [Float]

    init(_ batch: ClassifierBatch, value: Float) {
        parameters = [Float](repeating: value, count: batch.layout.count)
        cellEmbeddings = [Float](repeating: value, count: batch.labels.count * batch.width)
    }

    mutating func withSpans<Result>(
        _ body: (inout ClassifierGradients) throws(LossError) -> Result
    ) throws(LossError) -> Result {
        var (parameters, cells) = (self.parameters, cellEmbeddings)
        defer { (self.parameters, cellEmbeddings) = (parameters, cells) }
        var gradients = ClassifierGradients(
            parameters: parameters.mutableSpan, cellEmbeddings: cells.mutableSpan)
        return try body(&gradients)
    }

    /// Every gradient under its name in a golden.
    func results(_ batch: ClassifierBatch) -> [String: [Float]] {
        var results = ["gradient.cellEmbeddings": cellEmbeddings]
        for parameter in batch.layout.parameters {
            results["gradient.\(parameter.name)"] = Array(parameters[parameter.range])
        }
        return results
    }
}
