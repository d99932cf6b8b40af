// The list of public calls, family by family, at shapes that no block or vector divides: small ones, which
// one worker does alone, and ones worth sharing. ``PublicCall/calls(cells:tokens:width:classes:)`` makes the
// same list for any other shape.

import FastLoss

extension PublicCall {
    static let all: [PublicCall] = families.flatMap(\.self)

    private static let families: [[PublicCall]] = [
        [(3, 7), (203, 1_201)].flatMap(maskedLosses),
        [(5, 3), (2_501, 11), (301, 131)].flatMap(classification),
        [(5, 7), (129, 513), (515, 65), (1_025, 3)].flatMap(similarities),
        certifiedSimilarities,
        [(3, 7, 2), (403, 301, 5)].flatMap(reductions),
        tokens.flatMap(pooling),
        tokens.flatMap { shape in [1, 3].flatMap { weightedPooling(shape, weightings: $0) } },
        [(3, 7, 5), (203, 401, 65)].flatMap(objectives),
        sixteenBits,
        [(3, 7, 5), (203, 401, 65)].flatMap(objectivesOfSixteenBits),
        heads,
        headsOfSixteenBits,
    ]

    private static let tokens = [
        TokenShape(cells: 2, tokens: 3, width: 5), TokenShape(cells: 9, tokens: 301, width: 67),
    ]

    /// Every call at one shape: `cells` rows, `tokens` columns, embeddings of `width` columns, and `classes`
    /// classes, masks, weightings and batches.
    static func calls(cells: Int, tokens: Int, width: Int, classes: Int) throws -> [PublicCall] {
        let shape = TokenShape(cells: cells, tokens: tokens, width: width)
        let families: [[PublicCall]] = [
            maskedLosses(cells, tokens), classification(cells, classes), similarities(cells, width),
            reductions(cells, tokens, classes), pooling(shape), weightedPooling(shape, weightings: classes),
            objectives(cells, tokens, width), ofSixteenBits(rows: cells, columns: tokens),
            objectivesOfSixteenBits(cells, tokens, width),
            try heads(cells: cells, tokens: tokens, width: width, classes: classes),
            try headsOfSixteenBits(cells: cells, tokens: tokens, width: width, classes: classes),
        ]
        return families.flatMap(\.self)
    }

    private static let updates = [GradientUpdate.overwrite, .accumulate]

    // MARK: - Value losses

    private static func maskedLosses(_ rows: Int, _ columns: Int) -> [PublicCall] {
        let shape = MatrixShape(rows: rows, columns: columns)
        let count = rows * columns
        var random = RandomInputs(seed: 1)
        let targets = random.targets(count)
        // Something is selected, however few elements there are.
        let mask = random.mask(count).enumerated().map { $0.offset == count / 2 || $0.element }
        let (predictions, probabilities) = (random.predictions(count), random.probabilities(count))
        func calls(_ name: String, _ loss: some MaskedMetric, _ x: [Float]) -> [PublicCall] {
            [
                PublicCall("\(name), value, \(rows)×\(columns)") { (memory, workspace) -> Double in
                    try loss.value(
                        predictions: memory.input(x), targets: memory.input(targets),
                        mask: memory.input(mask), workspace: workspace
                    ).value
                },
                PublicCall("\(name), value per cell, \(rows)×\(columns)", outputs: [rows]) {
                    (memory, workspace) -> Double in
                    var values = memory.output(0)
                    return Double(
                        try loss.valuePerCell(
                            predictions: memory.input(x), targets: memory.input(targets), mask: nil,
                            shape: shape,
                            values: &values,
                            workspace: workspace))
                },
            ]
        }
        func gradientCalls(_ name: String, _ loss: some MaskedLoss, _ x: [Float]) -> [PublicCall] {
            let reduced = updates.map { update in
                PublicCall("\(name), gradient, \(update), \(rows)×\(columns)", outputs: [count]) {
                    (memory, workspace) -> Double in
                    var gradient = memory.output(0)
                    return try loss.valueAndGradient(
                        predictions: memory.input(x), targets: memory.input(targets),
                        mask: memory.input(mask), gradient: &gradient,
                        update: update, workspace: workspace
                    ).value
                }
            }
            let perCell = PublicCall(
                "\(name), gradient per cell, \(rows)×\(columns)", outputs: [rows, count]
            ) {
                (memory, workspace) -> Double in
                var values = memory.output(0)
                var gradient = memory.output(1)
                return Double(
                    try loss.valueAndGradientPerCell(
                        predictions: memory.input(x), targets: memory.input(targets), mask: nil, shape: shape,
                        values: &values,
                        gradient: &gradient, workspace: workspace))
            }
            return reduced + [perCell]
        }
        let (fromProbabilities, fromLogits) = (BernoulliNLL(), BernoulliNLL(from: .logits))
        let all: [[PublicCall]] = [
            calls("MaskedMSE", MaskedMSE(), predictions),
            calls("BernoulliNLL", fromProbabilities, probabilities),
            calls("BernoulliNLL of logits", fromLogits, predictions),
            calls("MaskedRelativeError", MaskedRelativeError(), predictions),
            gradientCalls("MaskedMSE", MaskedMSE(), predictions),
            gradientCalls("BernoulliNLL", fromProbabilities, probabilities),
            gradientCalls("BernoulliNLL of logits", fromLogits, predictions),
        ]
        return all.flatMap(\.self)
    }

