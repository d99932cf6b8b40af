// The examples of the documentation, run.

import FastLoss
import Testing

@Suite struct ExamplesTests {
    private let batch = ObjectiveBatch.random(cells: 7, tokens: 19, width: 6)

    private func input(_ slot: ObjectiveSlot) throws -> [Float] { try #require(batch.inputs[slot]) }

    private func cells() throws -> CellBatch {
        CellBatch(
            targets: batch.targets, mask: try #require(batch.mask), batchLabels: batch.batchLabels)
    }

    @Test func singleLossHasTheValuesOfItsComment() throws {
        let (loss, gradient) = try singleLoss()
        #expect(loss == LossValue(value: 2, selectedCount: 2))
        #expect(gradient == [0, 2, 0])
    }

    @Test func theTrainingClassTrains() throws {
        let cells = try cells()
        let trainer = Trainer(
            model: ToyModel(
                cells: 7, genes: 19, width: 6,
                parameters: ModelOutput(
                    genes: try input(.genePredictions), embedding: try input(.cellEmbedding))))
        let totals = try (0..<30).map { _ in try trainer.step(on: cells).total }
        #expect(zip(totals, totals.dropFirst()).allSatisfy { $0 > $1 })
    }

    /// Two micro-batches that share the cells of one batch have its gradient in turns.
    @Test func microBatchesAccumulateTheirMean() throws {
        let objective = TotalObjective(weights: TermValues(maskedGene: 1, elastic: 10))
        let first = try cells()
        var second = first
        second.targets.reverse()
        second.mask = second.mask.map { !$0 }
        let output = ObjectiveArrays(
            shape: batch.shape, genePredictions: try input(.genePredictions), width: batch.width,
            cellEmbedding: try input(.cellEmbedding))
        var gradients = ObjectiveGradientArrays(zerosFor: output)
        let total = try accumulate(
            objective, over: [first, second], output, into: &gradients, workspace: Workspace())

        var totals = 0.0
        var sums = ModelOutput(genes: [], embedding: [])
        for micro in [first, second] {
            let genes = try MaskedMSE().valueAndGradient(
                predictions: input(.genePredictions), targets: micro.targets, mask: micro.mask)
            let elastic = try ElasticCellSimilarity().valueAndGradient(
                embeddings: input(.cellEmbedding), shape: MatrixShape(rows: 7, columns: 6))
            totals += genes.loss.value + 10 * elastic.loss.value
            sums.genes = sums.genes.isEmpty ? genes.gradient : zip(sums.genes, genes.gradient).map(+)
            let scaled = elastic.gradient.map { 10 * $0 }
            sums.embedding = sums.embedding.isEmpty ? scaled : zip(sums.embedding, scaled).map(+)
        }
        #expect(abs(total - totals / 2) <= 1e-12 * abs(total))
        expectNormwise(
            actual: try #require(gradients.genePredictions), oracle: sums.genes.map { Double($0) / 2 },
            tolerance: Tolerances.accuracyRule)
        expectNormwise(
            actual: try #require(gradients.cellEmbedding), oracle: sums.embedding.map { Double($0) / 2 },
            tolerance: Tolerances.accuracyRule)
    }

    @Test func integrationHasAllItsTermsAndGradients() throws {
        let output = IntegrationOutput(
            genes: try input(.genePredictions), genesNonzero: try input(.geneNonzero),
            fromCell: try input(.cellPredictions), fromCellNonzero: try input(.cellNonzero),
            embedding: try input(.cellEmbedding), batchLogits: try input(.batchLogits))
        let (value, gradients) = try integrate(
            cells: 7, genes: 19, width: 6, batchCount: batch.batchCount, output, cells())
        let (expected, buffers) = try batch.evaluate(.integration())
        #expect(value == expected)
        for (gradient, slot) in [
            (gradients.genePredictions, ObjectiveSlot.genePredictions), (gradients.geneNonzero, .geneNonzero),
            (gradients.cellPredictions, .cellPredictions), (gradients.cellNonzero, .cellNonzero),
            (gradients.cellEmbedding, .cellEmbedding), (gradients.batchLogits, .batchLogits),
            (gradients.reversedBatchLogits, .reversedBatchLogits),
        ] {
            expectSameBits(try #require(gradient), try #require(buffers[slot]), "\(slot)")
        }
        #expect(gradients.cellTypeLogits == nil)
    }
}
