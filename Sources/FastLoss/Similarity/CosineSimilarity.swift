// The cosine-similarity matrix itself, for those who want to look at it.

import CFastLossKernels

/// The cosine similarities of B embeddings: the matrix that ``ElasticCellSimilarity`` streams without storing.
///
///     S_ij = N_i·N_j,   N = E / max(‖E‖₂, 10⁻¹²) row by row
///
/// The result is exactly symmetric. Rows are normalised before they are multiplied, so |S_ij| exceeds 1 by rounding at most;
/// a zero row has similarity 0 with every row, itself included. NaN rows give NaN in their row and column.
///
/// Half of the products are computed, B²·D flops, and mirrored. Scratch memory is about B·(D + 48) floats, and a tile and 32·D
/// for each worker.
///
/// Source: `cell_emb_normed @ cell_emb_normed.T` in scGPT's `TransformerModel`.
public struct CosineSimilarity: Sendable {
    public init() {}

    /// Fills a B×B matrix.
    ///
    /// - Parameters:
    ///   - embeddings: B·D values, row-major.
    ///   - shape: B rows of D columns.
    ///   - similarities: receives B·B values, row-major; may not overlap the embeddings.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree or exceed BLAS, overlap.
    public func matrix(
        embeddings: Span<Float>, shape: MatrixShape, similarities: inout MutableSpan<Float>,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try Plan(
            embeddings: embeddings, shape: shape, similarities: similarities.memory, in: &layout)
        try workspace.run(plan, layout)
    }

    /// The B×B matrix, from an array; a thin wrapper that makes its own workspace.
    public func matrix(embeddings: [Float], shape: MatrixShape) throws(LossError) -> [Float] {
        // Planned before the result is made: an array of an impossible size would end the process.
        try checkEmbeddings(embeddings.span, named: "embeddings", shape: shape)
        let count = try MatrixShape(rows: shape.rows, columns: shape.rows).checkedCount()
        var similarities = try zeros(count, for: "CosineSimilarity")
        var span = similarities.mutableSpan
        try matrix(embeddings: embeddings.span, shape: shape, similarities: &span, workspace: Workspace())
        return similarities
    }
}

// MARK: - Plan

extension CosineSimilarity {
    /// The matrix of one batch.
    package struct Plan: FastLoss.Plan {
        private let embeddings: UnsafePointer<Float>
        private let shape: MatrixShape
        private let matrix: UnsafeMutableBufferPointer<Float>
        private let pairs: TilePairs
        private let unitRows: NormalizedRows.Scratch
        private let tiles: ScratchArray<Float>
        private let panels: ScratchArray<Float>

        package var name: String { "CosineSimilarity" }

        package init(
            embeddings: Span<Float>, shape: MatrixShape, similarities: UnsafeMutableBufferPointer<Float>,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            try checkEmbeddings(embeddings, named: "embeddings", shape: shape)
            try checkCount(
                "similarities", similarities.count,
                is: MatrixShape(rows: shape.rows, columns: shape.rows).checkedCount())
            try checkNoOverlap(
                NamedMemory("similarities", similarities), NamedMemory("embeddings", embeddings.memory))
            self.embeddings = embeddings.pointer
            self.shape = shape
            matrix = similarities
            pairs = TilePairs(rows: shape.rows, largestBlock: Self.tileRows(forBatch: shape.rows))
            unitRows = try NormalizedRows.Scratch(shape, keepsPanels: false, in: &layout)
            let workers = min(layout.workers, pairs.count)
            tiles = try layout.add(workers, by: pairs.blockRows * pairs.tileStride, of: Float.self)
            panels = try layout.add(workers, by: NormalizedRows.panelCount(shape), of: Float.self)
        }

        /// Rows of a tile's sides: small ones for small batches, so that two workers find equal shares.
        private static func tileRows(forBatch rows: Int) -> Int {
            rows <= 128 ? 32 : rows <= 512 ? 64 : 128
        }

        package func run(on execution: Execution) {
            guard let matrix = matrix.baseAddress, shape.rows > 0 else { return }
            let unit = NormalizedRows(
                embeddings, shape: shape, floor: ElasticCellSimilarity.normFloor, scratch: unitRows,
                on: execution)
            let tileCount = pairs.blockRows * pairs.tileStride
            let panelCount = TileProducts.panelRows * shape.columns
            let (tiles, panels) = (execution.pointer(tiles), execution.pointer(panels))
            let cost =
                TileProducts.nanoseconds(rows: shape.rows, columns: shape.rows, depth: shape.columns) / 2
            execution.forEachTask(pairs.count, estimatedNanoseconds: cost) { index, worker in
                let (first, second) = pairs.pair(index)
                fill(
                    matrix, unit, pairs.range(first), pairs.range(second), tile: tiles + worker * tileCount,
                    stride: pairs.tileStride, panel: panels + worker * panelCount)
            }
        }

        /// One tile and its mirror image, by way of scratch memory: a tile in place would have its rows on few sets of the caches.
        private func fill(
            _ matrix: UnsafeMutablePointer<Float>, _ unit: NormalizedRows, _ first: Range<Int>,
            _ second: Range<Int>,
            tile: UnsafeMutablePointer<Float>, stride: Int, panel: UnsafeMutablePointer<Float>
        ) {
            let rows = unit.shape.rows
            unit.similarities(first, unit, second, into: tile, stride: stride, scratch: panel)
            if first == second {
                // sgemm need not be symmetric to the last bit: the upper triangle is the one that counts.
                for i in 0..<first.count {
                    for j in 0..<i { tile[i * stride + j] = tile[j * stride + i] }
                }
            }
            for (index, row) in first.enumerated() {
                (matrix + row * rows + second.lowerBound).update(
                    from: tile + index * stride, count: second.count)
            }
            guard first != second else { return }
            kernels.transpose(
                tile, first.count, second.count, stride, matrix + second.lowerBound * rows + first.lowerBound,
                rows)
        }
    }
}
