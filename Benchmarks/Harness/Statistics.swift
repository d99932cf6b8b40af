// Percentiles of times, and the median ratio of interleaved pairs with its interval.
//
// Timings are skewed, because interruptions only ever add time, and their distribution is unknown. Hence
// medians and a distribution-free interval. Nothing here is random: equal samples give equal figures.

import Foundation

/// The `fraction` quantile of `samples`, interpolated linearly between neighbours (Hyndman and Fan's type
/// 7, which is also NumPy's default).
///
/// - Parameters:
///   - samples: at least one number, in any order.
///   - fraction: 0 ... 1.
package func quantile(_ fraction: Double, of samples: [Double]) -> Double {
    precondition(!samples.isEmpty, "the quantile of no samples")
    precondition((0...1).contains(fraction), "a fraction of \(fraction) is not in 0...1")
    let sorted = samples.sorted()
    let position = fraction * Double(sorted.count - 1)
    let lower = Int(position)
    let upper = min(lower + 1, sorted.count - 1)
    return sorted[lower] + (position - Double(lower)) * (sorted[upper] - sorted[lower])
}

/// Nanoseconds per call at the 20th, 50th and 80th percentile of the samples.
package struct TimePercentiles: Equatable, Sendable {
    package let p20: Double
    package let p50: Double
    package let p80: Double

    package init(of samples: [Double]) {
        p20 = quantile(0.2, of: samples)
        p50 = quantile(0.5, of: samples)
        p80 = quantile(0.8, of: samples)
    }
}

/// The median of a ratio of times over pairs of samples, and its 95 % interval.
package struct Interval: Equatable, Sendable {
    package let median: Double
    /// Contains the true median with a probability of at least 95 %; nil with fewer than 6 pairs.
    package let bounds: ClosedRange<Double>?

    package init(median: Double, bounds: ClosedRange<Double>?) {
        self.median = median
        self.bounds = bounds
    }

    /// Forms one ratio per pair.
    ///
    /// - Parameters:
    ///   - numerators: one time per pair.
    ///   - denominators: the other times, in the same order.
    package init(of numerators: [Double], over denominators: [Double]) {
        precondition(
            numerators.count == denominators.count,
            "\(numerators.count) times paired with \(denominators.count)")
        let ratios = zip(numerators, denominators).map { $0 / $1 }.sorted()
        // A clock too coarse for the samples gives 0 / 0, and NaN cannot be sorted.
        guard !ratios.contains(where: \.isNaN) else {
            median = .nan
            bounds = nil
            return
        }
        median = quantile(0.5, of: ratios)
        bounds = medianIntervalRank(count: ratios.count, confidence: 0.95).map { rank in
            ratios[rank]...ratios[ratios.count - 1 - rank]
        }
    }
}

/// The largest rank r, from 0, such that the r-th smallest and the r-th largest of `count` independent
/// samples enclose the true median with a probability of at least `confidence`; nil if even the extremes do
/// not.
///
/// Each sample lies below the median with probability ½, so the interval misses with probability 2 · P(X ≤
/// r), X binomial (`count`, ½). The terms are kept as logarithms: 2⁻ⁿ underflows beyond a thousand samples.
package func medianIntervalRank(count: Int, confidence: Double) -> Int? {
    var logTerm = -Double(count) * log(2.0)
    var below = 0.0
    var rank: Int?
    for r in 0..<(count + 1) / 2 {
        below += exp(logTerm)
        guard 2 * below <= 1 - confidence else { break }
        rank = r
        logTerm += log(Double(count - r) / Double(r + 1))
    }
    return rank
}
