// `Benchmarks report`: a JSON report as a page to read.

import ArgumentParser
import Foundation

struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Write one self-contained HTML page, with charts, from a file that --json wrote.")

    @Argument(help: ArgumentHelp("The report that 'Benchmarks --json' wrote.", valueName: "file.json"))
    var input: String

    @Option(
        help: ArgumentHelp(
            "Write the page to this file. Otherwise it goes beside the report, with the ending .html.",
            valueName: "file.html"))
    var output: String?

    func run() throws {
        let report = try Report(reading: input)
        let path = output ?? URL(filePath: input).deletingPathExtension().appendingPathExtension("html").path
        try ReportFile(path: path).write(ReportPage(report).html)
        print(path)
    }
}

extension Report {
    /// Reads a report's file.
    ///
    /// - Throws: ``ReportFileError``, with the path in its message.
    package init(reading path: String) throws(ReportFileError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            throw .unreadable(
                path: path, reason: exists ? error.localizedDescription : "there is no such file")
        }
        do {
            try self.init(json: data)
        } catch {
            throw .unreadable(path: path, reason: "it \(error)")
        }
    }
}