    // MARK: - Cross-entropy

    /// Both ways of the kernel: several rows at a time, and one.
    private static func classification(_ rows: Int, _ classes: Int) -> [PublicCall] {
        var random = RandomInputs(seed: 2)
        let logits = random.normals(rows * classes, scale: 3)
        var labels = random.labels(rows, classes: classes, ignored: 0.2)
        labels[0] = 0
        let shape = "\(rows)×\(classes)"
        let plain = [
            PublicCall("GradientReversal, \(shape)", outputs: [logits.count]) { (memory, _) -> Double in
                var reversed = memory.output(0)
                try GradientReversal(lambda: 0.5).backward(
                    gradient: memory.input(logits), reversed: &reversed, update: .accumulate)
                return 0
            },
            PublicCall("CrossEntropy, value, \(shape)") { [labels] (memory, workspace) -> Double in
                try CrossEntropy().value(
                    logits: memory.input(logits), labels: memory.input(labels), classes: classes,
                    workspace: workspace
                ).value
            },
            PublicCall("DomainAdversarialLoss, gradients, \(shape)", outputs: [logits.count, logits.count]) {
                [labels] (memory, workspace) -> Double in
                var discriminator = memory.output(0)
                var embedding = memory.output(1)
                return try DomainAdversarialLoss().valueAndGradient(
                    logits: memory.input(logits), labels: memory.input(labels), classes: classes,
                    discriminatorGradient: &discriminator, embeddingGradient: &embedding, workspace: workspace
                ).value
            },
        ]
        let updating = updates.map { update in
            PublicCall("CrossEntropy, gradient, \(update), \(shape)", outputs: [logits.count]) {
                [labels] (memory, workspace) -> Double in
                var gradient = memory.output(0)
                return try CrossEntropy().valueAndGradient(
                    logits: memory.input(logits), labels: memory.input(labels), classes: classes,
                    gradient: &gradient,
                    update: update, workspace: workspace
                ).value
            }
        }
        return plain + updating
    }

    // MARK: - Pairs of cells

    private static func similarities(_ rows: Int, _ columns: Int) -> [PublicCall] {
        let shape = MatrixShape(rows: rows, columns: columns)
        let count = rows * columns
        var random = RandomInputs(seed: 3)
        let first = random.embeddings(rows: rows, columns: columns)
        let second = random.secondEncoding(of: first)
        let (ecs, cce) = (ElasticCellSimilarity(threshold: 0.3), ContrastiveCellEmbedding())
        let plain = [
            PublicCall("ElasticCellSimilarity, value, \(rows)×\(columns)") { (memory, workspace) -> Double in
                try ecs.value(embeddings: memory.input(first), shape: shape, workspace: workspace).value
            },
            PublicCall("ContrastiveCellEmbedding, value, \(rows)×\(columns)") {
                (memory, workspace) -> Double in
                try cce.value(
                    first: memory.input(first), second: memory.input(second), shape: shape,
                    workspace: workspace
                )
                .value
            },
            PublicCall("CosineSimilarity, \(rows)×\(columns)", outputs: [rows * rows]) {
                (memory, workspace) -> Double in
                var similarities = memory.output(0)
                try CosineSimilarity().matrix(
                    embeddings: memory.input(first), shape: shape, similarities: &similarities,
                    workspace: workspace)
                return 0
            },
        ]
        let updating = updates.flatMap { (update) -> [PublicCall] in
            [
                PublicCall("ElasticCellSimilarity, gradient, \(update), \(rows)×\(columns)", outputs: [count])
                {
                    (memory, workspace) -> Double in
                    var gradient = memory.output(0)
                    return try ecs.valueAndGradient(
                        embeddings: memory.input(first), shape: shape, gradient: &gradient, update: update,
                        workspace: workspace
                    ).value
                },
                PublicCall(
                    "ContrastiveCellEmbedding, gradients, \(update), \(rows)×\(columns)",
                    outputs: [count, count]
                ) { (memory, workspace) -> Double in
                    var firstGradient = memory.output(0)
                    var secondGradient = memory.output(1)
                    return try cce.valueAndGradient(
                        first: memory.input(first), second: memory.input(second), shape: shape,
                        firstGradient: &firstGradient,
                        secondGradient: &secondGradient, update: update, workspace: workspace
                    ).value
                },
            ]
        }
        return plain + updating
    }

