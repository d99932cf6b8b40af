// Ratios of rows against a baseline of them, on a clock that the rows advance themselves.

import Benchmarks
import Foundation
import Testing

@Suite struct BaselineCheckTests {
    let clock = ManualClock()

    @Test(arguments: [
        // The rows of `sampleBenchmark` have a ratio of 3.
        (3.0, RegressionExit.notSlower), (3.3, .notSlower), (1, .notSlower), (3.6, .slower), (30, .slower),
    ])
    func `a ratio beyond the tolerance below its baseline is slower`(
        ratio: Double, expected: RegressionExit
    ) throws {
        let benchmarks = [sampleBenchmark(clock: clock)]
        let outcome = try check(benchmarks, against: [benchmarks[0].name: ratio])
        #expect(outcome.exitCode == expected)
        let finding = try #require(outcome.findings.first)
        #expect(abs(finding.slowdown.median - ratio / 3) < 1e-9)
        #expect(finding.control.spread! < 1 + 1e-9)
    }

    @Test func `a row in doubt is measured once more, with more pairs, and the second time counts`() throws {
        var prepared = 0
        let benchmark = Benchmark(
            kernel: "Sample", mode: .value, shape: ProblemShape(1, 1), tolerance: 0
        ) { [clock] _ in
            prepared += 1
            let candidate = prepared == 1 ? 4 : 2
            return implementations(candidate: candidate, naive: 6, clock: clock)
        }
        let passing = sampleBenchmark(clock: clock)
        var labels: [String] = []
        let session = RatioSession(context: try .test, plan: .test, clock: clock) { labels.append($0) }
        let outcome = BaselineCheck(
            baseline: baseline([passing.name: 3, benchmark.name: 3]), tolerance: 0.15
        ).run([benchmark, passing], of: [benchmark, passing], in: session)
        #expect(prepared == 2)
        #expect(outcome.exitCode == .notSlower)
        #expect(labels.contains("[again] \(benchmark.name): timing"))
        #expect(!labels.contains { $0.hasPrefix("[again] \(passing.name)") })
        #expect(TimingPlan.test.extended.minimumPairs == 2 * TimingPlan.test.minimumPairs)
    }

    @Test func `a machine on which the same code differs from itself cannot tell`() throws {
        // Calls of the candidate take 1, 4 ms in turns as a neighbour comes and goes: samples of one call
        // differ by more than the tolerance, whoever is compared.
        let benchmark = Benchmark(
            kernel: "Sample", mode: .value, shape: ProblemShape(1, 1), tolerance: 0
        ) { [clock] _ in
            var calls = 0
            return Prepared(
                work: Work(flops: 0, bytes: 0, limitedBy: .memory), maxRelativeError: { _ in 0 },
                fastloss: { _ in
                    calls += 1
                    clock.advance(by: .milliseconds(calls.isMultiple(of: 2) ? 4 : 1))
                    return 0
                },
                naive: {
                    clock.advance(by: .milliseconds(6))
                    return 0
                })
        }
        let outcome = try check([benchmark], against: [benchmark.name: 3])
        #expect(outcome.exitCode == .tooNoisy)
        #expect(outcome.noisyRows == [benchmark.name])
    }

    @Test func `unknown and new rows are named`() throws {
        let benchmarks = [sampleBenchmark(clock: clock), sampleBenchmark(kernel: "New", clock: clock)]
        let outcome = try check(benchmarks, against: [benchmarks[0].name: 3, "Gone/value/1x1": 2])
        #expect(outcome.unknownRows == ["Gone/value/1x1"])
        #expect(outcome.missingRows == [benchmarks[1].name])
        #expect(outcome.exitCode == .unfitBaseline)
        let text = outcome.rendered(against: "baseline", tolerance: 0.15)
        #expect(text.contains("UNKNOWN Gone/value/1x1: baseline has this row, and this program does not"))
        #expect(text.contains("NEW \(benchmarks[1].name): not in baseline, hence not checked"))
        #expect(text.contains("1 rows: 0 slower by more than 15 %, 0 too noisy to tell."))
    }

    @Test func `rows that a filter leaves out are not unknown`() throws {
        let benchmarks = [sampleBenchmark(clock: clock), sampleBenchmark(kernel: "Other", clock: clock)]
        let session = RatioSession(context: try .test, plan: .test, clock: clock, progress: { _ in })
        let outcome = BaselineCheck(
            baseline: baseline([benchmarks[0].name: 3, benchmarks[1].name: 3]), tolerance: 0.15
        ).run([benchmarks[0]], of: benchmarks, in: session)
        #expect(outcome.findings.map(\.benchmark) == [benchmarks[0].name])
        #expect(outcome.exitCode == .notSlower)
    }

    @Test func `a wrong result outweighs everything`() throws {
        let wrong = sampleBenchmark(kernel: "Wrong", relativeError: 1, clock: clock)
        let slow = sampleBenchmark(clock: clock)
        let outcome = try check([wrong, slow], against: [wrong.name: 3, slow.name: 30])
        #expect(outcome.failures.map(\.benchmark) == [wrong.name])
        #expect(outcome.slowerRows == [slow.name])
        #expect(outcome.exitCode == .notMeasured)
    }

