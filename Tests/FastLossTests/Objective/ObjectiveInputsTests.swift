// The inputs of the total objective: each mistake has its message and leaves outputs unchanged, and an input
// that no term reads is not read.

import FastLoss
import Testing

/// A call that must fail, and how.
struct ObjectiveMistake: Sendable, CustomTestStringConvertible {
    let name: String
    let message: String
    /// Whether the value alone is refused for the same reason.
    var concernsValue = true
    var gradientScale: Float = 1
    let make: @Sendable (inout TotalObjective, inout ObjectiveBatch, inout [ObjectiveSlot: [Float]]) -> Void

    var testDescription: String { name }
}

@Suite struct ObjectiveInputsTests {
    // MARK: - The list

    /// An input that a term needs is missing, and so is its gradient's buffer.
    private static let missingInputs = ObjectiveTerm.allCases.flatMap { term in
        ObjectiveSlot.read(by: term).map { slot in
            ObjectiveMistake(
                name: "\(term) without \(slot)",
                message: "the objective's term .\(term) is on, but its input \(optional(slot)) is nil"
            ) { objective, batch, gradients in
                for other in ObjectiveTerm.allCases where other != term { objective.weights[other] = nil }
                batch.inputs[slot] = nil
                gradients = gradients.filter { $0.key.input != slot }
            }
        }
    }

    /// The optional member that the input is, or is in.
    private static func optional(_ slot: ObjectiveSlot) -> String {
        switch slot {
        case .cellTypeLogits: "cellTypes"
        case .batchLogits, .reversedBatchLogits: "batches"
        default: slot.rawValue
        }
    }

    /// A gradient of an input that was not given, although no term reads it.
    private static let gradientsWithoutInput = ObjectiveSlot.allCases.map { slot in
        ObjectiveMistake(
            name: "gradient of \(slot) without input",
            message: "gradients.\(slot.rawValue) has a buffer, but its input is nil",
            concernsValue: false
        ) { objective, batch, gradients in
            for term in ObjectiveTerm.allCases where ObjectiveSlot.read(by: term).contains(slot.input) {
                objective.weights[term] = nil
            }
            batch.inputs[slot.input] = nil
            gradients = gradients.filter { $0.key.input != slot.input || $0.key == slot }
        }
    }

    /// An input with one element more than the shape asks for.
    private static let wrongInputs = ObjectiveSlot.inputs.map { slot in
        let count = ObjectiveBatch.faulty.inputs[slot]?.count ?? 0
        return ObjectiveMistake(
            name: "\(slot) too long",
            message: "\(slot.argument) has \(count + 1) elements, but the other arguments ask for \(count)"
        ) { _, batch, gradients in
            batch.inputs[slot]?.append(0)
            for gradient in ObjectiveSlot.allCases where gradient.input == slot {
                gradients[gradient]?.append(0)
            }
        }
    }

    /// A gradient with one element less than its input.
    private static let wrongGradients = ObjectiveSlot.allCases.map { slot in
        let count = ObjectiveBatch.faulty.inputs[slot.input]?.count ?? 0
        return ObjectiveMistake(
            name: "gradient of \(slot) too short",
            message:
                "gradients.\(slot.rawValue) has \(count - 1) elements, "
                + "but the other arguments ask for \(count)",
            concernsValue: false
        ) { _, _, gradients in gradients[slot]?.removeLast() }
    }

    private static let notFinite: [ObjectiveMistake] = ObjectiveTerm.allCases.map { term in
        ObjectiveMistake(name: "weight of \(term)", message: "weights.\(term) is inf, but it must be finite")
        {
            objective, _, _ in objective.weights[term] = .infinity
        }
    }

