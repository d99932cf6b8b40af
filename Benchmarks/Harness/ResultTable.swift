// The table on standard output.

import Foundation

/// Measurements and failures as aligned text.
package struct ResultTable {
    package let measurements: [Measurement]
    package let ceilings: Ceilings

    package init(_ measurements: [Measurement], ceilings: Ceilings) {
        self.measurements = measurements
        self.ceilings = ceilings
    }

    /// The table, with its notes numbered beneath it.
    ///
    /// - Parameter width: the terminal's columns. If the table is wider, the kernels' names move from a
    ///   column of their own to lines of their own. Nil where there is no terminal.
    package func rendered(width: Int?) -> String {
        let notes = measurements.flatMap(notes(of:)).reduce(into: [String]()) { distinct, note in
            if !distinct.contains(note) { distinct.append(note) }
        }
        let table = TextTable(
            header: [
                "kernel", "mode", "shape", "fastloss", "naive", "ratio", "95 %", "1 worker", "rate",
                "of ceiling", "error", "",
            ],
            leading: 3,
            rows: measurements.map { cells(of: $0, notes: notes) })
        var lines = table.lines()
        if let width, lines[0].count > width { lines = table.groupedLines() }
        if !notes.isEmpty {
            lines.append("")
            lines += notes.enumerated().map { "[\($0 + 1)] \($1)" }
        }
        return lines.joined(separator: "\n")
    }

    private func cells(of measurement: Measurement, notes: [String]) -> [String] {
        let fastloss = measurement.fastloss
        let share = ceilings.share(of: measurement)
        let rate =
            switch fastloss.work.limit {
            case .arithmetic: "\(significant(fastloss.gflops)) GFLOP/s"
            case .memory: "\(significant(fastloss.gigabytesPerSecond)) GB/s"
            }
        return [
            measurement.kernel + (measurement.variant.map { " (\($0))" } ?? ""),
            measurement.mode.rawValue,
            measurement.shape.description,
            duration(nanoseconds: fastloss.time.p50),
            measurement.naive.map { duration(nanoseconds: $0.time.p50) } ?? "-",
            measurement.ratioToNaive.map { "\(significant($0.median))x" } ?? "-",
            measurement.ratioToNaive?.bounds.map {
                "\(significant($0.lowerBound))...\(significant($0.upperBound))"
            } ?? "-",
            measurement.ratioToOneWorker.map { "\(significant($0.median))x" } ?? "-",
            rate,
            "\(percent(share.ofAllWorkers)) \(share.name)"
                + (share.ofPeak.map { ", \(percent($0)) peak" } ?? ""),
            String(format: "%.1e", measurement.maxRelativeError),
            self.notes(of: measurement).compactMap { notes.firstIndex(of: $0) }.map { "[\($0 + 1)]" }
                .joined(),
        ]
    }

    /// What a reader must know, and how the row stands against its rival.
    private func notes(of measurement: Measurement) -> [String] {
        func against(_ ratio: Interval?, _ rival: String) -> String? {
            ratio.map { ratio in
                let interval = ratio.bounds.map {
                    " (\(significant($0.lowerBound))...\(significant($0.upperBound)))"
                }
                return "\(significant(ratio.median))x\(interval ?? "") as fast as \(rival)"
            }
        }
        return [
            measurement.note, against(measurement.ratioToSgemm, "one plain sgemm of the full product"),
            against(measurement.ratioToParts, "its parts, call by call"),
        ].compactMap(\.self)
    }
}

/// Three significant digits: "0.0123", "1.23", "123", "12300".
package func significant(_ number: Double) -> String {
    guard number.isFinite, number != 0 else { return "\(number)" }
    // Rounding first settles which power of ten the number belongs to: 9.996 is 10.0.
    let exponent = Int(floor(log10(Double(String(format: "%.2e", abs(number)))!)))
    let step = pow(10, Double(exponent - 2))
    let rounded = exponent > 2 ? (number / step).rounded() * step : number
    return String(format: "%.*f", max(0, 2 - exponent), rounded)
}

/// A share with as many digits as tell something: "0.4 %", "87 %".
package func percent(_ share: Double) -> String {
    String(format: share < 0.0095 ? "%.1f %%" : "%.0f %%", 100 * share)
}

/// A duration with three significant digits and the unit that suits it.
package func duration(nanoseconds: Double) -> String {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)]
    // 999.5 would be shown as 1000.
    let (unit, scale) = units.first { nanoseconds < 999.5 * $0.1 } ?? units[3]
    return "\(significant(nanoseconds / scale)) \(unit)"
}

/// Rows of cells, aligned.
struct TextTable {
    let header: [String]
    /// The number of first columns that are aligned to the left.
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

    /// As `lines()`, but the first column stands on lines of its own, once per run of equal names.
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
    fileprivate var trimmingTrailingSpaces: String {
        String(self[..<(lastIndex { $0 != " " }.map { index(after: $0) } ?? startIndex)])
    }
}
