// Holds the rows' ratios of today against a baseline.

/// A check of the ratios against a baseline.
package struct BaselineCheck {
    package let baseline: RatioBaseline
    /// The additional time that is accepted, as a share.
    package let tolerance: Double

    package init(baseline: RatioBaseline, tolerance: Double) {
        self.baseline = baseline
        self.tolerance = tolerance
    }

    /// Measures the rows of `selected` that the baseline has.
    ///
    /// - Parameter all: every row of the program, to tell the baseline's unknown rows from those left out.
    package func run<TheClock: Clock>(
        _ selected: [Benchmark], of all: [Benchmark], in session: RatioSession<TheClock>
    ) -> RegressionOutcome {
        let ratios = Dictionary(uniqueKeysWithValues: baseline.rows.map { ($0.benchmark, $0.ratio) })
        let candidates = selected.filter(\.hasRatio)
        let names = Set(all.filter(\.hasRatio).map(\.name))

        func finding(_ measurement: RatioMeasurement) -> Finding? {
            ratios[measurement.benchmark].map { ratio in
                Finding(
                    benchmark: measurement.benchmark, slowdown: Slowdown(from: ratio, to: measurement.ratio),
                    control: measurement.control, tolerance: tolerance)
            }
        }
        let (measurements, failures) = session.measure(candidates.filter { ratios[$0.name] != nil }) {
            finding($0)?.verdict != .notSlower
        }
        var outcome = RegressionOutcome()
        outcome.findings = measurements.compactMap(finding)
        outcome.failures = failures
        outcome.unknownRows = baseline.rows.map(\.benchmark).filter { !names.contains($0) }
        outcome.missingRows = candidates.map(\.name).filter { ratios[$0] == nil }
        return outcome
    }
}
