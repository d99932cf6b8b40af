// Principal components in cases that are known by hand, their invariants, and every error.

import FastLoss
import FastLossDiagnostics
import Testing

@Suite struct PrincipalComponentsTests {
    @Test func scoresOfAnEllipse() throws {
        // Along (3, 4)/5 with the lengths ±10, and across it with ±1.
        let rows: [Float] = [13, 10, 1, -6, 6.2, 2.6, 7.8, 1.4]
        let components = try PrincipalComponents(of: rows, shape: MatrixShape(rows: 4, columns: 2), count: 2)
        let truth: [Double] = [10, 0, 10, 0, 0, 1, 0, 1]
        expectClose(components.scores.map { Double(abs($0)) }, truth, Tolerances.principalComponents)
    }

    /// With all components, distances between rows are those between scores.
    @Test(arguments: [(1, 1), (2, 5), (5, 2), (17, 17), (33, 8), (8, 33)])
    func allComponentsKeepDistances(rows: Int, columns: Int) throws {
        var random = RandomInputs(seed: 8)
        let values = random.normals(rows * columns)
        let components = try PrincipalComponents(
            of: values, shape: MatrixShape(rows: rows, columns: columns), count: 100)
        #expect(components.count == min(rows, columns))
        #expect(components.scores.count == rows * components.count)
        func distances(_ values: [Float], _ width: Int) -> [Double] {
            (0..<rows * rows).map { pair in
                (0..<width).reduce(0.0) { sum, column in
                    let first = Double(values[pair / rows * width + column])
                    let second = Double(values[pair % rows * width + column])
                    return sum + (first - second) * (first - second)
                }
            }
        }
        expectClose(
            distances(components.scores, components.count), distances(values, columns),
            Tolerances.principalComponents)
    }

    @Test func fewerComponentsAreTheFirst() throws {
        var random = RandomInputs(seed: 9)
        let (values, shape) = (random.normals(9 * 6), MatrixShape(rows: 9, columns: 6))
        let all = try PrincipalComponents(of: values, shape: shape, count: 6)
        let two = try PrincipalComponents(of: values, shape: shape, count: 2)
        let first: [Float] = (0..<9).flatMap { all.scores[$0 * 6..<$0 * 6 + 2] }
        #expect(two.scores == first)
        let variances = (0..<6).map { column in
            (0..<9).reduce(Float(0)) { sum, row in
                let score = all.scores[row * 6 + column]
                return sum + score * score
            }
        }
        #expect(variances == variances.sorted(by: >))
        #expect(try PrincipalComponents(of: values, shape: shape, count: 0).scores.isEmpty)
        let empty = MatrixShape(rows: 0, columns: 6)
        #expect(try PrincipalComponents(of: [], shape: empty, count: 2).scores.isEmpty)
    }

    @Test func errors() {
        let shape = MatrixShape(rows: 2, columns: 2)
        #expect(throws: LossError.shapeMismatch(argument: "rows", expected: 4, actual: 3)) {
            try PrincipalComponents(of: [1, 2, 3], shape: shape, count: 1)
        }
        #expect(throws: LossError.invalidShape(rows: -1, columns: 2)) {
            try PrincipalComponents(of: [], shape: MatrixShape(rows: -1, columns: 2), count: 1)
        }
        #expect(throws: LossError.invalidParameter(name: "count", value: -1, requirement: "at least 0")) {
            try PrincipalComponents(of: [1, 2, 3, 4], shape: shape, count: -1)
        }
        #expect(throws: LossError.notFinite(argument: "rows", value: .infinity, index: 2)) {
            try PrincipalComponents(of: [1, 2, .infinity, 4], shape: shape, count: 1)
        }
    }
}
