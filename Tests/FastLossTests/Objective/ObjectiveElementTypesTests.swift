// The total objective of 16-bit outputs: the results of the widened outputs to the bit, each gradient rounded once,
// and the errors.

import FastLoss
import Testing

@Suite struct ObjectiveElementTypesTests {
    /// Without pairs of cells, with one term of them, and with both, whose gradients add up.
    private static let objectives: [(name: String, objective: TotalObjective)] = {
        var alone = TotalObjectiveTests.everything
        (alone.weights.elastic, alone.weights.contrastive) = (nil, nil)
        var elastic = TotalObjectiveTests.everything
        elastic.weights.contrastive = nil
        var contrastive = TotalObjectiveTests.everything
        contrastive.weights.elastic = nil
        return [
            ("everything", TotalObjectiveTests.everything), ("without pairs", alone), ("ECS", elastic),
            ("CCE", contrastive),
        ]
    }()

    /// One cell; a few; more than a worker copies; and more than the strips of ECS take.
    private static let sizes = [(1, 1, 1), (7, 19, 6), (131, 40, 9), (1_030, 3, 5)]

    @Test(arguments: sizes, [GradientUpdate.overwrite, .accumulate])
    func resultsAreThoseOfTheWidenedOutputs(_ size: (Int, Int, Int), _ update: GradientUpdate) throws {
        func check<Element: SixteenBits>(_: Element.Type) throws {
            let batch = ObjectiveBatch.random(cells: size.0, tokens: size.1, width: size.2)
            var widened = batch
            widened.inputs = batch.inputs.mapValues { $0.map { Element($0).float } }
            var random = RandomInputs(seed: 6)
            let start = batch.untouchedGradients.mapValues { random.normals($0.count).map { Element($0) } }
            for (name, objective) in Self.objectives {
                var expected = start.mapValues { $0.map(\.float) }
                // Far from the smallest float16.
                let value = try widened.valueAndGradient(
                    of: objective, gradients: &expected, gradientScale: 64, update: update)
                let memory = TypedObjectiveMemory<Element>(batch, gradients: start)
                let workspace = Workspace(workers: 2)
                let found = try memory.valueAndGradient(
                    of: objective, gradientScale: 64, update: update, workspace: workspace)
                #expect(found == value && value.total.isFinite, "\(name)")
                #expect(try memory.value(of: objective, workspace: workspace) == value, "\(name)")
                for slot in ObjectiveSlot.allCases {
                    expectBits(
                        Array(try #require(memory.gradients[slot])), try #require(expected[slot]),
                        "\(Element.self), \(name), \(slot)")
                }
            }
        }
        try check(BFloat16.self)
        try check(Float16.self)
    }

    /// That the sum of both gradients is rounded, and not each: at some element it makes a difference.
    @Test func theSumOfTwoTermsIsRoundedOnce() throws {
        let batch = ObjectiveBatch.random(cells: 131, tokens: 2, width: 9)
        func gradient(_ weights: TermValues<Float>) throws -> [BFloat16] {
            let memory = TypedObjectiveMemory<BFloat16>(
                batch,
                gradients: batch.untouchedGradients.filter { $0.key == .cellEmbedding }.mapValues {
                    $0.map { BFloat16($0) }
                })
            _ = try memory.valueAndGradient(
                of: TotalObjective(weights: weights), workspace: Workspace(workers: 2))
            return Array(try #require(memory.gradients[.cellEmbedding]))
        }
        let both = try gradient(TermValues(contrastive: 10, elastic: 10))
        let elastic = try gradient(TermValues(elastic: 10))
        let contrastive = try gradient(TermValues(contrastive: 10))
        let roundedTwice = zip(elastic, contrastive).map { BFloat16($0.float + $1.float) }
        #expect(zip(both, roundedTwice).contains { $0.bitPattern != $1.bitPattern })
    }

    // MARK: - Errors

    @Test(arguments: ObjectiveInputsTests.mistakes)
    func mistakesAreThoseOfFloats(_ mistake: ObjectiveMistake) {
        var objective = TotalObjectiveTests.everything
        var batch = ObjectiveBatch.faulty
        var buffers = batch.untouchedGradients
        mistake.make(&objective, &batch, &buffers)
        let start = buffers.mapValues { $0.map { BFloat16($0) } }
        let memory = TypedObjectiveMemory<BFloat16>(batch, gradients: start)
        for update in [GradientUpdate.overwrite, .accumulate] {
            expectError(mistake.message) { () throws(LossError) in
                _ = try memory.valueAndGradient(
                    of: objective, gradientScale: mistake.gradientScale, update: update,
                    workspace: Workspace())
            }
            for (slot, gradient) in start {
                #expect(
                    memory.gradients[slot].map { $0.map(\.bitPattern) } == gradient.map(\.bitPattern),
                    "\(slot)")
            }
        }
    }

    /// Overlap is that of bytes: halves of one memory are apart, and one element more is not.
    @Test func overlapIsInElementsOfTwoBytes() throws {
        func check<Element: SixteenBits>(_: Element.Type) throws {
            let batch = ObjectiveBatch.faulty
            let objective = TotalObjective(weights: TermValues(maskedGene: 1))
            let start = batch.untouchedGradients.mapValues { $0.map { Element($0) } }
            let memory = TypedObjectiveMemory<Element>(
                batch, gradients: start.filter { $0.key == .genePredictions })
            let predictions = try #require(memory.inputs[.genePredictions])
            func call(gradientAt element: Int) throws(LossError) {
                // The memory behind an array is the test's, too.
                memory.gradients[.genePredictions] = UnsafeMutableBufferPointer(
                    start: predictions.baseAddress! + element, count: predictions.count)
                _ = try memory.valueAndGradient(of: objective, workspace: Workspace())
            }
            expectError(
                "output gradients.genePredictions shares memory with genePredictions"
            ) { () throws(LossError) in try call(gradientAt: predictions.count - 1) }
            try call(gradientAt: predictions.count)
        }
        try check(BFloat16.self)
        try check(Float16.self)
    }

    @Test func gradientsShareNoMemory() throws {
        let batch = ObjectiveBatch.faulty
        let memory = TypedObjectiveMemory<Float16>(
            batch, gradients: batch.untouchedGradients.mapValues { $0.map { Float16($0) } })
        let cells = try #require(memory.gradients[.cellEmbedding])
        memory.gradients[.secondCellEmbedding] = cells
        expectError(
            "output gradients.secondCellEmbedding shares memory with gradients.cellEmbedding"
        ) { () throws(LossError) in
            _ = try memory.valueAndGradient(of: TotalObjectiveTests.everything, workspace: Workspace())
        }
        #expect(cells.allSatisfy { $0 == Float16([Float].untouched(1)[0]) })
    }

    @Test func aProbabilityOutOfRangeIsNamed() {
        var batch = ObjectiveBatch.faulty
        batch.mask = nil
        batch.inputs[.cellNonzero]?[7] = 1.5
        let memory = TypedObjectiveMemory<BFloat16>(batch, gradients: [:])
        expectError(
            "probability 1.5 at element 7 of cellNonzero is not in [0, 1]; output buffers of this call hold "
                + "unspecified values (for logits, use BernoulliNLL.Form.logits)"
        ) { () throws(LossError) in
            _ = try memory.value(of: TotalObjectiveTests.everything, workspace: Workspace())
        }
    }
}
