// Embeddings whose similarities have signs that can be proved: in one cone, or in eight.

/// Embeddings in cones, as encoders with a strong mean direction make them.
package enum EmbeddingCones: String, Sendable {
    /// All cells within 36° of one direction, with similarities near 0.67.
    case one = "cone"
    /// Eight clusters, one after the other, within 10° of directions in a plane, 45° apart. Of the pairs of
    /// clusters, those at right angles have no proof: a quarter.
    case eight = "cones"

    /// cells × `depth` embeddings, row-major, of different lengths.
    package func embeddings(cells: Int, depth: Int, seed: UInt64 = 8) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        let scale = 1 / Float(depth).squareRoot()
        let axes = (0..<2).map { _ in (0..<depth).map { _ in scale * generator.normal() } }
        let half = Float(0.5).squareRoot()
        let plane: [(Float, Float)] = [
            (1, 0), (half, half), (0, 1), (-half, half), (-1, 0), (-half, -half), (0, -1), (half, -half),
        ]
        let spread: Float = self == .one ? 0.7 : 0.15
        var result: [Float] = []
        result.reserveCapacity(cells * depth)
        for cell in 0..<cells {
            let (x, y) = self == .one ? (1, 0) : plane[cell * 8 / cells]
            let length = 0.5 + generator.uniform()
            for d in 0..<depth {
                let centre = x * axes[0][d] + y * axes[1][d]
                result.append(length * (centre + spread * scale * generator.normal()))
            }
        }
        return result
    }
}
