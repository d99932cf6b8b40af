// Heads of 16-bit states and embeddings: losses and parameters' gradients of the widened inputs, to the bit, and the
// gradients of the inputs rounded once.

import FastLoss
import FastLossHeads

/// One call of a decoder or a classifier, which can be made with any element type.
struct HeadOfElements<Element: ModelOutputElement> {
    private enum Head {
        case expression(ExpressionDecoder)
        case maskedValue(MaskedValueDecoder)
        case cellType(CellTypeDecoder)
        case discriminator(AdversarialDiscriminator)

        var parameterCount: Int {
            switch self {
            case .expression(let decoder): decoder.layout.count
            case .maskedValue(let decoder): decoder.layout.count
            case .cellType(let decoder): decoder.layout.count
            case .discriminator(let discriminator): discriminator.layout.count
            }
        }
    }

    /// The inputs of the model's type.
    private struct Inputs<T> {
        /// States of tokens, or embeddings of cells.
        var states: [T]
        /// The embeddings of the batches, if a decoder has them, and of the genes, if it reads them.
        var batches, genes: [T]

        func map<U>(_ transform: (T) -> U) -> Inputs<U> {
            Inputs<U>(
                states: states.map(transform), batches: batches.map(transform), genes: genes.map(transform))
        }
    }

    private let head: Head
    private let cells, tokens, width: Int
    private let hasBatches: Bool
    private let inputs: Inputs<Element>
    private let targets, parameters: [Float]
    private let mask: [Bool]?
    private let labels, geneOfToken: [Int32]
    private let scale: Float
    private let update: GradientUpdate
    private let workers: Int

    init(_ input: inout FuzzInput) throws {
        let kind = input.int(0...3)
        (cells, tokens) = (input.int(0...3), kind < 2 ? input.int(0...5) : 1)
        width = input.int(1...5)
        let (classes, genes) = (input.int(1...4), input.int(1...4))
        let isHostile = input.rarely(8)
        var wantsBatches = kind < 2 && input.bool()
        switch kind {
        case 0:
            head = .expression(
                try ExpressionDecoder(width: width, explicitZeros: true, batchEmbeddings: wantsBatches))
        case 1:
            let style = input.choice(MaskedValueDecoder.Style.allCases)
            wantsBatches = wantsBatches && style.isInnerProduct
            head = .maskedValue(
                try MaskedValueDecoder(
                    style: style, width: width, hiddenWidth: input.int(1...4),
                    explicitZeros: style.isInnerProduct, batchEmbeddings: wantsBatches))
        case 2: head = .cellType(try CellTypeDecoder(width: width, classes: classes, blocks: 1))
        default:
            head = .discriminator(
                try AdversarialDiscriminator(
                    width: width, batches: classes, blocks: 1, reversalStrength: input.choice([1, 0.25])))
        }
        hasBatches = wantsBatches
        let rows = kind == 0 ? cells * tokens : cells
        inputs = Inputs(
            states: input.small(input.count(rows * width), hostile: isHostile),
            batches: wantsBatches ? input.small(classes * width, hostile: isHostile) : [],
            genes: kind == 1 ? input.small(genes * width, hostile: isHostile) : []
        ).map { Element($0) }
        targets = input.numbers(cells * tokens)
        mask = input.bool() ? input.mask(cells * tokens) : nil
        labels = input.indices(cells, below: classes)
        geneOfToken = input.indices(input.bool() ? tokens : cells * tokens, below: genes)
        parameters = input.small(head.parameterCount, hostile: isHostile)
        scale = input.choice([1, 0.5, -3])
        update = input.choice([.overwrite, .accumulate])
        workers = 1 + input.int(0...1)
    }

    private struct Outcome<T> {
        var error: String?
        var losses: [Double] = []
        var parameters: [Float]
        var gradients: Inputs<T>
    }

    private func made<T: ModelOutputElement>(_ inputs: Inputs<T>) -> Outcome<T> {
        var outcome = Outcome<T>(
            parameters: [Float](repeating: 0.75, count: parameters.count),
            gradients: inputs.map { _ in T(0.75) })
        do throws(LossError) {
            try run(inputs, &outcome)
        } catch { outcome.error = error.description }
        return outcome
    }

