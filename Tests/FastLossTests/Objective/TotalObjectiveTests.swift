// The total objective: every preset, switch, size and rule, against PyTorch's goldens, the oracle and the
// single losses.

import FastLoss
import FastLossReference
import Testing

@Suite struct TotalObjectiveTests {
    /// The presets under the names of their goldens.
    static let presets:
        [(name: String, objective: TotalObjective, twin: Reference.TotalObjective.Configuration<Float>)] = [
            ("integration", .integration(), .integration),
            ("annotation", .annotation, .annotation),
            ("perturbation", .perturbation, .perturbation),
            ("multiOmics", .multiOmics, .multiOmics),
            ("generativePretraining", .generativePretraining(), .generativePretraining),
            ("maskedPretraining", .maskedPretraining, .maskedPretraining),
            ("scFormer", .scFormer(), .scFormer),
        ]

    /// Every term, each with its own weight.
    static let everything = TotalObjective(
        weights: TermValues(
            maskedGene: 0.5, maskedGeneZero: 2, cellGene: 0.25, cellGeneZero: 3, generation: 1.5,
            cellType: 0.75,
            contrastive: 4, elastic: 6, batch: 0.125),
        elasticCellSimilarity: ElasticCellSimilarity(threshold: 0.3),
        domainAdversarial: DomainAdversarialLoss(reversal: GradientReversal(lambda: 0.5)))

    // MARK: - Presets

    @Test(arguments: presets.indices)
    func presetsHaveTheWeightsOfTheOracles(_ index: Int) {
        let (name, objective, twin) = Self.presets[index]
        for term in ObjectiveTerm.allCases {
            let weight = Reference.TotalObjective.Term(rawValue: term.rawValue).flatMap { twin.weights[$0] }
            #expect(objective.weights[term] == weight, "\(name), \(term)")
        }
        #expect(objective.elasticCellSimilarity.threshold == twin.threshold, "\(name)")
        #expect(objective.contrastiveCellEmbedding.temperature == twin.temperature, "\(name)")
        #expect(objective.domainAdversarial.reversal.lambda == 1)
        #expect(objective.nonzeroForm == .probabilities)
    }

    @Test func presetsTakeTheirSwitches() {
        #expect(TotalObjective.integration(elasticThreshold: 0).weights.elastic == nil)
        #expect(TotalObjective.integration(elasticThreshold: -1).weights.elastic == nil)
        #expect(TotalObjective.integration(elasticThreshold: 0.3).elasticCellSimilarity.threshold == 0.3)
        #expect(TotalObjective.integration(batchWeight: 2.5).weights.batch == 2.5)
        #expect(TotalObjective.generativePretraining(fromCellEmbedding: false).weights.generation == nil)
        let scFormer = TotalObjective.scFormer(cellTypes: true, contrastive: true)
        #expect(scFormer.weights.cellType == 1)
        #expect(scFormer.weights.contrastive == 10)
    }

    @Test(arguments: try Golden.cases(of: "TotalObjective"))
    func matchesPyTorch(_ golden: Golden) throws {
        // A preset's golden is computed by the preset, so that its weights and parameters are tested with it.
        let objective =
            try Self.presets.first { $0.name == golden.name }?.objective ?? TotalObjective(golden)
        let batch = try ObjectiveBatch(golden)
        let result = try batch.evaluate(objective)
        expectObjective(result, try ObjectiveTruth(golden), of: objective, batch)
    }

    // MARK: - Switches and sizes

    /// Every combination of upstream's three switches for integration, and both forms of the explicit zeros.
    @Test(arguments: [true, false], [true, false])
    func everyCombinationOfSwitchesMatchesTheOracle(explicitZero: Bool, cellEmbeddingPrediction: Bool) throws
    {
        for threshold: Float in [0, 0.8] {
            for form in [BernoulliNLL.Form.probabilities, .logits] {
                var objective = TotalObjective.integration(
                    explicitZeroProbability: explicitZero, cellEmbeddingPrediction: cellEmbeddingPrediction,
                    elasticThreshold: threshold)
                objective.nonzeroForm = form
                let batch = Self.batch(form, cells: 7, tokens: 29, width: 11)
                let on = ObjectiveTerm.allCases.filter { objective.weights[$0] != nil }
                var expected: Set<ObjectiveTerm> = [.maskedGene, .batch]
                if explicitZero { expected.insert(.maskedGeneZero) }
                if cellEmbeddingPrediction { expected.insert(.cellGene) }
                if explicitZero && cellEmbeddingPrediction { expected.insert(.cellGeneZero) }
                if threshold > 0 { expected.insert(.elastic) }
                #expect(Set(on) == expected)
                expectObjective(
                    try batch.evaluate(objective), ObjectiveTruth(of: objective, batch), of: objective, batch,
                    "threshold \(threshold), \(form)")
            }
        }
    }

