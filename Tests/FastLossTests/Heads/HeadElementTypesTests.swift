// Heads of 16-bit states and embeddings: the results of the widened inputs to the bit, and their gradients
// rounded once.

import FastLoss
import FastLossHeads
import Testing

/// What one call of a head gives.
struct HeadResults<Element: ModelOutputElement> {
    var losses: [Double]
    /// The gradients of the parameters, and of each input.
    var parameters: [Float]
    var gradients: [[Element]]
}

/// A head whose inputs may have any element type.
protocol HeadSubject: Sendable, CustomStringConvertible {
    /// The inputs in float32.
    func inputs() throws -> [[Float]]
    /// The losses, and the gradients on top of `initial`, if that is given.
    func run<Element: ModelOutputElement>(
        _ inputs: [[Element]], addingTo initial: HeadResults<Element>?, workspace: Workspace
    ) throws -> HeadResults<Element>
    /// The losses alone.
    func losses<Element: ModelOutputElement>(_ inputs: [[Element]]) throws -> [Double]
}

extension DecoderLosses {
    fileprivate var all: [Double] { [squaredError, nonzero ?? 0, relativeError] }
}

struct ExpressionSubject: HeadSubject {
    let shape: DecoderShape
    var description: String { "ExpressionDecoder, \(shape.testDescription)" }

    /// States outside the mask are NaN.
    func inputs() throws -> [[Float]] {
        let batch = try DecoderBatch(shape)
        var states = batch.states
        for index in states.indices where !batch.mask[index / shape.width] { states[index] = .nan }
        return [states, batch.embeddings]
    }

    func run<Element: ModelOutputElement>(
        _ inputs: [[Element]], addingTo initial: HeadResults<Element>?, workspace: Workspace
    ) throws -> HeadResults<Element> {
        let batch = try DecoderBatch(shape)
        let (states, embeddings, mask, labels) = (inputs[0], inputs[1], batch.mask, batch.labels)
        var parameters = initial?.parameters ?? batch.parameters
        var ofStates = initial?.gradients[0] ?? states
        var ofEmbeddings = initial?.gradients[1] ?? embeddings
        var given = ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>(
            shape: TokenShape(cells: shape.cells, tokens: shape.tokens, width: shape.width),
            states: states.span, mask: mask.span)
        var gradients = ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<Element>>(
            parameters: parameters.mutableSpan, states: ofStates.mutableSpan)
        if shape.batches > 0 {
            given.batches = BatchEmbeddingFields(embeddings: embeddings.span, labels: labels.span)
            gradients.batchEmbeddings = ofEmbeddings.mutableSpan
        }
        let losses = try batch.decoder.valueAndGradient(
            given, targets: batch.targets.span, parameters: batch.parameters.span, weights: batch.weights,
            gradients: &gradients, update: initial == nil ? .overwrite : .accumulate, workspace: workspace)
        return HeadResults(
            losses: losses.all, parameters: parameters, gradients: [ofStates, ofEmbeddings])
    }

    func losses<Element: ModelOutputElement>(_ inputs: [[Element]]) throws -> [Double] {
        let batch = try DecoderBatch(shape)
        let (states, embeddings, mask, labels) = (inputs[0], inputs[1], batch.mask, batch.labels)
        var given = ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>(
            shape: TokenShape(cells: shape.cells, tokens: shape.tokens, width: shape.width),
            states: states.span, mask: mask.span)
        if shape.batches > 0 {
            given.batches = BatchEmbeddingFields(embeddings: embeddings.span, labels: labels.span)
        }
        return try batch.decoder.value(
            given, targets: batch.targets.span, parameters: batch.parameters.span,
            workspace: Workspace(workers: 2)
        ).all
    }
}

struct MaskedValueSubject: HeadSubject {
    let shape: MaskedValueShape
    var description: String { "MaskedValueDecoder, \(shape.testDescription)" }