    private func run<T: ModelOutputElement>(
        _ inputs: Inputs<T>, _ outcome: inout Outcome<T>
    ) throws(LossError) {
        let workspace = Workspace(workers: workers)
        var ofParameters = outcome.parameters
        var ofStates = outcome.gradients.states
        var ofBatches = outcome.gradients.batches
        var ofGenes = outcome.gradients.genes
        defer {
            outcome.parameters = ofParameters
            outcome.gradients = Inputs(states: ofStates, batches: ofBatches, genes: ofGenes)
        }
        let selections = mask ?? []
        switch head {
        case .expression(let decoder):
            var given = ExpressionDecoderInputFields<Span<T>, Span<Bool>, Span<Int32>>(
                shape: TokenShape(cells: cells, tokens: tokens, width: width), states: inputs.states.span)
            if mask != nil { given.mask = selections.span }
            var gradients = ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<T>>(
                parameters: ofParameters.mutableSpan, states: ofStates.mutableSpan)
            if hasBatches {
                given.batches = BatchEmbeddingFields(embeddings: inputs.batches.span, labels: labels.span)
                gradients.batchEmbeddings = ofBatches.mutableSpan
            }
            outcome.losses = values(
                try decoder.valueAndGradient(
                    given, targets: targets.span, parameters: parameters.span, gradients: &gradients,
                    gradientScale: scale, update: update, workspace: workspace))
        case .maskedValue(let decoder):
            var given = MaskedValueInputFields<Span<T>, Span<Bool>, Span<Int32>>(
                shape: MatrixShape(rows: cells, columns: tokens), cellEmbeddings: inputs.states.span,
                genes: GeneEmbeddingFields(embeddings: inputs.genes.span, indices: geneOfToken.span))
            if mask != nil { given.mask = selections.span }
            var gradients = MaskedValueGradientFields<MutableSpan<Float>, MutableSpan<T>>(
                parameters: ofParameters.mutableSpan, cellEmbeddings: ofStates.mutableSpan,
                genes: ofGenes.mutableSpan)
            if hasBatches {
                given.batches = BatchEmbeddingFields(embeddings: inputs.batches.span, labels: labels.span)
                gradients.batchEmbeddings = ofBatches.mutableSpan
            }
            outcome.losses = values(
                try decoder.valueAndGradient(
                    given, targets: targets.span, parameters: parameters.span, gradients: &gradients,
                    gradientScale: scale, update: update, workspace: workspace))
        case .cellType(let decoder):
            var gradients = ClassifierGradientFields<T>(
                parameters: ofParameters.mutableSpan, cellEmbeddings: ofStates.mutableSpan)
            outcome.losses = [
                try decoder.valueAndGradient(
                    cellEmbeddings: inputs.states.span, labels: labels.span, parameters: parameters.span,
                    gradients: &gradients, gradientScale: scale, update: update, workspace: workspace
                ).value
            ]
        case .discriminator(let discriminator):
            var gradients = ClassifierGradientFields<T>(
                parameters: ofParameters.mutableSpan, cellEmbeddings: ofStates.mutableSpan)
            outcome.losses = [
                try discriminator.valueAndGradient(
                    cellEmbeddings: inputs.states.span, labels: labels.span, parameters: parameters.span,
                    gradients: &gradients, gradientScale: scale, update: update, workspace: workspace
                ).value
            ]
        }
    }

    private func values(_ losses: DecoderLosses) -> [Double] {
        [losses.squaredError, losses.nonzero ?? 0, losses.relativeError]
    }

    func check() throws {
        let actual = made(inputs)
        let expected = made(inputs.map(\.float))
        guard actual.error == expected.error else {
            throw Wrong("the error is '\(actual.error ?? "none")', not '\(expected.error ?? "none")'")
        }
        guard zip(actual.losses, expected.losses).allSatisfy({ same($0, $1) }) else {
            throw Wrong("the losses of \(Element.self) are \(actual.losses), widened \(expected.losses)")
        }
        for (one, other) in zip(actual.parameters, expected.parameters)
        where !same(Double(one), Double(other)) {
            throw Wrong("a parameter's gradient is \(one), widened \(other)")
        }
        let (found, floats) = (actual.gradients, expected.gradients)
        let pairs = [
            (found.states, floats.states), (found.batches, floats.batches), (found.genes, floats.genes),
        ]
        for (elements, floats) in pairs {
            for (index, (element, float)) in zip(elements, floats).enumerated() {
                let right = Element(float).float
                guard element.float == right || element.float.isNaN && right.isNaN else {
                    throw Wrong(
                        "a gradient of \(Element.self) is \(element.float) at \(index), but \(right) is expected"
                    )
                }
            }
        }
    }

    private func same(_ a: Double, _ b: Double) -> Bool {
        a.bitPattern == b.bitPattern || a.isNaN && b.isNaN
    }
}
