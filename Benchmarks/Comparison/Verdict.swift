// Decides whether a row became slower, did not, or cannot be judged because of noise.
//
// Each row has two intervals. One compares the later revision with the earlier one. The other, the control,
// compares the earlier revision with itself in the same rounds: its true ratio is 1, so its interval shows
// the machine's noise.

/// The verdict on one row.
package enum Verdict: String, Sendable {
    /// Not slower by more than the tolerance.
    case notSlower
    /// Slower by more than the tolerance.
    case slower
    /// The control strays from 1 by more than the tolerance, or an interval is missing.
    case tooNoisy

    /// A row is slower if its **whole** interval lies beyond the tolerance; if the control strays further
    /// than the tolerance, beyond tolerance times noise.
    ///
    /// - Parameters:
    ///   - slowdown: the later revision's time over the earlier one's.
    ///   - control: the earlier revision's time over its own.
    ///   - tolerance: the accepted additional time as a share: 0.15 accepts 15 %.
    package init(slowdown: Interval, control: Interval, tolerance: Double) {
        guard let bounds = slowdown.bounds, let noise = control.spread, noise.isFinite else {
            self = .tooNoisy
            return
        }
        let accepted = 1 + tolerance
        let isNoisy = noise > accepted
        if bounds.lowerBound > (isNoisy ? accepted * noise : accepted) {
            self = .slower
        } else {
            self = isNoisy ? .tooNoisy : .notSlower
        }
    }
}

extension Interval {
    /// The factor, at least 1, by which the interval strays from 1 in either direction; nil without bounds.
    package var spread: Double? {
        bounds.map { max($0.upperBound, 1 / $0.lowerBound) }
    }
}