    /// ECS with a closed form: one group of row blocks and a block that has none, and two groups.
    private static let certifiedSimilarities: [PublicCall] = [
        CertifiedPairsTests.Rows.opposite, .clusters,
    ].flatMap { (rows) -> [PublicCall] in
        let embeddings = rows.make()
        let (ecs, shape) = (ElasticCellSimilarity(threshold: 0.3), CertifiedPairsTests.Rows.shape.matrix)
        let value = PublicCall("ElasticCellSimilarity, value, \(rows)") { (memory, workspace) -> Double in
            try ecs.value(embeddings: memory.input(embeddings), shape: shape, workspace: workspace).value
        }
        return [value]
            + updates.map { update in
                PublicCall(
                    "ElasticCellSimilarity, gradient, \(update), \(rows)", outputs: [embeddings.count]
                ) { (memory, workspace) -> Double in
                    var gradient = memory.output(0)
                    return try ecs.valueAndGradient(
                        embeddings: memory.input(embeddings), shape: shape, gradient: &gradient,
                        update: update,
                        workspace: workspace
                    ).value
                }
            }
    }

    // MARK: - Reductions

    private static func reductions(_ rows: Int, _ columns: Int, _ masks: Int) -> [PublicCall] {
        let shape = MatrixShape(rows: rows, columns: columns)
        var random = RandomInputs(seed: 4)
        let values = random.normals(rows * columns)
        var selections = random.mask(masks * columns, ratio: 0.5)
        for mask in 0..<masks { selections[mask * columns] = true }
        let upstream = random.normals(rows * masks)
        let name = "\(rows)×\(columns)×\(masks)"
        return [
            PublicCall("MaskedReductions, value, \(name)", outputs: [rows * masks]) {
                [selections] (memory, workspace) -> Double in
                var outputs = memory.output(0)
                try MaskedReductions().value(
                    values: memory.input(values), masks: memory.input(selections), shape: shape,
                    maskCount: masks,
                    outputs: &outputs,
                    workspace: workspace)
                return 0
            },
            PublicCall("MaskedReductions, gradient, \(name)", outputs: [rows * columns]) {
                [selections] (memory, workspace) -> Double in
                var gradient = memory.output(0)
                try MaskedReductions().gradient(
                    outputGradient: memory.input(upstream), masks: memory.input(selections), shape: shape,
                    maskCount: masks,
                    gradient: &gradient, workspace: workspace)
                return 0
            },
        ]
    }

    // MARK: - Pooling

    private static func pooling(_ shape: TokenShape) -> [PublicCall] {
        var random = RandomInputs(seed: 5)
        let states = random.normals(shape.cells * shape.tokens * shape.width)
        let upstream = random.normals(shape.cells * shape.width)
        return [TokenPooling.cls, .average].flatMap { (pooling) -> [PublicCall] in
            [
                PublicCall("TokenPooling \(pooling), value, \(shape.cells) cells", outputs: [upstream.count])
                {
                    (memory, workspace) -> Double in
                    var embeddings = memory.output(0)
                    try pooling.value(
                        states: memory.input(states), shape: shape, embeddings: &embeddings,
                        workspace: workspace)
                    return 0
                },
                PublicCall("TokenPooling \(pooling), gradient, \(shape.cells) cells", outputs: [states.count])
                {
                    (memory, workspace) -> Double in
                    var gradient = memory.output(0)
                    try pooling.gradient(
                        embeddingGradient: memory.input(upstream), shape: shape, gradient: &gradient,
                        update: .accumulate,
                        workspace: workspace)
                    return 0
                },
            ]
        }
    }