    private static let others: [ObjectiveMistake] = [
        ObjectiveMistake(
            name: "targets too short", message: "targets has 14 elements, but the other arguments ask for 15"
        ) { _, batch, _ in batch.targets.removeLast() },
        ObjectiveMistake(
            name: "mask too short", message: "mask has 14 elements, but the other arguments ask for 15"
        ) { _, batch, _ in batch.mask?.removeLast() },
        ObjectiveMistake(
            name: "cell types of another batch",
            message: "cellTypes.labels has 2 elements, but the other arguments ask for 3"
        ) { _, batch, gradients in
            batch.cellTypeLabels.removeLast()
            batch.inputs[.cellTypeLogits]?.removeLast(4)
            gradients[.cellTypeLogits]?.removeLast(4)
        },
        ObjectiveMistake(
            name: "batch labels of another batch",
            message: "batches.labels has 4 elements, but the other arguments ask for 3"
        ) { _, batch, gradients in
            batch.batchLabels.append(0)
            batch.inputs[.batchLogits]?.append(contentsOf: [0, 0, 0])
            gradients[.batchLogits]?.append(contentsOf: [0, 0, 0])
            gradients[.reversedBatchLogits]?.append(contentsOf: [0, 0, 0])
        },
        ObjectiveMistake(
            name: "impossible shape",
            message: "a shape of -3 rows and 5 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int"
        ) { _, batch, _ in batch.shape.rows = -3 },
        ObjectiveMistake(
            name: "shape beyond Int",
            message: "a shape of \(Int.max) rows and 5 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int"
        ) { _, batch, _ in batch.shape.rows = .max },
        ObjectiveMistake(
            name: "impossible shape without value terms",
            message: "a shape of 3 rows and -1 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int"
        ) { objective, batch, _ in
            objective.weights = TermValues(cellType: 1)
            batch.shape.columns = -1
        },
        ObjectiveMistake(
            name: "negative width",
            message: "a shape of 3 rows and -4 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int"
        ) { _, batch, _ in batch.width = -4 },
        ObjectiveMistake(
            name: "negative number of classes",
            message: "a shape of 3 rows and -1 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int"
        ) { _, batch, _ in batch.batchCount = -1 },
        ObjectiveMistake(
            name: "cell type out of range",
            message: "label -1 in row 1 of cellTypes.labels is neither a class (0 to 3) nor the ignored label"
        ) { _, batch, _ in batch.cellTypeLabels[1] = -1 },
        ObjectiveMistake(
            name: "batch label out of range",
            message: "label 3 in row 2 of batches.labels is neither a class (0 to 2) nor the ignored label"
        ) { _, batch, _ in batch.batchLabels[2] = 3 },
        ObjectiveMistake(
            name: "empty mask",
            message: "TotalObjective has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)"
        ) { _, batch, _ in batch.mask = batch.targets.map { _ in false } },
        ObjectiveMistake(
            name: "only ignored cell types",
            message: "CrossEntropy of cellTypes.labels has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)"
        ) { _, batch, _ in batch.cellTypeLabels = [-100, -100, -100] },
        ObjectiveMistake(
            name: "only ignored batch labels",
            message: "CrossEntropy of batches.labels has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)"
        ) { _, batch, _ in batch.batchLabels = [-100, -100, -100] },
        ObjectiveMistake(
            name: "no cells",
            message: "CrossEntropy of cellTypes.labels has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)"
        ) { _, batch, gradients in
            batch = .random(cells: 0, tokens: 5, width: 4)
            gradients = batch.untouchedGradients
        },
        ObjectiveMistake(name: "lambda", message: "lambda is nan, but it must be finite") { objective, _, _ in
            objective.domainAdversarial.reversal.lambda = .nan
        },
        ObjectiveMistake(
            name: "threshold", message: "threshold is 1.5, but it must be between -1 and 1"
        ) { objective, _, _ in objective.elasticCellSimilarity.threshold = 1.5 },
        ObjectiveMistake(
            name: "temperature", message: "temperature is 0, but it must be above 0 and finite"
        ) { objective, _, _ in objective.contrastiveCellEmbedding.temperature = 0 },
        ObjectiveMistake(
            name: "gradient scale", message: "gradientScale is nan, but it must be finite",
            concernsValue: false,
            gradientScale: .nan
        ) { _, _, _ in },
        ObjectiveMistake(
            name: "weight times gradient scale",
            message:
                "weight · gradientScale is 2.0416940798311732e+39, but it must be at most 3.4e38 in magnitude",
            concernsValue: false, gradientScale: .greatestFiniteMagnitude
        ) { _, _, _ in },
    ]

