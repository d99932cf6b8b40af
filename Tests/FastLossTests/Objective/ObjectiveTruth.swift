// What the oracle makes of a batch, in the fast objective's words, and the comparison of the two.

import FastLoss
import FastLossReference
import Testing

/// The oracle's result for one batch and objective.
struct ObjectiveTruth {
    var total = 0.0
    var values: [ObjectiveTerm: Double] = [:]
    var logged: [ObjectiveTerm: Double] = [:]
    var relativeError: Double?
    var gradients: [ObjectiveSlot: [Double]] = [:]

    /// The oracle's own objective, or, where the predictions are logits, with the oracle's logit form in
    /// their place.
    init(of objective: TotalObjective, _ batch: ObjectiveBatch, gradientScale: Double = 1) {
        let oracle = Reference.TotalObjective.evaluate(
            inputs: batch.oracleInputs(of: objective), configuration: objective.oracleConfiguration,
            gradientScale: gradientScale)
        total = oracle.total
        relativeError = oracle.relativeError
        for term in ObjectiveTerm.allCases {
            guard let twin = Reference.TotalObjective.Term(rawValue: term.rawValue) else { continue }
            values[term] = oracle.values[twin]
            logged[term] = oracle.logged[twin]
        }
        gradients[.genePredictions] = oracle.gradients.genePredictions
        gradients[.geneNonzero] = oracle.gradients.geneNonzeroProbabilities
        gradients[.cellPredictions] = oracle.gradients.cellPredictions
        gradients[.cellNonzero] = oracle.gradients.cellNonzeroProbabilities
        gradients[.generatedPredictions] = oracle.gradients.generatedPredictions
        gradients[.cellEmbedding] = oracle.gradients.cellEmbedding
        gradients[.secondCellEmbedding] = oracle.gradients.secondCellEmbedding
        gradients[.cellTypeLogits] = oracle.gradients.cellTypeLogits
        gradients[.batchLogits] = oracle.gradients.batchLogits
        let lambda = Double(objective.domainAdversarial.reversal.lambda)
        gradients[.reversedBatchLogits] = oracle.gradients.batchLogits?.map { -lambda * $0 }
        if objective.nonzeroForm == .logits { takeLogits(of: objective, batch, gradientScale) }
    }

    private mutating func takeLogits(
        of objective: TotalObjective, _ batch: ObjectiveBatch, _ gradientScale: Double
    ) {
        for (term, slot) in [
            (ObjectiveTerm.maskedGeneZero, ObjectiveSlot.geneNonzero), (.cellGeneZero, .cellNonzero),
        ] {
            guard let weight = objective.weights[term].map(Double.init), let logits = batch.inputs[slot]
            else { continue }
            var gradient = logits.doubles
            let value = Reference.BernoulliNLL.valueAndGradientFromLogits(
                logits: logits.doubles, targets: batch.targets.doubles, mask: batch.selections,
                gradientScale: weight * gradientScale, gradient: &gradient)
            total += weight * value
            values[term] = value
            logged[term] = weight * value
            gradients[slot] = gradient
        }
    }
}

extension TotalObjective {
    /// The same objective for the oracle, which knows the probability form alone.
    fileprivate var oracleConfiguration: Reference.TotalObjective.Configuration<Double> {
        var weights: [Reference.TotalObjective.Term: Double] = [:]
        for term in Reference.TotalObjective.Term.allCases {
            let isLogitTerm = nonzeroForm == .logits && [.maskedGeneZero, .cellGeneZero].contains(term)
            weights[term] =
                isLogitTerm
                ? nil : ObjectiveTerm(rawValue: term.rawValue).flatMap { self.weights[$0] }.map(Double.init)
        }
        return .init(
            weights: weights, threshold: Double(elasticCellSimilarity.threshold),
            temperature: Double(contrastiveCellEmbedding.temperature))
    }
}

