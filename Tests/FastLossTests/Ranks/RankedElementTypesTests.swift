// 16-bit outputs of a batch that is spread over ranks: the results of the widened outputs to the bit, and their
// gradients rounded once.

import FastLoss
import RankThreads
import Testing

@Suite struct RankedElementTypesTests {
    /// What a rank computes: its value, and its gradients.
    private typealias Outcome<Element> = (value: Double, gradients: [[Element]])

    /// Expects the same from 16-bit outputs as from the widened ones, on top of the same contents.
    private func check<Element: SixteenBits>(
        _: Element.Type, _ update: GradientUpdate, ranks: Int, _ label: String,
        _ floats: @escaping @Sendable (ThreadCommunicator, GradientUpdate) throws -> Outcome<Float>,
        _ elements: @escaping @Sendable (ThreadCommunicator, GradientUpdate) throws -> Outcome<Element>
    ) throws {
        let expected = try onRanks(ranks) { try floats($0, update) }.map { try $0.get() }
        let found = try onRanks(ranks) { try elements($0, update) }.map { try $0.get() }
        for (rank, (one, other)) in zip(found, expected).enumerated() {
            #expect(one.value == other.value && other.value.isFinite, "\(label), rank \(rank)")
            for (gradient, exact) in zip(one.gradients, other.gradients) {
                expectBits(gradient, exact, "\(Element.self), \(label), rank \(rank), \(update)")
            }
        }
    }

    /// Numbers that gradients are added to, and that are overwritten.
    private static func start<Element: ModelOutputElement>(_ count: Int) -> [Element] {
        (0..<count).map { Element(Float($0 % 7) / 4 - 0.5) }
    }

    @Sendable private static func elastic<Element: ModelOutputElement>(
        _ embeddings: [Element], _ batch: RankBatch, _ rank: ThreadCommunicator, _ update: GradientUpdate
    ) throws -> Outcome<Element> {
        let own = batch.part(rank.rank, of: embeddings)
        var gradient: [Element] = start(own.count)
        var span = gradient.mutableSpan
        let (loss, shape) = (ElasticCellSimilarity(threshold: 0.3), batch.shape(of: rank.rank))
        let value = try loss.valueAndGradient(
            embeddings: own.span, shape: shape, gradient: &span, gradientScale: 100, update: update,
            across: rank, workspace: Workspace(workers: 2))
        let alone = try loss.value(
            embeddings: own.span, shape: shape, across: rank, workspace: Workspace(workers: 2))
        #expect(alone == value)
        return (value.value, [gradient])
    }

    @Sendable private static func contrastive<Element: ModelOutputElement>(
        _ first: [Element], _ second: [Element], _ batch: RankBatch, _ rank: ThreadCommunicator,
        _ update: GradientUpdate
    ) throws -> Outcome<Element> {
        let (ownFirst, ownSecond) = (batch.part(rank.rank, of: first), batch.part(rank.rank, of: second))
        var ofFirst: [Element] = start(ownFirst.count)
        var ofSecond: [Element] = start(ownSecond.count)
        var firstSpan = ofFirst.mutableSpan
        var secondSpan = ofSecond.mutableSpan
        let value = try ContrastiveCellEmbedding().valueAndGradient(
            first: ownFirst.span, second: ownSecond.span, shape: batch.shape(of: rank.rank),
            firstGradient: &firstSpan, secondGradient: &secondSpan, gradientScale: 100, update: update,
            across: rank, workspace: Workspace(workers: 2))
        return (value.value, [ofFirst, ofSecond])
    }

    @Sendable private static func objective<Element: ModelOutputElement>(
        _ whole: ObjectiveBatch, _ counts: [Int], _ rank: ThreadCommunicator, _ update: GradientUpdate,
        of _: Element.Type
    ) throws -> Outcome<Element> {
        let own = whole.part(rank.rank, counts)
        let objective = TotalObjectiveTests.everything
        let memory = TypedObjectiveMemory<Element>(
            own, gradients: own.untouchedGradients.mapValues { start($0.count) })
        let value = try memory.valueAndGradient(
            of: objective, gradientScale: 64, update: update, across: rank, workspace: Workspace(workers: 2))
        let alone = try memory.value(of: objective, across: rank, workspace: Workspace(workers: 1))
        #expect(alone == value)
        return (value.total, ObjectiveSlot.allCases.map { Array(memory.gradients[$0]!) })
    }

    @Test(arguments: [1, 2, 3, 5], [GradientUpdate.overwrite, .accumulate])
    func `results are those of the widened outputs`(ranks: Int, update: GradientUpdate) throws {
        func check<Element: SixteenBits>(_ type: Element.Type) throws {
            for batch in RankBatch.all(ranks: ranks) {
                var random = RandomInputs(seed: 19)
                let floats = random.embeddings(rows: batch.rows, columns: batch.columns)
                let second = random.secondEncoding(of: floats).map { Element($0) }
                let first = floats.map { Element($0) }
                let (widened, widenedSecond) = (first.map(\.float), second.map(\.float))
                try self.check(
                    type, update, ranks: ranks, "ECS, \(batch.counts)",
                    { try Self.elastic(widened, batch, $0, $1) }, { try Self.elastic(first, batch, $0, $1) })
                try self.check(
                    type, update, ranks: ranks, "CCE, \(batch.counts)",
                    { try Self.contrastive(widened, widenedSecond, batch, $0, $1) },
                    { try Self.contrastive(first, second, batch, $0, $1) })
                var whole = ObjectiveBatch.random(cells: batch.rows, tokens: 19, width: batch.columns)
                whole.inputs = whole.inputs.mapValues { $0.map { Element($0).float } }
                let objectiveBatch = whole
                try self.check(
                    type, update, ranks: ranks, "the objective, \(batch.counts)",
                    { try Self.objective(objectiveBatch, batch.counts, $0, $1, of: Float.self) },
                    { try Self.objective(objectiveBatch, batch.counts, $0, $1, of: type) })
            }
        }
        try check(BFloat16.self)
        try check(Float16.self)
    }
}
