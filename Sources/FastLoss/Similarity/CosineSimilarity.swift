// The cosine-similarity matrix of a batch, as a result of its own.

import CFastLossKernels

/// The cosine similarities of B embeddings: the matrix that ``ElasticCellSimilarity`` reduces to a number.
///
///     S_ij = N_i·N_j,   N = E / max(‖E‖₂, 10⁻¹²) row by row
///
/// The result is exactly symmetric. Rows are normalised before they are multiplied, so |S_ij| exceeds 1 by
/// rounding errors at most. A zero row has similarity 0 with every row, itself included. A row that holds NaN
/// gives NaN in its row and column.
///
/// Half of the products are computed (B²·D flops) and mirrored. Scratch memory is about B·(D + 48) floats,
/// and a tile and 32·D floats for each worker.
///
/// Source: `cell_emb_normed @ cell_emb_normed.T` in scGPT's `TransformerModel`.
public struct CosineSimilarity: Sendable {
    /// Creates the computation, which has no parameters.
    public init() {}

    /// Computes the B×B matrix.
    ///
    /// - Parameters:
    ///   - embeddings: B·D values, row-major.
    ///   - shape: B rows of D columns.
    ///   - similarities: receives B·B values, row-major. It may not overlap the embeddings.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` if shapes disagree or are too large for BLAS, or if the buffers overlap.
    public func matrix(
        embeddings: Span<Float>, shape: MatrixShape, similarities: inout MutableSpan<Float>,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try Plan(
            embeddings: embeddings, shape: shape, similarities: similarities.memory, in: &layout)
        try workspace.run(plan, layout)
    }

    /// Computes the B×B matrix of an array, in a workspace of its own.
    public func matrix(embeddings: [Float], shape: MatrixShape) throws(LossError) -> [Float] {
        // Check the sizes before the result is made: Swift ends the process if an array cannot be allocated.
        try checkEmbeddings(ModelElements(embeddings.span), named: "embeddings", shape: shape)
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
            let elements = ModelElements(embeddings)
            try checkEmbeddings(elements, named: "embeddings", shape: shape)
            try checkCount(
                "similarities", similarities.count,
                is: MatrixShape(rows: shape.rows, columns: shape.rows).checkedCount())
            try checkNoOverlap(
                NamedMemory("similarities", similarities), elements.named("embeddings"))
            matrix = similarities
            rows = shape.rows
            let tiles = TilePairs(rows: rows, largestBlock: Self.tileRows(forBatch: rows))
            self.similarities = try BlockedSimilarities(
                SimilaritySide(
                    embeddings: elements, shape: shape, floor: ElasticCellSimilarity.normFloor),
                schedule: .tiles(tiles, inRounds: false), in: &layout)
        }

        /// The side of a tile: small for small batches, so that two workers get equal shares.
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

/// Copies blocks and their mirror images into the whole symmetric matrix.
///
/// Blocks are computed in scratch memory, not in the matrix itself, whose rows may share few sets of the
/// caches.
private struct MatrixEpilogue: SimilarityEpilogue {
    let matrix: UnsafeMutablePointer<Float>
    let rows: Int

    func visit(_ block: SimilarityBlock) {
        if block.rows == block.columns {
            // A product by sgemm need not be symmetric to the last bit. The upper triangle is kept.
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