    /// Tail batches down to one cell, and sizes on both sides of the chunk of 4,096 elements and the tile of
    /// 128 rows.
    @Test(
        arguments: [
            (1, 1, 1), (1, 13, 7), (2, 3, 5), (3, 1, 2), (4, 1024, 3), (5, 819, 16), (17, 241, 33),
            (129, 5, 9),
        ],
        [BernoulliNLL.Form.probabilities, .logits])
    func everySizeMatchesTheOracle(_ size: (Int, Int, Int), form: BernoulliNLL.Form) throws {
        var objective = Self.everything
        objective.nonzeroForm = form
        var batch = Self.batch(form, cells: size.0, tokens: size.1, width: size.2)
        for mask in [batch.mask, nil] {
            batch.mask = mask
            let truth = ObjectiveTruth(of: objective, batch, gradientScale: 0.5)
            expectObjective(
                try batch.evaluate(objective, gradientScale: 0.5), truth, of: objective, batch,
                mask == nil ? "no mask" : "mask", gradientScale: 0.5)
        }
    }

    @Test func theValueAloneIsTheValueWithGradients() throws {
        for (name, objective, _) in Self.presets {
            let batch = ObjectiveBatch.random(cells: 9, tokens: 31, width: 6)
            #expect(try batch.value(of: objective) == batch.evaluate(objective).value, "\(name)")
        }
    }

