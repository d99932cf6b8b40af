// A baseline: what every row's ratio to the naive loop was, on one instruction set.
//
// Ratios only. A time means something on the machine that it was taken on; the ratio of two loops that were
// timed in turns holds wherever the same instructions run, nearly. No date, no names: the file's history is
// in the repository.

import Foundation

/// The ratios to the naive loop that a check holds today's against.
package struct RatioBaseline: Codable, Equatable, Sendable {
    /// Raised whenever a field changes its meaning or goes.
    package static let currentSchema = 1

    /// One row.
    package struct Row: Codable, Equatable, Sendable {
        /// The row's name, as `--list` shows it.
        package var benchmark: String
        package var ratio: Double
        package var ratioLow: Double
        package var ratioHigh: Double
        package var controlLow: Double
        package var controlHigh: Double
        package var pairs: Int

        enum CodingKeys: String, CodingKey {
            case benchmark, ratio, pairs
            case ratioLow = "ratio_low"
            case ratioHigh = "ratio_high"
            case controlLow = "control_low"
            case controlHigh = "control_high"
        }

        /// Nil where the samples gave no interval.
        package init?(_ measurement: RatioMeasurement) {
            guard let interval = measurement.ratio.interval, let control = measurement.control.interval else {
                return nil
            }
            benchmark = measurement.benchmark
            ratio = measurement.ratio.median
            (ratioLow, ratioHigh) = (interval.lowerBound, interval.upperBound)
            (controlLow, controlHigh) = (control.lowerBound, control.upperBound)
            pairs = measurement.pairs
        }
    }

    package var schema = RatioBaseline.currentSchema
    package var instructionSet: String
    /// The workers that FastLoss used.
    package var workers: Int
    /// The class of machine; a check on another one says so.
    package var cpu: String
    package var architecture: String
    package var blasCore: String
    /// What the fields of `rows` mean.
    package var fields = RatioBaseline.meaning
    package var rows: [Row]

    enum CodingKeys: String, CodingKey {
        case schema, workers, cpu, architecture, fields, rows
        case instructionSet = "instruction_set"
        case blasCore = "blas_core"
    }

    package init(machine: MachineDescription, runtime: RuntimeFacts, workers: Int, rows: [Row]) {
        instructionSet = runtime.instructionSet
        self.workers = workers
        cpu = machine.cpu
        architecture = machine.architecture
        blasCore = runtime.blasCore
        self.rows = rows
    }

    private static let meaning = [
        "benchmark": "kernel(variant)/mode/shape",
        "ratio": "median over the pairs of samples of naive time / fastloss time",
        "ratio_low, ratio_high": "95 % interval of ratio, from order statistics",
        "control_low, control_high": "95 % interval of fastloss's time over its own, sampled in the same way",
        "pairs": "pairs of samples",
    ]
}

extension RatioBaseline {
    /// The baseline as JSON.
    package func encoded() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self) + Data("\n".utf8)
    }

    /// Reads what ``encoded()`` gave.
    package init(json: Data) throws(BaselineError) {
        struct Version: Decodable { let schema: Int }
        let decoder = JSONDecoder()
        do {
            // The version first: a baseline of another format need not have the fields of this one.
            let version = try decoder.decode(Version.self, from: json)
            guard version.schema == Self.currentSchema else {
                throw BaselineError.otherSchema(version.schema)
            }
            self = try decoder.decode(Self.self, from: json)
        } catch let error as BaselineError {
            throw error
        } catch let error as DecodingError {
            throw .malformed(reason: error.sentence)
        } catch {
            throw .malformed(reason: "\(error)")
        }
        if let row = rows.first(where: { !($0.ratio > 0 && $0.ratio.isFinite) }) {
            throw .malformed(reason: "the ratio of \(row.benchmark) is \(row.ratio)")
        }
        guard Set(rows.map(\.benchmark)).count == rows.count else {
            throw .malformed(reason: "a row appears twice")
        }
    }

    /// Reads a baseline's file.
    package init(reading path: String) throws(BaselineError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            throw .unreadable(reason: exists ? error.localizedDescription : "there is no such file")
        }
        try self.init(json: data)
    }

    /// Throws where ratios measured in this process cannot be held against this baseline.
    package func checkFits(_ runtime: RuntimeFacts) throws(BaselineError) {
        guard runtime.instructionSet == instructionSet else {
            throw .otherInstructionSet(baseline: instructionSet, process: runtime.instructionSet)
        }
    }

    /// What differs between this baseline's machine and this one without forbidding the comparison.
    package func differences(from machine: MachineDescription, _ runtime: RuntimeFacts) -> [String] {
        [("processor", cpu, machine.cpu), ("OpenBLAS core", blasCore, runtime.blasCore)]
            .filter { $0.1 != $0.2 }
            .map { "the baseline's \($0.0) is \($0.1), this one is \($0.2)" }
    }
}

/// Why a baseline is of no use here.
package enum BaselineError: Error, Equatable, CustomStringConvertible {
    case unreadable(reason: String)
    case malformed(reason: String)
    case otherSchema(Int)
    case otherInstructionSet(baseline: String, process: String)

    package var description: String {
        switch self {
        case .unreadable(let reason):
            "the baseline cannot be read: \(reason)"
        case .malformed(let reason):
            "the file is not a baseline: \(reason)"
        case .otherSchema(let schema):
            "the baseline has format \(schema), and this program reads format \(RatioBaseline.currentSchema); "
                + "write it again with 'Benchmarks baseline'"
        case .otherInstructionSet(let baseline, let process):
            "the baseline is of \(baseline), and this process uses \(process); "
                + "take that set's baseline, or force the set with FASTLOSS_ISA=\(baseline)"
        }
    }
}
