// Cell embeddings whose similarity structure is that of the real cells.

extension RealCells {
    /// Embeddings of `cells` cells, cells × `depth`, row-major.
    ///
    /// A random projection of the expression, centred gene by gene: similar cells have similar embeddings,
    /// and cosine similarities of both signs occur, as the threshold of elastic cell similarity supposes.
    /// Beyond 700 cells they repeat; the noise keeps the copies apart.
    ///
    /// Two calls that differ in `noiseSeed` alone encode the same cells twice, as contrastive training does.
    ///
    /// Time O(cells · depth + 700 · 765 · depth).
    ///
    /// - Parameters:
    ///   - noise: the length of the noise as a share of the embedding's own, about.
    ///   - seed: determines the cells and the projection.
    ///   - noiseSeed: determines the noise.
    package func embeddings(
        cells: Int, depth: Int, noise: Float = 0.2, seed: UInt64 = 6, noiseSeed: UInt64 = 7
    ) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        let chosen = draw(cells, using: &generator)
        let projected = projection(of: chosen.prefix(count), depth: depth, using: &generator)

        var noiseGenerator = SeededGenerator(seed: noiseSeed)
        var embeddings: [Float] = []
        embeddings.reserveCapacity(cells * depth)
        for cell in 0..<cells {
            let row = projected[(cell % count) * depth..<(cell % count + 1) * depth]
            let meanSquare = row.reduce(0) { $0 + $1 * $1 } / Float(depth)
            let deviation = noise * meanSquare.squareRoot()
            for element in row { embeddings.append(element + deviation * noiseGenerator.normal()) }
        }
        return embeddings
    }

    /// The centred expression of `chosen` times a random matrix of normal numbers, rows × `depth`.
    private func projection(
        of chosen: ArraySlice<Int>, depth: Int, using generator: inout SeededGenerator
    ) -> [Float] {
        var means = [Float](repeating: 0, count: geneCount)
        for (index, value) in values.enumerated() { means[index % geneCount] += value / Float(count) }
        let scale = 1 / Float(geneCount).squareRoot()
        let matrix = (0..<geneCount * depth).map { _ in scale * generator.normal() }
        var result = [Float](repeating: 0, count: chosen.count * depth)
        for (row, cell) in chosen.enumerated() {
            for gene in 0..<geneCount {
                let centred = values[cell * geneCount + gene] - means[gene]
                for d in 0..<depth { result[row * depth + d] += centred * matrix[gene * depth + d] }
            }
        }
        return result
    }
}
