// The page, the committed results, and the files that cannot be read.

import Benchmarks
import Foundation
import Testing

@Suite struct ReportPageTests {
    @Test func `the page needs nothing from elsewhere and shows every row`() throws {
        let report = try sampleReport()
        let page = ReportPage(report).html
        // The name of SVG's namespace is the one address, and nothing is loaded from it.
        let content = page.replacing("http://www.w3.org/2000/svg", with: "")
        for tag in ["http:", "https:", "<script", "<link", "<img", "@import", "url("] {
            #expect(!content.contains(tag))
        }
        #expect(page.contains("3.00×"))
        #expect(page.contains("20 % memory read+write"))
        #expect(page.contains("Limited by memory") && page.contains("µs per call") == false)
        #expect(page.contains("A &lt; B"))
        #expect(!page.contains("A < B"))
    }

    @Test func `a batch that grows is drawn, its memory too`() throws {
        let report = try sampleReport(pairs: [64, 256, 1024])
        let page = ReportPage(report).html
        #expect(page.contains("Pairs, D = 512: time"))
        #expect(page.contains("Pairs, D = 512: memory"))
        #expect(page.contains("B = 1024"))
        #expect(!ReportPage(try sampleReport(pairs: [64, 256])).html.contains("D = 512: time"))
    }

    @Test(arguments: [
        ("{", "it is not a report of the benchmarks: it is not JSON"),
        ("[]", "it is not a report of the benchmarks: it is not of type Dictionary<String, Any>"),
        ("{}", "it is not a report of the benchmarks: .schema is missing"),
        (
            #"{"schema": 1}"#,
            "it has schema 1, but this program reads schema 3; run the benchmarks again with --json"
        ),
        (#"{"schema": 3, "date": 3}"#, "it is not a report of the benchmarks: .date is not of type String"),
    ])
    func `a file that is no report says why`(text: String, reason: String) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).json").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(text.utf8).write(to: URL(filePath: path))
        #expect(throws: ReportFileError.unreadable(path: path, reason: reason)) { try Report(reading: path) }
    }

    @Test func `a file that is not there says so`() {
        #expect(throws: ReportFileError.unreadable(path: "/nowhere.json", reason: "no such file")) {
            try Report(reading: "/nowhere.json")
        }
    }
}

@Suite struct CommittedResultsTests {
    @Test func `the table shows the smallest and largest shape, with the gradient`() throws {
        let rows = CommittedResults(try sampleReport(pairs: [64, 256, 1024])).markdown
        #expect(
            rows.contains("| Pairs, value, gradient | 64×64×512 | 2.00 ms | 6.00 ms | 3.00× (3.00 – 3.00) |"))
        #expect(rows.contains("1024×1024×512"))
        #expect(!rows.contains("256×256×512"))
    }

    @Test func `only the part between the markers changes`() throws {
        let text = "a\n\(MarkedText.begin)\nold\n\(MarkedText.end)\nb\n"
        #expect(try MarkedText(text).marked == "old")
        let replaced = try MarkedText(text).replacing("new")
        #expect(replaced == "a\n\(MarkedText.begin)\nnew\n\(MarkedText.end)\nb\n")
        #expect(try MarkedText(replaced).marked == "new")
    }

    @Test(arguments: [
        "", MarkedText.begin, MarkedText.end, "\(MarkedText.end)\(MarkedText.begin)",
        "\(MarkedText.begin)\(MarkedText.begin)\(MarkedText.end)",
    ])
    func `without both markers nothing is replaced`(text: String) {
        #expect(throws: MarkersMissing()) { try MarkedText(text) }
    }

    @Test func `only a full run in which all went well is committed`() throws {
        var report = try sampleReport()
        let rows = report.measurements.map(\.row.name)
        report.failures = []
        #expect(throws: IncompleteReport.quick) { try report.checkCompleteness(rows: rows) }
        report.quick = false
        try report.checkCompleteness(rows: rows)
        #expect(throws: IncompleteReport.missing(benchmark: "Other/value/1x1")) {
            try report.checkCompleteness(rows: rows + ["Other/value/1x1"])
        }
        report.failures = [Failure(benchmark: "Other/value/1x1", message: "why")]
        #expect(throws: IncompleteReport.failed(benchmark: "Other/value/1x1")) {
            try report.checkCompleteness(rows: rows)
        }
    }

    /// The table in README.md is empty without committed results, and otherwise made from them.
    @Test func `README and the chart are those of the committed results`() throws {
        let package = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..")
            .standardizedFileURL
        let folder = package.appending(path: CommittedResults.folder)
        let readme = try MarkedText(
            try String(contentsOf: folder.appending(path: "README.md"), encoding: .utf8))
        // scripts/compare-peers writes peers.*.json, scripts/measure-accuracy accuracy.*.json.
        let reports = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
            $0.hasSuffix(".json") && !$0.hasPrefix("peers.") && !$0.hasPrefix("accuracy.")
        }
        let results = try reports.map {
            CommittedResults(try Report(reading: folder.appending(path: $0).path))
        }
        #expect(results.isEmpty == readme.marked.isEmpty)
        // Several instruction sets may have results; the table is that of one of them.
        #expect(results.isEmpty || results.contains { $0.markdown == readme.marked })
        for result in results {
            let chart = try String(contentsOf: folder.appending(path: result.chartName), encoding: .utf8)
            #expect(chart == result.chart)
        }
    }
}

/// A run of sample rows that take 2 ms against 6 ms, the last of which has no naive loop.
///
/// - Parameter pairs: B of the rows of a loss over pairs of cells.
private func sampleReport(pairs: [Int] = []) throws -> Report {
    let clock = ManualClock()
    let benchmarks =
        pairs.map {
            sampleBenchmark(
                kernel: "Pairs", shape: ProblemShape($0, $0, 512), workspaceBytes: 4096, clock: clock)
        }
        + [
            sampleBenchmark(clock: clock),
            sampleBenchmark(
                shape: ProblemShape(512, 1200), naiveTimedAt: ProblemShape(64, 1201), clock: clock),
        ]
    let measurements = try benchmarks.map {
        try $0.run(in: .test, plan: .test, clock: clock, stage: { _ in })
    }
    return Report(
        date: Date(timeIntervalSince1970: 1_700_000_000), quick: true, machine: .current(),
        runtime: RuntimeFacts(.current), ceilings: .sample, measurements: measurements,
        failures: [Failure(benchmark: "A < B", message: "why")])
}