extension ObjectiveBatch {
    /// The mask, or what its absence means.
    var selections: [Bool] { mask ?? targets.map { _ in true } }

    fileprivate func oracleInputs(of objective: TotalObjective) -> Reference.TotalObjective.Inputs<Double> {
        var oracle = Reference.TotalObjective.Inputs<Double>(
            cells: shape.rows, tokens: shape.columns, width: width)
        oracle.targets = targets.doubles
        oracle.mask = selections
        oracle.genePredictions = inputs[.genePredictions]?.doubles
        oracle.geneNonzeroProbabilities = inputs[.geneNonzero]?.doubles
        oracle.cellPredictions = inputs[.cellPredictions]?.doubles
        oracle.cellNonzeroProbabilities = inputs[.cellNonzero]?.doubles
        oracle.generatedPredictions = inputs[.generatedPredictions]?.doubles
        oracle.cellEmbedding = inputs[.cellEmbedding]?.doubles
        oracle.secondCellEmbedding = inputs[.secondCellEmbedding]?.doubles
        oracle.cellTypeLogits = inputs[.cellTypeLogits]?.doubles
        oracle.cellTypeLabels = cellTypeLabels
        oracle.batchLogits = inputs[.batchLogits]?.doubles
        oracle.batchLabels = batchLabels
        return oracle
    }

    /// The norms of the cell embeddings' gradients before the projection, which may cancel most of them: the
    /// size that their errors are measured by.
    func embeddingScale(
        of slot: ObjectiveSlot, _ objective: TotalObjective, gradientScale: Double = 1
    ) -> Double {
        var scale = 0.0
        if slot == .cellEmbedding, let weight = objective.weights.elastic,
            let embedding = inputs[.cellEmbedding]
        {
            scale +=
                Reference.ElasticCellSimilarity.evaluate(
                    embeddings: embedding.doubles, rows: shape.rows, columns: width,
                    threshold: Double(objective.elasticCellSimilarity.threshold),
                    gradientScale: Double(weight) * gradientScale
                ).normsBeforeProjection.norm
        }
        if let weight = objective.weights.contrastive, let first = inputs[.cellEmbedding],
            let second = inputs[.secondCellEmbedding]
        {
            let result = Reference.ContrastiveCellEmbedding.evaluate(
                first: first.doubles, second: second.doubles, rows: shape.rows, columns: width,
                temperature: Double(objective.contrastiveCellEmbedding.temperature),
                gradientScale: Double(weight) * gradientScale)
            scale +=
                (slot == .cellEmbedding
                ? result.firstNormsBeforeProjection : result.secondNormsBeforeProjection)
                .norm
        }
        return scale
    }
}

/// Every value, the total, the relative error and every gradient within the tolerances of its loss.
func expectObjective(
    _ actual: (value: ObjectiveValue, gradients: [ObjectiveSlot: [Float]]), _ truth: ObjectiveTruth,
    of objective: TotalObjective, _ batch: ObjectiveBatch, _ label: String = "", gradientScale: Double = 1,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    func expectTerm(_ term: ObjectiveTerm, _ actual: Double?, _ truth: Double?, _ label: String) {
        guard let actual, let truth else {
            #expect(actual == nil && truth == nil, "\(label)", sourceLocation: sourceLocation)
            return
        }
        if [.elastic, .contrastive].contains(term) {
            expectClose(actual, truth, Tolerances.embeddingValue, label, sourceLocation: sourceLocation)
        } else {
            expectWithinUlps(actual: Float(actual), oracle: truth, label, sourceLocation: sourceLocation)
        }
    }
    for term in ObjectiveTerm.allCases {
        expectTerm(term, actual.value.values[term], truth.values[term], "\(label) \(term)")
        expectTerm(term, actual.value.logged[term], truth.logged[term], "\(label) \(term), logged")
    }
    expectTerm(.maskedGene, actual.value.relativeError, truth.relativeError, "\(label) relative error")
    expectClose(
        actual.value.total, truth.total, Tolerances.embeddingValue, "\(label) total",
        sourceLocation: sourceLocation)
    #expect(
        actual.value.selectedCount == (truth.relativeError == nil ? 0 : batch.selections.count { $0 }),
        sourceLocation: sourceLocation)

    for (slot, gradient) in actual.gradients {
        let name = "\(label) gradient of \(slot)"
        guard let truth = truth.gradients[slot] else {
            #expect(
                gradient.allSatisfy { $0 == 0 }, "\(name): its terms are off", sourceLocation: sourceLocation)
            continue
        }
        if ObjectiveSlot.embeddings.contains(slot) {
            expectNormwise(
                actual: gradient, oracle: truth,
                scale: batch.embeddingScale(of: slot, objective, gradientScale: gradientScale),
                tolerance: Tolerances.embeddingGradient, name, sourceLocation: sourceLocation)
        } else {
            expectWithinUlps(actual: gradient, oracle: truth, name, sourceLocation: sourceLocation)
        }
    }
}

