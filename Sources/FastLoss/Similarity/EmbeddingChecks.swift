// The checks of embeddings and their gradients that ECS, CCE and the similarity matrix share.

/// Throws unless a gradient has the size of its embeddings, a usable scale, and memory that the embeddings do
/// not use.
func checkGradient(
    _ gradient: GradientOutput, of embeddings: ModelElements, named name: String
) throws(LossError) {
    try gradient.check(count: embeddings.count)
    try checkNoOverlap(gradient.named, embeddings.named(name))
}

/// Throws unless the embeddings have the shape and the shape fits BLAS's integers.
func checkEmbeddings(
    _ embeddings: ModelElements, named name: String, shape: MatrixShape
) throws(LossError) {
    try checkCount(name, embeddings.count, is: shape.checkedCount())
    try BLAS.checkDimension("rows", shape.rows)
    try BLAS.checkDimension("columns", shape.columns)
}
