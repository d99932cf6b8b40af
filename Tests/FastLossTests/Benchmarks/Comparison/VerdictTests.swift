// Verdicts on synthetic samples.

import BenchmarkData
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
        #expect(verdict(of: Interval(of: later, over: Self.quiet), control: quietControl) == expected)
    }

    @Test func `an interval that reaches into the tolerance is not slower`() {
        // Median 1.3, but a third of the pairs show no slowdown at all.
        let later = (0..<15).map { $0.isMultiple(of: 3) ? 100.0 : 130.0 }
        let slowdown = Interval(of: later, over: [Double](repeating: 100, count: 15))
        #expect(slowdown.median == 1.3)
        #expect(slowdown.bounds == 1.0...1.3)
        #expect(verdict(of: slowdown, control: quietControl) == .notSlower)
    }

    @Test func `the tolerance itself is accepted`() {
        let before = [Double](repeating: 4, count: 9)
        let slowdown = Interval(of: [Double](repeating: 5, count: 9), over: before)
        #expect(Verdict(slowdown: slowdown, control: quietControl, tolerance: 0.25) == .notSlower)
        #expect(Verdict(slowdown: slowdown, control: quietControl, tolerance: 0.24) == .slower)
    }

    @Test func `a control that strays, in either direction, hides what it could explain`() {
        let noisy = [times(noise: 0, seed: 3).map { $0 * 1.5 }, times(noise: 0, seed: 3).map { $0 / 1.5 }]
        for control in noisy.map({ Interval(of: $0, over: times(noise: 0, seed: 3)) }) {
            #expect(abs(control.spread! - 1.5) < 1e-9)
            for factor in [0.5, 1, 1.6, 1.7] {
                #expect(verdict(of: steady(factor), control: control) == .tooNoisy, "\(factor)")
            }
            // 1.15 · 1.5 = 1.725 is what tolerance and noise make together.
            #expect(verdict(of: steady(1.75), control: control) == .slower)
        }
    }

    @Test func `wild samples make a control that strays`() {
        let control = Interval(of: times(noise: 0.9, seed: 4), over: times(noise: 0.9, seed: 5))
        #expect(control.spread! > 1 + Self.tolerance)
        #expect(verdict(of: steady(1), control: control) == .tooNoisy)
    }

    @Test func `without an interval nothing can be told`() {
        let few = Interval(of: [2, 2, 2, 2, 2], over: [1, 1, 1, 1, 1])
        #expect(few.bounds == nil)
        #expect(verdict(of: few, control: quietControl) == .tooNoisy)
        #expect(verdict(of: steady(2), control: few) == .tooNoisy)
        // A clock too coarse: 0 / 0.
        let zeros = Interval(of: [Double](repeating: 0, count: 9), over: [Double](repeating: 0, count: 9))
        #expect(verdict(of: steady(2), control: zeros) == .tooNoisy)
    }

    private var quietControl: Interval {
        Interval(of: times(noise: 0.01, seed: 6), over: times(noise: 0.01, seed: 7))
    }

    private func steady(_ factor: Double) -> Interval {
        Interval(of: [Double](repeating: factor, count: 15), over: [Double](repeating: 1, count: 15))
    }

    private func verdict(of slowdown: Interval, control: Interval) -> Verdict {
        Verdict(slowdown: slowdown, control: control, tolerance: Self.tolerance)
    }
}

/// 15 times of about 100, spread evenly over ± `noise` as a share.
private func times(noise: Double, seed: UInt64) -> [Double] {
    var generator = SeededGenerator(seed: seed)
    return (0..<15).map { _ in 100 * (1 + Double.random(in: -noise...noise, using: &generator)) }
}
