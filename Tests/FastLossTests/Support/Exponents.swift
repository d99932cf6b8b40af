// Arguments for testing the kernels' exponential, and the mathematics to test it with.

import FastLossReference

enum Exponents {
    /// Below it 1 + exp(x) is 1 in Float, so that σ(x) is exp(x) with its rounding alone.
    static let sigmoidIsExponential: Float = -17

    /// Every 4,099th float of [−87.3, −0], about a quarter of a million: the stride is prime, so that
    /// mantissas do not repeat from one exponent to the next.
    static let sample = every4099thFloat(from: -.zero, through: -87.3)

    /// The same of [−172, −87.3], where exp(x) is subnormal or 0 in Float, but exp(x)·2¹²⁴ is normal.
    static let subnormal = every4099thFloat(from: -87.3, through: -172)

    /// A gradient's scale that makes the exponentials of ``subnormal`` normal.
    static let largeScale: Float = 0x1p124

    private static func every4099thFloat(from first: Float, through last: Float) -> [Float] {
        stride(from: first.bitPattern, through: last.bitPattern, by: 4_099).map { Float(bitPattern: $0) }
    }
}

extension Reference {
    /// The mathematical library's exponential, by way of the reference.
    static func exp(_ x: Double) -> Double { Double.exp(x) }
    /// ln 2.
    static let ln2 = Double.log(2)
}
