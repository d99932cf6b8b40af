// The table on standard output, and the text of the figures in it and on the page.

import Foundation

/// The rows of a report as aligned text.
package struct ResultTable {
    private let rows: [ReportRow]

    package init(_ rows: [ReportRow]) {
        self.rows = rows
    }

    /// The table, followed by numbered notes.
    ///
    /// - Parameter width: the terminal's columns. In a wider table the kernels' names move from the first
    ///   column to lines of their own. Nil if standard output is not a terminal.
    package func rendered(width: Int?) -> String {
        let notes = rows.compactMap(\.fastloss.note).reduce(into: [String]()) { distinct, note in
            if !distinct.contains(note) { distinct.append(note) }
        }
        func number(_ note: String?) -> String {
            note.flatMap(notes.firstIndex(of:)).map { "[\($0 + 1)]" } ?? ""
        }
        let table = TextTable(
            header: ReportRow.columns.map(\.header) + [""], leading: 3,
            rows: rows.map { row in
                ReportRow.columns.map { $0.text(row) ?? "–" } + [number(row.fastloss.note)]
            })
        var lines = table.lines()
        if let width, lines[0].count > width { lines = table.groupedLines() }
        if !notes.isEmpty {
            lines.append("")
            lines += notes.enumerated().map { "[\($0 + 1)] \($1)" }
        }
        return lines.joined(separator: "\n")
    }
}

extension ReportRow {
    /// The columns of the table and of the page; a text is nil if the figure does not apply.
    static let columns: [(header: String, text: @Sendable (ReportRow) -> String?)] = [
        ("kernel", { $0.fastloss.row.title }),
        ("mode", { $0.fastloss.row.mode.words }),
        ("shape", { $0.fastloss.row.shapeText }),
        ("FastLoss", { $0.fastloss.timeText }),
        ("naive", { $0.naive?.timeText }),
        ("ratio", { $0.fastloss.ratios.naive.map(timesText) }),
        ("95 %", { $0.fastloss.ratios.naive?.boundsText }),
        ("1 worker", { $0.fastloss.ratios.oneWorker.map(timesText) }),
        ("rate", { $0.fastloss.rateText }),
        ("of ceiling", { $0.fastloss.share?.text }),
        ("against", { $0.fastloss.ratios.rivalText }),
        ("scratch", { $0.fastloss.workspaceBytes.map { byteText(Double($0)) } }),
        ("error", { $0.fastloss.errorText }),
    ]
}

extension ReportRow {
    /// The meaning of ``columns``, for the table and the page.
    static let legend = """
        FastLoss, naive: median time per call. Ratio: naive time / FastLoss's, the median over interleaved pairs of \
        samples, with its 95 % interval. 1 worker: time on one worker / on all. Of ceiling: the row's rate / what all \
        workers reach of what limits it, and for arithmetic also of the multiply-adds in registers. These, and streams \
        of as many bytes through memory, are timed in pairs with the row. Against: times as fast as one sgemm of the \
        full similarity matrix on as many workers, as the objective's terms in one call each, or as the head in upstream's \
        order, every token and layer by layer with sgemm. Scratch: memory without \
        inputs and outputs. Error: the largest relative error against the reference in double precision.
        """
}

extension Mode {
    var words: String {
        switch self {
        case .value: "value"
        case .valueAndGradient: "value, gradient"
        }
    }
}

extension Record.Row {
    /// The kernel with its variant: "TokenPooling (w-pool)".
    var title: String { kernel + (variant.map { " (\($0))" } ?? "") }

    var shapeText: String { shape.description.replacing("x", with: "×") }
}

extension Record {
    var timeText: String { duration(nanoseconds: time.p50) }

    /// In the unit of the row's ceiling.
    var rateText: String? {
        share?.isArithmetic == true
            ? time.gflops.map { "\(significant($0)) GFLOP/s" }
            : time.gigabytesPerSecond.map { "\(significant($0)) GB/s" }
    }

    var errorText: String? { maxRelativeError.map { String(format: "%.1e", $0) } }
}

extension Record.Share {
    /// Whether arithmetic limits the row, and not bytes.
    var isArithmetic: Bool { ceiling.hasPrefix("sgemm") }

