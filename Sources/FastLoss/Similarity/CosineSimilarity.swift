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
        embeddings: Span<Float>, shape: MatrixShape, similarities: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) {
        try checkEmbeddings(embeddings, named: "embeddings", shape: shape)
        let rows = shape.rows
        let output = similarities.memory
        try checkCount(
            "similarities", output.count, is: MatrixShape(rows: rows, columns: rows).checkedCount())
        try checkNoOverlap(
            NamedMemory("similarities", output), NamedMemory("embeddings", embeddings.memory))
        guard let matrix = output.baseAddress else { return }

        let pairs = TilePairs(rows: rows, largestBlock: Self.tileRows(forBatch: rows))
        let stride = TileProducts.stride(forColumns: pairs.blockRows)
        let tileCount = pairs.blockRows * stride
        let tiles = pairs.blocks * (pairs.blocks + 1) / 2
        let workers = min(workspace.workers, tiles)

        var layout = Workspace.Layout()
        let rowScratch = try NormalizedRows.Scratch(shape, keepsPanels: false, in: &layout)
        let tileScratch = try layout.add(tileCount * workers, of: Float.self)
        let panelCount = try NormalizedRows.panelCount(shape)
        let panelScratch = try layout.add(panelCount * workers, of: Float.self)
        try workspace.reserve(layout)
        let unit = NormalizedRows(
            embeddings.pointer, shape: shape, floor: ElasticCellSimilarity.normFloor, scratch: rowScratch,
            workspace: workspace)
        let (tileMemory, panels) = (workspace.pointer(tileScratch), workspace.pointer(panelScratch))

        workspace.forEachTask(
            tiles, estimatedNanoseconds: rows * rows * shape.columns / 2 / TileProducts.productsPerNanosecond
        ) { index, worker in
            let (first, second) = pairs.pair(index)
            fill(
                matrix, unit, pairs.range(first), pairs.range(second), tile: tileMemory + worker * tileCount,
                stride: stride, panel: panels + worker * panelCount)
        }
    }

    /// Rows of a tile's sides: small ones for small batches, so that two workers find equal shares.
    private static func tileRows(forBatch rows: Int) -> Int {
        rows <= 128 ? 32 : rows <= 512 ? 64 : 128
    }

    /// The B×B matrix, from an array; a thin wrapper that makes its own workspace.
    public func matrix(embeddings: [Float], shape: MatrixShape) throws(LossError) -> [Float] {
        // Checked before the result is made: an array of an impossible size would trap.
        try checkEmbeddings(embeddings.span, named: "embeddings", shape: shape)
        let count = try MatrixShape(rows: shape.rows, columns: shape.rows).checkedCount()
        guard count <= Int.max / MemoryLayout<Float>.stride else {
            throw .invalidShape(rows: shape.rows, columns: shape.rows)
        }
        var similarities = [Float](repeating: 0, count: count)
        var span = similarities.mutableSpan
        try matrix(embeddings: embeddings.span, shape: shape, similarities: &span, workspace: Workspace())
        return similarities
    }

    /// One tile and its mirror image, by way of scratch memory: a tile in place would have its rows on few sets of the caches.
    private func fill(
        _ matrix: UnsafeMutablePointer<Float>, _ unit: NormalizedRows, _ first: Range<Int>, _ second: Range<Int>,
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
            (matrix + row * rows + second.lowerBound).update(from: tile + index * stride, count: second.count)
        }
        guard first != second else { return }
        kernels.transpose(
            tile, first.count, second.count, stride, matrix + second.lowerBound * rows + first.lowerBound, rows)
    }
}
