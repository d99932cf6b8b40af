// ECS of a large batch, streamed over tiles of the similarity matrix.

import CFastLossKernels

/// ECS tile by tile, in the rounds of ``TilePairs``: memory grows with B, not with B².
enum ElasticTiles {
    /// Rows of a tile's sides. A tile of 256 × 256 floats (272 KiB) stays in the second-level cache between its three
    /// products; fewer rows visit the gradient more often, more gain nothing.
    private static let tileRows = 256

    /// Σ (C_ij − β)² over all i and j, and the gradient where there is an output for it.
    static func evaluate(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, threshold: Float, into output: GradientOutput?,
        workspace: Workspace
    ) throws(LossError) -> Double {
        let pairs = TilePairs(rows: shape.rows, largestBlock: tileRows)
        let mostPairs = (0..<pairs.rounds).reduce(0) { max($0, pairs.pairs(inRound: $1)) }
        let stride = TileProducts.stride(forColumns: pairs.blockRows)
        let tileCount = pairs.blockRows * stride
        let panelCount = try NormalizedRows.panelCount(shape)
        let workers = min(workspace.workers, mostPairs)
        // An overwritten gradient serves as its own accumulator.
        let accumulatesAside = output?.mode == FASTLOSS_GRADIENT_ACCUMULATE

        var layout = Workspace.Layout()
        let rowScratch = try NormalizedRows.Scratch(shape, keepsPanels: false, in: &layout)
        let tileScratch = try layout.add(tileCount * workers, of: Float.self)
        let panelScratch = try layout.add(panelCount * workers, of: Float.self)
        let sumScratch = try layout.add(mostPairs, of: Double.self)
        let asideScratch = try layout.add(
            accumulatesAside ? shape.rows * shape.columns : 0, of: Float.self)
        try workspace.reserve(layout)

        let allRows = NormalizedRows.Copies(
            embeddings, shape: shape, floor: ElasticCellSimilarity.normFloor, scratch: rowScratch,
            workspace: workspace)
        let unit = allRows[0]
        let unitGradient = accumulatesAside ? workspace.pointer(asideScratch) : output?.memory.baseAddress
        let (tiles, panels) = (workspace.pointer(tileScratch), workspace.pointer(panelScratch))
        let sums = workspace.pointer(sumScratch)

        var sum = 0.0
        for round in 0..<pairs.rounds {
            let count = pairs.pairs(inRound: round)
            let products = 3 * count * pairs.blockRows * pairs.blockRows * shape.columns
            workspace.forEachTask(
                count, estimatedNanoseconds: products / TileProducts.productsPerNanosecond
            ) { index, worker in
                let (first, second) = pairs.pair(index, inRound: round)
                let tile = Tile(
                    unit: unit, threshold: threshold, first: pairs.range(first), second: pairs.range(second),
                    memory: tiles + worker * tileCount, stride: stride)
                sums[index] = tile.visit(
                    panel: panels + worker * panelCount, into: unitGradient, isFirstVisit: round == 0)
            }
            for index in 0..<count { sum += sums[index] }
        }
        if let output {
            allRows.backward(
                from: unitGradient, factor: ElasticCellSimilarity.gradientFactor(output, rows: shape.rows),
                belowFloor: .constantNorm, into: output, workspace: workspace)
        }
        return sum
    }
}

/// A tile of S, which becomes the tile of G.
private struct Tile {
    let unit: NormalizedRows
    let threshold: Float
    let first: Range<Int>
    let second: Range<Int>
    let memory: UnsafeMutablePointer<Float>
    let stride: Int

    /// Returns the tile's part of Σ (C − β)², counted twice off the diagonal, and adds its part of (C − β)·N to both of its
    /// row blocks.
    func visit(
        panel: UnsafeMutablePointer<Float>, into unitGradient: UnsafeMutablePointer<Float>?, isFirstVisit: Bool
    ) -> Double {
        unit.similarities(first, unit, second, into: memory, stride: stride, scratch: panel)
        let isDiagonal = first == second
        if isDiagonal {
            for i in 0..<first.count { memory[i * stride + i] = 0 }
        }
        let sum = kernels.elastic_cell_similarity(
            memory, first.count, second.count, stride, threshold,
            unitGradient == nil ? FASTLOSS_GRADIENT_NONE : FASTLOSS_GRADIENT_OVERWRITE)
        guard let unitGradient else { return isDiagonal ? sum : 2 * sum }

        let columns = unit.shape.columns
        let factors = MatrixPointer(memory, rows: first.count, columns: second.count, stride: stride)
        TileProducts.multiply(
            factors, unit.block(second), into: unitGradient + first.lowerBound * columns, stride: columns,
            accumulates: !isFirstVisit)
        guard !isDiagonal else { return sum }
        TileProducts.multiplyTransposedLeft(
            factors, unit.block(first), into: unitGradient + second.lowerBound * columns, stride: columns,
            accumulates: !isFirstVisit)
        return 2 * sum
    }
}