    private static func weightedPooling(_ shape: TokenShape, weightings: Int) -> [PublicCall] {
        var random = RandomInputs(seed: 6)
        let states = random.normals(shape.cells * shape.tokens * shape.width)
        let weights = random.normals(shape.cells * weightings * shape.tokens)
        let sums = shape.cells * weightings
        let upstream = random.normals(sums * shape.width)
        let unitSums = normalizedRows(random.normals(sums * shape.width), width: shape.width)
        let norms = random.normals(sums).map { 1 + abs(Double($0)) }
        let name = "WeightedTokenPooling K = \(weightings), \(shape.cells) cells"
        return [
            PublicCall("\(name), value", outputs: [sums * shape.width]) { (memory, workspace) -> Double in
                var embeddings = memory.output(0)
                try WeightedTokenPooling().value(
                    states: memory.input(states), weights: memory.input(weights), shape: shape,
                    weightings: weightings,
                    embeddings: &embeddings, workspace: workspace)
                return 0
            },
            PublicCall("Normalized\(name), value", outputs: [sums * shape.width], norms: sums) {
                (memory, workspace) -> Double in
                var embeddings = memory.output(0)
                var norms = memory.norms()
                try NormalizedWeightedTokenPooling().value(
                    states: memory.input(states), weights: memory.input(weights), shape: shape,
                    weightings: weightings,
                    embeddings: &embeddings, norms: &norms, workspace: workspace)
                return 0
            },
            PublicCall("Normalized\(name), states' gradient", outputs: [states.count]) {
                (memory, workspace) -> Double in
                var gradient = memory.output(0)
                try NormalizedWeightedTokenPooling().statesGradient(
                    embeddingGradient: memory.input(upstream), embeddings: memory.input(unitSums),
                    norms: memory.input(norms), weights: memory.input(weights), shape: shape,
                    weightings: weightings, gradient: &gradient, workspace: workspace)
                return 0
            },
            PublicCall("Normalized\(name), weights' gradient", outputs: [weights.count]) {
                (memory, workspace) -> Double in
                var gradient = memory.output(0)
                try NormalizedWeightedTokenPooling().weightsGradient(
                    embeddingGradient: memory.input(upstream), embeddings: memory.input(unitSums),
                    norms: memory.input(norms), states: memory.input(states), shape: shape,
                    weightings: weightings, gradient: &gradient, workspace: workspace)
                return 0
            },
            PublicCall("\(name), states' gradient", outputs: [states.count]) {
                (memory, workspace) -> Double in
                var gradient = memory.output(0)
                try WeightedTokenPooling().statesGradient(
                    embeddingGradient: memory.input(upstream), weights: memory.input(weights), shape: shape,
                    weightings: weightings, gradient: &gradient, workspace: workspace)
                return 0
            },
            PublicCall("\(name), weights' gradient", outputs: [weights.count]) {
                (memory, workspace) -> Double in
                var gradient = memory.output(0)
                try WeightedTokenPooling().weightsGradient(
                    embeddingGradient: memory.input(upstream), states: memory.input(states), shape: shape,
                    weightings: weightings, gradient: &gradient, workspace: workspace)
                return 0
            },
        ]
    }

    /// Rows divided by their norms, as a normalised sum is.
    private static func normalizedRows(_ rows: [Float], width: Int) -> [Float] {
        rows.indices.map { index in
            let row = rows[index / width * width..<(index / width + 1) * width]
            return rows[index] / max(1e-6, row.reduce(0) { $0 + $1 * $1 }.squareRoot())
        }
    }

    // MARK: - The objective

    /// Every term of the objective.
    static let everything = TotalObjective(
        weights: TermValues(
            maskedGene: 1, maskedGeneZero: 1, cellGene: 1, cellGeneZero: 1, generation: 1, cellType: 1,
            contrastive: 10,
            elastic: 10, batch: 1))

