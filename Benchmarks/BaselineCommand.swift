// `Benchmarks baseline`: writes the ratios that `check` holds later ones against.

import ArgumentParser
import FastLoss
import Foundation

struct BaselineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "baseline",
        abstract: "Write the rows' ratios to the naive loop as a baseline for 'check'.",
        discussion: """
            Each row is timed against the naive loop, and against itself as a control. If a control strays \
            from 1 by more than --noise, the row is measured again with more pairs; if it still does, the \
            machine is too noisy and no file is written.

            One worker is the default: then a neighbour that keeps a core busy slows both loops alike, and \
            the ratio stays. Rows without a ratio of their own, because the naive loop takes too long, are \
            left out.

            \(RegressionExit.help)
            """)

    @OptionGroup var rows: RowOptions

    @Option(help: ArgumentHelp("The file to write.", valueName: "file"))
    var output: String

    @Option(help: "The workers that FastLoss uses.")
    var workers = 1

    @Option(help: ArgumentHelp("How far a control may stray from 1, as a share.", valueName: "share"))
    var noise = 0.05

    func validate() throws {
        try checkShare(noise, option: "--noise")
        guard workers > 0 else { throw ValidationError("--workers \(workers) is not positive") }
    }

    func run() throws {
        let file = try ReportFile(path: output)
        try ReleaseBuild.handOverIfDebug()
        // Whoever forces a set wants that set's ratios, and not those of the one that it falls back to.
        if let requested = InstructionSet.requested, requested != InstructionSet.active.rawValue {
            let active = InstructionSet.active.rawValue
            throw end(
                "baseline", "FASTLOSS_ISA=\(requested) cannot be had here; this process uses \(active)",
                .unfitBaseline)
        }
        func isNoisy(_ measurement: RatioMeasurement) -> Bool {
            guard let spread = measurement.control.spread else { return true }
            return measurement.ratio.interval == nil || spread > 1 + noise
        }
        let (measurements, failures) = try rows.measuring(workers: workers) { benchmarks, session in
            session.measure(benchmarks, isInDoubt: isNoisy)
        }
        for failure in failures { Terminal.warn("NOT MEASURED \(failure.benchmark): \(failure.message)") }
        guard failures.isEmpty else { throw end("baseline", "no file written", .notMeasured) }
        let noisy = measurements.filter(isNoisy)
        for row in noisy {
            let spread = row.control.spread.map { significant($0) } ?? "unknown"
            Terminal.warn(
                "TOO NOISY \(row.benchmark): the same code differs from itself by a factor \(spread)")
        }
        guard noisy.isEmpty else { throw end("baseline", "no file written", .tooNoisy) }
        let rows = measurements.compactMap(RatioBaseline.Row.init)
        guard !rows.isEmpty else {
            throw end("baseline", "no file written: none of the rows has a ratio", .unfitBaseline)
        }
        let baseline = RatioBaseline(
            machine: .current(), runtime: RuntimeFacts(.current), workers: workers, rows: rows)
        try file.write(try baseline.encoded())
        print("\(output): \(rows.count) rows, \(baseline.instructionSet), \(workers) workers")
    }
}
