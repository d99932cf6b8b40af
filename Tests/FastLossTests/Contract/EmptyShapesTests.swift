// Shapes without elements: for any other side the result comes at once and needs no scratch memory.

import FastLoss
import Foundation
import Testing

@Suite(.timeLimit(.minutes(1))) struct EmptyShapesTests {
    /// More cells than any loop gets through.
    private static let many = 1 << 40

    @Test(arguments: TokenPooling.allCases, [1, 1 << 20, (1 << 31) - 1, Int.max])
    func noCellsOfAnyWidth(_ pooling: TokenPooling, width: Int) throws {
        let workspace = Workspace(workers: 4)
        let shape = TokenShape(cells: 0, tokens: 1, width: width)
        var embeddings = MutableSpan<Float>()
        var gradient = MutableSpan<Float>()
        try pooling.value(states: Span(), shape: shape, embeddings: &embeddings, workspace: workspace)
        try pooling.gradient(
            embeddingGradient: Span(), shape: shape, gradient: &gradient, workspace: workspace)
        #expect(workspace.byteCount == 0)
    }

    @Test(arguments: TokenPooling.allCases) func manyCellsWithoutWidth(_ pooling: TokenPooling) throws {
        let workspace = Workspace(workers: 4)
        let shape = TokenShape(cells: Self.many, tokens: 3, width: 0)
        var embeddings = MutableSpan<Float>()
        var gradient = MutableSpan<Float>()
        try pooling.value(states: Span(), shape: shape, embeddings: &embeddings, workspace: workspace)
        try pooling.gradient(
            embeddingGradient: Span(), shape: shape, gradient: &gradient, workspace: workspace)
        #expect(workspace.byteCount == 0)
    }

    /// Cells of weighted pooling, their tokens, their width and the weightings, so that no array has
    /// elements.
    @Test(arguments: [(many, 0, 0, 1), (many, 0, 0, 5), (many, 0, 9, 0), (0, 7, (1 << 31) - 1, 5)])
    func weightedPooling(cells: Int, tokens: Int, width: Int, weightings: Int) throws {
        let workspace = Workspace(workers: 4)
        let shape = TokenShape(cells: cells, tokens: tokens, width: width)
        var embeddings = MutableSpan<Float>()
        var gradient = MutableSpan<Float>()
        let pooling = WeightedTokenPooling()
        try pooling.value(
            states: Span(), weights: Span(), shape: shape, weightings: weightings, embeddings: &embeddings,
            workspace: workspace)
        try pooling.statesGradient(
            embeddingGradient: Span(), weights: Span(), shape: shape, weightings: weightings,
            gradient: &gradient,
            workspace: workspace)
        try pooling.weightsGradient(
            embeddingGradient: Span(), states: Span(), shape: shape, weightings: weightings,
            gradient: &gradient,
            workspace: workspace)
        #expect(workspace.byteCount == 0 || cells > 0)
    }

    @Test func normsOfSumsWithoutElements() throws {
        let result = try NormalizedWeightedTokenPooling().value(
            states: [], weights: [1, 2, 3, 4], shape: TokenShape(cells: 2, tokens: 1, width: 0), weightings: 2
        )
        #expect(result.embeddings.isEmpty)
        #expect(result.norms == [0, 0, 0, 0])
    }

    @Test func reductionsOfRowsWithoutColumns() throws {
        let reductions = MaskedReductions(whenEmpty: .zero)
        let workspace = Workspace(workers: 4)
        var outputs = MutableSpan<Float>()
        var gradient = MutableSpan<Float>()
        for (rows, columns, masks) in [(Int.max, 0, 0), (0, 5, 0), (0, 0, Int(Int32.max))] {
            let shape = MatrixShape(rows: rows, columns: columns)
            try reductions.value(
                values: Span(), masks: Span(), shape: shape, maskCount: masks, outputs: &outputs,
                workspace: workspace)
            try reductions.gradient(
                outputGradient: Span(), masks: Span(), shape: shape, maskCount: masks, gradient: &gradient,
                workspace: workspace)
        }
        #expect(workspace.byteCount == 0)
    }

    /// All similarities are 0: ECS is 1 − β² and CCE the logarithm of the number of rows.
    @Test(arguments: [1, 2, 1_000, 1_025, Int(Int32.max)])
    func embeddingsWithoutColumns(rows: Int) throws {
        let shape = MatrixShape(rows: rows, columns: 0)
        let workspace = Workspace(workers: 4)
        let none = Span<Float>()
        var first = MutableSpan<Float>()
        var second = MutableSpan<Float>()
        let elastic = ElasticCellSimilarity(threshold: 0.5)
        #expect(
            try elastic.value(embeddings: none, shape: shape, workspace: workspace)
                == LossValue(value: 0.75, selectedCount: rows))
        #expect(
            try elastic.valueAndGradient(
                embeddings: none, shape: shape, gradient: &first, workspace: workspace
            )
            .value == 0.75)
        let contrastive = try ContrastiveCellEmbedding().valueAndGradient(
            first: none, second: none, shape: shape, firstGradient: &first, secondGradient: &second,
            workspace: workspace)
        #expect(contrastive == LossValue(value: log(Double(rows)), selectedCount: rows))
        #expect(workspace.byteCount == 0)
    }
}