    func inputs() throws -> [[Float]] {
        let batch = try MaskedValueBatch(shape)
        return [batch.cellEmbeddings, batch.geneTable, batch.embeddings]
    }

    func run<Element: ModelOutputElement>(
        _ inputs: [[Element]], addingTo initial: HeadResults<Element>?, workspace: Workspace
    ) throws -> HeadResults<Element> {
        let batch = try MaskedValueBatch(shape)
        let (cells, genes, embeddings) = (inputs[0], inputs[1], inputs[2])
        let (indices, mask, labels) = (batch.genes, batch.mask, batch.labels)
        var parameters = initial?.parameters ?? batch.parameters
        var ofCells = initial?.gradients[0] ?? cells
        var ofGenes = initial?.gradients[1] ?? genes
        var ofEmbeddings = initial?.gradients[2] ?? embeddings
        var given = MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>(
            shape: MatrixShape(rows: batch.cells, columns: batch.tokens), cellEmbeddings: cells.span,
            genes: GeneEmbeddingFields(embeddings: genes.span, indices: indices.span), mask: mask.span)
        var gradients = MaskedValueGradientFields<MutableSpan<Float>, MutableSpan<Element>>(
            parameters: parameters.mutableSpan, cellEmbeddings: ofCells.mutableSpan,
            genes: ofGenes.mutableSpan)
        if shape.batches > 0 {
            given.batches = BatchEmbeddingFields(embeddings: embeddings.span, labels: labels.span)
            gradients.batchEmbeddings = ofEmbeddings.mutableSpan
        }
        let losses = try batch.decoder.valueAndGradient(
            given, targets: batch.targets.span, parameters: batch.parameters.span, weights: batch.weights,
            gradients: &gradients, update: initial == nil ? .overwrite : .accumulate, workspace: workspace)
        return HeadResults(
            losses: losses.all, parameters: parameters, gradients: [ofCells, ofGenes, ofEmbeddings])
    }

    func losses<Element: ModelOutputElement>(_ inputs: [[Element]]) throws -> [Double] {
        let batch = try MaskedValueBatch(shape)
        let (cells, genes, embeddings) = (inputs[0], inputs[1], inputs[2])
        let (indices, mask, labels) = (batch.genes, batch.mask, batch.labels)
        var given = MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>(
            shape: MatrixShape(rows: batch.cells, columns: batch.tokens), cellEmbeddings: cells.span,
            genes: GeneEmbeddingFields(embeddings: genes.span, indices: indices.span), mask: mask.span)
        if shape.batches > 0 {
            given.batches = BatchEmbeddingFields(embeddings: embeddings.span, labels: labels.span)
        }
        return try batch.decoder.value(
            given, targets: batch.targets.span, parameters: batch.parameters.span,
            workspace: Workspace(workers: 2)
        ).all
    }
}

struct ClassifierSubject: HeadSubject {
    let shape: ClassifierShape
    var description: String {
        "\(shape.isReversed ? "AdversarialDiscriminator" : "CellTypeDecoder"), \(shape.cells)×\(shape.width)"
    }

    func inputs() throws -> [[Float]] { [try ClassifierBatch(shape).cellEmbeddings] }

    func run<Element: ModelOutputElement>(
        _ inputs: [[Element]], addingTo initial: HeadResults<Element>?, workspace: Workspace
    ) throws -> HeadResults<Element> {
        let batch = try ClassifierBatch(shape)
        let cells = inputs[0]
        var parameters = initial?.parameters ?? batch.parameters
        var ofCells = initial?.gradients[0] ?? cells
        var gradients = ClassifierGradientFields<Element>(
            parameters: parameters.mutableSpan, cellEmbeddings: ofCells.mutableSpan)
        let update: GradientUpdate = initial == nil ? .overwrite : .accumulate
        let loss =
            shape.isReversed
            ? try batch.discriminator.valueAndGradient(
                cellEmbeddings: cells.span, labels: batch.labels.span, parameters: batch.parameters.span,
                gradients: &gradients, update: update, workspace: workspace)
            : try batch.cellTypeDecoder.valueAndGradient(
                cellEmbeddings: cells.span, labels: batch.labels.span, parameters: batch.parameters.span,
                gradients: &gradients, update: update, workspace: workspace)
        return HeadResults(losses: [loss.value], parameters: parameters, gradients: [ofCells])
    }

