// Comparisons of two revisions, round by round.

import Benchmarks
import Foundation
import Testing

@Suite struct RunComparisonTests {
    /// The machine's drift from round to round, which both sides share.
    static let drift = [1.0, 1.4, 0.8, 1.1, 2.0, 0.9, 1.3, 1.0, 1.2]

    @Test(arguments: [(2, ComparisonExit.notSlower), (1, .notSlower), (3, .slower)])
    func `drift cancels round by round`(milliseconds: Int, expected: ComparisonExit) throws {
        let before = try Self.drift.map { try report(milliseconds: 2, drift: $0) }
        let after = try Self.drift.map { try report(milliseconds: milliseconds, drift: $0) }
        let outcome = try RunComparison(before: before, after: after, control: before, tolerance: 0.15).run()
        #expect(outcome.exitCode == expected)
        let finding = try #require(outcome.findings.first)
        #expect(abs(finding.slowdown.median - Double(milliseconds) / 2) < 1e-9)
    }

    @Test func `a control that strays makes a round worth nothing`() throws {
        let before = try Self.drift.map { try report(milliseconds: 2, drift: $0) }
        let control = try Self.drift.map { _ in try report(milliseconds: 2, drift: 1) }
        let outcome = try RunComparison(before: before, after: before, control: control, tolerance: 0.15)
            .run()
        #expect(outcome.exitCode == .tooNoisy)
    }

    @Test func `rows that only one revision has are named`() throws {
        let before = try (0..<6).map { _ in try report(kernels: ["Kept", "Gone"]) }
        let after = try (0..<6).map { _ in try report(kernels: ["Kept", "New"]) }
        let outcome = try RunComparison(before: before, after: after, control: before, tolerance: 0.15).run()
        let suffix = "/valueAndGradient/64x1201"
        #expect(outcome.findings.map(\.benchmark) == ["Kept\(suffix)"])
        #expect(outcome.lostRows == ["Gone\(suffix)"])
        #expect(outcome.newRows == ["New\(suffix)"])
    }

    @Test func `a lost row fails the comparison, a new one does not`() {
        let one = [Double](repeating: 1, count: 9)
        var outcome = ComparisonOutcome()
        // A comparison of no rows proves nothing.
        #expect(outcome.exitCode == .unfitRuns)
        outcome.findings = [
            Finding(
                benchmark: "Kept", slowdown: Interval(of: one, over: one),
                control: Interval(of: one, over: one), tolerance: 0.15)
        ]
        outcome.newRows = ["New"]
        #expect(outcome.exitCode == .notSlower)
        outcome.lostRows = ["Gone"]
        #expect(outcome.exitCode == .unfitRuns)
        let text = outcome.rendered(tolerance: 0.15)
        #expect(text.contains("LOST Gone: the later revision lacks this row"))
        #expect(text.contains("NEW New: the earlier revision lacks this row; not compared"))
        #expect(text.contains("1 rows: 0 slower by more than 15 %, 0 too noisy to tell."))
    }

    @Test func `a row that failed in the later revision is reported once`() throws {
        let runs = try (0..<6).map { _ in try report() }
        var after = runs
        let failure = Failure(benchmark: "Sample", message: "wrong")
        for round in after.indices { after[round].failures = [failure] }
        let outcome = try RunComparison(before: runs, after: after, control: runs, tolerance: 0.15).run()
        #expect(outcome.failures == [failure])
        #expect(outcome.exitCode == .notMeasured)
    }

    @Test func `runs that don't belong together are refused`() throws {
        let six = try (0..<6).map { _ in try report() }
        #expect(throws: ComparisonError.unequalRounds([6, 5, 6])) {
            try RunComparison(before: six, after: Array(six.dropLast()), control: six, tolerance: 0.15)
        }
        let five = Array(six.dropLast())
        #expect(throws: ComparisonError.tooFewRounds(5)) {
            try RunComparison(before: five, after: five, control: five, tolerance: 0.15)
        }
        var other = six
        other[3].runtime.instructionSet = "other"
        #expect {
            try RunComparison(before: six, after: other, control: six, tolerance: 0.15)
        } throws: {
            "\($0)".hasPrefix("the runs were made under different conditions: ") && "\($0)".contains("other")
        }
    }

    @Test func `the rows in doubt are found by a filter, and no others`() throws {
        let benchmarks = [
            sampleBenchmark(kernel: "A", variant: "x"), sampleBenchmark(kernel: "A"),
            sampleBenchmark(kernel: "BA"),
        ]
        let (one, two) = ([Double](repeating: 1, count: 9), [Double](repeating: 2, count: 9))
        var outcome = ComparisonOutcome()
        #expect(outcome.filterOfDoubtfulRows == "")
        outcome.findings = zip(benchmarks, [two, one, one]).map { benchmark, times in
            Finding(
                benchmark: benchmark.name, slowdown: Interval(of: times, over: one),
                control: Interval(of: one, over: one), tolerance: 0.15)
        }
        let selected = try benchmarks.selected(by: outcome.filterOfDoubtfulRows, quick: false)
        #expect(selected.map(\.name) == [benchmarks[0].name])
    }

    /// The report of a run in which each kernel takes `milliseconds` · `drift`.
    private func report(
        kernels: [String] = ["Sample"], milliseconds: Int = 2, drift: Double = 1
    ) throws -> Report {
        let clock = ManualClock()
        let measurements = try kernels.map { kernel in
            try Benchmark(
                kernel: kernel, mode: .valueAndGradient, shape: ProblemShape(64, 1201), tolerance: 0
            ) { _ in
                let work = Work(flops: 1, bytes: 1, limitedBy: .memory)
                func call() -> Float {
                    clock.advance(by: .milliseconds(milliseconds) * drift)
                    return 0
                }
                return Prepared(
                    work: work, maxRelativeError: { _ in 0 }, fastloss: { _ in call() }, naive: call)
            }.run(in: .test, plan: .test, clock: clock, stage: { _ in })
        }
        return Report(
            date: Date(timeIntervalSince1970: 0), quick: true, machine: .current(),
            runtime: RuntimeFacts(.current), ceilings: .sample, measurements: measurements, failures: [])
    }
}

@Suite struct WorkloadsTests {
    @Test func `the smallest row of each kernel, variant and mode is a workload`() {
        let benchmarks = [
            sampleBenchmark(kernel: "A", shape: ProblemShape(64, 64)),
            sampleBenchmark(kernel: "A", shape: ProblemShape(8, 64)),
            sampleBenchmark(kernel: "A", variant: "x", shape: ProblemShape(64, 64)),
            sampleBenchmark(kernel: "B", shape: ProblemShape(16, 16)),
        ]
        #expect(benchmarks.workloads.map(\.name) == benchmarks.dropFirst().map(\.name))
    }

    @Test func `a workload calls FastLoss once to settle and then as often as asked`() throws {
        var calls = 0
        let benchmark = Benchmark(
            kernel: "Sample", mode: .value, shape: ProblemShape(1, 1), tolerance: 0
        ) { context in
            #expect(context.workers == 1)
            let work = Work(flops: 1, bytes: 1, limitedBy: .memory)
            return Prepared(
                work: work, maxRelativeError: { _ in 0 },
                fastloss: { _ in
                    calls += 1
                    return 0
                }, naive: nil)
        }
        try benchmark.callFastLoss(times: 3, cells: .bundled())
        #expect(calls == 4)
    }
}
