// Runs one row: prepare, check, and time unless only the check is wanted.

import FastLoss

/// The measurements of one row.
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
    package let ratioToNaive: Interval?
    /// The time on one worker over that on all; nil if there is only one.
    package let ratioToOneWorker: Interval?
    /// The time of one plain sgemm over FastLoss's; nil for other kernels.
    package let ratioToSgemm: Interval?
    /// The time of an objective's parts, one after the other, over that of the whole; nil for other kernels.
    package let ratioToParts: Interval?
    /// The time of a head in upstream's order over FastLoss's; nil for other kernels.
    package let ratioToUpstream: Interval?
    /// Ratios to plain streams of as many bytes; nil if a cache holds them or arithmetic is the limit.
    package let ratioToStreams: StreamRatios?
    /// The time of as many multiply-adds in registers over FastLoss's; nil if bytes are the limit.
    package let ratioToPeak: Interval?
    /// The number of samples of each implementation.
    package let pairs: Int
    /// The largest relative error against the reference in Double.
    package let maxRelativeError: Double
    /// Bytes of scratch memory that FastLoss's workspace holds after the calls; nil without one.
    package let workspaceBytes: Int?
    /// A remark on the row.
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
    /// A call needs more scratch memory than the row allows.
    case tooMuchScratch(bytes: Int, most: Int)

    package var description: String {
        switch self {
        case .inaccurate(let error, let tolerance):
            "the result differs from the reference by \(error) relatively; the tolerance is \(tolerance)"
        case .noNaiveLoop:
            "has no naive loop, and names no shape at which one is timed"
        case .tooMuchScratch(let bytes, let most):
            "a call needs \(bytes) bytes of scratch memory; the row allows \(most)"
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
        let (prepared, workspace, error) = try prepareAndCheck(in: context, stage: stage)
        let call = { try prepared.fastloss(workspace) }
        let alone = Workspace(workers: 1)
        let oneWorker = context.workers == 1 ? nil : { try prepared.fastloss(alone) }

        var naive: PairedSamples?
        if prepared.naive != nil || oneWorker == nil {
            stage("timing")
            naive = try timeInterleaved(call, against: prepared.naive, plan: plan, clock: clock)
        }
        var one: PairedSamples?
        if let oneWorker {
            stage("timing one worker")
            one = try timeInterleaved(call, against: oneWorker, plan: plan.brief, clock: clock)
        }
        var rival: Interval?
        if let other = prepared.rival {
            stage("timing its rival")
            let samples = try timeInterleaved(
                call, against: { try other.call(workspace) }, plan: plan.brief, clock: clock)
            rival = Interval(of: samples.baseline, over: samples.candidate)
        }
        let ratioToStreams = try timeAgainstStreams(
            call, work: prepared.work, in: context, plan: plan.brief, clock: clock, stage: stage)
        var ratioToPeak: Interval?
        if prepared.work.limit == .arithmetic, let peakLoop = context.peakLoop {
            stage("timing multiply-adds in registers")
            let samples = try timeInterleaved(
                call, against: peakLoop(prepared.work.flops, context.workers), plan: plan.brief, clock: clock)
            ratioToPeak = Interval(of: samples.baseline, over: samples.candidate)
        }
        // A row without a naive loop has its time from the pairs with one worker.
        let own = (naive ?? one)?.candidate ?? []
        return Measurement(
            kernel: kernel, variant: variant, mode: mode, shape: shape,
            fastloss: Measurement.Timing(
                time: TimePercentiles(of: own), work: prepared.work, threads: context.workers),
            naive: prepared.naive == nil
                ? nil
                : naive.map {
                    Measurement.Timing(
                        time: TimePercentiles(of: $0.baseline), work: prepared.work, threads: 1)
                },
            ratioToNaive: prepared.naive == nil
                ? nil : naive.map { Interval(of: $0.baseline, over: $0.candidate) },
            ratioToOneWorker: one.map { Interval(of: $0.baseline, over: $0.candidate) },
            ratioToSgemm: prepared.rival?.kind == .sgemm ? rival : nil,
            ratioToParts: prepared.rival?.kind == .parts ? rival : nil,
            ratioToUpstream: prepared.rival?.kind == .upstream ? rival : nil,
            ratioToStreams: ratioToStreams,
            ratioToPeak: ratioToPeak,
            pairs: own.count,
            maxRelativeError: error,
            workspaceBytes: workspace.byteCount == 0 ? nil : workspace.byteCount,
            note: prepared.naive == nil
                ? naiveTimedAt.map { "naive loop too slow here; see its ratio at \($0)" } : nil)
    }

    /// Times the row's call against plain streams of its bytes, if no cache holds these.
    private func timeAgainstStreams<TheClock: Clock>(
        _ call: @escaping () throws -> Float, work: Work, in context: BenchmarkContext, plan: TimingPlan,
        clock: TheClock, stage: (String) -> Void
    ) throws -> StreamRatios? where TheClock.Duration == Duration {
        guard let streams = context.streams, streams.serve(work) else { return nil }
        stage("timing a plain stream")
        // One after the other, so that the arrays of one are gone before those of the next are made.
        func ratio(workers: Int) throws -> Interval {
            let stream = try streams.make(work.bytes, mode, workers)
            let samples = try timeInterleaved(call, against: stream, plan: plan, clock: clock)
            return Interval(of: samples.baseline, over: samples.candidate)
        }
        let all = try ratio(workers: context.workers)
        return StreamRatios(
            allWorkers: all, oneWorker: context.workers == 1 ? all : try ratio(workers: 1))
    }

    /// Prepares and checks the row, and calls the naive loop and the rival once. Times nothing.
    ///
    /// - Parameter stage: is told what happens, for a progress display.
    /// - Returns: The largest relative error against the reference in Double.
    /// - Throws: ``BenchmarkError``, ``TimingError``, or what the row's closures throw.
    package func check(in context: BenchmarkContext, stage: (String) -> Void) throws -> Double {
        let (prepared, workspace, error) = try prepareAndCheck(in: context, stage: stage)
        _ = try prepared.naive?()
        _ = try prepared.rival?.call(workspace)
        return error
    }

    /// Prepares the row and checks its result. A wrong result is not timed.
    ///
    /// - Throws: ``BenchmarkError``, ``TimingError``, or what the row's closures throw.
    private func prepareAndCheck(
        in context: BenchmarkContext, stage: (String) -> Void
    ) throws -> (prepared: Prepared, workspace: Workspace, maxRelativeError: Double) {
        stage("preparing")
        let prepared = try prepare(context)
        let workspace = Workspace(workers: context.workers)
        guard prepared.naive != nil || naiveTimedAt != nil else { throw BenchmarkError.noNaiveLoop }

        stage("checking")
        let error = try prepared.maxRelativeError(workspace)
        // In this form the comparison is false for NaN, too.
        guard error <= tolerance else { throw BenchmarkError.inaccurate(error: error, tolerance: tolerance) }
        if let mostScratch, workspace.byteCount > mostScratch {
            throw BenchmarkError.tooMuchScratch(bytes: workspace.byteCount, most: mostScratch)
        }
        let (one, all) = (
            try prepared.fastloss(Workspace(workers: 1)), try prepared.fastloss(workspace)
        )
        guard one.bitPattern == all.bitPattern else {
            throw TimingError.workersDisagree(one: one, all: all)
        }
        return (prepared, workspace, error)
    }
}
