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
        private let matrix: UnsafeMutableBufferPointer<Float>
        private let rows: Int
        private let similarities: BlockedSimilarities

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
            matrix = similarities
            rows = shape.rows
            let tiles = TilePairs(rows: rows, largestBlock: Self.tileRows(forBatch: rows))
            self.similarities = try BlockedSimilarities(
                SimilaritySide(
                    embeddings: embeddings.pointer, shape: shape, floor: ElasticCellSimilarity.normFloor),
                schedule: .tiles(tiles, inRounds: false), in: &layout)
        }

        /// Rows of a tile's sides: small ones for small batches, so that two workers find equal shares.
        private static func tileRows(forBatch rows: Int) -> Int {
            rows <= 128 ? 32 : rows <= 512 ? 64 : 128
        }

        package func run(on execution: Execution) {
            guard let matrix = matrix.baseAddress, rows > 0 else { return }
            similarities.run(MatrixEpilogue(matrix: matrix, rows: rows), on: execution)
        }
    }
}

// MARK: - Epilogue

/// Copies blocks, and what they stand for, into the whole symmetric matrix.
///
/// The driver computes a block in scratch memory: in place its rows would lie on few sets of the caches.
private struct MatrixEpilogue: SimilarityEpilogue {
    let matrix: UnsafeMutablePointer<Float>
    let rows: Int

    func visit(_ block: SimilarityBlock) {
        if block.rows == block.columns {
            // sgemm need not be symmetric to the last bit: the upper triangle is the one that counts.
            for i in 0..<block.rows.count {
                for j in 0..<i { block.row(i)[j] = block.row(j)[i] }
            }
        }
        for (index, row) in block.rows.enumerated() {
            (matrix + row * rows + block.columns.lowerBound).update(
                from: block.row(index), count: block.columns.count)
        }
        let firstMirrored = block.columns.upperBound - block.mirroredColumns
        kernels.transpose(
            block.memory + (firstMirrored - block.columns.lowerBound), block.rows.count,
            block.mirroredColumns, block.stride,
            matrix + firstMirrored * rows + block.rows.lowerBound, rows)
    }
}
