// How sums in double precision get into the gradient of a parameter.

import FastLoss

/// Writes sums into a gradient: they replace its contents, or are added to them.
struct GradientWriter {
    let update: GradientUpdate

    /// Whether a product adds its result to the gradient.
    var accumulates: Bool { update == .accumulate }

    /// Writes `count` sums; nothing if the gradient is nil.
    func write(_ sums: UnsafePointer<Double>, count: Int, to gradient: UnsafeMutablePointer<Float>?) {
        guard let gradient else { return }
        for i in 0..<count {
            gradient[i] = Float(accumulates ? Double(gradient[i]) + sums[i] : sums[i])
        }
    }

    /// Writes the gradient of an empty selection to `count` elements; nothing if the gradient is nil.
    func fill(_ value: Float, _ gradient: UnsafeMutablePointer<Float>?, count: Int) {
        guard let gradient else { return }
        for i in 0..<count { gradient[i] = accumulates ? gradient[i] + value : value }
    }
}
