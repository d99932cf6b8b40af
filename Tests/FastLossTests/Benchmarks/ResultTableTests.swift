// The table's layout and its numbers.

import Benchmarks
import Testing

@Suite struct ResultTableTests {
    @Test(arguments: [
        (0.0, "0.0"), (1.0, "1.00"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (123.4, "123"),
        (999.6, "1000"),
        (12_345, "12300"), (0.012345, "0.0123"), (-2.5, "-2.50"), (.infinity, "inf"),
    ])
    func `numbers have three significant digits`(number: Double, expected: String) {
        #expect(significant(number) == expected)
    }

    @Test(arguments: [
        (0.5, "0.500 ns"), (999, "999 ns"), (999.6, "1.00 µs"), (1_234, "1.23 µs"), (56_789_000, "56.8 ms"),
        (3.21e9, "3.21 s"), (1.5e13, "15000 s"),
    ])
    func `durations carry the unit that suits them`(nanoseconds: Double, expected: String) {
        #expect(duration(nanoseconds: nanoseconds) == expected)
    }

    @Test func `columns are aligned and notes numbered`() throws {
        let table = try ResultTable(report(measurements()).rows).rendered(width: nil)
        let lines = table.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines[0].hasPrefix("kernel           mode             shape    FastLoss    naive  ratio"))
        #expect(lines[2].hasPrefix("Short            value, gradient  4×5       2.00 ms  6.00 ms  3.00×"))
        #expect(lines[2].contains("  4.00 GB/s       20 % memory read+write"))
        #expect(lines[3].hasPrefix("LongName (base)  value, gradient  6×7×512   2.00 ms        –      –"))
        #expect(lines[3].contains("  1.50 GFLOP/s  75 % sgemm D=512, 38 % peak"))
        #expect(lines[3].hasSuffix("  1.0e-07  [1]") && lines[4].hasSuffix("  1.0e-07  [1]"))
        #expect(lines.suffix(2) == ["", "[1] naive loop too slow here; see its ratio at 4x5"])
    }

    @Test func `a share of a stream says so`() throws {
        let clock = ManualClock()
        let context = BenchmarkContext(cells: try .bundled(), workers: 2, streams: .sample(clock: clock))
        let measurement = try sampleBenchmark(mode: .value, clock: clock).run(
            in: context, plan: .test, clock: clock, stage: { _ in })
        let table = ResultTable(report([measurement]).rows).rendered(width: nil)
        #expect(table.contains("  4.00 GB/s  50 % memory read stream  "))
    }

    @Test func `on a narrow terminal kernels move to lines of their own`() throws {
        let table = try ResultTable(report(measurements()).rows).rendered(width: 80)
        let lines = table.split(separator: "\n")
        #expect(lines[0].hasPrefix("  mode"))
        #expect(lines[2] == "Short")
        #expect(lines[3].hasPrefix("  value, gradient  4×5"))
        #expect(lines[4] == "LongName (base)")
    }

    @Test func `without measurements there is the header alone`() {
        #expect(ResultTable([]).rendered(width: 80).split(separator: "\n").count == 2)
    }

    private func report(_ measurements: [Measurement]) -> Report {
        Report(
            date: .now, quick: true, machine: .current(), runtime: RuntimeFacts(.current), ceilings: .sample,
            measurements: measurements, failures: [])
    }

    private func measurements() throws -> [Measurement] {
        let clock = ManualClock()
        let small = ProblemShape(4, 5)
        let large = ProblemShape(6, 7, 512)
        return try [
            sampleBenchmark(kernel: "Short", shape: small, relativeError: 1e-7, clock: clock),
            sampleBenchmark(
                kernel: "LongName", variant: "base", shape: large, relativeError: 1e-7, naiveTimedAt: small,
                limit: .arithmetic, clock: clock),
            sampleBenchmark(
                kernel: "LongName", variant: "wide", shape: large, relativeError: 1e-7, naiveTimedAt: small,
                limit: .arithmetic, clock: clock),
        ].map { try $0.run(in: .test, plan: .test, clock: clock, stage: { _ in }) }
    }
}
