// The HTML page of a report: one file without external resources.

import Foundation

/// A report as an HTML page.
package struct ReportPage {
    package let report: Report

    package init(_ report: Report) {
        self.report = report
    }

    package var html: String {
        let charts = ScalingChart.all(of: report.measurements)
        let date = report.day
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>FastLoss \(escaped(report.runtime.version)): benchmarks of \(date)</title>
            <style>
            \(ChartStyle.colours)
            \(Self.layout)
            \(LimitSections.style)
            \(ChartStyle.marks)
            </style>
            </head>
            <body>
            <header>
            <h1>FastLoss \(escaped(report.runtime.version)): benchmarks</h1>
            <p>\(escaped(report.machine.summary)); kernels \(escaped(report.runtime.instructionSet)), \
            \(report.runtime.workers) workers. Measured on \(date)\
            \(report.quick ? ", <strong>in a quick run: figures are rough</strong>" : "").</p>
            </header>
            \(summary)
            \(failures)
            \(LimitSections(report).html)
            \(charts.isEmpty ? "" : scaling(charts))
            <section>
            <h2>All figures</h2>
            \(table)
            </section>
            <section>
            <h2>The machine</h2>
            \(machine)
            </section>
            </body>
            </html>

            """
    }

    /// The run in four numbers.
    private var summary: String {
        let records = report.rows.map(\.fastloss)
        let ratios = records.compactMap(\.ratios.naive?.median)
        let errors = records.compactMap(\.maxRelativeError)
        var tiles: [(number: String, text: String)] = []
        if let least = ratios.min(), let greatest = ratios.max() {
            tiles.append(
                (
                    "\(significant(quantile(0.5, of: ratios)))×",
                    "as fast as the naive loop, median of the rows"
                ))
            tiles.append(
                ("\(significant(least))× – \(significant(greatest))×", "the least and the greatest ratio"))
            tiles.append(("\(ratios.count { $0 < 1 })", "of \(ratios.count) rows slower than the naive loop"))
        }
        if let greatest = errors.max() {
            tiles.append((String(format: "%.1e", greatest), "largest relative error of any row"))
        }
        let items = tiles.map { "<li><b>\($0.number)</b> \($0.text)</li>" }
        return items.isEmpty ? "" : "<ul class=\"tiles\">\(items.joined())</ul>"
    }

    private var failures: String {
        guard !report.failures.isEmpty else { return "" }
        let items = report.failures.map { "<li><b>\(escaped($0.benchmark))</b>: \(escaped($0.message))</li>" }
        return "<section class=\"failures\"><h2>Failed</h2><ul>\(items.joined())</ul></section>"
    }

    private func scaling(_ charts: [ScalingChart]) -> String {
        """
        <section>
        <h2>Scaling with the batch</h2>
        <p>Median time per call, and scratch memory without inputs and outputs. Both axes are logarithmic.</p>
        <div class="pairs">\(charts.map { "<figure>\($0.svg())</figure>" }.joined(separator: "\n"))</div>
        </section>
        """
    }

    private var table: String {
        let columns = ReportRow.columns.dropFirst()
        let kernels = report.rows.grouped(by: \.fastloss.row.title).map { kernel in
            let rows = kernel.elements.map { row in
                "<tr>\(columns.map { "<td>\(escaped($0.text(row) ?? "–"))</td>" }.joined())</tr>"
            }
            return """
                <tbody><tr><th colspan="\(columns.count)">\(escaped(kernel.key))</th></tr>
                \(rows.joined(separator: "\n"))</tbody>
                """
        }
        return """
            <div class="scroll" tabindex="0" role="region" aria-label="All figures"><table class="figures">
            <thead><tr>\(columns.map { "<th>\($0.header)</th>" }.joined())</tr></thead>
            \(kernels.joined(separator: "\n"))
            </table></div>
            <p class="quiet">\(escaped(ReportRow.legend))</p>
            """
    }

    private var machine: String {
        let ceilings = report.ceilings
        func row(_ name: String, _ rate: Ceilings.Rate, _ unit: String) -> String {
            """
            <tr><td>\(escaped(name))</td><td>\(significant(rate.oneWorker)) \(unit)</td>\
            <td>\(significant(rate.allWorkers)) \(unit)</td></tr>
            """
        }
        let products = ceilings.tiles.map {
            row(
                "sgemm \($0.product.rawValue), tile \($0.rows)×\($0.rows), D = \($0.depth)", $0.gflops,
                "GFLOP/s")
        }
        let levels = ceilings.levels.flatMap { level in
            let name = level.name + (level.capacity.map { " (\(byteText(Double($0))))" } ?? "")
            return [
                row("\(name): read", level.read, "GB/s"),
                row("\(name): read and write", level.readWrite, "GB/s"),
            ]
        }
        return """
            <p>\(escaped(report.machine.summary)), \(byteText(Double(report.machine.memoryBytes))) of memory. \
            \(escaped(report.runtime.blas)), core \(escaped(report.runtime.blasCore)), \
            \(report.runtime.blasThreads) thread per call.</p>
            <div class="scroll"><table>
            <thead><tr><th>ceiling</th><th>one worker</th><th>all \(ceilings.workers) workers</th></tr></thead>
            <tbody>
            \(([row("multiply-add in registers", ceilings.multiplyAdd, "GFLOP/s")] + products + levels)
                .joined(separator: "\n"))
            </tbody></table></div>
            """
    }

    private static let layout = """
        *{box-sizing:border-box}
        body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:82rem;background:var(--paper);color:var(--ink);\
        font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
        h1{font-size:1.75rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.25rem;margin:2.5rem 0 .5rem}
        p{margin:.25rem 0 .75rem;max-width:52rem}p.quiet{color:var(--quiet);font-size:.875rem;margin-top:.75rem}
        .tiles{list-style:none;margin:1.5rem 0 0;padding:0;display:grid;gap:1rem;\
        grid-template-columns:repeat(auto-fit,minmax(13rem,1fr))}
        .tiles li{border-left:3px solid var(--fast);padding-left:.75rem;font-size:.875rem;color:var(--quiet)}
        .tiles b{display:block;font-size:1.5rem;line-height:1.2;color:var(--ink);font-variant-numeric:tabular-nums}
        figure{margin:0}figure svg{display:block;width:100%;height:auto}
        .pairs{display:grid;gap:1.5rem 2.5rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
        .pairs figure{max-width:33rem}
        h3{font-size:1.0625rem;margin:2rem 0 .25rem}
        .scroll{overflow-x:auto;border:1px solid var(--grid);border-radius:4px;padding:.25rem .75rem}
        table{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums}
        th,td{padding:.25rem .4rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
        th{font-weight:600;color:var(--quiet)}
        th:first-child,td:first-child{text-align:left;padding-left:0}
        .figures tbody th{text-align:left;color:var(--ink);padding-top:.6rem}.figures td:nth-child(2){text-align:left}
        .failures{border-left:3px solid var(--naive);padding-left:1rem}
        """
}

extension Report {
    /// The date of the run, in UTC: "2026-05-31".
    var day: String { date.formatted(.iso8601.year().month().day()) }
}

extension MachineDescription {
    /// "Some CPU, 2 cores (x86_64); Debian 12; Swift 6.3".
    var summary: String {
        "\(cpu), \(cores) cores (\(architecture)); \(operatingSystem); Swift \(swiftVersion)"
    }
}
