// `Benchmarks results`: makes a full run's report the committed one, and renews what is made from it.

import ArgumentParser
import Foundation

struct ResultsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "results",
        abstract:
            "Commit a full run: store its report in Benchmarks/Results, and renew its chart and README's table.",
        discussion: "scripts/generate/results runs the benchmarks and this command.")

    @Argument(
        help: ArgumentHelp(
            "The report of a full run, as 'Benchmarks --json' wrote it.", valueName: "file.json"))
    var input: String

    @Option(help: ArgumentHelp("The package whose files are renewed.", valueName: "folder"))
    var package = "."

    func run() throws {
        let report = try Report(reading: input)
        try report.checkCompleteness(rows: Suites.all.map(\.name))
        let results = CommittedResults(report)
        let folder = URL(filePath: package)
        let readme = folder.appending(path: "README.md")
        // Every file is checked before the first is written.
        let (json, chart, page) = (
            try ReportFile(path: folder.appending(path: results.reportPath).path),
            try ReportFile(path: folder.appending(path: results.chartPath).path),
            try ReportFile(path: readme.path)
        )
        let text = try MarkedText(try String(contentsOf: readme, encoding: .utf8)).replacing(results.markdown)
        try json.write(report)
        try chart.write(results.chart)
        try page.write(text)
        print("renewed \(results.reportPath), \(results.chartPath) and README.md")
    }
}

extension Report {
    /// Throws unless this is a full run in which every row succeeded.
    ///
    /// - Parameter rows: the names of all rows.
    package func checkCompleteness(rows: [String]) throws(IncompleteReport) {
        if quick { throw .quick }
        if let failure = failures.first { throw .failed(benchmark: failure.benchmark) }
        let measured = Set(measurements.map(\.name))
        if let missing = rows.first(where: { !measured.contains($0) }) { throw .missing(benchmark: missing) }
    }
}

/// Why a report is not fit to be committed.
package enum IncompleteReport: Error, Equatable, CustomStringConvertible {
    case quick
    case failed(benchmark: String)
    case missing(benchmark: String)

    package var description: String {
        switch self {
        case .quick: "the report is of a quick run; results are those of a full one"
        case .failed(let benchmark): "\(benchmark) failed in this run"
        case .missing(let benchmark):
            "the report has no \(benchmark); results are those of a full run, unfiltered"
        }
    }
}
