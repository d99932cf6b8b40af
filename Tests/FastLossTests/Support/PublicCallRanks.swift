// The public calls across ranks, as one of the ranks makes them, for the test of bounds.

import FastLoss

extension PublicCall {
    /// Every loss across ranks, of this rank's rows and of each element type. The ranks may have different numbers of
    /// cells.
    static func acrossRanks(
        _ ranks: ThreadCommunicator, cells: Int, tokens: Int, width: Int
    ) -> [PublicCall] {
        let batch = ObjectiveBatch.random(cells: cells, tokens: tokens, width: width)
        return calls(of: Float.self, batch, ranks) + calls(of: BFloat16.self, batch, ranks)
            + calls(of: Float16.self, batch, ranks)
    }

    private static func calls<Element: ModelOutputElement>(
        of type: Element.Type, _ batch: ObjectiveBatch, _ ranks: ThreadCommunicator
    ) -> [PublicCall] {
        let arrays = ObjectiveStorage<Element>(batch)
        let (first, second) = (arrays.cellEmbedding, arrays.secondCellEmbedding)
        let shape = MatrixShape(rows: batch.shape.rows, columns: batch.width)
        let name = "across ranks of \(type), \(batch.shape.rows)×\(batch.shape.columns)×\(batch.width)"

        func call(
            _ loss: String, _ counts: [Int],
            _ body: @escaping @Sendable (CallMemory, Workspace) throws -> Double
        ) -> PublicCall {
            type == Float.self
                ? PublicCall("\(loss) \(name)", outputs: counts, body: body)
                : PublicCall("\(loss) \(name)", sixteenBitOutputs: counts, body: body)
        }

        let values = [
            call("ElasticCellSimilarity, value,", []) { (memory, workspace) -> Double in
                try ElasticCellSimilarity(threshold: 0.3).value(
                    embeddings: memory.input(first), shape: shape, across: ranks, workspace: workspace
                ).value
            },
            call("ContrastiveCellEmbedding, value,", []) { (memory, workspace) -> Double in
                try ContrastiveCellEmbedding().value(
                    first: memory.input(first), second: memory.input(second), shape: shape, across: ranks,
                    workspace: workspace
                ).value
            },
            call("TotalObjective, value,", []) { (memory, workspace) -> Double in
                try everything.value(arrays.inputs(memory), across: ranks, workspace: workspace).total
            },
        ]
        let gradients = [GradientUpdate.overwrite, .accumulate].flatMap { update in
            [
                call("ElasticCellSimilarity, \(update),", [first.count]) { (memory, workspace) -> Double in
                    var gradient = memory.output(0, of: type)
                    return try ElasticCellSimilarity(threshold: 0.3).valueAndGradient(
                        embeddings: memory.input(first), shape: shape, gradient: &gradient, update: update,
                        across: ranks, workspace: workspace
                    ).value
                },
                call("ContrastiveCellEmbedding, \(update),", [first.count, second.count]) {
                    (memory, workspace) -> Double in
                    var firstGradient = memory.output(0, of: type)
                    var secondGradient = memory.output(1, of: type)
                    return try ContrastiveCellEmbedding().valueAndGradient(
                        first: memory.input(first), second: memory.input(second), shape: shape,
                        firstGradient: &firstGradient, secondGradient: &secondGradient, update: update,
                        across: ranks, workspace: workspace
                    ).value
                },
                call("TotalObjective, \(update),", gradientCounts(batch)) { (memory, workspace) -> Double in
                    var gradients = memory.objectiveGradients(of: type)
                    return try everything.valueAndGradient(
                        arrays.inputs(memory), gradients: &gradients, update: update, across: ranks,
                        workspace: workspace
                    ).total
                },
            ]
        }
        return values + gradients
    }
}
