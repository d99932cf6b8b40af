// The command line: `Benchmarks` and its subcommands.

import ArgumentParser
import FastLoss
import Foundation

@main
struct BenchmarksCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "Benchmarks",
        abstract: "Checks and times FastLoss against plain Swift loops, on real cells.",
        usage: """
            Benchmarks [<options of run>]
            Benchmarks <subcommand> [<options>]
            """,
        discussion: "OPTIONS OF RUN:\n\(optionsOfRun)",
        version: RuntimeDescription.current.version,
        subcommands: [
            RunCommand.self, ReportCommand.self, ResultsCommand.self, CompareCommand.self,
            ServeCommand.self, WorkloadCommand.self, RanksCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    /// The options of the default subcommand, which people look for in the help of the program itself.
    private static var optionsOfRun: String {
        let help = RunCommand.helpMessage()
        guard let heading = help.range(of: "OPTIONS:\n") else { return help }
        return String(help[heading.upperBound...])
    }
}