    /// "77 % L2 read", or "158 % sgemm D=512, 74 % peak".
    var text: String? {
        ofCeiling.map { "\(percent($0)) \(ceiling)" + (ofPeak.map { ", \(percent($0)) peak" } ?? "") }
    }
}

extension Record.Ratios {
    var rivalText: String? {
        sgemm.map { "\(timesText($0)) sgemm" } ?? parts.map { "\(timesText($0)) parts" }
            ?? upstream.map { "\(timesText($0)) upstream" }
    }
}

extension Interval {
    /// "1.23 – 1.25".
    var boundsText: String? {
        bounds.map { "\(significant($0.lowerBound)) – \(significant($0.upperBound))" }
    }
}

/// The median: "1.24×".
@Sendable func timesText(_ interval: Interval) -> String { "\(significant(interval.median))×" }

/// Three significant digits: "0.0123", "1.23", "123", "12300".
package func significant(_ number: Double) -> String {
    guard number.isFinite, number != 0 else { return "\(number)" }
    // Round first to find the power of ten: 9.996 becomes 10.0.
    let exponent = Int(floor(log10(Double(String(format: "%.2e", abs(number)))!)))
    let step = pow(10, Double(exponent - 2))
    let rounded = exponent > 2 ? (number / step).rounded() * step : number
    return String(format: "%.*f", max(0, 2 - exponent), rounded)
}

/// A share: "0.4 %", "87 %".
package func percent(_ share: Double) -> String {
    String(format: share < 0.0095 ? "%.1f %%" : "%.0f %%", 100 * share)
}

/// A duration with three significant digits: "1.23 µs".
package func duration(nanoseconds: Double) -> String {
    let units = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)]
    // 999.5 would round to 1000.
    let (unit, scale) = units.first { nanoseconds < 999.5 * $0.1 } ?? units[3]
    return "\(significant(nanoseconds / scale)) \(unit)"
}

/// "1 MB", "16.8 MB".
func byteText(_ bytes: Double) -> String {
    let units = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]
    let (unit, scale) = units.last { bytes >= 0.9995 * $0.1 } ?? units[0]
    return "\(significant(bytes / scale).replacing(#/\.0+$/#, with: "")) \(unit)"
}

/// Rows of cells, aligned.
struct TextTable {
    let header: [String]
    /// The number of leading columns that are aligned to the left.
    let leading: Int
    let rows: [[String]]

    /// Header, rule and rows.
    func lines() -> [String] {
        let widths = header.indices.map { column in ([header] + rows).map { $0[column].count }.max()! }
        func line(_ cells: [String]) -> String {
            let aligned = cells.indices.map { column in
                let space = String(repeating: " ", count: widths[column] - cells[column].count)
                return column < leading ? cells[column] + space : space + cells[column]
            }
            return aligned.joined(separator: "  ").trimmingTrailingSpaces
        }
        let top = line(header)
        let body = rows.map(line)
        let rule = String(repeating: "-", count: ([top] + body).map(\.count).max()!)
        return [top, rule] + body
    }

    /// As `lines()`, but with the first column on lines of its own, once per run of equal names.
    func groupedLines() -> [String] {
        let lines = TextTable(
            header: Array(header.dropFirst()), leading: leading - 1, rows: rows.map { Array($0.dropFirst()) }
        ).lines()
        var grouped = ["  " + lines[0], "--" + lines[1]]
        var name: String?
        for (row, line) in zip(rows, lines.dropFirst(2)) {
            if row[0] != name { grouped.append(row[0]) }
            name = row[0]
            grouped.append("  " + line)
        }
        return grouped
    }
}

extension String {
    /// The words on lines of at most `width` characters.
    func wrapped(to width: Int) -> String {
        var lines: [String] = [""]
        for word in split(separator: " ") {
            let line = lines[lines.count - 1]
            if line.isEmpty {
                lines[lines.count - 1] = String(word)
            } else if line.count + 1 + word.count <= width {
                lines[lines.count - 1] = "\(line) \(word)"
            } else {
                lines.append(String(word))
            }
        }
        return lines.joined(separator: "\n")
    }

    fileprivate var trimmingTrailingSpaces: String {
        String(self[..<(lastIndex { $0 != " " }.map { index(after: $0) } ?? startIndex)])
    }
}
