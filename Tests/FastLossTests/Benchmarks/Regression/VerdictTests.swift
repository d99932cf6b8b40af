// The decision: slower, not slower, or too noisy to tell; on samples made for the purpose.

import Benchmarks
import Testing

@Suite struct VerdictTests {
    static let tolerance = 0.15
    static let quiet = times(noise: 0.01, seed: 1)

    @Test(arguments: [
        // The same speed, a little more, and faster.
        (1.0, Verdict.notSlower), (1.1, .notSlower), (0.5, .notSlower),
        // Beyond the tolerance.
        (1.25, .slower), (2.0, .slower),
    ])
    func `on a quiet machine the factor decides`(factor: Double, expected: Verdict) {
        let later = times(noise: 0.01, seed: 2).map { $0 * factor }
        #expect(verdict(of: Slowdown(of: later, over: Self.quiet), control: quietControl) == expected)
    }

    @Test func `an interval that reaches into the tolerance is not slower`() {
        // Median 1.3, but a third of the pairs show no slowdown at all.
        let later = (0..<15).map { $0.isMultiple(of: 3) ? 100.0 : 130.0 }
        let slowdown = Slowdown(of: later, over: [Double](repeating: 100, count: 15))
        #expect(slowdown.median == 1.3)
        #expect(slowdown.interval == 1.0...1.3)
        #expect(verdict(of: slowdown, control: quietControl) == .notSlower)
    }

    @Test func `the tolerance itself is accepted`() {
        let before = [Double](repeating: 4, count: 9)
        let slowdown = Slowdown(of: [Double](repeating: 5, count: 9), over: before)
        #expect(Verdict(slowdown: slowdown, control: quietControl, tolerance: 0.25) == .notSlower)
        #expect(Verdict(slowdown: slowdown, control: quietControl, tolerance: 0.24) == .slower)
    }

    @Test func `a control that strays, in either direction, hides what it could explain`() {
        let noisy = [times(noise: 0, seed: 3).map { $0 * 1.5 }, times(noise: 0, seed: 3).map { $0 / 1.5 }]
        for control in noisy.map({ Slowdown(of: $0, over: times(noise: 0, seed: 3)) }) {
            #expect(abs(control.spread! - 1.5) < 1e-9)
            for factor in [0.5, 1, 1.6, 1.7] {
                #expect(verdict(of: steady(factor), control: control) == .tooNoisy, "\(factor)")
            }
            // 1.15 · 1.5 = 1.725 is what tolerance and noise make together.
            #expect(verdict(of: steady(1.75), control: control) == .slower)
        }
    }

    @Test func `wild samples make a control that strays`() {
        let control = Slowdown(of: times(noise: 0.9, seed: 4), over: times(noise: 0.9, seed: 5))
        #expect(control.spread! > 1 + Self.tolerance)
        #expect(verdict(of: steady(1), control: control) == .tooNoisy)
    }

    @Test func `without an interval nothing can be told`() {
        let few = Slowdown(of: [2, 2, 2, 2, 2], over: [1, 1, 1, 1, 1])
        #expect(few.interval == nil)
        #expect(verdict(of: few, control: quietControl) == .tooNoisy)
        #expect(verdict(of: steady(2), control: few) == .tooNoisy)
        // A clock too coarse: 0 / 0.
        let zeros = Slowdown(of: [Double](repeating: 0, count: 9), over: [Double](repeating: 0, count: 9))
        #expect(verdict(of: steady(2), control: zeros) == .tooNoisy)
    }

    @Test func `half the ratio is twice the time`() {
        let now = SpeedRatio(of: [4, 4, 4, 4, 5, 5, 5], over: [Double](repeating: 1, count: 7))
        let slowdown = Slowdown(from: 10, to: now)
        #expect(slowdown.median == 2.5)
        #expect(slowdown.interval == 2...2.5)
    }

    private var quietControl: Slowdown {
        Slowdown(of: times(noise: 0.01, seed: 6), over: times(noise: 0.01, seed: 7))
    }

    private func steady(_ factor: Double) -> Slowdown {
        Slowdown(of: [Double](repeating: factor, count: 15), over: [Double](repeating: 1, count: 15))
    }

    private func verdict(of slowdown: Slowdown, control: Slowdown) -> Verdict {
        Verdict(slowdown: slowdown, control: control, tolerance: Self.tolerance)
    }
}

/// 15 times of about 100, spread evenly over ± `noise` as a share.
private func times(noise: Double, seed: UInt64) -> [Double] {
    var generator = SeededGenerator(seed: seed)
    return (0..<15).map { _ in 100 * (1 + Double.random(in: -noise...noise, using: &generator)) }
}