    func losses<Element: ModelOutputElement>(_ inputs: [[Element]]) throws -> [Double] {
        let batch = try ClassifierBatch(shape)
        let workspace = Workspace(workers: 2)
        let cells = inputs[0]
        let loss =
            shape.isReversed
            ? try batch.discriminator.value(
                cellEmbeddings: cells.span, labels: batch.labels.span, parameters: batch.parameters.span,
                workspace: workspace)
            : try batch.cellTypeDecoder.value(
                cellEmbeddings: cells.span, labels: batch.labels.span, parameters: batch.parameters.span,
                workspace: workspace)
        return [loss.value]
    }
}

@Suite struct HeadElementTypesTests {
    static let subjects: [any HeadSubject] = {
        var subjects: [any HeadSubject] = [
            ExpressionSubject(shape: DecoderShape(cells: 1, tokens: 1, width: 1, ratio: 1)),
            ExpressionSubject(shape: DecoderShape(cells: 3, tokens: 40, width: 33, explicitZeros: false)),
            ExpressionSubject(shape: DecoderShape(cells: 5, tokens: 61, width: 17, batches: 3)),
        ]
        for style in MaskedValueDecoder.Style.allCases {
            subjects.append(
                MaskedValueSubject(
                    shape: MaskedValueShape(
                        cells: 5, tokens: 61, width: 17, genes: 70, style: style,
                        batches: style.isInnerProduct ? 3 : 0)))
        }
        for isReversed in [false, true] {
            subjects.append(
                ClassifierSubject(
                    shape: ClassifierShape(cells: 9, width: 33, classes: 4, isReversed: isReversed)))
        }
        return subjects
    }()

    @Test(arguments: subjects)
    func resultsAreThoseOfTheWidenedInputs(_ subject: any HeadSubject) throws {
        func check<Element: SixteenBits>(_: Element.Type) throws {
            let inputs = try subject.inputs().map { $0.map { Element($0) } }
            let widened = inputs.map { $0.map(\.float) }
            let workspace = Workspace(workers: 2)
            let expected = try subject.run(widened, addingTo: nil, workspace: workspace)
            let found = try subject.run(inputs, addingTo: nil, workspace: workspace)
            #expect(expected.losses.allSatisfy { $0.isFinite })
            #expect(found.losses == expected.losses)
            let losses = try subject.losses(inputs)
            #expect(losses == expected.losses)
            expectSameBits(found.parameters, expected.parameters, "\(Element.self)")
            for (gradient, exact) in zip(found.gradients, expected.gradients) {
                expectBits(gradient, exact, "\(Element.self)")
            }
            // What the buffers hold is widened, added to as in float32, and rounded once.
            var initial = found
            for index in initial.gradients.indices {
                initial.gradients[index] = initial.gradients[index].map { Element($0.float - 1) }
            }
            let floats = HeadResults(
                losses: [], parameters: initial.parameters,
                gradients: initial.gradients.map { $0.map(\.float) })
            let expectedSum = try subject.run(widened, addingTo: floats, workspace: workspace)
            let sum = try subject.run(inputs, addingTo: initial, workspace: workspace)
            expectSameBits(sum.parameters, expectedSum.parameters, "\(Element.self), accumulated")
            for (gradient, exact) in zip(sum.gradients, expectedSum.gradients) {
                expectBits(gradient, exact, "\(Element.self), accumulated")
            }
        }
        try check(BFloat16.self)
        try check(Float16.self)
    }

