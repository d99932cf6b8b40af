// The HTML page of a report: one file, nothing loaded from elsewhere.

import Foundation

/// A report as a page to read in a browser.
package struct ReportPage {
    package let report: Report

    package init(_ report: Report) {
        self.report = report
    }

    package var html: String {
        let fastloss = report.measurements.filter { $0.provider == .fastloss }
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
            \(summary(fastloss))
            \(failures)
            <section>
            <h2>Every kernel</h2>
            <p>Each row was checked against the reference in double precision before it was timed. A ring marks rows that are \
            slower than the naive loop, or on all workers than on one by more than 2 %. The machine was measured in the same run: multiply-adds in \
            registers, which nothing exceeds, and OpenBLAS’s products on tiles of the same depth for rows that arithmetic limits; the \
            bandwidth of the memory or cache that holds the row’s data for the rest.</p>
            <figure>\(RowChart(records: fastloss).svg())</figure>
            </section>
            \(charts.isEmpty ? "" : scaling(charts))
            <section>
            <h2>All figures</h2>
            \(table(fastloss))
            </section>
            <section>
            <h2>The machine</h2>
            \(machine)
            </section>
            </body>
            </html>

            """
    }

    /// What a reader should take home, in four numbers.
    private func summary(_ records: [Record]) -> String {
        let ratios = records.compactMap(\.ratioToNaive)
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
        <p>Median time per call, and scratch memory beside inputs and outputs. Both sides are logarithmic.</p>
        <div class="pairs">\(charts.map { "<figure>\($0.svg())</figure>" }.joined(separator: "\n"))</div>
        </section>
        """
    }

    private func table(_ records: [Record]) -> String {
        let naive = Dictionary(
            report.measurements.filter { $0.provider == .naive }.map { ($0.name, $0.timeText) },
            uniquingKeysWith: { $1 })
        let header = [
            "kernel", "mode", "shape", "FastLoss", "naive", "ratio", "95 % interval", "to one worker",
            "against",
            "rate", "of ceiling", "scratch", "error",
        ]
        let rows = records.map { record -> String in
            let cells: [String?] = [
                record.title, record.mode.words, record.shapeText, record.timeText, naive[record.name],
                record.ratioText, record.intervalText, record.oneWorkerText, record.rivalText,
                record.rateText, record.shareText, record.scratchText,
                record.errorText,
            ]
            return "<tr>\(cells.map { "<td>\(escaped($0 ?? "–"))</td>" }.joined())</tr>"
        }
        return """
            <div class="scroll"><table class="rows">
            <thead><tr>\(header.map { "<th>\($0)</th>" }.joined())</tr></thead>
            <tbody>
            \(rows.joined(separator: "\n"))
            </tbody></table></div>
            <p class="quiet">Times are medians per call. Ratios are medians over interleaved pairs of samples. To one worker: the \
            time on one over that on all. Against: how many times as fast as one plain sgemm of the full similarity matrix on \
            as many workers, or as the objective’s parts call by call. Peak: multiply-adds in registers. \
            Beside it: a plain stream of as many bytes through memory, timed in pairs with the row. Error: the largest \
            relative error against the reference in double precision.</p>
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
        body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:76rem;background:var(--paper);color:var(--ink);\
        font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
        h1{font-size:1.75rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.25rem;margin:2.5rem 0 .5rem}
        p{margin:.25rem 0 .75rem;max-width:46rem}p.quiet{color:var(--quiet);font-size:.875rem;margin-top:.75rem}
        .tiles{list-style:none;margin:1.5rem 0 0;padding:0;display:grid;gap:1rem;\
        grid-template-columns:repeat(auto-fit,minmax(13rem,1fr))}
        .tiles li{border-left:3px solid var(--fast);padding-left:.75rem;font-size:.875rem;color:var(--quiet)}
        .tiles b{display:block;font-size:1.5rem;line-height:1.2;color:var(--ink);font-variant-numeric:tabular-nums}
        figure{margin:0}figure svg{display:block;width:100%;height:auto}
        section>figure{max-width:64rem}
        .pairs{display:grid;gap:1.5rem 2.5rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
        .pairs figure{max-width:33rem}
        .scroll{overflow-x:auto}
        table{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums}
        th,td{padding:.25rem .4rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
        th{font-weight:600;color:var(--quiet)}
        th:first-child,td:first-child{text-align:left;padding-left:0}
        .rows :is(th,td):nth-child(2){text-align:left}
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
