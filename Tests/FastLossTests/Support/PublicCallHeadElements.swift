// The public calls of the task heads with 16-bit states and embeddings, for the tests of allocations, determinism,
// bounds and leaks.

import FastLoss
import FastLossHeads

extension PublicCall {
    static let headsOfSixteenBits: [PublicCall] = {
        do {
            return try headsOfSixteenBits(cells: 2, tokens: 5, width: 7, classes: 3)
                + headsOfSixteenBits(cells: 9, tokens: 200, width: 65, classes: 4)
        } catch {
            preconditionFailure("the shapes of the list are valid: \(error)")
        }
    }()

    /// Every head of either 16-bit type at one shape.
    static func headsOfSixteenBits(
        cells: Int, tokens: Int, width: Int, classes: Int
    ) throws -> [PublicCall] {
        func calls<Element: SixteenBits>(of type: Element.Type) throws -> [PublicCall] {
            let decoder = DecoderShape(cells: cells, tokens: tokens, width: width, batches: classes - 1)
            let styles = try MaskedValueDecoder.Style.allCases.flatMap { style in
                try maskedValueDecoders(
                    of: type,
                    MaskedValueShape(
                        cells: cells, tokens: tokens, width: width, genes: tokens + 1, style: style,
                        batches: style.isInnerProduct ? 2 : 0))
            }
            return try expressionDecoders(of: type, decoder) + styles
                + classifiers(of: type, cells: cells, width: width, classes: classes)
        }
        return try calls(of: BFloat16.self) + calls(of: Float16.self)
    }

    private static let updates = [GradientUpdate.overwrite, .accumulate]

    private static func expressionDecoders<Element: SixteenBits>(
        of type: Element.Type, _ shape: DecoderShape
    ) throws -> [PublicCall] {
        let batch = try DecoderBatch(shape)
        let states = batch.states.map { Element($0) }
        let embeddings = batch.embeddings.map { Element($0) }
        let name = "ExpressionDecoder of \(type), \(shape.testDescription)"
        let outputs = [batch.decoder.layout.count]
        let elements = [states.count, embeddings.count]
        let count = batch.cells * batch.tokens
        let updating = updates.map { update in
            PublicCall("\(name), gradient, \(update)", outputs: outputs, sixteenBitOutputs: elements) {
                (memory, workspace) -> Double in
                var places = batch.gradients(memory, of: type)
                return try batch.decoder.valueAndGradient(
                    batch.inputs(memory, states, embeddings), targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters), gradients: &places, update: update,
                    workspace: workspace
                ).squaredError
            }
        }
        return updating + [
            PublicCall("\(name), gradient of outputs", outputs: outputs, sixteenBitOutputs: elements) {
                (memory, workspace) -> Double in
                var places = batch.gradients(memory, of: type)
                try batch.decoder.gradient(
                    batch.inputs(memory, states, embeddings),
                    predictionsGradient: memory.input(batch.targets),
                    nonzeroGradient: memory.input(batch.targets), parameters: memory.input(batch.parameters),
                    gradients: &places, workspace: workspace)
                return 0
            },
            PublicCall("\(name), value") { (memory, workspace) -> Double in
                try batch.decoder.value(
                    batch.inputs(memory, states, embeddings), targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters), workspace: workspace
                ).squaredError
            },
            PublicCall("\(name), outputs", outputs: [count, count]) { (memory, workspace) -> Double in
                var predictions = memory.output(0)
                var nonzero: MutableSpan<Float>? = memory.output(1)
                try batch.decoder.predict(
                    batch.inputs(memory, states, embeddings), parameters: memory.input(batch.parameters),
                    predictions: &predictions,
                    nonzero: &nonzero, workspace: workspace)
                return 0
            },
        ]
    }

    private static func maskedValueDecoders<Element: SixteenBits>(
        of type: Element.Type, _ shape: MaskedValueShape
    ) throws -> [PublicCall] {
        let batch = try MaskedValueBatch(shape)
        let cells = batch.cellEmbeddings.map { Element($0) }
        let genes = batch.geneTable.map { Element($0) }
        let embeddings = batch.embeddings.map { Element($0) }
        let name = "MaskedValueDecoder of \(type), \(shape.testDescription)"
        let elements = [cells.count, genes.count, embeddings.count]
        let updating = updates.map { update in
            PublicCall(
                "\(name), gradient, \(update)", outputs: [batch.decoder.layout.count],
                sixteenBitOutputs: elements
            ) { (memory, workspace) -> Double in
                var gradients = MaskedValueGradientFields<MutableSpan<Float>, MutableSpan<Element>>(
                    parameters: memory.output(0), cellEmbeddings: memory.output(0, of: type),
                    genes: memory.output(1, of: type))
                if shape.batches > 0 { gradients.batchEmbeddings = memory.output(2, of: type) }
                return try batch.decoder.valueAndGradient(
                    batch.inputs(memory, cells, genes, embeddings), targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters), gradients: &gradients, update: update,
                    workspace: workspace
                ).squaredError
            }
        }
        let count = batch.cells * batch.tokens
        let nonzero = batch.decoder.hasExplicitZeros ? count : 0
        return updating + [
            PublicCall("\(name), value") { (memory, workspace) -> Double in
                try batch.decoder.value(
                    batch.inputs(memory, cells, genes, embeddings), targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters), workspace: workspace
                ).squaredError
            },
            PublicCall("\(name), outputs", outputs: [count, nonzero]) { (memory, workspace) -> Double in
                var predictions = memory.output(0)
                var probabilities: MutableSpan<Float>?
                if nonzero > 0 { probabilities = memory.output(1) }
                try batch.decoder.predict(
                    batch.inputs(memory, cells, genes, embeddings),
                    parameters: memory.input(batch.parameters), predictions: &predictions,
                    nonzero: &probabilities, workspace: workspace)
                return 0
            },
        ]
    }

    private static func classifiers<Element: SixteenBits>(
        of type: Element.Type, cells: Int, width: Int, classes: Int
    ) throws -> [PublicCall] {
        let batch = try ClassifierBatch(
            ClassifierShape(cells: cells, width: width, classes: classes, isReversed: false))
        let (decoder, discriminator) = (try batch.cellTypeDecoder, try batch.discriminator)
        let embeddings = batch.cellEmbeddings.map { Element($0) }
        let shape = "\(type), \(cells)×\(width)×\(classes)"
        var random = RandomInputs(seed: 7)
        let upstream = random.normals(cells * classes)
        let outputs = [batch.layout.count]
        return updates.flatMap { update in
            [
                PublicCall(
                    "CellTypeDecoder of \(shape), gradient, \(update)", outputs: outputs,
                    sixteenBitOutputs: [embeddings.count]
                ) { (memory, workspace) -> Double in
                    var gradients = ClassifierGradientFields<Element>(
                        parameters: memory.output(0), cellEmbeddings: memory.output(0, of: type))
                    return try decoder.valueAndGradient(
                        cellEmbeddings: memory.input(embeddings), labels: memory.input(batch.labels),
                        parameters: memory.input(batch.parameters), gradients: &gradients, update: update,
                        workspace: workspace
                    ).value
                },
                PublicCall(
                    "AdversarialDiscriminator of \(shape), gradient of logits, \(update)", outputs: outputs,
                    sixteenBitOutputs: [embeddings.count]
                ) { (memory, workspace) -> Double in
                    var gradients = ClassifierGradientFields<Element>(
                        parameters: memory.output(0), cellEmbeddings: memory.output(0, of: type))
                    try discriminator.gradient(
                        cellEmbeddings: memory.input(embeddings), cells: cells,
                        logitsGradient: memory.input(upstream), parameters: memory.input(batch.parameters),
                        gradients: &gradients, update: update, workspace: workspace)
                    return 0
                },
            ]
        } + [
            PublicCall("AdversarialDiscriminator of \(shape), value") { (memory, workspace) -> Double in
                try discriminator.value(
                    cellEmbeddings: memory.input(embeddings), labels: memory.input(batch.labels),
                    parameters: memory.input(batch.parameters), workspace: workspace
                ).value
            },
            PublicCall("CellTypeDecoder of \(shape), logits", outputs: [cells * classes]) {
                (memory, workspace) -> Double in
                var logits = memory.output(0)
                try decoder.predict(
                    cellEmbeddings: memory.input(embeddings), cells: cells,
                    parameters: memory.input(batch.parameters), logits: &logits, workspace: workspace)
                return 0
            },
        ]
    }
}

