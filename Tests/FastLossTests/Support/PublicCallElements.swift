// The public calls of 16-bit outputs of a model, for the tests of allocations, determinism, bounds and leaks.

import FastLoss

extension PublicCall {
    static let sixteenBits = ofSixteenBits(rows: 3, columns: 7) + ofSixteenBits(rows: 65, columns: 301)

    /// Every loss of either 16-bit type at one shape.
    static func ofSixteenBits(rows: Int, columns: Int) -> [PublicCall] {
        calls(of: BFloat16.self, rows, columns) + calls(of: Float16.self, rows, columns)
    }

    private static func calls<Element: SixteenBits>(
        of type: Element.Type, _ rows: Int, _ columns: Int
    ) -> [PublicCall] {
        let shape = MatrixShape(rows: rows, columns: columns)
        let count = rows * columns
        let name = "\(type), \(rows)×\(columns)"
        var random = RandomInputs(seed: 8)
        let targets = random.targets(count)
        let mask = random.mask(count).enumerated().map { $0.offset == count / 2 || $0.element }
        let predictions = random.predictions(count).map { Element($0) }
        let probabilities = random.probabilities(count).map { Element($0) }
        let floats = random.embeddings(rows: rows, columns: columns)
        let second = random.secondEncoding(of: floats).map { Element($0) }
        let first = floats.map { Element($0) }
        var labels = random.labels(rows, classes: columns, ignored: 0.2)
        labels[0] = 0

        func masked(_ name: String, _ loss: some MaskedLoss, _ x: [Element]) -> [PublicCall] {
            [
                PublicCall("\(name), value", outputs: [rows]) { (memory, workspace) -> Double in
                    var values = memory.output(0)
                    let count = try loss.valuePerCell(
                        predictions: memory.input(x), targets: memory.input(targets), mask: nil, shape: shape,
                        values: &values, workspace: workspace)
                    return Double(count)
                },
                PublicCall("\(name), gradient", sixteenBitOutputs: [count]) {
                    (memory, workspace) -> Double in
                    var gradient = memory.output(0, of: type)
                    return try loss.valueAndGradient(
                        predictions: memory.input(x), targets: memory.input(targets),
                        mask: memory.input(mask), gradient: &gradient, update: .accumulate,
                        workspace: workspace
                    ).value
                },
                PublicCall("\(name), gradient per cell", outputs: [rows], sixteenBitOutputs: [count]) {
                    (memory, workspace) -> Double in
                    var values = memory.output(0)
                    var gradient = memory.output(0, of: type)
                    let count = try loss.valueAndGradientPerCell(
                        predictions: memory.input(x), targets: memory.input(targets), mask: nil, shape: shape,
                        values: &values, gradient: &gradient, workspace: workspace)
                    return Double(count)
                },
            ]
        }
        let ofMasks: [[PublicCall]] = [
            masked("MaskedMSE of \(name)", MaskedMSE(), predictions),
            masked("BernoulliNLL of \(name)", BernoulliNLL(), probabilities),
            masked("BernoulliNLL of logits of \(name)", BernoulliNLL(from: .logits), predictions),
        ]
        let others: [PublicCall] = [
            PublicCall("MaskedRelativeError of \(name)") { (memory, workspace) -> Double in
                try MaskedRelativeError().value(
                    predictions: memory.input(predictions), targets: memory.input(targets),
                    mask: memory.input(mask), workspace: workspace
                ).value
            },
            PublicCall("CrossEntropy of \(name)", sixteenBitOutputs: [count]) {
                [labels] (memory, workspace) -> Double in
                var gradient = memory.output(0, of: type)
                return try CrossEntropy().valueAndGradient(
                    logits: memory.input(predictions), labels: memory.input(labels), classes: columns,
                    gradient: &gradient, update: .accumulate, workspace: workspace
                ).value
            },
            PublicCall("DomainAdversarialLoss of \(name)", sixteenBitOutputs: [count, count]) {
                [labels] (memory, workspace) -> Double in
                var discriminator = memory.output(0, of: type)
                var embedding = memory.output(1, of: type)
                return try DomainAdversarialLoss().valueAndGradient(
                    logits: memory.input(predictions), labels: memory.input(labels), classes: columns,
                    discriminatorGradient: &discriminator, embeddingGradient: &embedding,
                    workspace: workspace
                ).value
            },
            PublicCall("ElasticCellSimilarity of \(name)", sixteenBitOutputs: [count]) {
                (memory, workspace) -> Double in
                var gradient = memory.output(0, of: type)
                return try ElasticCellSimilarity(threshold: 0.3).valueAndGradient(
                    embeddings: memory.input(first), shape: shape, gradient: &gradient,
                    update: .accumulate, workspace: workspace
                ).value
            },
            PublicCall("ContrastiveCellEmbedding of \(name)", sixteenBitOutputs: [count, count]) {
                (memory, workspace) -> Double in
                var firstGradient = memory.output(0, of: type)
                var secondGradient = memory.output(1, of: type)
                return try ContrastiveCellEmbedding().valueAndGradient(
                    first: memory.input(first), second: memory.input(second), shape: shape,
                    firstGradient: &firstGradient, secondGradient: &secondGradient, workspace: workspace
                ).value
            },
        ]
        return ofMasks.flatMap(\.self) + others
    }

    // MARK: - The objective

    /// Every term of the objective, of either 16-bit type.
    static func objectivesOfSixteenBits(_ cells: Int, _ tokens: Int, _ width: Int) -> [PublicCall] {
        let batch = ObjectiveBatch.random(cells: cells, tokens: tokens, width: width)
        return objectives(of: BFloat16.self, batch) + objectives(of: Float16.self, batch)
    }

    private static func objectives<Element: SixteenBits>(
        of type: Element.Type, _ batch: ObjectiveBatch
    ) -> [PublicCall] {
        let arrays = ObjectiveStorage<Element>(batch)
        let name = "TotalObjective of \(type), \(batch.shape.rows)×\(batch.shape.columns)×\(batch.width)"
        let gradients = [GradientUpdate.overwrite, .accumulate].map { update in
            PublicCall("\(name), gradients, \(update)", sixteenBitOutputs: gradientCounts(batch)) {
                (memory, workspace) -> Double in
                var gradients = memory.objectiveGradients(of: type)
                return try everything.valueAndGradient(
                    arrays.inputs(memory), gradients: &gradients, update: update, workspace: workspace
                ).total
            }
        }
        return gradients + [
            PublicCall("\(name), value") { (memory, workspace) -> Double in
                try everything.value(arrays.inputs(memory), workspace: workspace).total
            }
        ]
    }
}