    private static func objectives(_ cells: Int, _ tokens: Int, _ width: Int) -> [PublicCall] {
        let batch = ObjectiveBatch.random(cells: cells, tokens: tokens, width: width)
        let arrays = ObjectiveStorage<Float>(batch)
        let name = "\(cells)×\(tokens)×\(width)"
        return [
            PublicCall("TotalObjective of everything, value, \(name)") { (memory, workspace) -> Double in
                try everything.value(arrays.inputs(memory), workspace: workspace).total
            },
            PublicCall("TotalObjective of everything, gradients, \(name)", outputs: gradientCounts(batch)) {
                try gradients(everything, arrays, $0, $1)
            },
            PublicCall("TotalObjective.integration, gradients, \(name)", outputs: gradientCounts(batch)) {
                try gradients(.integration(), arrays, $0, $1)
            },
            PublicCall("TotalObjective of everything, arrays, \(name)") { [arrays = batch.arrays] in
                try gradients(everything, arrays, $0, $1)
            },
        ]
    }

    private static let gradientSlots: [ObjectiveSlot] = [
        .genePredictions, .geneNonzero, .cellPredictions, .cellNonzero, .generatedPredictions, .cellEmbedding,
        .secondCellEmbedding, .cellTypeLogits, .batchLogits, .reversedBatchLogits,
    ]

    static func gradientCounts(_ batch: ObjectiveBatch) -> [Int] {
        gradientSlots.map { batch.inputs[$0.input]?.count ?? 0 }
    }

    private static func gradients(
        _ objective: TotalObjective, _ arrays: ObjectiveArrays, _ memory: CallMemory, _ workspace: Workspace
    ) throws -> Double {
        if memory.gradients == nil { memory.gradients = ObjectiveGradientArrays(zerosFor: arrays) }
        return try objective.valueAndGradient(arrays, gradients: &memory.gradients!, workspace: workspace)
            .total
    }

    private static func gradients(
        _ objective: TotalObjective, _ arrays: ObjectiveStorage<Float>, _ memory: CallMemory,
        _ workspace: Workspace
    ) throws -> Double {
        var gradients = memory.objectiveGradients(of: Float.self)
        let result = try objective.valueAndGradient(
            arrays.inputs(memory), gradients: &gradients, workspace: workspace)
        return result.total + (result.relativeError ?? 0)
    }
}

/// The inputs of a batch under names of their own, out of the dictionary: looking them up is no part of a
/// call.
struct ObjectiveStorage<Element: ModelOutputElement> {
    let batch: ObjectiveBatch
    let genePredictions, geneNonzero, cellPredictions, cellNonzero, generatedPredictions: [Element]
    let cellEmbedding, secondCellEmbedding, cellTypeLogits, batchLogits: [Element]
    let mask: [Bool]

    init(_ batch: ObjectiveBatch) {
        self.batch = batch
        func input(_ slot: ObjectiveSlot) -> [Element] { (batch.inputs[slot] ?? []).map { Element($0) } }
        genePredictions = input(.genePredictions)
        geneNonzero = input(.geneNonzero)
        cellPredictions = input(.cellPredictions)
        cellNonzero = input(.cellNonzero)
        generatedPredictions = input(.generatedPredictions)
        cellEmbedding = input(.cellEmbedding)
        secondCellEmbedding = input(.secondCellEmbedding)
        cellTypeLogits = input(.cellTypeLogits)
        batchLogits = input(.batchLogits)
        mask = batch.mask ?? []
    }

    @_lifetime(borrow memory)
    func inputs(
        _ memory: CallMemory
    ) -> ObjectiveInputFields<Span<Element>, Span<Float>, Span<Bool>, Span<Int32>> {
        ObjectiveInputFields(
            shape: batch.shape, targets: memory.input(batch.targets), mask: memory.input(mask),
            genePredictions: memory.input(genePredictions),
            geneNonzero: memory.input(geneNonzero), cellPredictions: memory.input(cellPredictions),
            cellNonzero: memory.input(cellNonzero),
            generatedPredictions: memory.input(generatedPredictions), width: batch.width,
            cellEmbedding: memory.input(cellEmbedding),
            secondCellEmbedding: memory.input(secondCellEmbedding),
            cellTypes: ClassificationFields(
                logits: memory.input(cellTypeLogits), labels: memory.input(batch.cellTypeLabels),
                classes: batch.cellTypeCount),
            batches: ClassificationFields(
                logits: memory.input(batchLogits), labels: memory.input(batch.batchLabels),
                classes: batch.batchCount))
    }
}
