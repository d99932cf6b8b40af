// The public calls of the task heads, for the tests of allocations and determinism.

import FastLoss
import FastLossHeads

extension PublicCall {
    static let heads: [PublicCall] = {
        do {
            return try [
                [
                    DecoderShape(cells: 2, tokens: 5, width: 7),
                    DecoderShape(cells: 9, tokens: 200, width: 65, batches: 3),
                ].flatMap(expressionDecoders),
                MaskedValueDecoder.Style.allCases.flatMap { style in
                    try [(2, 5, 7, 6), (9, 200, 65, 230)].flatMap {
                        try maskedValueDecoders(style, cells: $0, tokens: $1, width: $2, genes: $3)
                    }
                },
                [(3, 5, 2), (70, 130, 40)].flatMap { try classifiers(cells: $0, width: $1, classes: $2) },
                labelEncoders(cells: 40, width: 33, labels: 5),
            ].flatMap(\.self)
        } catch {
            preconditionFailure("the shapes of the list are valid: \(error)")
        }
    }()

    /// Every call of every head at one shape.
    static func heads(cells: Int, tokens: Int, width: Int, classes: Int) throws -> [PublicCall] {
        let styles = try MaskedValueDecoder.Style.allCases.flatMap {
            try maskedValueDecoders($0, cells: cells, tokens: tokens, width: width, genes: tokens + 1)
        }
        let decoder = DecoderShape(cells: cells, tokens: tokens, width: width, batches: classes - 1)
        return try expressionDecoders(decoder) + styles
            + classifiers(cells: cells, width: width, classes: classes)
            + labelEncoders(cells: cells, width: width, labels: classes)
    }

    private static let updates = [GradientUpdate.overwrite, .accumulate]

