// The statistics of the benchmarks' table.

import Benchmarks
import Testing

@Suite struct StatisticsTests {
    @Test(arguments: [(0.0, 1.0), (0.2, 1.8), (0.5, 3.0), (0.8, 4.2), (1.0, 5.0)])
    func `a quantile interpolates between neighbours`(fraction: Double, expected: Double) {
        #expect(abs(quantile(fraction, of: [5, 3, 1, 4, 2]) - expected) < 1e-12)
    }

    @Test func `one sample is its own quantile`() {
        let percentiles = TimePercentiles(of: [7])
        #expect(percentiles.p20 == 7 && percentiles.p50 == 7 && percentiles.p80 == 7)
    }

    @Test(arguments: 1...40)
    func `the median's interval is the narrowest of at least 95 percent`(count: Int) {
        /// The probability that the r-th smallest and r-th largest of `count` samples enclose the median,
        /// from binomial coefficients, which are exact up to this count.
        func coverage(_ rank: Int) -> Double {
            var coefficient = 1.0
            var sum = 0.0
            for k in 0...rank {
                sum += coefficient
                coefficient = coefficient * Double(count - k) / Double(k + 1)
            }
            var all = 1.0
            for _ in 0..<count { all *= 2 }
            return 1 - 2 * sum / all
        }
        guard let rank = medianIntervalRank(count: count, confidence: 0.95) else {
            #expect(count < 6 && coverage(0) < 0.95)
            return
        }
        #expect(coverage(rank) >= 0.95)
        #expect(coverage(rank + 1) < 0.95)
    }

    @Test func `the rank of thousands of samples does not underflow`() throws {
        // The normal approximation: n/2 − 1.96·√n/2.
        let rank = try #require(medianIntervalRank(count: 10_000, confidence: 0.95))
        #expect(abs(rank - 4_902) <= 1)
    }

    @Test func `a ratio is formed pair by pair, so that drift cancels`() throws {
        // The machine slows down tenfold during the run; the ratio within each pair stays 3.
        let own = (1...11).map { Double($0) }
        let ratio = Interval(of: own.map { 3 * $0 }, over: own)
        #expect(abs(ratio.median - 3) < 1e-12)
        let bounds = try #require(ratio.bounds)
        #expect(bounds.upperBound - bounds.lowerBound < 1e-12)
    }

    @Test func `an interval leaves out the extremes as far as it may`() throws {
        // Eleven pairs: the second smallest and the second largest enclose the median with 98.8 %, the
        // third with 93.5 %.
        let ratio = Interval(
            of: [9, 1, 8, 2, 7, 3, 6, 4, 5, 100, 0.01], over: [Double](repeating: 1, count: 11))
        #expect(ratio.median == 5)
        #expect(ratio.bounds == 1...9)
    }

    @Test func `fewer than six pairs have a median and no interval`() {
        let ratio = Interval(of: [2, 4, 6], over: [1, 1, 1])
        #expect(ratio.median == 4)
        #expect(ratio.bounds == nil)
    }
}
