// The checks that ECS, CCE and the similarity matrix make of embeddings and of their gradients.

/// Throws unless a gradient has the size of its embeddings, a usable scale and memory of its own.
func checkGradient(
    _ gradient: GradientOutput, of embeddings: Span<Float>, named name: String
) throws(LossError) {
    try gradient.check(count: embeddings.count)
    try checkNoOverlap(gradient.named, NamedMemory(name, embeddings.memory))
}

/// Throws unless the embeddings have the shape and BLAS can take it.
func checkEmbeddings(_ embeddings: Span<Float>, named name: String, shape: MatrixShape) throws(LossError) {
    try checkCount(name, embeddings.count, is: shape.checkedCount())
    try BLAS.checkDimension("rows", shape.rows)
    try BLAS.checkDimension("columns", shape.columns)
}