extension DecoderBatch {
    @_lifetime(borrow memory)
    fileprivate func inputs<Element: SixteenBits>(
        _ memory: CallMemory, _ states: [Element], _ embeddings: [Element]
    ) -> ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>> {
        var inputs = ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>(
            shape: TokenShape(cells: cells, tokens: tokens, width: decoder.width),
            states: memory.input(states), mask: memory.input(mask))
        if !embeddings.isEmpty {
            inputs.batches = BatchEmbeddingFields(
                embeddings: memory.input(embeddings), labels: memory.input(labels))
        }
        return inputs
    }

    @_lifetime(borrow memory)
    fileprivate func gradients<Element: SixteenBits>(
        _ memory: CallMemory, of type: Element.Type
    ) -> ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<Element>> {
        var gradients = ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<Element>>(
            parameters: memory.output(0), states: memory.output(0, of: type))
        if !embeddings.isEmpty { gradients.batchEmbeddings = memory.output(1, of: type) }
        return gradients
    }
}

extension MaskedValueBatch {
    @_lifetime(borrow memory)
    fileprivate func inputs<Element: SixteenBits>(
        _ memory: CallMemory, _ cellEmbeddings: [Element], _ table: [Element], _ embeddings: [Element]
    ) -> MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>> {
        var inputs = MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>(
            shape: MatrixShape(rows: cells, columns: tokens), cellEmbeddings: memory.input(cellEmbeddings),
            genes: GeneEmbeddingFields(embeddings: memory.input(table), indices: memory.input(genes)),
            mask: memory.input(mask))
        if !embeddings.isEmpty {
            inputs.batches = BatchEmbeddingFields(
                embeddings: memory.input(embeddings), labels: memory.input(labels))
        }
        return inputs
    }
}