    @Test func `a check of nothing does not pass`() throws {
        let outcome = try check([sampleBenchmark(clock: clock)], against: [:])
        #expect(outcome.exitCode == .unfitBaseline)
    }

    @Test func `rows whose naive loop is timed elsewhere are left alone`() throws {
        let benchmark = sampleBenchmark(naiveTimedAt: ProblemShape(64, 1201), clock: clock)
        #expect(!benchmark.hasRatio)
        let outcome = try check([benchmark], against: [:])
        #expect(outcome.missingRows.isEmpty && outcome.failures.isEmpty)
    }

    private func check(
        _ benchmarks: [Benchmark], against ratios: [String: Double]
    ) throws -> RegressionOutcome {
        let session = RatioSession(context: try .test, plan: .test, clock: clock, progress: { _ in })
        return BaselineCheck(baseline: baseline(ratios), tolerance: 0.15)
            .run(benchmarks, of: benchmarks, in: session)
    }

    private func baseline(_ ratios: [String: Double]) -> RatioBaseline {
        sampleBaseline(ratios)
    }
}

@Suite struct RatioBaselineTests {
    @Test func `a baseline survives the round trip`() throws {
        let baseline = sampleBaseline(["A/value/1x1": 3.5, "B/value/1x1": 20])
        #expect(try RatioBaseline(json: try baseline.encoded()) == baseline)
    }

    @Test func `a baseline holds ratios, and no times`() throws {
        let json = try JSONSerialization.jsonObject(with: try sampleBaseline(["A/value/1x1": 3]).encoded())
        let rows = try #require((json as? [String: Any])?["rows"] as? [[String: Any]])
        #expect(
            Set(rows[0].keys) == [
                "benchmark", "ratio", "ratio_low", "ratio_high", "control_low", "control_high", "pairs",
            ])
    }

    @Test func `another instruction set is refused with the way out`() throws {
        var baseline = sampleBaseline([:])
        let runtime = RuntimeFacts(.current)
        try baseline.checkFits(runtime)
        baseline.instructionSet = "other"
        #expect {
            try baseline.checkFits(runtime)
        } throws: {
            "\($0)" == "the baseline is of other, and this process uses \(runtime.instructionSet); "
                + "take that set's baseline, or force the set with FASTLOSS_ISA=other"
        }
    }

    @Test func `another processor is worth a note`() {
        var baseline = sampleBaseline([:])
        let (machine, runtime) = (MachineDescription.current(), RuntimeFacts(.current))
        #expect(baseline.differences(from: machine, runtime).isEmpty)
        baseline.cpu = "Z80"
        #expect(
            baseline.differences(from: machine, runtime) == [
                "the baseline's processor is Z80, this one is \(machine.cpu)"
            ])
    }

    @Test func `a file that cannot be read says why`() throws {
        #expect(throws: BaselineError.unreadable(reason: "there is no such file")) {
            try RatioBaseline(reading: "/nowhere.json")
        }
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).json").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        for (text, reason) in [("{", "it is not JSON"), ("{}", ".schema is missing")] {
            try Data(text.utf8).write(to: URL(filePath: path))
            #expect(throws: BaselineError.malformed(reason: reason)) { try RatioBaseline(reading: path) }
        }
    }

    @Test func `what is no baseline is refused`() throws {
        #expect(throws: BaselineError.otherSchema(99)) {
            try RatioBaseline(json: Data(#"{"schema": 99}"#.utf8))
        }
        for text in ["", "[]", "{}", #"{"schema": 1}"#] {
            #expect {
                try RatioBaseline(json: Data(text.utf8))
            } throws: { "\($0)".hasPrefix("the file is not a baseline: ") }
        }
        let zero = try sampleBaseline(["A/value/1x1": 0]).encoded()
        #expect(throws: BaselineError.malformed(reason: "the ratio of A/value/1x1 is 0.0")) {
            try RatioBaseline(json: zero)
        }
        var twice = sampleBaseline(["A/value/1x1": 3])
        twice.rows += twice.rows
        let encoded = try twice.encoded()
        #expect(throws: BaselineError.malformed(reason: "a row appears twice")) {
            try RatioBaseline(json: encoded)
        }
    }
}

/// A baseline of this machine.
private func sampleBaseline(_ ratios: [String: Double]) -> RatioBaseline {
    let rows = ratios.sorted { $0.key < $1.key }.map { name, ratio in
        RatioBaseline.Row(
            RatioMeasurement(
                benchmark: name,
                ratio: SpeedRatio(of: [Double](repeating: ratio, count: 7), over: [1, 1, 1, 1, 1, 1, 1]),
                control: Slowdown(of: [1, 1, 1, 1, 1, 1, 1], over: [1, 1, 1, 1, 1, 1, 1]), pairs: 7))!
    }
    return RatioBaseline(
        machine: .current(), runtime: RuntimeFacts(.current), workers: 1, rows: rows)
}

/// Calls that advance `clock` by so many milliseconds.
private func implementations(candidate: Int, naive: Int, clock: ManualClock) -> Prepared {
    Prepared(
        work: Work(flops: 0, bytes: 0, limitedBy: .memory), maxRelativeError: { _ in 0 },
        fastloss: { _ in
            clock.advance(by: .milliseconds(candidate))
            return 0
        },
        naive: {
            clock.advance(by: .milliseconds(naive))
            return 0
        })
}
