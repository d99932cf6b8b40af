// What the repository shows of a run: README's table, and its chart as a file.

import Foundation

/// The committed form of a report.
package struct CommittedResults {
    private let report: Report
    /// The rows shown: of each kernel the smallest and the largest shape at which the naive loop was timed,
    /// with the gradient where there is one; and whatever is slower than the naive loop.
    private let records: [Record]

    package init(_ report: Report) {
        self.report = report
        records = Self.selection(of: report.measurements.filter { $0.ratioToNaive != nil })
    }

    /// Where the report goes, from the package's folder.
    package var reportPath: String { "Benchmarks/Results/\(report.runtime.instructionSet).json" }

    /// Where the chart goes.
    package var chartPath: String { "Benchmarks/Results/\(report.runtime.instructionSet).svg" }

    /// The chart, as an SVG file that takes its reader's light or dark colours.
    package var chart: String {
        RowChart(records: records).svg(style: ChartStyle.colours + "\n" + ChartStyle.marks) + "\n"
    }

    /// The text between README's markers.
    package var markdown: String {
        let naive = Dictionary(
            report.measurements.filter { $0.provider == .naive }.map { ($0.name, $0.timeText) },
            uniquingKeysWith: { $1 })
        let rows = records.map { record in
            let interval = record.intervalText.map { " (\($0))" } ?? ""
            let cells: [String] = [
                "\(record.title), \(record.mode.words)", record.shapeText, record.timeText,
                naive[record.name] ?? "–", (record.ratioText ?? "–") + interval, record.oneWorkerText ?? "–",
                record.shareText ?? "–", record.errorText ?? "–",
            ]
            return "| \(cells.joined(separator: " | ")) |"
        }
        return """
            Measured on \(report.day): \(report.machine.summary); kernels \(report.runtime.instructionSet), \
            \(report.runtime.workers) workers. Ratio: naive time over FastLoss's, with its 95 % interval. One worker: \
            the time on one over that on all. Of ceiling: the share of what all workers reached together in the same run, for \
            arithmetic of OpenBLAS's sgemm and of the peak of multiply-adds. Error: the largest relative one against the reference in double precision. Of each loss the \
            smallest and the largest shape that the naive loop was timed at, and whatever is slower than it; \
            [all rows](\(reportPath)).

            | loss | shape | FastLoss | naive loop | ratio | one worker | of ceiling | error |
            |---|---:|---:|---:|---:|---:|---:|---:|
            \(rows.joined(separator: "\n"))

            ![Ratio to the naive loop and share of the machine's peak](\(chartPath))
            """
    }

    private static func selection(of records: [Record]) -> [Record] {
        let shown = records.grouped(by: \.title).flatMap { group -> [String] in
            let withGradient = group.elements.filter { $0.mode == .valueAndGradient }
            let rows = withGradient.isEmpty ? group.elements : withGradient
            let ends = [
                rows.min { $0.shape.count < $1.shape.count }, rows.max { $0.shape.count < $1.shape.count },
            ]
            return ends.compactMap { $0?.name }
        }
        return records.filter { shown.contains($0.name) || $0.ratioToNaive ?? 1 < 1 }
    }
}

/// A text with a part between two lines that mark it, which is made by a program.
package struct MarkedText {
    package static let begin = "<!-- measurements:begin -->"
    package static let end = "<!-- measurements:end -->"

    private let before: Substring
    /// What stands between the markers, without the line breaks at its ends.
    package let marked: String
    private let after: Substring

    /// - Throws: ``MarkersMissing`` unless both markers are there once, in their order.
    package init(_ text: String) throws(MarkersMissing) {
        let halves = text.split(separator: Self.begin, omittingEmptySubsequences: false)
        let rest = halves.last?.split(separator: Self.end, omittingEmptySubsequences: false) ?? []
        guard halves.count == 2, rest.count == 2 else { throw MarkersMissing() }
        (before, marked, after) = (halves[0], rest[0].trimmingCharacters(in: .newlines), rest[1])
    }

    /// The text with another part between the markers.
    package func replacing(_ part: String) -> String {
        "\(before)\(Self.begin)\n\(part)\n\(Self.end)\(after)"
    }
}

/// The text has no place for the table.
package struct MarkersMissing: Error, Equatable, CustomStringConvertible {
    package init() {}

    package var description: String {
        "README.md must have the lines '\(MarkedText.begin)' and '\(MarkedText.end)', once each"
    }
}
