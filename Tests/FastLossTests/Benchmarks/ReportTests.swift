// The JSON report.

import Benchmarks
import FastLoss
import Foundation
import Testing

@Suite struct ReportTests {
    @Test func `a report survives the round trip`() throws {
        let report = try sampleReport()
        #expect(try Report(json: try report.encoded()) == report)
        // One record a line.
        let lines = String(decoding: try report.encoded(), as: UTF8.self).split(separator: "\n")
        #expect(lines.count { $0.contains("\"kernel\":") && $0.contains("\"p50_ns\":") } == 3)
    }

    @Test func `the report explains every field, and absent figures have none`() throws {
        let json = try JSONSerialization.jsonObject(with: try sampleReport().encoded())
        let report = try #require(json as? [String: Any])
        #expect(report["schema"] as? Int == 3)
        let records = try #require(report["measurements"] as? [[String: Any]])
        #expect(records.map { $0["provider"] as? String } == ["fastloss", "naive", "fastloss"])
        let fields: Set = [
            "kernel", "variant", "provider", "mode", "rows", "columns", "depth", "threads", "samples",
            "p20_ns", "p50_ns", "p80_ns", "ratio_to_naive", "ratio_low", "ratio_high", "gflops", "gb_per_s",
            "ceiling", "ceiling_rate", "share_of_ceiling", "share_of_one_worker", "workspace_bytes",
            "max_rel_error", "note", "share_of_peak", "ratio_to_one_worker", "ratio_to_one_worker_low",
            "ratio_to_one_worker_high", "ratio_to_sgemm", "ratio_to_sgemm_low", "ratio_to_sgemm_high",
            "ratio_to_parts", "ratio_to_parts_low", "ratio_to_parts_high",
            "ratio_to_upstream", "ratio_to_upstream_low", "ratio_to_upstream_high",
        ]
        for record in records { #expect(fields.isSuperset(of: record.keys)) }
        #expect(records[0]["ratio_to_naive"] as? Double == 3)
        #expect(records[0]["ratio_to_one_worker"] as? Double == 1.5)
        #expect(records[1]["ratio_to_naive"] == nil)
        #expect(records[2]["ratio_to_naive"] == nil)
        #expect(records[2]["note"] as? String == "naive loop too slow here; see its ratio at 64x1201")

        // The report explains each field that its records have.
        let meaning = try #require(report["fields"] as? [String: String])
        #expect(Set(meaning.keys.flatMap { $0.split(separator: ", ").map(String.init) }) == fields)
    }

    @Test func `a row with a stream has its share in the fields of any ceiling`() throws {
        let clock = ManualClock()
        let context = BenchmarkContext(cells: try .bundled(), workers: 2, streams: .sample(clock: clock))
        let measurement = try sampleBenchmark(clock: clock).run(
            in: context, plan: .test, clock: clock, stage: { _ in })
        let report = Report(
            date: .now, quick: true, machine: .current(), runtime: RuntimeFacts(.current), ceilings: .sample,
            measurements: [measurement], failures: [])
        let record = try #require(report.measurements.first)
        #expect(record.share?.ceiling == "memory read+write stream")
        let (share, rate) = (try #require(record.share?.ofCeiling), try #require(record.share?.rate))
        #expect(abs(share - 0.5) < 1e-6)
        #expect(abs(try #require(record.share?.ofOneWorker) - 0.75) < 1e-6)
        #expect(abs(share * rate - (try #require(record.time.gigabytesPerSecond))) < 1e-6)
    }

    @Test func `numbers that JSON cannot represent are left out`() throws {
        // Against a clock that stands still every rate is infinite and the ratio is 0 / 0.
        let instant = TimingPlan(
            warmUp: .zero, minimumSample: .zero, budget: .zero, minimumPairs: 7, maximumPairs: 7)
        let measurement = try sampleBenchmark().run(
            in: .test, plan: instant, clock: ManualClock(), stage: { _ in })
        #expect(measurement.fastloss.gflops == .infinity)
        let report = Report(
            date: .now, quick: true, machine: .current(), runtime: RuntimeFacts(.current), ceilings: .sample,
            measurements: [measurement], failures: [])
        let record = try #require(try Report(json: try report.encoded()).measurements.first)
        #expect(record.time.gflops == nil && record.time.gigabytesPerSecond == nil)
        #expect(record.ratios.naive == nil && record.ratios.oneWorker == nil)
        #expect(record.time.p50 == 0)
    }

    @Test func `writing replaces the file as a whole`() throws {
        let path = temporaryPath()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(repeating: 0x20, count: 100_000).write(to: URL(filePath: path))
        let report = try sampleReport()
        try ReportFile(path: path).write(report)
        #expect(try Report(json: try Data(contentsOf: URL(filePath: path))) == report)
    }

    @Test func `a path that cannot be written is known beforehand`() throws {
        let folder = FileManager.default.temporaryDirectory.path
        #expect(throws: ReportFileError.unwritable(path: folder, reason: "it is a folder")) {
            try ReportFile(path: folder)
        }
        let missing = temporaryPath()
        #expect(
            throws: ReportFileError.unwritable(
                path: "\(missing)/a.json", reason: "there is no folder \(missing)")
        ) {
            try ReportFile(path: "\(missing)/a.json")
        }
        #expect(
            "\(ReportFileError.unwritable(path: "a.json", reason: "it is a folder"))"
                == "cannot write a.json: it is a folder")
    }

    private func temporaryPath() -> String {
        FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    }

    private func sampleReport() throws -> Report {
        let clock = ManualClock()
        let measurements = try [
            sampleBenchmark(clock: clock),
            sampleBenchmark(
                shape: ProblemShape(512, 1200), naiveTimedAt: ProblemShape(64, 1201), clock: clock),
        ].map { try $0.run(in: .test, plan: .test, clock: clock, stage: { _ in }) }
        return Report(
            date: Date(timeIntervalSince1970: 1_700_000_000), quick: true, machine: .current(),
            runtime: RuntimeFacts(.current), ceilings: .sample, measurements: measurements,
            failures: [Failure(benchmark: "A/value/1x1", message: "why")])
    }
}

@Suite struct MachineDescriptionTests {
    @Test(arguments: [
        ("processor\t: 0\nmodel name\t: Some CPU: 2 GHz\n\nmodel name\t: Other\n", "Some CPU: 2 GHz"),
        ("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n", "implementer 0x41 part 0xd0c"),
        ("processor : 0\n", nil),
    ])
    func `the processor's name is found on x86 and on aarch64`(text: String, expected: String?) {
        #expect(MachineDescription.cpuName(inCPUInfo: text) == expected)
    }
}
