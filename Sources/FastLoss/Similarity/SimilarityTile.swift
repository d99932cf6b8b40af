// Sizes of the tiles that the similarity losses stream, and the checks of their embeddings.

/// How large the tiles of a similarity matrix are.
enum SimilarityTile {
    /// Rows of a block of a symmetric matrix of B rows.
    ///
    /// A tile of 256×256 floats (256 KiB) stays in the second-level cache between its three products; fewer rows lower the rate
    /// of sgemm, more gain nothing. Small batches take smaller tiles, so that two workers find work; up to 128 rows one
    /// tile and one worker are fastest.
    static func rows(forBatch rows: Int) -> Int {
        rows <= 512 ? 128 : 256
    }

    /// Products of one worker's three sgemm calls in a nanosecond: about 50 of each, three of them per tile.
    static let productsPerNanosecond = 16
}

/// Throws unless a gradient has the size of its embeddings, a usable scale and memory of its own.
func checkGradient(
    _ gradient: GradientOutput, of embeddings: Span<Float>, named name: String
) throws(LossError) {
    try checkCount(gradient.name, gradient.memory.count, is: embeddings.count)
    try checkGradientScale(gradient.scale)
    try checkNoOverlap(gradient.named, NamedMemory(name, embeddings.memory))
}

/// Throws unless the embeddings have the shape and BLAS can take it.
func checkEmbeddings(_ embeddings: Span<Float>, named name: String, shape: MatrixShape) throws(LossError) {
    try checkCount(name, embeddings.count, is: shape.checkedCount())
    try BLAS.checkDimension("rows", shape.rows)
    try BLAS.checkDimension("columns", shape.columns)
}
