// The model and the batches of the examples: the parts that a user brings along.

/// One batch of cells.
struct CellBatch {
    var targets: [Float]
    var mask: [Bool]
    var batchLabels: [Int32] = []
}

/// What a model returns for one batch.
struct ModelOutput {
    var genes: [Float]
    var embedding: [Float]
}

/// A stand-in for a model. Its outputs are its parameters, so the gradients of the outputs are those of the
/// parameters, and a descent step is the whole backward pass.
struct ToyModel {
    let cells: Int
    let genes: Int
    let width: Int
    var parameters: ModelOutput

    func forward(_ batch: CellBatch) -> ModelOutput { parameters }

    mutating func descend(genes: [Float], embedding: [Float]) {
        for index in parameters.genes.indices { parameters.genes[index] -= genes[index] }
        for index in parameters.embedding.indices { parameters.embedding[index] -= embedding[index] }
    }
}
