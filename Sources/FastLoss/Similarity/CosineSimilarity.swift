// The cosine-similarity matrix itself, for those who want to look at it.

import CFastLossKernels

/// The cosine similarities of B embeddings: the matrix that ``ElasticCellSimilarity`` streams without storing.
///
///     S_ij = N_i·N_j,   N = E / max(‖E‖₂, 10⁻¹²) row by row
///
/// The result is exactly symmetric. Rows are normalised before they are multiplied, so |S_ij| exceeds 1 by rounding at most;
/// a zero row has similarity 0 with every row, itself included. NaN rows give NaN in their row and column.
///
/// Half of the products are computed, B²·D flops, and mirrored. Scratch memory is B·D floats.
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

        var layout = Workspace.Layout()
        let rowScratch = try NormalizedRows.Scratch(shape, in: &layout)
        workspace.reserve(layout)
        let unit = NormalizedRows(
            embeddings.pointer, shape: shape, floor: ElasticCellSimilarity.normFloor, scratch: rowScratch,
            workspace: workspace)

        let tiles = TilePairs(rows: rows, largestBlock: SimilarityTile.rows(forBatch: rows))
        for round in 0..<tiles.rounds {
            let pairs = tiles.pairs(inRound: round)
            let products = pairs * tiles.blockRows * tiles.blockRows * shape.columns
            let cost = 3 * products / SimilarityTile.productsPerNanosecond
            workspace.forEachTask(pairs, estimatedNanoseconds: cost) { pair, _ in
                let (first, second) = tiles.pair(pair, inRound: round)
                fill(matrix, unit, tiles.range(first), tiles.range(second))
            }
        }
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

    /// One tile and its mirror image.
    private func fill(
        _ matrix: UnsafeMutablePointer<Float>, _ unit: NormalizedRows, _ first: Range<Int>, _ second: Range<Int>
    ) {
        let rows = unit.shape.rows
        let tile = matrix + first.lowerBound * rows + second.lowerBound
        BLAS.multiplyTransposedRight(unit.block(first), unit.block(second), into: tile, stride: rows)
        if first == second {
            // sgemm need not be symmetric to the last bit: the upper triangle is the one that counts.
            for i in 0..<first.count {
                for j in 0..<i { tile[i * rows + j] = tile[j * rows + i] }
            }
        } else {
            kernels.transpose(
                tile, first.count, second.count, rows, matrix + second.lowerBound * rows + first.lowerBound, rows)
        }
    }
}
