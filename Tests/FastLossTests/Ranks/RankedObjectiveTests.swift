// The total objective of a batch that is spread over ranks: value, terms and every gradient are those of one
// process.

import FastLoss
import RankThreads
import Testing

@Suite struct RankedObjectiveTests {
    private let objective = TotalObjectiveTests.everything

    private func evaluate(
        _ batch: ObjectiveBatch, _ counts: [Int], objective: TotalObjective = TotalObjectiveTests.everything,
        update: GradientUpdate = .overwrite, start: Float = .nan
    ) throws -> (values: [ObjectiveValue], gradients: [ObjectiveSlot: [Float]]) {
        let parts = counts.indices.map { batch.part($0, counts) }
        let results = try onRanks(counts.count) { rank in
            let own = parts[rank.rank]
            let memory = ObjectiveMemory(
                own,
                gradients: own.untouchedGradients.mapValues { $0.map { _ in start } })
            let value = try objective.valueAndGradient(
                memory.buffers, gradients: memory.gradientBuffers, gradientScale: 2, update: update,
                across: rank, workspace: Workspace(workers: 2))
            let alone = try objective.value(memory.buffers, across: rank, workspace: Workspace(workers: 1))
            #expect(alone == value)
            return (value, memory.gradients.mapValues { Array($0) })
        }.map { try $0.get() }
        var gradients: [ObjectiveSlot: [Float]] = [:]
        for slot in ObjectiveSlot.allCases { gradients[slot] = results.flatMap { $0.1[slot] ?? [] } }
        return (results.map(\.0), gradients)
    }