    @Test(arguments: subjects)
    func workersChangeNothing(_ subject: any HeadSubject) throws {
        let inputs = try subject.inputs().map { $0.map { BFloat16($0) } }
        let first = try subject.run(inputs, addingTo: nil, workspace: Workspace(workers: 1))
        for initial in [nil, first] {
            let one = try subject.run(inputs, addingTo: initial, workspace: Workspace(workers: 1))
            for workers in [2, 3, 5] {
                let several = try subject.run(
                    inputs, addingTo: initial, workspace: Workspace(workers: workers))
                #expect(several.losses == one.losses)
                expectSameBits(several.parameters, one.parameters)
                #expect(
                    several.gradients.map { $0.map(\.bitPattern) }
                        == one.gradients.map { $0.map(\.bitPattern) })
            }
        }
    }

    /// A NaN or an infinity in a row that is read reaches the losses, and the gradient of all of its row.
    @Test(arguments: subjects)
    func strangeRowsPropagate(_ subject: any HeadSubject) throws {
        for strange: Float16 in [.nan, .infinity] {
            var inputs = try subject.inputs().map { $0.map { Float16($0) } }
            // The first token is in every mask.
            inputs[0][0] = strange
            let found = try subject.run(inputs, addingTo: nil, workspace: Workspace(workers: 2))
            #expect(!found.losses[0].isFinite)
            #expect(!found.gradients[0][0].isFinite)
        }
    }

    /// No token is masked: the rule's value, in the type of the inputs.
    @Test(arguments: [EmptySelectionRule.zero, .nan])
    func emptyMasksFillTheGradients(_ rule: EmptySelectionRule) throws {
        var batch = try DecoderBatch(DecoderShape(cells: 2, tokens: 3, width: 5, batches: 2))
        batch.decoder.whenEmpty = rule
        let mask = [Bool](repeating: false, count: 6)
        let states = batch.states.map { BFloat16($0) }
        let embeddings = batch.embeddings.map { BFloat16($0) }
        let labels = batch.labels
        var (parameters, ofStates, ofEmbeddings) = (batch.parameters, states, embeddings)
        let given = ExpressionDecoderInputFields<Span<BFloat16>, Span<Bool>, Span<Int32>>(
            shape: TokenShape(cells: 2, tokens: 3, width: 5), states: states.span, mask: mask.span,
            batches: BatchEmbeddingFields(embeddings: embeddings.span, labels: labels.span))
        var gradients = ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<BFloat16>>(
            parameters: parameters.mutableSpan, states: ofStates.mutableSpan,
            batchEmbeddings: ofEmbeddings.mutableSpan)
        _ = try batch.decoder.valueAndGradient(
            given, targets: batch.targets.span, parameters: batch.parameters.span, gradients: &gradients,
            workspace: Workspace(workers: 2))
        for element in ofStates + ofEmbeddings {
            #expect(rule == .nan ? element.float.isNaN : element.float == 0)
        }
    }

    /// The gradient of states is not as long as the states.
    @Test func countsAreInElements() throws {
        let batch = try DecoderBatch(DecoderShape(cells: 1, tokens: 2, width: 3))
        let states = batch.states.map { BFloat16($0) }
        let mask = batch.mask
        var parameters = batch.parameters
        var short = [BFloat16](repeating: BFloat16(7), count: 5)
        let given = ExpressionDecoderInputFields<Span<BFloat16>, Span<Bool>, Span<Int32>>(
            shape: TokenShape(cells: 1, tokens: 2, width: 3), states: states.span, mask: mask.span)
        var gradients = ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<BFloat16>>(
            parameters: parameters.mutableSpan, states: short.mutableSpan)
        var found: LossError?
        do throws(LossError) {
            _ = try batch.decoder.valueAndGradient(
                given, targets: batch.targets.span, parameters: batch.parameters.span, gradients: &gradients,
                workspace: Workspace())
        } catch {
            found = error
        }
        #expect(found == .shapeMismatch(argument: "gradients.states", expected: 6, actual: 5))
        #expect(short.allSatisfy { $0.float == 7 })
        expectSameBits(parameters, batch.parameters)
    }
}