    private static func expressionDecoders(_ shape: DecoderShape) throws -> [PublicCall] {
        let batch = try DecoderBatch(shape)
        let count = batch.cells * batch.tokens
        let outputs = [batch.decoder.layout.count, count * shape.width, batch.embeddings.count]
        let gradients = updates.map { update in
            PublicCall("ExpressionDecoder, gradient, \(update), \(shape)", outputs: outputs) {
                (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                var gradients = ExpressionDecoderGradients(
                    parameters: memory.output(0), states: memory.output(1))
                if shape.batches > 0 { gradients.batchEmbeddings = memory.output(2) }
                return try batch.decoder.valueAndGradient(
                    inputs, targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters),
                    gradients: &gradients, update: update, workspace: workspace
                ).squaredError
            }
        }
        return gradients + [
            PublicCall("ExpressionDecoder, gradient of outputs, \(shape)", outputs: outputs) {
                (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                var gradients = ExpressionDecoderGradients(
                    parameters: memory.output(0), states: memory.output(1))
                if shape.batches > 0 { gradients.batchEmbeddings = memory.output(2) }
                try batch.decoder.gradient(
                    inputs, predictionsGradient: memory.input(batch.targets),
                    nonzeroGradient: memory.input(batch.targets), parameters: memory.input(batch.parameters),
                    gradients: &gradients, update: .accumulate, workspace: workspace)
                return 0
            },
            PublicCall("ExpressionDecoder, value, \(shape)") { (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                return try batch.decoder.value(
                    inputs, targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters),
                    workspace: workspace
                ).squaredError
            },
            PublicCall("ExpressionDecoder, outputs, \(shape)", outputs: [count, count]) {
                (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                var predictions = memory.output(0)
                var nonzero: MutableSpan<Float>? = memory.output(1)
                try batch.decoder.predict(
                    inputs, parameters: memory.input(batch.parameters), predictions: &predictions,
                    nonzero: &nonzero, workspace: workspace)
                return 0
            },
        ]
    }

    private static func maskedValueDecoders(
        _ style: MaskedValueDecoder.Style, cells: Int, tokens: Int, width: Int, genes: Int
    ) throws -> [PublicCall] {
        let shape = MaskedValueShape(
            cells: cells, tokens: tokens, width: width, genes: genes, style: style,
            batches: style.isInnerProduct ? 2 : 0)
        let batch = try MaskedValueBatch(shape)
        let outputs = [
            batch.decoder.layout.count, batch.cellEmbeddings.count, batch.geneTable.count,
            batch.embeddings.count,
        ]
        let gradients = updates.map { update in
            PublicCall("MaskedValueDecoder, gradient, \(update), \(shape)", outputs: outputs) {
                (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                var gradients = MaskedValueGradients(
                    parameters: memory.output(0), cellEmbeddings: memory.output(1),
                    genes: memory.output(2))
                if shape.batches > 0 { gradients.batchEmbeddings = memory.output(3) }
                return try batch.decoder.valueAndGradient(
                    inputs, targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters),
                    gradients: &gradients, update: update, workspace: workspace
                ).squaredError
            }
        }
        let count = cells * tokens
        let nonzero = batch.decoder.hasExplicitZeros ? count : 0
        return gradients + [
            PublicCall("MaskedValueDecoder, gradient of outputs, \(shape)", outputs: outputs) {
                (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                var gradients = MaskedValueGradients(
                    parameters: memory.output(0), cellEmbeddings: memory.output(1),
                    genes: memory.output(2))
                if shape.batches > 0 { gradients.batchEmbeddings = memory.output(3) }
                var nonzeroGradient: Span<Float>?
                if nonzero > 0 { nonzeroGradient = memory.input(batch.targets) }
                try batch.decoder.gradient(
                    inputs, predictionsGradient: memory.input(batch.targets),
                    nonzeroGradient: nonzeroGradient, parameters: memory.input(batch.parameters),
                    gradients: &gradients, update: .accumulate, workspace: workspace)
                return 0
            },
            PublicCall("MaskedValueDecoder, value, \(shape)") { (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                return try batch.decoder.value(
                    inputs, targets: memory.input(batch.targets),
                    parameters: memory.input(batch.parameters), workspace: workspace
                ).squaredError
            },
            PublicCall("MaskedValueDecoder, outputs, \(shape)", outputs: [count, nonzero]) {
                (memory, workspace) -> Double in
                let inputs = batch.inputs(memory)
                var predictions = memory.output(0)
                var probabilities: MutableSpan<Float>?
                if nonzero > 0 { probabilities = memory.output(1) }
                try batch.decoder.predict(
                    inputs, parameters: memory.input(batch.parameters), predictions: &predictions,
                    nonzero: &probabilities, workspace: workspace)
                return 0
            },
        ]
    }

    private static func classifiers(cells: Int, width: Int, classes: Int) throws -> [PublicCall] {
        try [false, true].flatMap { isReversed in
            let batch = try ClassifierBatch(
                ClassifierShape(cells: cells, width: width, classes: classes, isReversed: isReversed))
            let (decoder, discriminator) = (try batch.cellTypeDecoder, try batch.discriminator)
            let name = isReversed ? "AdversarialDiscriminator" : "CellTypeDecoder"
            let shape = "\(cells)×\(width)×\(classes)"
            let outputs = [batch.layout.count, batch.cellEmbeddings.count]
            let updating = updates.map { update in
                PublicCall("\(name), gradient, \(update), \(shape)", outputs: outputs) {
                    (memory, workspace) -> Double in
                    var gradients = ClassifierGradients(
                        parameters: memory.output(0), cellEmbeddings: memory.output(1))
                    guard isReversed else {
                        return try decoder.valueAndGradient(
                            cellEmbeddings: memory.input(batch.cellEmbeddings),
                            labels: memory.input(batch.labels),
                            parameters: memory.input(batch.parameters), gradients: &gradients, update: update,
                            workspace: workspace
                        ).value
                    }
                    return try discriminator.valueAndGradient(
                        cellEmbeddings: memory.input(batch.cellEmbeddings),
                        labels: memory.input(batch.labels),
                        parameters: memory.input(batch.parameters), gradients: &gradients, update: update,
                        workspace: workspace
                    ).value
                }
            }
            var random = RandomInputs(seed: 7)
            let upstream = random.normals(cells * classes)
            return updating + [
                PublicCall("\(name), gradient of logits, \(shape)", outputs: outputs) {
                    (memory, workspace) -> Double in
                    var gradients = ClassifierGradients(
                        parameters: memory.output(0), cellEmbeddings: memory.output(1))
                    let embeddings = memory.input(batch.cellEmbeddings)
                    let parameters = memory.input(batch.parameters)
                    if isReversed {
                        try discriminator.gradient(
                            cellEmbeddings: embeddings, cells: cells, logitsGradient: memory.input(upstream),
                            parameters: parameters, gradients: &gradients, workspace: workspace)
                    } else {
                        try decoder.gradient(
                            cellEmbeddings: embeddings, cells: cells, logitsGradient: memory.input(upstream),
                            parameters: parameters, gradients: &gradients, workspace: workspace)
                    }
                    return 0
                },
                PublicCall("\(name), value, \(shape)") { (memory, workspace) -> Double in
                    let embeddings = memory.input(batch.cellEmbeddings)
                    let parameters = memory.input(batch.parameters)
                    let labels = memory.input(batch.labels)
                    return isReversed
                        ? try discriminator.value(
                            cellEmbeddings: embeddings, labels: labels, parameters: parameters,
                            workspace: workspace
                        ).value
                        : try decoder.value(
                            cellEmbeddings: embeddings, labels: labels, parameters: parameters,
                            workspace: workspace
                        ).value
                },
                PublicCall("\(name), logits, \(shape)", outputs: [cells * classes]) {
                    (memory, workspace) -> Double in
                    let embeddings = memory.input(batch.cellEmbeddings)
                    let parameters = memory.input(batch.parameters)
                    var logits = memory.output(0)
                    if isReversed {
                        try discriminator.predict(
                            cellEmbeddings: embeddings, cells: cells, parameters: parameters, logits: &logits,
                            workspace: workspace)
                    } else {
                        try decoder.predict(
                            cellEmbeddings: embeddings, cells: cells, parameters: parameters, logits: &logits,
                            workspace: workspace)
                    }
                    return 0
                },
            ]
        }
    }

    private static func labelEncoders(cells: Int, width: Int, labels count: Int) throws -> [PublicCall] {
        let encoder = try BatchLabelEncoder(labels: count, width: width)
        var random = RandomInputs(seed: 3)
        let parameters = random.normals(encoder.layout.count)
        let labels = random.labels(cells, classes: count)
        let upstream = random.normals(cells * width)
        return [
            PublicCall("BatchLabelEncoder, value", outputs: [cells * width]) {
                (memory, workspace) -> Double in
                var embeddings = memory.output(0)
                try encoder.embed(
                    labels: memory.input(labels), parameters: memory.input(parameters),
                    embeddings: &embeddings,
                    workspace: workspace)
                return 0
            },
            PublicCall("BatchLabelEncoder, gradient", outputs: [encoder.layout.count]) {
                (memory, workspace) -> Double in
                var gradient = memory.output(0)
                try encoder.gradient(
                    labels: memory.input(labels), embeddingsGradient: memory.input(upstream),
                    parameters: memory.input(parameters),
                    parametersGradient: &gradient, workspace: workspace)
                return 0
            },
        ]
    }
}

extension DecoderShape: CustomStringConvertible {
    var description: String { testDescription }
}

extension MaskedValueShape: CustomStringConvertible {
    var description: String { testDescription }
}

extension DecoderBatch {
    @_lifetime(borrow memory)
    fileprivate func inputs(_ memory: CallMemory) -> ExpressionDecoderInputs {
        let shape = TokenShape(cells: cells, tokens: tokens, width: decoder.width)
        var inputs = ExpressionDecoderInputs(
            shape: shape, states: memory.input(states), mask: memory.input(mask))
        if !embeddings.isEmpty {
            inputs.batches = BatchEmbeddings(
                embeddings: memory.input(embeddings), labels: memory.input(labels))
        }
        return inputs
    }
}

extension MaskedValueBatch {
    @_lifetime(borrow memory)
    fileprivate func inputs(_ memory: CallMemory) -> MaskedValueInputs {
        var inputs = MaskedValueInputs(
            shape: MatrixShape(rows: cells, columns: tokens), cellEmbeddings: memory.input(cellEmbeddings),
            genes: GeneEmbeddings(embeddings: memory.input(geneTable), indices: memory.input(genes)),
            mask: memory.input(mask))
        if !embeddings.isEmpty {
            inputs.batches = BatchEmbeddings(
                embeddings: memory.input(embeddings), labels: memory.input(labels))
        }
        return inputs
    }
}