    @Test(arguments: 1...5)
    func `every term is that of one process`(ranks: Int) throws {
        for batch in RankBatch.all(ranks: ranks) where batch.rows <= 200 {
            let whole = ObjectiveBatch.random(cells: batch.rows, tokens: 19, width: batch.columns)
            let (expected, gradients) = try whole.evaluate(objective, gradientScale: 2)
            let (values, found) = try evaluate(whole, batch.counts)
            for value in values {
                #expect(value == values[0])
                expectClose(value.total, expected.total, Tolerances.acrossRanksValue, "total")
                for term in ObjectiveTerm.allCases {
                    expectClose(
                        try #require(value.values[term]), try #require(expected.values[term]),
                        Tolerances.acrossRanksValue, "\(term)")
                }
                expectClose(
                    try #require(value.relativeError), try #require(expected.relativeError),
                    Tolerances.acrossRanksValue, "relative error")
                #expect(value.selectedCount == expected.selectedCount)
            }
            for slot in ObjectiveSlot.allCases {
                let distance = relativeDistance(try #require(found[slot]), try #require(gradients[slot]))
                #expect(distance <= Tolerances.acrossRanksGradient, "\(slot), \(batch.counts)")
            }
            let sums = try evaluate(whole, batch.counts, update: .accumulate, start: 0.5).gradients
            for slot in ObjectiveSlot.allCases {
                let sum = try #require(gradients[slot]).map { $0 + 0.5 }
                let distance = relativeDistance(try #require(sums[slot]), sum)
                #expect(distance <= Tolerances.acrossRanksGradient, "\(slot), accumulated")
            }
        }
    }

    /// Found by the fuzzer: sums of losses add up, and means are weighted by what each rank selects.
    @Test func `sums of classification losses`() throws {
        var objective = objective
        objective.cellTypes.reduction = .sum
        objective.domainAdversarial.crossEntropy.reduction = .sum
        let whole = ObjectiveBatch.random(cells: 12, tokens: 7, width: 5)
        let (expected, gradients) = try whole.evaluate(objective, gradientScale: 2)
        let (values, found) = try evaluate(whole, [4, 0, 5, 3], objective: objective)
        expectClose(values[2].total, expected.total, Tolerances.acrossRanksValue, "total")
        for slot in ObjectiveSlot.allCases {
            #expect(
                relativeDistance(try #require(found[slot]), try #require(gradients[slot]))
                    <= Tolerances.acrossRanksGradient, "\(slot)")
        }
    }

    /// NaN where no term reads it is no disagreement.
    @Test func `an argument that is not read is NaN`() throws {
        var objective = TotalObjective(weights: TermValues(maskedGene: 1))
        objective.domainAdversarial.reversal.lambda = .nan
        let whole = ObjectiveBatch.random(cells: 6, tokens: 7, width: 5)
        let expected = try objective.value(whole.arrays, workspace: Workspace(workers: 1))
        let parts = (0..<2).map { whole.part($0, [3, 3]) }
        for result in onRanks(
            2,
            { [objective] rank in
                try objective.value(parts[rank.rank].arrays, across: rank, workspace: Workspace(workers: 1))
            })
        {
            expectClose(
                try result.get().total, expected.total, Tolerances.acrossRanksValue, "total")
        }
    }

    /// A rank whose mask selects nothing and whose labels are all ignored adds nothing.
    @Test func `a rank without selections`() throws {
        var whole = ObjectiveBatch.random(cells: 12, tokens: 7, width: 5)
        for index in 0..<4 * 7 { whole.mask?[index] = false }
        for index in 0..<4 { whole.cellTypeLabels[index] = -100 }
        for index in 0..<4 { whole.batchLabels[index] = -100 }
        let (expected, gradients) = try whole.evaluate(objective, gradientScale: 2)
        let (values, found) = try evaluate(whole, [4, 5, 3])
        expectClose(values[2].total, expected.total, Tolerances.acrossRanksValue, "total")
        for slot in ObjectiveSlot.allCases {
            #expect(
                relativeDistance(try #require(found[slot]), try #require(gradients[slot]))
                    <= Tolerances.acrossRanksGradient, "\(slot)")
        }
    }

    @Test func `no rank selects anything`() throws {
        var whole = ObjectiveBatch.random(cells: 6, tokens: 7, width: 5)
        whole.mask = whole.mask?.map { _ in false }
        let parts = (0..<2).map { whole.part($0, [3, 3]) }
        let objective = objective
        for result in onRanks(
            2,
            { rank in
                _ = try objective.value(
                    parts[rank.rank].arrays, across: rank, workspace: Workspace(workers: 1))
            })
        {
            #expect(throws: LossError.emptySelection(loss: "TotalObjective", row: nil)) { try result.get() }
        }
    }

    /// A probability out of range is found in the middle of the computation.
    @Test func `a rank with a wrong probability`() throws {
        var whole = ObjectiveBatch.random(cells: 6, tokens: 7, width: 5)
        whole.mask = whole.mask?.map { _ in true }
        whole.inputs[.geneNonzero]?[3 * 7 + 2] = 1.5
        let parts = (0..<2).map { whole.part($0, [3, 3]) }
        let objective = objective
        let results = onRanks(2) { rank in
            _ = try objective.value(parts[rank.rank].arrays, across: rank, workspace: Workspace(workers: 1))
        }
        #expect(throws: LossError.rankFailed(rank: 1)) { try results[0].get() }
        #expect(
            throws: LossError.probabilityOutOfRange(argument: "geneNonzero", probability: 1.5, index: 2)
        ) { try results[1].get() }
    }

    @Test func `weights that differ`() throws {
        let whole = ObjectiveBatch.random(cells: 6, tokens: 7, width: 5)
        let parts = (0..<2).map { whole.part($0, [3, 3]) }
        let objective = objective
        for result in onRanks(
            2,
            { rank in
                var objective = objective
                if rank.rank == 1 { objective.weights.cellGene = 7 }
                _ = try objective.value(
                    parts[rank.rank].arrays, across: rank, workspace: Workspace(workers: 1))
            })
        {
            #expect(
                throws: LossError.ranksDisagree(
                    argument: "weights.cellGene", value: 7, rank: 1, otherValue: 0.25, otherRank: 0)
            ) { try result.get() }
        }
    }
}

extension ObjectiveBatch {
    /// The cells of one rank.
    func part(_ rank: Int, _ counts: [Int]) -> ObjectiveBatch {
        let cells = RankBatch(counts: counts, columns: 1)
        var part = self
        part.shape.rows = counts[rank]
        func rows<Element>(_ elements: [Element]) -> [Element] {
            cells.part(rank, of: elements, width: elements.count / max(1, shape.rows))
        }
        part.targets = rows(targets)
        part.mask = mask.map(rows)
        part.cellTypeLabels = rows(cellTypeLabels)
        part.batchLabels = rows(batchLabels)
        part.inputs = inputs.mapValues(rows)
        return part
    }
}
