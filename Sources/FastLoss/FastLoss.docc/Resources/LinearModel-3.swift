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
