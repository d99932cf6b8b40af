// Times one implementation, or two against each other in interleaved samples.
//
// Clock frequency, neighbours on the machine and the kernel's page cache drift over seconds. Samples of the
// two implementations therefore alternate, the order of the two within a pair alternates too, and the ratio
// is formed pair by pair, so that drift cancels instead of favouring whichever ran first.
//
// Inputs and outputs stay where they are from call to call: what fits a cache is timed warm.

/// How long and how often to time.
package struct TimingPlan: Sendable {
    /// Each implementation runs at least this long before its first sample.
    package var warmUp: Duration
    /// Calls are batched into samples of at least this length, so the cost of reading the clock is
    /// negligible.
    package var minimumSample: Duration
    /// Sampling stops after this time, once there are `minimumPairs`; after four times this time, once there
    /// are ``fewestPairs``.
    package var budget: Duration
    package var minimumPairs: Int
    package var maximumPairs: Int

    package init(
        warmUp: Duration, minimumSample: Duration, budget: Duration, minimumPairs: Int, maximumPairs: Int
    ) {
        self.warmUp = warmUp
        self.minimumSample = minimumSample
        self.budget = budget
        self.minimumPairs = minimumPairs
        self.maximumPairs = maximumPairs
    }

    /// Fewer pairs give no 95 % interval.
    package static let fewestPairs = 6

    /// About two seconds per row, or eleven calls of the naive loop if that is longer.
    package static let full = TimingPlan(
        warmUp: .milliseconds(100), minimumSample: .milliseconds(5), budget: .seconds(2),
        minimumPairs: 11, maximumPairs: 301)

    /// For further comparisons of a row.
    package var brief: TimingPlan {
        var plan = self
        plan.warmUp = warmUp / 4
        plan.budget = budget / 4
        return plan
    }

    /// About a fifth of a second per row: shows that everything runs and roughly how fast.
    package static let quick = TimingPlan(
        warmUp: .milliseconds(20), minimumSample: .milliseconds(2), budget: .milliseconds(200),
        minimumPairs: 7, maximumPairs: 51)
}

/// Nanoseconds per call, one element per sample; `baseline` pairs up with `candidate`, or is empty without
/// a baseline.
package struct PairedSamples: Equatable, Sendable {
    package var candidate: [Double] = []
    package var baseline: [Double] = []
}

/// Why a timing is invalid.
package enum TimingError: Error, Equatable, CustomStringConvertible {
    /// A call on the same inputs gave another value than the first call did.
    case unstableValue(first: Float, later: Float)
    /// One worker and all of them give different values.
    case workersDisagree(one: Float, all: Float)

    package var description: String {
        switch self {
        case .unstableValue(let first, let later):
            "calls on equal inputs gave different values: first \(first), later \(later)"
        case .workersDisagree(let one, let all):
            "one worker gives \(one), all workers \(all)"
        }
    }
}

/// Samples `candidate`, alternating with `baseline` if there is one.
///
/// - Throws: ``TimingError/unstableValue(first:later:)``, or what a call throws.
package func timeInterleaved<TheClock: Clock>(
    _ candidate: @escaping () throws -> Float, against baseline: (() throws -> Float)?, plan: TimingPlan,
    clock: TheClock
) throws -> PairedSamples where TheClock.Duration == Duration {
    var candidate = Stopwatch(call: candidate, clock: clock)
    var baseline = baseline.map { Stopwatch(call: $0, clock: clock) }
    try candidate.calibrate(warmUp: plan.warmUp, minimumSample: plan.minimumSample)
    try baseline?.calibrate(warmUp: plan.warmUp, minimumSample: plan.minimumSample)

    var samples = PairedSamples()
    let start = clock.now
    func isDone() -> Bool {
        let (count, elapsed) = (samples.candidate.count, start.duration(to: clock.now))
        if count >= plan.maximumPairs { return true }
        if count < min(plan.minimumPairs, TimingPlan.fewestPairs) { return false }
        return elapsed >= plan.budget && (count >= plan.minimumPairs || elapsed >= plan.budget * 4)
    }
    while !isDone() {
        let candidateFirst = samples.candidate.count.isMultiple(of: 2)
        if candidateFirst { samples.candidate.append(try candidate.nanosecondsPerCall()) }
        if let time = try baseline?.nanosecondsPerCall() { samples.baseline.append(time) }
        if !candidateFirst { samples.candidate.append(try candidate.nanosecondsPerCall()) }
    }
    return samples
}

/// Times one implementation in batches of calls.
private struct Stopwatch<TheClock: Clock> where TheClock.Duration == Duration {
    let call: () throws -> Float
    let clock: TheClock
    /// Calls per sample.
    private var calls = 1
    private var firstValue: Float?

    init(call: @escaping () throws -> Float, clock: TheClock) {
        self.call = call
        self.clock = clock
    }

    /// Warms up, and chooses the calls per sample.
    mutating func calibrate(warmUp: Duration, minimumSample: Duration) throws {
        let start = clock.now
        while true {
            let sample = try elapsed()
            if sample < minimumSample {
                // A tenth more than proportion asks for; at most tenfold, as the first calls are slower
                // than the rest.
                let growth = sample > .zero ? 1.1 * (minimumSample / sample) : 10
                calls = max(calls + 1, Int(Double(calls) * min(growth, 10)))
            } else if start.duration(to: clock.now) >= warmUp {
                return
            }
        }
    }

    mutating func nanosecondsPerCall() throws -> Double {
        try elapsed() / .nanoseconds(1) / Double(calls)
    }

    /// The duration of one sample. Comparing every value with the first uses each result, so that no call
    /// can be optimised away, and finds kernels whose result depends on what the workers happen to do.
    private mutating func elapsed() throws -> Duration {
        let first = try firstValue ?? call()
        firstValue = first
        var odd: Float?
        let duration = try clock.measure {
            for _ in 0..<calls {
                let value = try call()
                if value.bitPattern != first.bitPattern { odd = value }
            }
        }
        if let odd { throw TimingError.unstableValue(first: first, later: odd) }
        return duration
    }
}
