// The comparisons themselves: a comparison that never fails would make every other test worthless.

import Testing

@Suite struct CompareTests {
    @Test func ulpDistanceCountsUnitsOfTheRoundedOracle() {
        #expect(ulpDistance(1, oracle: 1) == 0)
        #expect(ulpDistance(1 + 3 * Float.ulpOfOne, oracle: 1) == 3)
        #expect(ulpDistance(-1, oracle: -1 - 0.5 * Double(Float.ulpOfOne)) == 0.5)
        #expect(ulpDistance(.nan, oracle: .nan) == 0)
        #expect(ulpDistance(.infinity, oracle: 1e300) == 0)
        #expect(ulpDistance(.infinity, oracle: 1) == .infinity)
        #expect(ulpDistance(0, oracle: .nan) == .infinity)
    }

    @Test func normsNeitherOverflowNorVanish() {
        #expect([3.0, -4.0].norm == 5)
        #expect([3e300, 4e300].norm == 5e300)
        #expect([Float(3e-30), 4e-30].norm > 4.9e-30)
        #expect([Double]().norm == 0)
        #expect([1, Double.nan].norm.isNaN)
    }

    /// What each comparison has to reject.
    static let rejections: [(String, @Sendable () -> Void)] = [
        ("other count", { expectClose([1.0], [1.0, 2.0], Tolerances.oracle) }),
        ("too far", { expectClose(1.0, 1.0 + 1e-11, Tolerances.oracle) }),
        ("NaN for a number", { expectClose(Double.nan, 1.0, Tolerances.oracle) }),
        ("a number for NaN", { expectClose(1.0, Double.nan, Tolerances.oracle) }),
        ("infinity for a number", { expectClose(Double.infinity, 1.0, Tolerances.oracle) }),
        ("five ulps", { expectWithinUlps(actual: 1 + 5 * Float.ulpOfOne, oracle: 1) }),
        ("ulps, NaN", { expectWithinUlps(actual: .nan, oracle: 1) }),
        ("norm", { expectNormwise(actual: [1.0, 2.1], oracle: [1, 2], tolerance: 1e-3) }),
        ("norm, NaN", { expectNormwise(actual: [Double.nan, 2], oracle: [1, 2], tolerance: 1e-3) }),
        (
            "a small row beside a large one",
            {
                expectRowsNormwise(
                    actual: [1e9, 0, 2, 2], oracle: [1e9, 0, 1, 2], columns: 2, tolerance: 1e-3)
            }
        ),
        ("accuracy rule", { expectAsAccurateAsNaive(fast: 1.1, naive: 1.01, truth: 1) }),
        ("accuracy rule, NaN", { expectAsAccurateAsNaive(fast: .nan, naive: 1.01, truth: 1) }),
        ("bits", { expectSameBits([0], [-0.0]) }),
        ("gradient", { expectCentralDifferences(of: { $0[0] * $0[0] }, at: [3], gradient: [5]) }),
    ]

    @Test(arguments: rejections.indices)
    func rejects(_ index: Int) {
        let (label, comparison) = Self.rejections[index]
        #expect(!Failures.of(comparison).isEmpty, "\(label)")
    }

    @Test func accepts() {
        expectClose([1.0, .nan, .infinity], [1.0 + 1e-13, .nan, .infinity], Tolerances.oracle)
        expectWithinUlps(actual: [1 + 4 * Float.ulpOfOne, 1e-13, .nan], oracle: [1, 0, .nan])
        expectNormwise(actual: [1.0, 2.0005], oracle: [1, 2], tolerance: 1e-3)
        expectAsAccurateAsNaive(fast: 0.99, naive: 1.01, truth: 1)
        expectAsAccurateAsNaive(fast: 1, naive: .infinity, truth: 1)
        expectSameBits([.nan, 1], [.nan, 1])
        expectCentralDifferences(of: { $0[0] * $0[0] }, at: [3], gradient: [6])
    }
}
