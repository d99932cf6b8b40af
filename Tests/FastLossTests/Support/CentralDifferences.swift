// Checks a gradient against the function it belongs to, without knowing the formula of either.

import Testing

/// Expects every element of `gradient` to be the central difference of `function` at `point`.
///
/// The function must be smooth around the point: no kink within a step of `Tolerances.centralDifferenceStep`.
func expectCentralDifferences(
    of function: ([Double]) -> Double, at point: [Double], gradient: [Double], _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let differences = point.indices.map { i in
        let step = Tolerances.centralDifferenceStep * max(1, abs(point[i]))
        var moved = point
        moved[i] = point[i] + step
        let above = function(moved)
        moved[i] = point[i] - step
        return (above - function(moved)) / (2 * step)
    }
    expectClose(
        gradient, differences, Tolerances.centralDifferences, label, sourceLocation: sourceLocation)
}
