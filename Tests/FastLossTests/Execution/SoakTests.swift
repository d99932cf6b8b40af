// Many threads that mix all calls and shapes, also while signals arrive: each result is checked. scripts/verify
// runs ten minutes.

import Dispatch
import FastLoss
import Foundation
import Synchronization
import Testing

@Suite(.serialized) struct SoakTests {
    private struct Subject: Sendable {
        var call: PublicCall
        var bits: Data
    }

    /// All calls at random small shapes, and those that workers share.
    private static let subjects: [Subject] = {
        do {
            var random = SplitMix64(seed: 12)
            func size(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
            let small = try (0..<4).flatMap { _ in
                try PublicCall.calls(
                    cells: size(1...9), tokens: size(1...90), width: size(1...70), classes: size(1...20))
            }
            return try (PublicCall.all + small).map {
                Subject(call: $0, bits: try $0.bits(Workspace(workers: 1)))
            }
        } catch {
            preconditionFailure("the shapes are valid: \(error)")
        }
    }()

    /// Threads that each run random calls with random numbers of workers until the time is over.
    private func mix(threads: Int, for duration: Duration) -> (calls: Int, wrong: Int) {
        let subjects = Self.subjects
        let end = ContinuousClock.now + duration
        let calls = Atomic(0)
        let wrong = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: threads) { thread in
            var random = SplitMix64(seed: UInt64(thread))
            while ContinuousClock.now < end {
                let subject = subjects[Int.random(in: 0..<subjects.count, using: &random)]
                let workspace = Workspace(workers: Int.random(in: 1...4, using: &random))
                if (try? subject.call.bits(workspace)) != subject.bits { wrong.add(1, ordering: .relaxed) }
                calls.add(1, ordering: .relaxed)
            }
        }
        return (calls.load(ordering: .relaxed), wrong.load(ordering: .relaxed))
    }

    @Test func `many threads mix all calls`() {
        let (calls, wrong) = mix(threads: 8, for: TestLength.soak)
        #expect(calls > 0 && wrong == 0, "\(wrong) of \(calls) results differ")
        if TestLength.isLong { print("soak: \(calls) calls, \(wrong) wrong") }
    }

    /// How signals arrive.
    enum Signals: CaseIterable {
        /// By the clock, and system calls that wait end early.
        case interrupting
        /// By the clock, and system calls go on (SA_RESTART).
        case restarting
        /// By processor time, as those of a profiler.
        case profiling

        var number: Int32 { self == .profiling ? SIGPROF : SIGALRM }
        var timer: __itimer_which { self == .profiling ? ITIMER_PROF : ITIMER_REAL }
    }

    /// A signal every millisecond.
    @Test(arguments: Signals.allCases) func `signals during calls do no harm`(_ signals: Signals) {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        action.sa_flags = signals == .interrupting ? 0 : SA_RESTART
        var previous = sigaction()
        sigaction(signals.number, &action, &previous)
        var timer = itimerval(
            it_interval: timeval(tv_sec: 0, tv_usec: 1_000), it_value: timeval(tv_sec: 0, tv_usec: 1_000))
        setitimer(__itimer_which_t(signals.timer.rawValue), &timer, nil)
        let (calls, wrong) = mix(threads: 4, for: .seconds(TestLength.isLong ? 30 : 1))
        timer = itimerval()
        setitimer(__itimer_which_t(signals.timer.rawValue), &timer, nil)
        // One that is still pending must find the handler.
        usleep(10_000)
        sigaction(signals.number, &previous, nil)
        #expect(calls > 0 && wrong == 0, "\(wrong) of \(calls) results differ")
    }
}
