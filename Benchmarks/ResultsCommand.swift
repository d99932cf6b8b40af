// `Benchmarks results`: commits a full run's report, and the table and the chart made from it.

import ArgumentParser
import Foundation

struct ResultsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "results",
        abstract: "Write a full run's report, table and chart to Benchmarks/Results.",
        discussion: "scripts/generate/results runs the benchmarks and this command.")

    @Argument(
        help: ArgumentHelp(
            "The report of a full run, as 'Benchmarks --json' wrote it.", valueName: "file.json"))
    var input: String

    @Option(help: ArgumentHelp("The package whose files are written.", valueName: "folder"))
    var package = "."

    func run() throws {
        let report = try Report(reading: input)
        try report.checkCompleteness(rows: Suites.all.map(\.name))
        let results = CommittedResults(report)
        let folder = URL(filePath: package).appending(path: CommittedResults.folder)
        func file(_ name: String) throws -> ReportFile {
            try ReportFile(path: folder.appending(path: name).path)
        }
        // Check every file before writing the first.
        let json = try file(results.reportName)
        let chart = try file(results.chartName)
        let readme = try file("README.md")
        let text = try MarkedText(try String(contentsOf: readme.url, encoding: .utf8))
        try json.write(report)
        try chart.write(results.chart)
        try readme.write(text.replacing(results.markdown))
        print("wrote \(results.reportName), \(results.chartName) and README.md in \(CommittedResults.folder)")
    }
}

extension Report {
    /// Throws unless this is a full run without failures.
    ///
    /// - Parameter rows: the names of all rows.
    package func checkCompleteness(rows: [String]) throws(IncompleteReport) {
        if quick { throw .quick }
        if let failure = failures.first { throw .failed(benchmark: failure.benchmark) }
        let measured = Set(measurements.map(\.row.name))
        if let missing = rows.first(where: { !measured.contains($0) }) { throw .missing(benchmark: missing) }
    }
}

/// Why a report must not be committed.
package enum IncompleteReport: Error, Equatable, CustomStringConvertible {
    case quick
    case failed(benchmark: String)
    case missing(benchmark: String)

    package var description: String {
        switch self {
        case .quick: "the report is of a quick run; a full run is required"
        case .failed(let benchmark): "\(benchmark) failed in this run"
        case .missing(let benchmark):
            "the report lacks \(benchmark); a full run without --filter is required"
        }
    }
}
