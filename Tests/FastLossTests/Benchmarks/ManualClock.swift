// A clock that advances only when a test says so.

import Benchmarks
import Synchronization

final class ManualClock: Clock, Sendable {
    struct Instant: InstantProtocol {
        var offset: Duration

        func advanced(by duration: Duration) -> Instant { Instant(offset: offset + duration) }
        func duration(to other: Instant) -> Duration { other.offset - offset }
        static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    private let elapsed = Mutex(Duration.zero)

    var now: Instant { Instant(offset: elapsed.withLock { $0 }) }
    var minimumResolution: Duration { .nanoseconds(1) }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        elapsed.withLock { $0 = max($0, deadline.offset) }
    }

    func advance(by duration: Duration) {
        elapsed.withLock { $0 += duration }
    }
}

extension TimingPlan {
    /// Small numbers, so that a test can count calls.
    static let test = TimingPlan(
        warmUp: .milliseconds(3), minimumSample: .milliseconds(1), budget: .milliseconds(40),
        minimumPairs: 7, maximumPairs: 9)
}
