// ECS of a large batch, streamed over tiles of the similarity matrix.

import CFastLossKernels

/// ECS tile by tile, in the rounds of ``TilePairs``: memory grows with B, not with B².
struct ElasticTiles {
    /// Rows of a tile's sides. A tile of 256 × 256 floats (272 KiB) stays in the second-level cache between its three
    /// products; fewer rows visit the gradient more often, more gain nothing.
    private static let tileRows = 256

    private let embeddings: UnsafePointer<Float>
    private let shape: MatrixShape
    private let threshold: Float
    private let output: GradientOutput?
    private let pairs: TilePairs

    private let unitRows: NormalizedRows.Scratch
    private let tiles: ScratchArray<Float>
    private let panels: ScratchArray<Float>
    private let sums: ScratchArray<Double>
    /// dN where the gradient accumulates. An overwritten gradient serves as its own accumulator.
    private let aside: ScratchArray<Float>

    init(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, threshold: Float,
        into output: GradientOutput?,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.embeddings = embeddings
        self.shape = shape
        self.threshold = threshold
        self.output = output
        pairs = TilePairs(rows: shape.rows, largestBlock: Self.tileRows)
        let mostPairs = pairs.mostPairsInARound
        let workers = min(layout.workers, mostPairs)
        unitRows = try NormalizedRows.Scratch(shape, keepsPanels: false, in: &layout)
        tiles = try layout.add(workers, by: pairs.blockRows * pairs.tileStride, of: Float.self)
        panels = try layout.add(workers, by: NormalizedRows.panelCount(shape), of: Float.self)
        sums = try layout.add(mostPairs, of: Double.self)
        let accumulates = output?.mode == FASTLOSS_ACCUMULATE
        aside = try layout.add(accumulates ? shape.rows : 0, by: shape.columns, of: Float.self)
    }

    /// Σ (C_ij − β)² over all i and j, and the gradient where there is an output for it.
    func run(on execution: Execution) -> Double {
        let allRows = NormalizedRows.Copies(
            embeddings, shape: shape, floor: ElasticCellSimilarity.normFloor, scratch: unitRows, on: execution
        )
        let unit = allRows[0]
        let unitGradient =
            output?.mode == FASTLOSS_ACCUMULATE ? execution.pointer(aside) : output?.memory.baseAddress
        let stride = pairs.tileStride
        let tileCount = pairs.blockRows * stride
        let panelCount = TileProducts.panelRows * shape.columns
        let (tiles, panels) = (execution.pointer(tiles), execution.pointer(panels))
        let sums = execution.pointer(sums)

        var sum = 0.0
        for round in 0..<pairs.rounds {
            let count = pairs.pairs(inRound: round)
            let cost = TileProducts.nanoseconds(
                rows: 3 * count * pairs.blockRows, columns: pairs.blockRows, depth: shape.columns)
            execution.forEachTask(count, estimatedNanoseconds: cost) { index, worker in
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
                belowFloor: .constantNorm, into: output, on: execution)
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
        panel: UnsafeMutablePointer<Float>, into unitGradient: UnsafeMutablePointer<Float>?,
        isFirstVisit: Bool
    ) -> Double {
        unit.similarities(first, unit, second, into: memory, stride: stride, scratch: panel)
        let isDiagonal = first == second
        if isDiagonal {
            for i in 0..<first.count { memory[i * stride + i] = 0 }
        }
        let sum = kernels.elastic_cell_similarity(
            memory, first.count, second.count, stride, threshold,
            unitGradient == nil ? FASTLOSS_NO_OUTPUT : FASTLOSS_OVERWRITE)
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
