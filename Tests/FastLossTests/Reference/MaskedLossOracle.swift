// What MaskedMSE and both forms of BernoulliNLL have in common, so that their oracles pass the same checks:
// goldens, central differences, the mask law.

import FastLossReference
import Testing

/// A masked loss of the reference: one argument that is differentiated, targets, a mask.
struct MaskedLossOracle<T: ReferenceScalar>: Sendable {
    /// Value and gradient of a reduction.
    let reduce: @Sendable ([T], [T], [Bool], Reference.Reduction, inout [T]) -> T
    /// One value per row, and the gradient of their sum.
    let perCell: @Sendable ([T], [T], [Bool], _ rows: Int, _ columns: Int, inout [T]) -> [T]

    /// All three reductions of a golden's inputs, with their gradients.
    func results(of golden: Golden, input: String) throws -> [(name: String, value: [T], gradient: [T])] {
        let x = try golden.floats(input).map { T($0) }
        let (targets, mask) = (try golden.floats("targets").map { T($0) }, try golden.bools("mask"))
        let untouched = [T].untouched(x.count)
        var (mean, sum, rows) = (untouched, untouched, untouched)
        let meanValue = reduce(x, targets, mask, .mean, &mean)
        let sumValue = reduce(x, targets, mask, .sum, &sum)
        let rowValues = perCell(
            x, targets, mask, try golden.int("rows"), try golden.int("columns"), &rows)
        return [("mean", [meanValue], mean), ("sum", [sumValue], sum), ("perCell", rowValues, rows)]
    }
}

extension MaskedLossOracle<Double> {
    func expectTruth(_ golden: Golden, input: String) throws {
        for (name, value, gradient) in try results(of: golden, input: input) {
            expectClose(value, try golden.truth(name), Tolerances.oracle, name)
            expectClose(gradient, try golden.truth(name + "Gradient"), Tolerances.oracle, name + "Gradient")
        }
    }

    func expectCentralDifferences(at point: [Double], targets: [Double], mask: [Bool], rows: Int) {
        for reduction in Reference.Reduction.allCases {
            var gradient = point
            _ = reduce(point, targets, mask, reduction, &gradient)
            FastLossTests.expectCentralDifferences(
                of: { moved in
                    var unused = moved
                    return reduce(moved, targets, mask, reduction, &unused)
                }, at: point, gradient: gradient, "\(reduction)")
        }
        let columns = point.count / rows
        var gradient = point
        _ = perCell(point, targets, mask, rows, columns, &gradient)
        FastLossTests.expectCentralDifferences(
            of: { moved in
                var unused = moved
                return perCell(moved, targets, mask, rows, columns, &unused).reduce(0, +)
            }, at: point, gradient: gradient, "perCell")
    }

    /// f(x[mask], t[mask]) has the bits of f(x, t, mask), and positions outside have gradient 0.
    func expectMaskLaw(at point: [Double], targets: [Double], mask: [Bool]) {
        func selected(_ elements: [Double]) -> [Double] { zip(elements, mask).filter(\.1).map(\.0) }
        for reduction in Reference.Reduction.allCases {
            var gradient = point
            let value = reduce(point, targets, mask, reduction, &gradient)
            var alone = selected(point)
            let everything = alone.map { _ in true }
            #expect(value == reduce(selected(point), selected(targets), everything, reduction, &alone))
            #expect(selected(gradient) == alone)
            #expect(zip(gradient, mask).allSatisfy { $1 || $0 == 0 })
        }
    }
}

extension MaskedLossOracle<Float> {
    func expectSingle(_ golden: Golden, input: String) throws {
        for (name, value, gradient) in try results(of: golden, input: input) {
            expectNormwise(
                actual: value, oracle: try golden.single(name).doubles, tolerance: Tolerances.naiveNormwise,
                name)
            expectNormwise(
                actual: gradient, oracle: try golden.single(name + "Gradient").doubles,
                tolerance: Tolerances.naiveNormwise, name + "Gradient")
        }
    }
}
