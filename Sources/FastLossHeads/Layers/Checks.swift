// The checks that the heads share.

import FastLoss

/// Throws unless every index is in 0..<`count`.
func checkIndices(
    _ argument: String, _ indices: UnsafeBufferPointer<Int32>, below count: Int
) throws(LossError) {
    for row in indices.indices where indices[row] < 0 || indices[row] >= count {
        throw .indexOutOfRange(argument: argument, index: indices[row], row: row, count: count)
    }
}

/// Throws unless a gradient that is given has an input of as many elements.
func checkGradient(_ gradient: GradientOutput?, of input: ModelElements?) throws(LossError) {
    guard let gradient else { return }
    guard let input else { throw .gradientWithoutInput(gradient: gradient.name) }
    try checkCount(gradient.name, gradient.count, is: input.count)
}
