// Seeded inputs that look like a training step's: the same on every machine and in every run.

import Foundation

/// SplitMix64 (Steele, Lea and Flood 2014): small, and good enough for test inputs.
struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// Draws the inputs of the losses, one kind after the other, from one seeded stream.
struct RandomInputs {
    private var generator: SplitMix64

    init(seed: UInt64) { generator = SplitMix64(seed: seed) }

    /// A number in [0, 1).
    mutating func uniform() -> Double { Double.random(in: 0..<1, using: &generator) }

    /// A standard normal number, by Box and Muller's transformation.
    mutating func normal() -> Double {
        (-2 * log(1 - uniform())).squareRoot() * cos(2 * Double.pi * uniform())
    }

    /// Normal numbers: logits, states, gradients.
    mutating func normals(_ count: Int, scale: Double = 1, shift: Double = 0) -> [Float] {
        (0..<count).map { _ in Float(shift + scale * normal()) }
    }

    /// Expression values as scGPT trains on them: bins 1…50, and zero for a share of the genes.
    mutating func targets(_ count: Int, zeros: Double = 0.4) -> [Float] {
        (0..<count).map { _ in
            uniform() < zeros ? 0 : Float(Int.random(in: 1...50, using: &generator))
        }
    }

    /// Predictions of such values.
    mutating func predictions(_ count: Int) -> [Float] { normals(count, scale: 10, shift: 15) }

    /// Probabilities over the whole open interval, most of them away from its ends.
    mutating func probabilities(_ count: Int) -> [Float] {
        (0..<count).map { _ in Float(1 / (1 + exp(-3 * normal()))) }
    }

    /// A mask that selects about this share of the elements: none for 0, all for 1.
    mutating func mask(_ count: Int, ratio: Double = 0.4) -> [Bool] {
        (0..<count).map { _ in uniform() < ratio }
    }

    /// Labels 0..<classes, and a share of rows with the ignored label.
    mutating func labels(
        _ count: Int, classes: Int, ignored: Double = 0, ignoredLabel: Int32 = -100
    ) -> [Int32] {
        (0..<count).map { _ in
            uniform() < ignored ? ignoredLabel : Int32.random(in: 0..<Int32(classes), using: &generator)
        }
    }

    /// Cell embeddings in clusters: similar within a cluster, anything across clusters.
    mutating func embeddings(rows: Int, columns: Int, clusters: Int = 5, spread: Double = 0.5) -> [Float] {
        let centres = (0..<clusters).map { _ in normals(columns) }
        return (0..<rows).flatMap { _ in
            let centre = centres[Int.random(in: 0..<clusters, using: &generator)]
            return centre.map { $0 + Float(spread * normal()) }
        }
    }

    /// A second encoding of the same cells: the first with a little noise, as dropout makes it.
    mutating func secondEncoding(of embeddings: [Float], noise: Double = 0.3) -> [Float] {
        embeddings.map { $0 + Float(noise * normal()) }
    }
}

extension Array where Element: BinaryFloatingPoint {
    /// An output filled with what no loss writes, so that an element left out, or written in vain, shows.
    static func untouched(_ count: Int) -> [Element] { [Element](repeating: -12345, count: count) }
}

extension [Float] {
    /// The same values for the oracle.
    var doubles: [Double] { map { Double($0) } }
}
