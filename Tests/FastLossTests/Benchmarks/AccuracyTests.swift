// The distance of a result from the reference.

import Benchmarks
import Testing

@Suite struct AccuracyTests {
    @Test(
        arguments: [
            (2, 2, 0), (3, 2, 0.5), (-1, 2, 1.5), (0.5, 0, 0.5), (0, 0, 0), (.nan, .nan, 0),
            (.nan, 1, .infinity),
            (1, .nan, .infinity), (.infinity, .infinity, 0), (.infinity, 1, .infinity),
        ] as [(Float, Double, Double)])
    func `a value's error is relative to the truth`(value: Float, truth: Double, expected: Double) {
        #expect(relativeError(of: value, to: truth) == expected)
    }

    @Test func `the worst element counts, and small ones are held against the floor`() {
        #expect(largestRelativeError(of: [1, 3, 8], to: [1, 2, 8], floor: 1e-12) == 0.5)
        #expect(largestRelativeError(of: [0.25, 8], to: [0, 8], floor: 0.5) == 0.5)
        #expect(largestRelativeError(of: [], to: [], floor: 1) == 0)
    }

    @Test func `norms are compared as a whole`() {
        #expect(normwiseRelativeError(of: [3, 4, 1], to: [3, 4, 0]) == 0.2)
        #expect(normwiseRelativeError(of: [0, 0], to: [0, 0]) == 0)
        #expect(normwiseRelativeError(of: [0, 2], to: [0, 0]) == 2)
    }

    @Test(arguments: [Float.nan, .infinity])
    func `what is not finite never passes`(value: Float) {
        #expect(largestRelativeError(of: [1, value], to: [1, 1], floor: 1) == .infinity)
        #expect(largestRelativeError(of: [1, value], to: [1, 0], floor: 1) == .infinity)
        #expect(normwiseRelativeError(of: [1, value], to: [1, 1]) == .infinity)
    }
}
