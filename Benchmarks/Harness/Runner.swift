// Runs one row: prepare, check, time.

/// What became of one row.
package struct Measurement: Sendable {
    /// The timings of one implementation.
    package struct Timing: Sendable {
        /// Nanoseconds per call.
        package let time: TimePercentiles
        package let work: Work
        package let threads: Int

        /// 10⁹ floating-point operations per second at the median.
        package var gflops: Double { Double(work.flops) / time.p50 }
        /// 10⁹ bytes per second at the median.
        package var gigabytesPerSecond: Double { Double(work.bytes) / time.p50 }
    }

    package let kernel: String
    package let variant: String?
    package let mode: Mode
    package let shape: ProblemShape
    package let fastloss: Timing
    /// Nil where the naive loop is timed at another shape.
    package let naive: Timing?
    /// The naive loop's time over FastLoss's; nil without ``naive``.
    package let ratioToNaive: SpeedRatio?
    /// The number of samples of each implementation.
    package let pairs: Int
    /// The largest relative error against the reference in Double.
    package let maxRelativeError: Double
    /// Bytes of scratch memory that FastLoss's workspace holds after the calls; nil without one.
    package let workspaceBytes: Int?
    /// What a reader of the row must know.
    package let note: String?
}

/// A row without a measurement.
package struct Failure: Codable, Equatable, Sendable {
    /// The row's name.
    package let benchmark: String
    package let message: String

    package init(benchmark: String, message: String) {
        self.benchmark = benchmark
        self.message = message
    }
}

/// Why a row was not timed.
package enum BenchmarkError: Error, Equatable, CustomStringConvertible {
    /// The check found a relative error that is above the tolerance, or not a number.
    case inaccurate(error: Double, tolerance: Double)
    /// The row neither has a naive loop nor says where one is timed.
    case noNaiveLoop

    package var description: String {
        switch self {
        case .inaccurate(let error, let tolerance):
            "the result differs from the reference by \(error) relatively; the tolerance is \(tolerance)"
        case .noNaiveLoop:
            "has no naive loop, and names no shape at which one is timed"
        }
    }
}

extension Benchmark {
    /// Prepares, checks and times the row.
    ///
    /// - Parameter stage: is told what happens, for a progress display.
    /// - Throws: ``BenchmarkError``, ``TimingError``, or what the row's closures throw.
    package func run<TheClock: Clock>(
        in context: BenchmarkContext, plan: TimingPlan, clock: TheClock, stage: (String) -> Void
    ) throws -> Measurement where TheClock.Duration == Duration {
        let (prepared, error) = try prepareAndCheck(in: context, stage: stage)
        stage("timing")
        let samples = try timeInterleaved(
            prepared.fastloss.call, against: prepared.naive?.call, plan: plan, clock: clock)
        return Measurement(
            kernel: kernel, variant: variant, mode: mode, shape: shape,
            fastloss: prepared.fastloss.timing(of: samples.candidate),
            naive: prepared.naive?.timing(of: samples.baseline),
            ratioToNaive: prepared.naive == nil
                ? nil : SpeedRatio(of: samples.baseline, over: samples.candidate),
            pairs: samples.candidate.count,
            maxRelativeError: error,
            workspaceBytes: prepared.workspace?.byteCount,
            note: prepared.naive == nil
                ? naiveTimedAt.map { "naive loop too slow here; see its ratio at \($0)" } : nil)
    }

    /// Prepares the row, and checks its result: what is wrong is not timed.
    ///
    /// - Throws: ``BenchmarkError``, or what the row's closures throw.
    func prepareAndCheck(
        in context: BenchmarkContext, stage: (String) -> Void
    ) throws -> (prepared: Prepared, maxRelativeError: Double) {
        stage("preparing")
        let prepared = try prepare(context)
        guard prepared.naive != nil || naiveTimedAt != nil else { throw BenchmarkError.noNaiveLoop }

        stage("checking")
        let error = try prepared.maxRelativeError()
        // Stated so that NaN, which compares false with everything, fails too.
        guard error <= tolerance else { throw BenchmarkError.inaccurate(error: error, tolerance: tolerance) }
        return (prepared, error)
    }
}

extension Implementation {
    fileprivate func timing(of samples: [Double]) -> Measurement.Timing {
        Measurement.Timing(time: TimePercentiles(of: samples), work: work, threads: threads)
    }
}
