// Interleaved timing, against a clock that the timed calls advance themselves.

import Benchmarks
import Testing

@Suite struct InterleavedTimingTests {
    let clock = ManualClock()

    @Test(arguments: [Duration.nanoseconds(37), .microseconds(3), .milliseconds(2), .seconds(5)])
    func `samples give the time of one call`(cost: Duration) throws {
        let samples = try timeInterleaved(call(cost), against: call(cost * 4), plan: .test, clock: clock)
        #expect(samples.candidate.allSatisfy { abs($0 / (cost / .nanoseconds(1)) - 1) < 1e-9 })
        #expect(samples.baseline.allSatisfy { abs($0 / (cost * 4 / .nanoseconds(1)) - 1) < 1e-9 })
        #expect(samples.baseline.count == samples.candidate.count)
        #expect((6...9).contains(samples.candidate.count))
    }

    @Test func `short calls are batched until a sample is long enough`() throws {
        var calls = 0
        let samples = try timeInterleaved(
            {
                calls += 1
                clock.advance(by: .microseconds(1))
                return 0
            },
            against: nil, plan: .test, clock: clock)
        #expect(calls >= samples.candidate.count * 1_000)
    }

    /// Seven pairs are asked for; far beyond the budget the six that give an interval are enough.
    @Test(arguments: [(Duration.seconds(1), 6), (.milliseconds(20), 7)])
    func `calls beyond the budget still give pairs`(cost: Duration, pairs: Int) throws {
        var plan = TimingPlan.test
        plan.budget = .milliseconds(100)
        let samples = try timeInterleaved(call(cost), against: call(cost), plan: plan, clock: clock)
        #expect(samples.candidate.count == pairs)
    }

    @Test func `calls that cost nothing end at the largest number of pairs`() throws {
        let samples = try timeInterleaved(call(.milliseconds(1)), against: nil, plan: .test, clock: clock)
        #expect(samples.candidate.count == 9)
        #expect(samples.baseline.isEmpty)
    }

    @Test func `the two alternate, and so does who begins`() throws {
        var order = ""
        func record(_ name: Character) -> Float {
            order.append(name)
            clock.advance(by: .milliseconds(1))
            return 0
        }
        let samples = try timeInterleaved(
            { record("A") }, against: { record("B") }, plan: .test, clock: clock)
        #expect(samples.candidate.count == 9)
        // Every call lasts a whole sample, so the last 18 calls are the nine pairs.
        #expect(order.suffix(18) == "ABBAABBAABBAABBAAB")
    }

    @Test func `a value that changes between calls is an error`() throws {
        var calls: Float = 0
        #expect {
            try timeInterleaved(
                {
                    calls += 1
                    clock.advance(by: .milliseconds(1))
                    return calls < 5 ? 1 : 2
                },
                against: nil, plan: .test, clock: clock)
        } throws: { error in
            error as? TimingError == .unstableValue(first: 1, later: 2)
                && "\(error)" == "calls on equal inputs gave different values: first 1.0, later 2.0"
        }
    }

    @Test func `NaN is the same value every time`() throws {
        let samples = try timeInterleaved(
            {
                clock.advance(by: .milliseconds(1))
                return .nan
            },
            against: nil, plan: .test, clock: clock)
        #expect(samples.candidate.count == 9)
    }

    private func call(_ cost: Duration) -> () throws -> Float {
        {
            clock.advance(by: cost)
            return 1
        }
    }
}