    @Test func theBatchTermIsLoggedBeforeItsWeightAndTheOthersAfter() throws {
        let batch = ObjectiveBatch.random(cells: 9, tokens: 31, width: 6)
        let result = try batch.value(of: Self.everything)
        for term in ObjectiveTerm.allCases {
            let value = try #require(result.values[term])
            let weighted = Double(try #require(Self.everything.weights[term])) * value
            #expect(result.weighted[term] == weighted)
            #expect(result.logged[term] == (term == .batch ? value : weighted), "\(term)")
        }
        let sum = ObjectiveTerm.allCases.compactMap { result.weighted[$0] }.reduce(0, +)
        expectClose(result.total, sum, Tolerances.oracle)
    }

    @Test func withoutAnyTermTheTotalIsZero() throws {
        let batch = ObjectiveBatch.random(cells: 3, tokens: 4, width: 5)
        let result = try batch.evaluate(TotalObjective(weights: TermValues()))
        #expect(result.value.total == 0)
        #expect(ObjectiveTerm.allCases.allSatisfy { result.value.values[$0] == nil })
        #expect(result.value.relativeError == nil)
        #expect(result.gradients.values.allSatisfy { $0.allSatisfy { $0 == 0 } })
    }

    // MARK: - The fused pass and the single losses

    /// Each term of the objective has the bits of its loss computed alone.
    @Test(arguments: [BernoulliNLL.Form.probabilities, .logits])
    func everyTermHasTheBitsOfItsLoss(_ form: BernoulliNLL.Form) throws {
        var objective = Self.everything
        objective.nonzeroForm = form
        // Reversal by λ = 0.5 is exact, so that −λ·(scaled gradient) and (−λ·scale)·gradient are the
        // same.
        for (cells, tokens) in [(5, 7), (11, 1201), (140, 61)] {
            let batch = Self.batch(form, cells: cells, tokens: tokens, width: 19)
            let scale: Float = 0.75
            let result = try batch.evaluate(objective, gradientScale: scale)
            let singles = try SingleLosses(objective, batch, gradientScale: scale)
            for term in ObjectiveTerm.allCases {
                #expect(result.value.values[term] == singles.values[term], "\(term), \(cells)×\(tokens)")
            }
            #expect(result.value.relativeError == singles.relativeError)
            for slot in ObjectiveSlot.allCases {
                expectSameBits(
                    try #require(result.gradients[slot]), try #require(singles.gradients[slot]),
                    "\(slot), \(cells)×\(tokens)")
            }
        }
    }

    @Test func theNumberOfWorkersChangesNoBit() throws {
        let batch = ObjectiveBatch.random(cells: 300, tokens: 601, width: 65)
        let one = try batch.evaluate(Self.everything, workspace: Workspace(workers: 1))
        for workers in [2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            // A second time in the same workspace: what the first call left in the scratch memory must not
            // matter.
            for _ in 0..<2 {
                let result = try batch.evaluate(Self.everything, workspace: workspace)
                #expect(result.value == one.value, "\(workers) workers")
                for slot in ObjectiveSlot.allCases {
                    expectSameBits(
                        try #require(result.gradients[slot]), try #require(one.gradients[slot]),
                        "\(slot), \(workers) workers")
                }
            }
        }
    }

    // MARK: - Masks

    /// Values outside the mask have no effect. NaN and infinity inside it propagate.
    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func theMaskSelects(_ strange: Float) throws {
        let batch = ObjectiveBatch.random(cells: 6, tokens: 37, width: 5)
        let expected = try batch.evaluate(Self.everything)
        var outside = batch
        for index in batch.selections.indices where !batch.selections[index] {
            outside.targets[index] = strange
            for slot in ObjectiveSlot.values { outside.inputs[slot]?[index] = strange }
        }
        let result = try outside.evaluate(Self.everything)
        #expect(result.value == expected.value)
        for slot in ObjectiveSlot.allCases {
            expectSameBits(
                try #require(result.gradients[slot]), try #require(expected.gradients[slot]), "\(slot)")
        }

        var inside = batch
        inside.inputs[.genePredictions]?[try #require(batch.selections.firstIndex(of: true))] = strange
        let strangeResult = try inside.evaluate(Self.everything)
        #expect(strangeResult.value.values.maskedGene?.isFinite == false)
        #expect(strangeResult.value.relativeError?.isFinite == false)
        #expect(strangeResult.value.total.isFinite == false)
        #expect(strangeResult.value.values.cellGene == expected.value.values.cellGene)
    }

    @Test(arguments: [EmptySelectionRule.zero, .nan])
    func anEmptyMaskFollowsTheRule(_ rule: EmptySelectionRule) throws {
        var objective = Self.everything
        objective.whenMaskEmpty = rule
        var batch = ObjectiveBatch.random(cells: 6, tokens: 37, width: 5)
        let unmasked = try batch.evaluate(objective)
        batch.mask = batch.targets.map { _ in false }
        let result = try batch.evaluate(objective)
        func follows(_ value: Double?) -> Bool { rule == .nan ? value?.isNaN == true : value == 0 }
        for term in ObjectiveTerm.allCases {
            let value = result.value.values[term]
            switch term {
            case .cellType, .contrastive, .elastic, .batch: #expect(value == unmasked.value.values[term])
            default: #expect(follows(value), "\(term)")
            }
        }
        #expect(follows(result.value.relativeError))
        #expect(result.value.total.isNaN == (rule == .nan))
        #expect(result.value.selectedCount == 0)
        for slot in ObjectiveSlot.allCases {
            let gradient = try #require(result.gradients[slot])
            if ObjectiveSlot.values.contains(slot) {
                #expect(gradient.allSatisfy { follows(Double($0)) }, "\(slot)")
            } else {
                expectSameBits(gradient, try #require(unmasked.gradients[slot]), "\(slot)")
            }
        }
    }

    @Test(arguments: [EmptySelectionRule.zero, .nan])
    func onlyIgnoredLabelsFollowTheRule(_ rule: EmptySelectionRule) throws {
        let loss = CrossEntropy(whenEmpty: rule)
        let objective = TotalObjective(
            weights: TermValues(cellType: 1, batch: 2), cellTypes: loss,
            domainAdversarial: DomainAdversarialLoss(crossEntropy: loss))
        var batch = ObjectiveBatch.random(cells: 6, tokens: 3, width: 5)
        batch.cellTypeLabels = batch.cellTypeLabels.map { _ in -100 }
        batch.batchLabels = batch.batchLabels.map { _ in -100 }
        let result = try batch.evaluate(objective)
        for value in [result.value.values.cellType, result.value.values.batch, result.value.total] {
            #expect(rule == .nan ? value?.isNaN == true : value == 0)
        }
        #expect(result.gradients.values.allSatisfy { $0.allSatisfy { $0 == 0 } })
    }

    /// A batch with all inputs, its explicit zeros in the given form.
    static func batch(_ form: BernoulliNLL.Form, cells: Int, tokens: Int, width: Int) -> ObjectiveBatch {
        var batch = ObjectiveBatch.random(cells: cells, tokens: tokens, width: width)
        guard form == .logits else { return batch }
        var random = RandomInputs(seed: 2)
        batch.inputs[.geneNonzero] = random.normals(cells * tokens, scale: 4)
        batch.inputs[.cellNonzero] = random.normals(cells * tokens, scale: 4)
        return batch
    }
}
