// The committed results: the report, its table in Benchmarks/Results/README.md, and its chart.

import Foundation

/// The committed form of a report.
package struct CommittedResults {
    private let report: Report
    /// Of each kernel the smallest and the largest shape with a naive time, with gradient if the kernel has
    /// one; and all rows slower than the naive loop.
    private let rows: [ReportRow]

    package init(_ report: Report) {
        self.report = report
        rows = Self.selection(of: report.rows.filter { $0.fastloss.ratios.naive != nil })
    }

    /// The folder of the committed results, from the package's folder.
    package static let folder = "Benchmarks/Results"

    /// The report's file in ``folder``.
    package var reportName: String { "\(report.runtime.instructionSet).json" }

    /// The chart's file in ``folder``.
    package var chartName: String { "\(report.runtime.instructionSet).svg" }

    /// The chart, as an SVG file.
    package var chart: String { NaiveChart(records: rows.map(\.fastloss)).svg + "\n" }

    /// The text between the markers of README.md in ``folder``.
    package var markdown: String {
        let lines = rows.map { row in
            let record = row.fastloss
            let bounds = record.ratios.naive?.boundsText.map { " (\($0))" } ?? ""
            let cells = [
                "\(record.row.title), \(record.row.mode.words)", record.row.shapeText, record.timeText,
                row.naive?.timeText ?? "–", (record.ratios.naive.map(timesText) ?? "–") + bounds,
                record.ratios.oneWorker.map(timesText) ?? "–", record.share?.text ?? "–",
                record.errorText ?? "–",
            ]
            return "| \(cells.joined(separator: " | ")) |"
        }
        return """
            Measured on \(report.day): \(report.machine.summary); kernels \(report.runtime.instructionSet), \
            \(report.runtime.workers) workers. Ratio: naive time / FastLoss's, with its 95 % interval. One worker: time on \
            one worker / on all. Of ceiling: share of what all workers reach of the row's limit in the same run; for \
            arithmetic of OpenBLAS's sgemm, and of the multiply-adds in registers; for rows beyond the caches of a plain stream \
            of as many bytes, timed in pairs with the row. Error: the largest relative error against the reference in double \
            precision. The table shows the smallest and the largest shape of each loss with a naive time, and all rows \
            slower than the naive loop; [\(reportName)](\(reportName)) has all rows.

            | loss | shape | FastLoss | naive loop | ratio | one worker | of ceiling | error |
            |---|---:|---:|---:|---:|---:|---:|---:|
            \(lines.joined(separator: "\n"))

            ![Times as fast as the naive loop](\(chartName))
            """
    }

    private static func selection(of rows: [ReportRow]) -> [ReportRow] {
        let shown = rows.grouped(by: \.fastloss.row.title).flatMap { group -> [String] in
            let all = group.elements.map(\.fastloss.row)
            let withGradient = all.filter { $0.mode == .valueAndGradient }
            let candidates = withGradient.isEmpty ? all : withGradient
            let ends = [
                candidates.min { $0.shape.count < $1.shape.count },
                candidates.max { $0.shape.count < $1.shape.count },
            ]
            return ends.compactMap { $0?.name }
        }
        return rows.filter {
            shown.contains($0.fastloss.row.name) || $0.fastloss.ratios.naive?.median ?? 1 < 1
        }
    }
}

/// A text with a generated part between two marker lines.
package struct MarkedText {
    package static let begin = "<!-- measurements:begin -->"
    package static let end = "<!-- measurements:end -->"

    private let before: Substring
    /// The generated part, without the line breaks at its ends.
    package let marked: String
    private let after: Substring

    /// - Throws: ``MarkersMissing`` unless each marker occurs once, in this order.
    package init(_ text: String) throws(MarkersMissing) {
        let halves = text.split(separator: Self.begin, omittingEmptySubsequences: false)
        let rest = halves.last?.split(separator: Self.end, omittingEmptySubsequences: false) ?? []
        guard halves.count == 2, rest.count == 2 else { throw MarkersMissing() }
        (before, marked, after) = (halves[0], rest[0].trimmingCharacters(in: .newlines), rest[1])
    }

    /// The text with a new generated part.
    package func replacing(_ part: String) -> String {
        "\(before)\(Self.begin)\n\(part)\n\(Self.end)\(after)"
    }
}

/// The text lacks the markers.
package struct MarkersMissing: Error, Equatable, CustomStringConvertible {
    package init() {}

    package var description: String {
        "Benchmarks/Results/README.md must have the lines '\(MarkedText.begin)' and '\(MarkedText.end)', once each"
    }
}
