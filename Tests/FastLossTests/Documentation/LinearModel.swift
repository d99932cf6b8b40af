import FastLoss

/// Cells as points in a small space, and a linear decoder from there to the genes.
struct LinearModel {
    let cells: Int
    let genes: Int
    let width: Int
    /// E: cells × width.
    var embedding: [Float]
    /// W: width × genes.
    var decoder: [Float]
}

extension LinearModel {
    /// P = E·W.
    func predictions() -> [Float] {
        var predictions = [Float](repeating: 0, count: cells * genes)
        for cell in 0..<cells {
            for column in 0..<width {
                let factor = embedding[cell * width + column]
                for gene in 0..<genes {
                    predictions[cell * genes + gene] += factor * decoder[column * genes + gene]
                }
            }
        }
        return predictions
    }
}

extension LinearModel {
    /// Moves W against Eᵀ·∂L/∂P, and E against ∂L/∂P·Wᵀ + ∂L/∂E.
    mutating func descend(rate: Float, predictionGradient: [Float], embeddingGradient: [Float]) {
        let before = self
        for cell in 0..<cells {
            for column in 0..<width {
                let place = cell * width + column
                var gradient = embeddingGradient[place]
                for gene in 0..<genes {
                    let upstream = predictionGradient[cell * genes + gene]
                    gradient += upstream * before.decoder[column * genes + gene]
                    decoder[column * genes + gene] -= rate * upstream * before.embedding[place]
                }
                embedding[place] -= rate * gradient
            }
        }
    }
}

/// Trains the model and returns the loss of each step.
func train(
    _ model: inout LinearModel, targets: [Float], mask: [Bool], steps: Int, rate: Float
) throws(LossError) -> [Double] {
    let objective = TotalObjective(weights: TermValues(maskedGene: 1, elastic: 10))
    let workspace = Workspace()
    let shape = MatrixShape(rows: model.cells, columns: model.genes)
    var predictionGradient = [Float](repeating: 0, count: model.cells * model.genes)
    var embeddingGradient = [Float](repeating: 0, count: model.cells * model.width)
    var losses: [Double] = []
    for _ in 0..<steps {
        let predictions = model.predictions()
        let embedding = model.embedding
        let inputs = ObjectiveInputs(
            shape: shape, targets: targets.span, mask: mask.span, genePredictions: predictions.span,
            width: model.width, cellEmbedding: embedding.span)
        var gradients = ObjectiveGradients(
            genePredictions: predictionGradient.mutableSpan, cellEmbedding: embeddingGradient.mutableSpan)
        let loss = try objective.valueAndGradient(inputs, gradients: &gradients, workspace: workspace)
        model.descend(
            rate: rate, predictionGradient: predictionGradient, embeddingGradient: embeddingGradient)
        losses.append(loss.total)
    }
    return losses
}
