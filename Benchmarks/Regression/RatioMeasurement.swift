// Measures what a baseline holds: rows' ratios to the naive loop, each with its control.

/// One row's ratio to the naive loop, and its control.
package struct RatioMeasurement: Equatable, Sendable {
    package let benchmark: String
    /// The naive loop's time over FastLoss's.
    package let ratio: SpeedRatio
    /// FastLoss's time over its own.
    package let control: Slowdown
    /// Pairs of samples, of the ratio and of the control each at least.
    package let pairs: Int

    package init(benchmark: String, ratio: SpeedRatio, control: Slowdown, pairs: Int) {
        self.benchmark = benchmark
        self.ratio = ratio
        self.control = control
        self.pairs = pairs
    }
}

extension Benchmark {
    /// Whether the row has a ratio at all: some naive loops take too long to be timed.
    package var hasRatio: Bool { naiveTimedAt == nil }

    /// Prepares and checks the row, then times FastLoss against the naive loop, and against itself.
    ///
    /// - Throws: ``BenchmarkError``, ``TimingError``, or what the row's closures throw.
    package func measureRatio<TheClock: Clock>(
        in context: BenchmarkContext, plan: TimingPlan, clock: TheClock, stage: (String) -> Void
    ) throws -> RatioMeasurement where TheClock.Duration == Duration {
        let (prepared, workspace, _) = try prepareAndCheck(in: context, stage: stage)
        guard let naive = prepared.naive else { throw BenchmarkError.noNaiveLoop }
        let call = { try prepared.fastloss(workspace) }
        stage("timing")
        let samples = try timeInterleaved(call, against: naive, plan: plan, clock: clock)
        stage("timing its control")
        let control = try timeInterleaved(call, against: call, plan: plan, clock: clock)
        return RatioMeasurement(
            benchmark: name, ratio: SpeedRatio(of: samples.baseline, over: samples.candidate),
            control: Slowdown(of: control.baseline, over: control.candidate),
            pairs: min(samples.candidate.count, control.candidate.count))
    }
}

extension TimingPlan {
    /// For a second look at a row: four times as long, and at least twice as many pairs.
    package var extended: TimingPlan {
        TimingPlan(
            warmUp: warmUp, minimumSample: minimumSample, budget: budget * 4,
            minimumPairs: 2 * minimumPairs, maximumPairs: 4 * maximumPairs)
    }
}

/// Measures rows, and those that are in doubt once more.
package struct RatioSession<TheClock: Clock> where TheClock.Duration == Duration {
    package let context: BenchmarkContext
    package let plan: TimingPlan
    package let clock: TheClock
    /// Is told what happens, for a progress display.
    package let progress: (String) -> Void

    package init(
        context: BenchmarkContext, plan: TimingPlan, clock: TheClock, progress: @escaping (String) -> Void
    ) {
        self.context = context
        self.plan = plan
        self.clock = clock
        self.progress = progress
    }

    /// Measures `benchmarks` in turn. When all are done, those that `isInDoubt` are measured again, with more
    /// pairs, and the second measurement stands: what disturbed the first has had time to pass.
    package func measure(
        _ benchmarks: [Benchmark], isInDoubt: (RatioMeasurement) -> Bool
    ) -> (measurements: [RatioMeasurement], failures: [Failure]) {
        var measurements: [RatioMeasurement?] = []
        var failures: [Failure] = []
        func measure(_ benchmark: Benchmark, plan: TimingPlan, label: String) -> RatioMeasurement? {
            do {
                return try benchmark.measureRatio(in: context, plan: plan, clock: clock) { stage in
                    progress("\(label) \(benchmark.name): \(stage)")
                }
            } catch {
                failures.append(Failure(benchmark: benchmark.name, message: "\(error)"))
                return nil
            }
        }
        for (index, benchmark) in benchmarks.enumerated() {
            let label = "[\(index + 1)/\(benchmarks.count)]"
            measurements.append(measure(benchmark, plan: plan, label: label))
        }
        for (index, benchmark) in benchmarks.enumerated() {
            guard let first = measurements[index], isInDoubt(first) else { continue }
            measurements[index] = measure(benchmark, plan: plan.extended, label: "[again]")
        }
        return (measurements.compactMap { $0 }, failures)
    }
}
