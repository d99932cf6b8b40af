// The public calls of the task heads, for the tests of allocations and determinism.

import FastLoss
import FastLossHeads

extension PublicCall {
    static let heads: [PublicCall] = {
        do {
            return try expressionDecoders + maskedValueDecoders + classifiers + labelEncoders
        } catch {
            preconditionFailure("the shapes of the list are valid: \(error)")
        }
    }()

    private static let updates = [GradientUpdate.overwrite, .accumulate]

    private static var expressionDecoders: [PublicCall] {
        get throws {
            try [
                DecoderShape(cells: 2, tokens: 5, width: 7),
                DecoderShape(cells: 9, tokens: 200, width: 65, batches: 3),
            ].flatMap { shape in
                let batch = try DecoderBatch(shape)
                let count = batch.cells * batch.tokens
                let outputs = [batch.decoder.layout.count, count * shape.width, batch.embeddings.count]
                let gradients = updates.map { update in
                    PublicCall("ExpressionDecoder, gradient, \(update), \(shape)", outputs: outputs) {
                        (memory, workspace) -> Double in
                        try batch.withInputs { (inputs) throws(LossError) -> Double in
                            var gradients = ExpressionDecoderGradients(
                                parameters: memory.output(0), states: memory.output(1))
                            if shape.batches > 0 { gradients.batchEmbeddings = memory.output(2) }
                            return try batch.decoder.valueAndGradient(
                                inputs, targets: batch.targets.span, parameters: batch.parameters.span,
                                gradients: &gradients, update: update, workspace: workspace
                            ).squaredError
                        }
                    }
                }
                return gradients + [
                    PublicCall("ExpressionDecoder, value, \(shape)") { (_, workspace) -> Double in
                        try batch.withInputs { (inputs) throws(LossError) -> Double in
                            try batch.decoder.value(
                                inputs, targets: batch.targets.span, parameters: batch.parameters.span,
                                workspace: workspace
                            ).squaredError
                        }
                    },
                    PublicCall("ExpressionDecoder, outputs, \(shape)", outputs: [count, count]) {
                        (memory, workspace) -> Double in
                        try batch.withInputs { (inputs) throws(LossError) -> Double in
                            var predictions = memory.output(0)
                            var nonzero: MutableSpan<Float>? = memory.output(1)
                            try batch.decoder.predict(
                                inputs, parameters: batch.parameters.span, predictions: &predictions,
                                nonzero: &nonzero, workspace: workspace)
                            return 0
                        }
                    },
                ]
            }
        }
    }

    private static var maskedValueDecoders: [PublicCall] {
        get throws {
            try MaskedValueDecoder.Style.allCases.flatMap { style in
                try [(2, 5, 7, 6), (9, 200, 65, 230)].flatMap { (cells, tokens, width, genes) in
                    let shape = MaskedValueShape(
                        cells: cells, tokens: tokens, width: width, genes: genes, style: style,
                        batches: style.isInnerProduct ? 2 : 0)
                    let batch = try MaskedValueBatch(shape)
                    let outputs = [
                        batch.decoder.layout.count, batch.cellEmbeddings.count, batch.geneTable.count,
                        batch.embeddings.count,
                    ]
                    return updates.map { update in
                        PublicCall("MaskedValueDecoder, gradient, \(update), \(shape)", outputs: outputs) {
                            (memory, workspace) -> Double in
                            try batch.withInputs { (inputs) throws(LossError) -> Double in
                                var gradients = MaskedValueGradients(
                                    parameters: memory.output(0), cellEmbeddings: memory.output(1),
                                    genes: memory.output(2))
                                if shape.batches > 0 { gradients.batchEmbeddings = memory.output(3) }
                                return try batch.decoder.valueAndGradient(
                                    inputs, targets: batch.targets.span, parameters: batch.parameters.span,
                                    gradients: &gradients, update: update, workspace: workspace
                                ).squaredError
                            }
                        }
                    }
                }
            }
        }
    }

    private static var classifiers: [PublicCall] {
        get throws {
            try [false, true].flatMap { isReversed in
                try [(3, 5, 2), (70, 130, 40)].flatMap { (cells, width, classes) in
                    let batch = try ClassifierBatch(
                        ClassifierShape(cells: cells, width: width, classes: classes, isReversed: isReversed))
                    let (decoder, discriminator) = (try batch.cellTypeDecoder, try batch.discriminator)
                    let name = isReversed ? "AdversarialDiscriminator" : "CellTypeDecoder"
                    return updates.map { update in
                        PublicCall(
                            "\(name), gradient, \(update), \(cells)×\(width)×\(classes)",
                            outputs: [batch.layout.count, batch.cellEmbeddings.count]
                        ) { (memory, workspace) -> Double in
                            var gradients = ClassifierGradients(
                                parameters: memory.output(0), cellEmbeddings: memory.output(1))
                            guard isReversed else {
                                return try decoder.valueAndGradient(
                                    cellEmbeddings: batch.cellEmbeddings.span, labels: batch.labels.span,
                                    parameters: batch.parameters.span, gradients: &gradients, update: update,
                                    workspace: workspace
                                ).value
                            }
                            return try discriminator.valueAndGradient(
                                cellEmbeddings: batch.cellEmbeddings.span, labels: batch.labels.span,
                                parameters: batch.parameters.span, gradients: &gradients, update: update,
                                workspace: workspace
                            ).value
                        }
                    }
                }
            }
        }
    }

    private static var labelEncoders: [PublicCall] {
        get throws {
            let encoder = try BatchLabelEncoder(labels: 5, width: 33)
            var random = RandomInputs(seed: 3)
            let parameters = random.normals(encoder.layout.count)
            let labels = random.labels(40, classes: 5)
            let upstream = random.normals(40 * 33)
            return [
                PublicCall("BatchLabelEncoder, value", outputs: [40 * 33]) { (memory, workspace) -> Double in
                    var embeddings = memory.output(0)
                    try encoder.embed(
                        labels: labels.span, parameters: parameters.span, embeddings: &embeddings,
                        workspace: workspace)
                    return 0
                },
                PublicCall("BatchLabelEncoder, gradient", outputs: [encoder.layout.count]) {
                    (memory, workspace) -> Double in
                    var gradient = memory.output(0)
                    try encoder.gradient(
                        labels: labels.span, embeddingsGradient: upstream.span, parameters: parameters.span,
                        parametersGradient: &gradient, workspace: workspace)
                    return 0
                },
            ]
        }
    }
}

extension DecoderShape: CustomStringConvertible {
    var description: String { testDescription }
}

extension MaskedValueShape: CustomStringConvertible {
    var description: String { testDescription }
}