    static let mistakes =
        missingInputs + gradientsWithoutInput + wrongInputs + wrongGradients + notFinite + others

    // MARK: - The tests

    @Test(arguments: mistakes)
    func aMistakeIsNamedAndNothingIsWritten(_ mistake: ObjectiveMistake) {
        var objective = TotalObjectiveTests.everything
        var batch = ObjectiveBatch.faulty
        var buffers = batch.untouchedGradients
        mistake.make(&objective, &batch, &buffers)
        for update in [GradientUpdate.overwrite, .accumulate] {
            var gradients = buffers
            let error = #expect(throws: LossError.self) {
                try batch.valueAndGradient(
                    of: objective, gradients: &gradients, gradientScale: mistake.gradientScale, update: update
                )
            }
            #expect(error?.description == mistake.message)
            #expect(gradients == buffers)
        }
        if mistake.concernsValue {
            let error = #expect(throws: LossError.self) { try batch.value(of: objective) }
            #expect(error?.description == mistake.message)
        } else {
            #expect(throws: Never.self) { try batch.value(of: objective) }
        }
    }

    /// The one error that is found while gradients are being written, and says so.
    @Test(arguments: [Float.nan, -0.5, 1.5], [ObjectiveSlot.geneNonzero, .cellNonzero])
    func aProbabilityOutOfRangeIsNamed(_ probability: Float, in slot: ObjectiveSlot) throws {
        var batch = ObjectiveBatch.faulty
        let index = try #require(batch.selections.lastIndex(of: true))
        batch.inputs[slot]?[index] = probability
        let message =
            "probability \(probability) at element \(index) of \(slot.rawValue) is not in [0, 1]; "
            + "output buffers of this call hold unspecified values (for logits, use BernoulliNLL.Form.logits)"
        let error = #expect(throws: LossError.self) { try batch.evaluate(TotalObjectiveTests.everything) }
        #expect(error?.description == message)
        let valueError = #expect(throws: LossError.self) {
            try batch.value(of: TotalObjectiveTests.everything)
        }
        #expect(valueError?.description == message)
    }

    /// What no term reads may be anything: of another size, NaN, labels that are none, parameters out of
    /// range.
    @Test(arguments: ObjectiveTerm.allCases)
    func inputsOfTermsThatAreOffAreIgnored(_ term: ObjectiveTerm) throws {
        var objective = TotalObjectiveTests.everything
        for other in ObjectiveTerm.allCases where other != term { objective.weights[other] = nil }
        let expected = try ObjectiveBatch.faulty.evaluate(objective)

        var batch = ObjectiveBatch.faulty
        let read = ObjectiveSlot.read(by: term)
        for slot in ObjectiveSlot.inputs where !read.contains(slot) {
            batch.inputs[slot] = [Float](repeating: .nan, count: 5)
        }
        if term != .cellType {
            batch.cellTypeLabels = [-1]
            batch.cellTypeCount = -7
            objective.cellTypes.whenEmpty = .nan
        }
        if term != .batch {
            batch.batchLabels = [99]
            objective.domainAdversarial.reversal.lambda = .nan
        }
        if !read.contains(.cellEmbedding) { batch.width = -1 }
        if term != .elastic { objective.elasticCellSimilarity.threshold = .nan }
        if term != .contrastive { objective.contrastiveCellEmbedding.temperature = -1 }
        if Set(read).isDisjoint(with: ObjectiveSlot.values) {
            batch.targets = [.nan]
            batch.mask = []
        }
        let result = try batch.evaluate(objective)
        #expect(result.value == expected.value)
        for (slot, gradient) in result.gradients {
            if read.contains(slot.input) {
                expectSameBits(gradient, try #require(expected.gradients[slot]), "\(slot)")
            } else {
                #expect(gradient == [0, 0, 0, 0, 0], "\(slot)")
            }
        }
    }
}

extension ObjectiveBatch {
    /// The batch that the mistakes are made in: 3 cells of 5 tokens, embeddings of width 4, 4 cell types, 3
    /// batches.
    static let faulty = ObjectiveBatch.random(cells: 3, tokens: 5, width: 4)
}