// MARK: - From a golden

extension TotalObjective {
    /// The objective of a golden case.
    init(_ golden: Golden) throws {
        var weights = TermValues<Float>()
        for term in ObjectiveTerm.allCases where golden.parameterNames.contains("weight.\(term.rawValue)") {
            weights[term] = try golden.float("weight.\(term.rawValue)")
        }
        self.init(
            weights: weights,
            elasticCellSimilarity: ElasticCellSimilarity(threshold: try golden.float("threshold")),
            contrastiveCellEmbedding: ContrastiveCellEmbedding(temperature: try golden.float("temperature")))
    }
}

extension ObjectiveSlot {
    /// What the goldens call it.
    fileprivate var goldenName: String {
        switch self {
        case .geneNonzero: "geneNonzeroProbabilities"
        case .cellNonzero: "cellNonzeroProbabilities"
        default: rawValue
        }
    }
}

extension ObjectiveBatch {
    /// The inputs of a golden case.
    init(_ golden: Golden) throws {
        let cells = try golden.int("cells")
        var inputs: [ObjectiveSlot: [Float]] = [:]
        for slot in ObjectiveSlot.inputs where golden.hasInput(slot.goldenName) {
            inputs[slot] = try golden.floats(slot.goldenName)
        }
        self.init(
            shape: MatrixShape(rows: cells, columns: try golden.int("tokens")),
            width: try golden.int("width"),
            targets: golden.hasInput("targets") ? try golden.floats("targets") : [],
            mask: golden.hasInput("mask") ? try golden.bools("mask") : nil,
            cellTypeLabels: golden.hasInput("cellTypeLabels") ? try golden.int32s("cellTypeLabels") : [],
            cellTypeCount: (inputs[.cellTypeLogits]?.count ?? 0) / cells,
            batchLabels: golden.hasInput("batchLabels") ? try golden.int32s("batchLabels") : [],
            batchCount: (inputs[.batchLogits]?.count ?? 0) / cells, inputs: inputs)
    }
}

extension ObjectiveTruth {
    /// PyTorch's results, with the reversed gradient that follows from λ = 1.
    init(_ golden: Golden) throws {
        total = try golden.truth("total")[0]
        let names = Set(golden.resultNames)
        for term in ObjectiveTerm.allCases where names.contains("value.\(term.rawValue)") {
            values[term] = try golden.truth("value.\(term.rawValue)")[0]
            logged[term] = try golden.truth("logged.\(term.rawValue)")[0]
        }
        if names.contains("relativeError") { relativeError = try golden.truth("relativeError")[0] }
        for slot in ObjectiveSlot.inputs where names.contains("gradient.\(slot.goldenName)") {
            gradients[slot] = try golden.truth("gradient.\(slot.goldenName)")
        }
        gradients[.reversedBatchLogits] = gradients[.batchLogits]?.map { -$0 }
    }
}
