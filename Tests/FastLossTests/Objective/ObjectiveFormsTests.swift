// The objective's three forms: arrays and buffer pointers give what spans give, and refuse what spans refuse.

import FastLoss
import Testing

@Suite struct ObjectiveFormsTests {
    private let objective = TotalObjectiveTests.everything

    // MARK: - Results

    @Test(arguments: [(1, 1, 1), (7, 19, 6), (131, 40, 9)], [GradientUpdate.overwrite, .accumulate])
    func arraysAndBuffersGiveTheBitsOfSpans(_ size: (Int, Int, Int), _ update: GradientUpdate) throws {
        let batch = ObjectiveBatch.random(cells: size.0, tokens: size.1, width: size.2)
        var random = RandomInputs(seed: 5)
        let before = batch.untouchedGradients.mapValues { random.normals($0.count) }
        var expected = before
        let value = try batch.valueAndGradient(
            of: objective, gradients: &expected, gradientScale: 0.25, update: update)

        var gradients = ObjectiveGradientArrays(before)
        let workspace = Workspace()
        let fromArrays = try objective.valueAndGradient(
            batch.arrays, gradients: &gradients, gradientScale: 0.25, update: update, workspace: workspace)
        #expect(fromArrays == value)
        #expect(try objective.value(batch.arrays, workspace: workspace) == value)
        let memory = ObjectiveMemory(batch, gradients: before)
        let fromBuffers = try objective.valueAndGradient(
            memory.buffers, gradients: memory.gradientBuffers, gradientScale: 0.25, update: update,
            workspace: workspace)
        #expect(fromBuffers == value)
        #expect(try objective.value(memory.buffers, workspace: workspace) == value)
        for slot in ObjectiveSlot.allCases {
            let bits = try #require(expected[slot])
            expectSameBits(try #require(gradients[slot]), bits, "arrays, \(slot)")
            expectSameBits(Array(try #require(memory.gradients[slot])), bits, "buffers, \(slot)")
        }
    }

    @Test func zerosHaveTheSizesOfTheirInputs() {
        let batch = ObjectiveBatch.faulty
        let zeros = ObjectiveGradientArrays(zerosFor: batch.arrays)
        for slot in ObjectiveSlot.allCases {
            #expect(zeros[slot] == batch.inputs[slot.input]?.map { _ in 0 }, "\(slot)")
        }
        let none = ObjectiveGradientArrays(zerosFor: ObjectiveArrays(shape: batch.shape))
        #expect(ObjectiveSlot.allCases.allSatisfy { none[$0] == nil })
    }

    /// A gradient array may begin as a copy of an input, whose elements it shares: the input stays.
    @Test func aGradientThatSharesItsElementsLeavesTheOther() throws {
        let batch = ObjectiveBatch.random(cells: 7, tokens: 19, width: 6)
        let inputs = batch.arrays
        var gradients = ObjectiveGradientArrays(
            genePredictions: inputs.genePredictions, geneNonzero: inputs.genePredictions,
            cellEmbedding: inputs.cellEmbedding)
        _ = try objective.valueAndGradient(inputs, gradients: &gradients, workspace: Workspace())
        let expected = try batch.evaluate(objective).gradients
        for slot in [ObjectiveSlot.genePredictions, .geneNonzero, .cellEmbedding] {
            expectSameBits(try #require(gradients[slot]), try #require(expected[slot]), "\(slot)")
        }
        expectSameBits(try #require(inputs.genePredictions), try #require(batch.inputs[.genePredictions]))
        expectSameBits(try #require(inputs.cellEmbedding), try #require(batch.inputs[.cellEmbedding]))
    }

    // MARK: - Errors

    @Test(arguments: ObjectiveInputsTests.mistakes)
    func mistakesAreTheSameInEveryForm(_ mistake: ObjectiveMistake) {
        var objective = objective
        var batch = ObjectiveBatch.faulty
        var buffers = batch.untouchedGradients
        mistake.make(&objective, &batch, &buffers)
        var gradients = ObjectiveGradientArrays(buffers)
        expectError(mistake.message) { () throws(LossError) in
            _ = try objective.valueAndGradient(
                batch.arrays, gradients: &gradients, gradientScale: mistake.gradientScale,
                workspace: Workspace())
        }
        let memory = ObjectiveMemory(batch, gradients: buffers)
        expectError(mistake.message) { () throws(LossError) in
            _ = try objective.valueAndGradient(
                memory.buffers, gradients: memory.gradientBuffers, gradientScale: mistake.gradientScale,
                workspace: Workspace())
        }
        for slot in ObjectiveSlot.allCases {
            #expect(gradients[slot] == buffers[slot])
            #expect(memory.gradients[slot].map { Array($0) } == buffers[slot])
        }
        let message = mistake.concernsValue ? mistake.message : nil
        expectError(message) { () throws(LossError) in
            _ = try objective.value(batch.arrays, workspace: Workspace())
        }
        expectError(message) { () throws(LossError) in
            _ = try objective.value(memory.buffers, workspace: Workspace())
        }
    }

    @Test(arguments: ObjectiveTerm.valueTerms.indices.map { ObjectiveTerm.valueTerms[$0] })
    func missingTargetsAreNamed(_ term: ObjectiveTerm) {
        var objective = objective
        for other in ObjectiveTerm.allCases where other != term { objective.weights[other] = nil }
        var inputs = ObjectiveBatch.faulty.arrays
        inputs.targets = nil
        expectError("the objective's term .\(term) is on, but its input targets is nil") {
            () throws(LossError) in _ = try objective.value(inputs, workspace: Workspace())
        }
    }

    @Test func overlappingBuffersAreRefused() throws {
        let memory = ObjectiveMemory(.faulty, gradients: ObjectiveBatch.faulty.untouchedGradients)
        memory.gradients[.geneNonzero] = memory.inputs[.cellNonzero]
        expectError("output gradients.geneNonzero shares memory with cellNonzero") { () throws(LossError) in
            _ = try objective.valueAndGradient(
                memory.buffers, gradients: memory.gradientBuffers, workspace: Workspace())
        }
        memory.gradients[.geneNonzero] = memory.gradients[.genePredictions]
        expectError("output gradients.geneNonzero shares memory with gradients.genePredictions") {
            () throws(LossError) in
            _ = try objective.valueAndGradient(
                memory.buffers, gradients: memory.gradientBuffers, workspace: Workspace())
        }
    }

    // MARK: - Where the arrays may stand

    private struct Storage {
        var inputs: ObjectiveArrays
        var gradients: ObjectiveGradientArrays

        mutating func run(_ objective: TotalObjective) throws(LossError) -> ObjectiveValue {
            try objective.valueAndGradient(inputs, gradients: &gradients, workspace: Workspace())
        }
    }

    private actor Owner {
        var storage: Storage
        init(_ storage: Storage) { self.storage = storage }

        func run(_ objective: TotalObjective) throws(LossError) -> (ObjectiveValue, ObjectiveGradientArrays) {
            (try storage.run(objective), storage.gradients)
        }
    }

    @Test func arraysOfAStructInAnActor() async throws {
        let batch = ObjectiveBatch.random(cells: 7, tokens: 19, width: 6)
        let owner = Owner(
            Storage(inputs: batch.arrays, gradients: ObjectiveGradientArrays(zerosFor: batch.arrays)))
        let (value, gradients) = try await owner.run(objective)
        let expected = try batch.evaluate(objective)
        #expect(value == expected.value)
        for slot in ObjectiveSlot.allCases {
            expectSameBits(try #require(gradients[slot]), try #require(expected.gradients[slot]), "\(slot)")
        }
    }
}

// MARK: - A batch in the other forms

extension ObjectiveBatch {
    var arrays: ObjectiveArrays {
        func classification(
            _ slot: ObjectiveSlot, _ labels: [Int32], _ classes: Int
        )
            -> ClassificationArrays?
        {
            inputs[slot].map { ClassificationArrays(logits: $0, labels: labels, classes: classes) }
        }
        return ObjectiveArrays(
            shape: shape, targets: targets, mask: mask, genePredictions: inputs[.genePredictions],
            geneNonzero: inputs[.geneNonzero], cellPredictions: inputs[.cellPredictions],
            cellNonzero: inputs[.cellNonzero], generatedPredictions: inputs[.generatedPredictions],
            width: width, cellEmbedding: inputs[.cellEmbedding],
            secondCellEmbedding: inputs[.secondCellEmbedding],
            cellTypes: classification(.cellTypeLogits, cellTypeLabels, cellTypeCount),
            batches: classification(.batchLogits, batchLabels, batchCount))
    }
}

extension ObjectiveMemory {
    var buffers: ObjectiveBuffers {
        func buffer<Element>(_ buffer: UnsafeMutableBufferPointer<Element>?) -> UnsafeBufferPointer<Element>?
        {
            buffer.map { UnsafeBufferPointer($0) }
        }
        func classification(
            _ slot: ObjectiveSlot, _ labels: UnsafeMutableBufferPointer<Int32>, _ classes: Int
        ) -> ClassificationBuffers? {
            buffer(inputs[slot]).map {
                ClassificationBuffers(logits: $0, labels: UnsafeBufferPointer(labels), classes: classes)
            }
        }
        return ObjectiveBuffers(
            shape: batch.shape, targets: buffer(targets), mask: buffer(mask),
            genePredictions: buffer(inputs[.genePredictions]), geneNonzero: buffer(inputs[.geneNonzero]),
            cellPredictions: buffer(inputs[.cellPredictions]), cellNonzero: buffer(inputs[.cellNonzero]),
            generatedPredictions: buffer(inputs[.generatedPredictions]), width: batch.width,
            cellEmbedding: buffer(inputs[.cellEmbedding]),
            secondCellEmbedding: buffer(inputs[.secondCellEmbedding]),
            cellTypes: classification(.cellTypeLogits, cellTypeLabels, batch.cellTypeCount),
            batches: classification(.batchLogits, batchLabels, batch.batchCount))
    }

    var gradientBuffers: ObjectiveGradientBuffers {
        ObjectiveGradientBuffers(
            genePredictions: gradients[.genePredictions], geneNonzero: gradients[.geneNonzero],
            cellPredictions: gradients[.cellPredictions], cellNonzero: gradients[.cellNonzero],
            generatedPredictions: gradients[.generatedPredictions],
            cellEmbedding: gradients[.cellEmbedding], secondCellEmbedding: gradients[.secondCellEmbedding],
            cellTypeLogits: gradients[.cellTypeLogits], batchLogits: gradients[.batchLogits],
            reversedBatchLogits: gradients[.reversedBatchLogits])
    }
}

extension ObjectiveGradientFields<[Float]> {
    init(_ gradients: [ObjectiveSlot: [Float]]) {
        self.init(
            genePredictions: gradients[.genePredictions], geneNonzero: gradients[.geneNonzero],
            cellPredictions: gradients[.cellPredictions], cellNonzero: gradients[.cellNonzero],
            generatedPredictions: gradients[.generatedPredictions],
            cellEmbedding: gradients[.cellEmbedding], secondCellEmbedding: gradients[.secondCellEmbedding],
            cellTypeLogits: gradients[.cellTypeLogits], batchLogits: gradients[.batchLogits],
            reversedBatchLogits: gradients[.reversedBatchLogits])
    }

    subscript(slot: ObjectiveSlot) -> [Float]? {
        switch slot {
        case .genePredictions: genePredictions
        case .geneNonzero: geneNonzero
        case .cellPredictions: cellPredictions
        case .cellNonzero: cellNonzero
        case .generatedPredictions: generatedPredictions
        case .cellEmbedding: cellEmbedding
        case .secondCellEmbedding: secondCellEmbedding
        case .cellTypeLogits: cellTypeLogits
        case .batchLogits: batchLogits
        case .reversedBatchLogits: reversedBatchLogits
        }
    }
}
