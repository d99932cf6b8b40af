// The model of a report: one run of the benchmarks. ReportFile.swift reads and writes it.

import FastLoss
import Foundation

/// A run of the benchmarks, as `--json` writes it.
package struct Report: Equatable, Sendable, Decodable {
    /// The file's format; raised if a field that readers need appears, changes its meaning or goes.
    package static let schema = 3

    /// When the run began.
    package var date: Date
    /// Whether the run used the short plan of `--quick`.
    package var quick: Bool
    package var machine: MachineDescription
    package var runtime: RuntimeFacts
    package var ceilings: Ceilings
    /// Per row FastLoss's record, then the naive loop's if it was timed.
    package var measurements: [Record]
    package var failures: [Failure]

    package init(
        date: Date, quick: Bool, machine: MachineDescription, runtime: RuntimeFacts, ceilings: Ceilings,
        measurements: [Measurement], failures: [Failure]
    ) {
        self.date = date
        self.quick = quick
        self.machine = machine
        self.runtime = runtime
        self.ceilings = ceilings
        self.measurements = measurements.flatMap { Record.records(of: $0, share: ceilings.share(of: $0)) }
        self.failures = failures
    }

    /// The measured rows, each with both of its records.
    package var rows: [ReportRow] {
        let naive = measurements.filter { $0.provider == .naive }
        return measurements.filter { $0.provider == .fastloss }.map { record in
            ReportRow(fastloss: record, naive: naive.first { $0.row == record.row })
        }
    }
}

/// One row of a report.
package struct ReportRow: Equatable, Sendable {
    package let fastloss: Record
    /// Nil if the naive loop takes too long at this shape.
    package let naive: Record?
}

/// FastLoss's run-time description in the report's words.
package struct RuntimeFacts: Codable, Equatable, Sendable {
    package var version: String
    package var blas: String
    package var blasCore: String
    package var blasThreads: Int
    package var instructionSet: String
    package var workers: Int

    enum CodingKeys: String, CodingKey {
        case version, blas, workers
        case blasCore = "blas_core"
        case blasThreads = "blas_threads"
        case instructionSet = "instruction_set"
    }

    package init(_ description: RuntimeDescription) {
        version = description.version
        blas = description.blasConfiguration
        blasCore = description.blasCore
        blasThreads = description.blasThreads
        instructionSet = description.instructionSet.rawValue
        workers = description.workers
    }
}
