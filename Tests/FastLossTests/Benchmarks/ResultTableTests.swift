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
        (0.5, "0.500 ns"), (999, "999 ns"), (999.6, "1.00 us"), (1_234, "1.23 us"), (56_789_000, "56.8 ms"),
        (3.21e9, "3.21 s"), (1.5e13, "15000 s"),
    ])
    func `durations carry the unit that suits them`(nanoseconds: Double, expected: String) {
        #expect(duration(nanoseconds: nanoseconds) == expected)
    }

    @Test func `columns are aligned and notes numbered`() throws {
        let table = try ResultTable(measurements(), ceilings: .sample).rendered(width: nil)
        #expect(
            table == """
                kernel           mode              shape    fastloss    naive  ratio         95 %  1 worker          rate                   of ceiling    error
                ----------------------------------------------------------------------------------------------------------------------------------------------------
                Short            valueAndGradient  4x5       2.00 ms  6.00 ms  3.00x  3.00...3.00     1.50x     4.00 GB/s       20 % memory read+write  1.0e-07
                LongName (base)  valueAndGradient  6x7x512   2.00 ms        -      -            -     1.50x  1.50 GFLOP/s  75 % sgemm D=512, 38 % peak  1.0e-07  [1]
                LongName (wide)  valueAndGradient  6x7x512   2.00 ms        -      -            -     1.50x  1.50 GFLOP/s  75 % sgemm D=512, 38 % peak  1.0e-07  [1]

                [1] naive loop too slow here; see its ratio at 4x5
                """)
    }

    @Test func `a share of a stream beside the row says so`() throws {
        let clock = ManualClock()
        let context = BenchmarkContext(cells: try .bundled(), workers: 2, streams: .sample(clock: clock))
        let measurement = try sampleBenchmark(mode: .value, clock: clock).run(
            in: context, plan: .test, clock: clock, stage: { _ in })
        let table = ResultTable([measurement], ceilings: .sample).rendered(width: nil)
        #expect(table.contains("  4.00 GB/s  50 % memory read beside it  "))
    }

    @Test func `on a narrow terminal kernels move to lines of their own`() throws {
        let table = try ResultTable(measurements(), ceilings: .sample).rendered(width: 80)
        let lines = table.split(separator: "\n")
        #expect(lines[0].hasPrefix("  mode"))
        #expect(lines[2] == "Short")
        #expect(lines[3].hasPrefix("  valueAndGradient  4x5"))
        #expect(lines[4] == "LongName (base)")
    }

    @Test func `without measurements there is the header alone`() {
        #expect(ResultTable([], ceilings: .sample).rendered(width: 80).split(separator: "\n").count == 2)
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
