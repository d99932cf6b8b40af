// `Benchmarks report`: turns a JSON report into an HTML page.

import ArgumentParser
import Foundation

struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Write one self-contained HTML page with charts from a file that --json wrote.")

    @Argument(help: ArgumentHelp("The report that 'Benchmarks --json' wrote.", valueName: "file.json"))
    var input: String

    @Option(
        help: ArgumentHelp(
            "Write the page to this file (default: results/<name>.html in the package, which git ignores).",
            valueName: "file.html"))
    var output: String?

    func run() throws {
        let report = try Report(reading: input)
        let path = try output ?? defaultOutput()
        try ReportFile(path: path).write(ReportPage(report).html)
        print(path)
    }

    private func defaultOutput() throws -> String {
        let folder = ReleaseBuild.packageFolder.appending(path: "results")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let name = URL(filePath: input).deletingPathExtension().lastPathComponent
        return folder.appending(path: "\(name).html").path
    }
}
