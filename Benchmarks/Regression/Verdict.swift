// What may be said of a row: slower, not slower, or that the machine was too noisy to tell.
//
// Two questions are asked of every row. How much longer does the code take than what it is held against? And
// how much longer does the same code seem to take than itself, sampled in the same way at the same time? The
// second, the control, is 1 in truth, so that whatever its interval spans besides is the machine's doing.

/// How much longer something takes than what it is held against: above 1, slower.
package struct Slowdown: Codable, Equatable, Sendable {
    /// The median over the pairs.
    package let median: Double
    /// The 95 % interval of the median; nil with fewer than 6 pairs, or where the clock was too coarse.
    package let interval: ClosedRange<Double>?

    /// From times that pair up.
    package init(of times: [Double], over earlier: [Double]) {
        let ratio = SpeedRatio(of: times, over: earlier)
        median = ratio.median
        interval = ratio.interval
    }

    /// From a ratio to the naive loop that was `baseline` and is `ratio` now: half the ratio is twice the time.
    package init(from baseline: Double, to ratio: SpeedRatio) {
        median = baseline / ratio.median
        interval = ratio.interval.map { (baseline / $0.upperBound)...(baseline / $0.lowerBound) }
    }

    /// The factor, at least 1, by which the interval strays from 1 in either direction; nil without one.
    package var spread: Double? {
        interval.map { max($0.upperBound, 1 / $0.lowerBound) }
    }
}

/// What may be said of a row.
package enum Verdict: String, Sendable {
    /// Not slower by more than the tolerance, as far as can be told.
    case notSlower
    /// Slower by more than the tolerance.
    case slower
    /// The same code differs from itself by more than the tolerance: nothing can be told.
    case tooNoisy

    /// Slower means that the **whole** interval of `slowdown` lies beyond the tolerance; beyond the noise as
    /// well, where the control shows that there is more of it than the tolerance allows.
    ///
    /// - Parameters:
    ///   - control: the slowdown of the same code against itself.
    ///   - tolerance: the additional time that is accepted, as a share: 0.15 accepts 15 % more.
    package init(slowdown: Slowdown, control: Slowdown, tolerance: Double) {
        guard let interval = slowdown.interval, let noise = control.spread, noise.isFinite else {
            self = .tooNoisy
            return
        }
        let accepted = 1 + tolerance
        let isNoisy = noise > accepted
        if interval.lowerBound > (isNoisy ? accepted * noise : accepted) {
            self = .slower
        } else {
            self = isNoisy ? .tooNoisy : .notSlower
        }
    }
}
