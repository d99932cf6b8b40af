// The random numbers of the benchmarks: the same on every machine and in every run.

import Foundation

/// The SplitMix64 generator: 64 bits of state, equal sequences for equal seeds.
///
/// Source: G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014.
package struct SeededGenerator: RandomNumberGenerator {
    /// A generator with this seed continues the sequence.
    package private(set) var state: UInt64

    package init(seed: UInt64) {
        state = seed
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number in (0, 1): 24 random bits in the middle of their step, so that neither end is ever returned.
    package mutating func uniform() -> Float {
        (Float(next() >> 40) + 0.5) * 0x1p-24
    }

    /// A number of the standard normal distribution (Box–Muller).
    package mutating func normal() -> Float {
        let radius = (-2 * log(uniform())).squareRoot()
        return radius * cos(2 * .pi * uniform())
    }
}
