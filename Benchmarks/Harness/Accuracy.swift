// Errors relative to the reference. A NaN on one side only counts as an infinite error, so no check passes.

/// |value − truth| / |truth|, and |value| where the truth is zero.
package func relativeError(of value: some BinaryFloatingPoint, to truth: Double) -> Double {
    if value.isNaN || truth.isNaN { return value.isNaN && truth.isNaN ? 0 : .infinity }
    let value = Double(value)
    if value == truth { return 0 }
    return abs(value - truth) / (truth == 0 ? 1 : abs(truth))
}

/// The largest relative error of any element; for elementwise kernels.
///
/// - Parameter floor: an element of the truth that is smaller than this is divided by this instead.
package func largestRelativeError(of values: [Float], to truth: [Double], floor: Double) -> Double {
    precondition(values.count == truth.count, "\(values.count) values against \(truth.count)")
    var largest = 0.0
    for (value, truth) in zip(values, truth) {
        let isSmall = abs(truth) < floor
        let error = isSmall ? abs(Double(value) - truth) / floor : relativeError(of: value, to: truth)
        largest = max(largest, error.isNaN ? .infinity : error)
    }
    return largest
}

/// ‖values − truth‖₂ / scale; for gradients whose elements are sums that may cancel.
///
/// - Parameter scale: the divisor; ‖truth‖₂ by default.
package func normwiseRelativeError(of values: [Float], to truth: [Double], scale: Double? = nil) -> Double {
    precondition(values.count == truth.count, "\(values.count) values against \(truth.count)")
    let squaredError = zip(values, truth).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    let scale = scale ?? euclideanNorm(truth)
    if squaredError == 0 { return 0 }
    let error = squaredError.squareRoot() / (scale == 0 ? 1 : scale)
    return error.isNaN ? .infinity : error
}

/// ‖values‖₂.
package func euclideanNorm(_ values: [Double]) -> Double {
    values.reduce(0) { $0 + $1 * $1 }.squareRoot()
}
