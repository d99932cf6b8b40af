// `Benchmarks check`: fails where a row's ratio to the naive loop has become worse than its baseline.

import ArgumentParser
import FastLoss
import Foundation

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Measure the ratios again and fail where one is worse than its baseline.",
        discussion: """
            Shown is each row's time over the baseline's, with the naive loop as the measure of the machine: \
            150 % means that the ratio has fallen by a third. A row is slower if its whole 95 % interval lies \
            beyond the tolerance. A control, the same code against itself, shows what the machine's noise \
            alone does; where it strays by more than the tolerance, a row counts as slower only if it is \
            slower beyond the noise as well, and as too noisy to tell otherwise. Whatever is not plainly \
            well is measured again with more pairs, and the second measurement counts.

            \(RegressionExit.help)
            """)

    @OptionGroup var rows: RowOptions

    @Option(help: ArgumentHelp("The baseline, as 'baseline' writes it.", valueName: "file"))
    var baseline: String

    @Option(help: ArgumentHelp("The additional time that is accepted, as a share.", valueName: "share"))
    var tolerance = 0.15

    func validate() throws {
        try checkShare(tolerance, option: "--tolerance")
    }

    func run() throws {
        let expected: RatioBaseline
        do {
            expected = try RatioBaseline(reading: baseline)
        } catch {
            throw end(baseline, error, .unfitBaseline)
        }
        try ReleaseBuild.handOverIfDebug()
        let runtime = RuntimeFacts(.current)
        do {
            try expected.checkFits(runtime)
        } catch {
            throw end(baseline, error, .unfitBaseline)
        }
        for difference in expected.differences(from: .current(), runtime) {
            Terminal.warn("note: \(difference); ratios may differ for that reason")
        }
        let outcome = try rows.measuring(workers: expected.workers) { benchmarks, session in
            BaselineCheck(baseline: expected, tolerance: tolerance).run(
                benchmarks, of: Suites.all, in: session)
        }
        print(outcome.rendered(against: "baseline", tolerance: tolerance))
        throw outcome.exitCode.code
    }
}
