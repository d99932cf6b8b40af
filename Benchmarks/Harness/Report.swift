// The JSON report: versioned, self-describing, one record per measurement and implementation.

import FastLoss
import Foundation

/// A run of the benchmarks, as `--json` writes it.
package struct Report: Codable, Equatable, Sendable {
    /// Raised whenever a field that readers need comes, changes its meaning or goes. 2: ceilings, scratch
    /// memory. 3: ratios to one worker, to a plain sgemm and to an objective's parts; the share of the peak.
    package static let currentSchema = 3

    package var schema = Report.currentSchema
    /// When the run began.
    package var date: Date
    /// Whether the short plan of `--quick` was used.
    package var quick: Bool
    package var machine: MachineDescription
    package var runtime: RuntimeFacts
    package var ceilings: Ceilings
    /// What the fields of `measurements` mean.
    package var fields = Record.meaning
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

/// One implementation of one row.
package struct Record: Codable, Equatable, Sendable {
    package enum Provider: String, Codable, Sendable {
        case naive
        case fastloss
    }

    package var kernel: String
    package var variant: String?
    package var provider: Provider
    package var mode: Mode
    package var rows: Int
    package var columns: Int
    package var depth: Int
    package var threads: Int
    package var samples: Int
    package var p20: Double
    package var p50: Double
    package var p80: Double
    package var ratioToNaive: Double?
    package var ratioLow: Double?
    package var ratioHigh: Double?
    package var gflops: Double?
    package var gigabytesPerSecond: Double?
    package var ceiling: String?
    package var ceilingRate: Double?
    package var shareOfCeiling: Double?
    package var shareOfOneWorker: Double?
    package var shareOfPeak: Double?
    package var oneWorkerRatio: Double?
    package var oneWorkerRatioLow: Double?
    package var oneWorkerRatioHigh: Double?
    package var sgemmRatio: Double?
    package var sgemmRatioLow: Double?
    package var sgemmRatioHigh: Double?
    package var partsRatio: Double?
    package var partsRatioLow: Double?
    package var partsRatioHigh: Double?
    package var workspaceBytes: Int?
    package var maxRelativeError: Double?
    package var note: String?

    enum CodingKeys: String, CodingKey {
        case kernel, variant, provider, mode, rows, columns, depth, threads, samples, gflops, ceiling, note
        case p20 = "p20_ns"
        case p50 = "p50_ns"
        case p80 = "p80_ns"
        case ratioToNaive = "ratio_to_naive"
        case ratioLow = "ratio_low"
        case ratioHigh = "ratio_high"
        case gigabytesPerSecond = "gb_per_s"
        case ceilingRate = "ceiling_rate"
        case shareOfCeiling = "share_of_ceiling"
        case shareOfOneWorker = "share_of_one_worker"
        case shareOfPeak = "share_of_peak"
        case oneWorkerRatio = "ratio_to_one_worker"
        case oneWorkerRatioLow = "ratio_to_one_worker_low"
        case oneWorkerRatioHigh = "ratio_to_one_worker_high"
        case sgemmRatio = "ratio_to_sgemm"
        case sgemmRatioLow = "ratio_to_sgemm_low"
        case sgemmRatioHigh = "ratio_to_sgemm_high"
        case partsRatio = "ratio_to_parts"
        case partsRatioLow = "ratio_to_parts_low"
        case partsRatioHigh = "ratio_to_parts_high"
        case workspaceBytes = "workspace_bytes"
        case maxRelativeError = "max_rel_error"
    }

    /// The text of ``Report/fields``.
    static let meaning = [
        "kernel": "the loss or reduction",
        "variant": "what tells rows of one kernel and shape apart, or null",
        "provider": "fastloss, or naive: the plain Swift loop in single precision",
        "mode": "value, or valueAndGradient",
        "rows, columns, depth": "the shape of the input; depth 1 where there is no third side",
        "threads": "threads that the call may use",
        "samples": "timed samples; those of the two providers alternate",
        "p20_ns, p50_ns, p80_ns": "percentiles of the samples, nanoseconds per call",
        "ratio_to_naive":
            "median over the pairs of samples of naive time / fastloss time; null where naive was not timed",
        "ratio_low, ratio_high": "95 % interval of ratio_to_naive, from order statistics",
        "gflops": "1e9 floating-point operations per second at p50",
        "gb_per_s": "1e9 bytes of input and output per second at p50",
        "ceiling, ceiling_rate":
            "what limits the row, and how much all workers reach of it; in GFLOP/s for sgemm, else in GB/s. "
            + "Beside it: timed in pairs with the row, and the rate is gb_per_s over share_of_ceiling",
        "share_of_ceiling":
            "the row's gflops or gb_per_s over ceiling_rate. Beside it: time of a plain stream of as many bytes "
            + "through memory on as many workers / fastloss time, median over pairs of their own",
        "share_of_one_worker":
            "the same against what one worker reaches of the ceiling. Beside it: a stream on one worker, in "
            + "pairs of their own",
        "share_of_peak":
            "of rows that arithmetic limits: gflops over the multiply-adds of all workers in registers, which nothing exceeds",
        "ratio_to_one_worker":
            "time on one worker / on all, median over pairs of their own; null where there is only one worker",
        "ratio_to_sgemm":
            "time of one plain sgemm of the full product on as many workers / fastloss time; of the similarity matrix",
        "ratio_to_parts": "time of an objective's parts, call by call / time of the whole in one call",
        "ratio_to_one_worker_low, ratio_to_one_worker_high": "95 % interval of ratio_to_one_worker",
        "ratio_to_sgemm_low, ratio_to_sgemm_high": "95 % interval of ratio_to_sgemm",
        "ratio_to_parts_low, ratio_to_parts_high": "95 % interval of ratio_to_parts",
        "workspace_bytes": "scratch memory of fastloss beside inputs and outputs; null where it uses none",
        "max_rel_error": "largest relative error of fastloss against the reference in double precision",
        "note": "what a reader must know, or null",
    ]

    /// The records of a measurement: FastLoss's, then the naive loop's if it was timed.
    static func records(of measurement: Measurement, share: CeilingShare) -> [Record] {
        var fastloss = Record(measurement, provider: .fastloss, timing: measurement.fastloss)
        fastloss.ratioToNaive = measurement.ratioToNaive?.median.finite
        fastloss.ratioLow = measurement.ratioToNaive?.bounds?.lowerBound.finite
        fastloss.ratioHigh = measurement.ratioToNaive?.bounds?.upperBound.finite
        fastloss.ceiling = share.name
        fastloss.ceilingRate = share.rate.allWorkers.finite
        fastloss.shareOfCeiling = share.ofAllWorkers.finite
        fastloss.shareOfOneWorker = share.ofOneWorker.finite
        fastloss.shareOfPeak = share.ofPeak?.finite
        fastloss.oneWorkerRatio = measurement.ratioToOneWorker?.median.finite
        fastloss.oneWorkerRatioLow = measurement.ratioToOneWorker?.bounds?.lowerBound.finite
        fastloss.oneWorkerRatioHigh = measurement.ratioToOneWorker?.bounds?.upperBound.finite
        fastloss.sgemmRatio = measurement.ratioToSgemm?.median.finite
        fastloss.sgemmRatioLow = measurement.ratioToSgemm?.bounds?.lowerBound.finite
        fastloss.sgemmRatioHigh = measurement.ratioToSgemm?.bounds?.upperBound.finite
        fastloss.partsRatio = measurement.ratioToParts?.median.finite
        fastloss.partsRatioLow = measurement.ratioToParts?.bounds?.lowerBound.finite
        fastloss.partsRatioHigh = measurement.ratioToParts?.bounds?.upperBound.finite
        fastloss.workspaceBytes = measurement.workspaceBytes
        fastloss.maxRelativeError = measurement.maxRelativeError.finite
        fastloss.note = measurement.note
        guard let naive = measurement.naive else { return [fastloss] }
        return [fastloss, Record(measurement, provider: .naive, timing: naive)]
    }

    private init(_ measurement: Measurement, provider: Provider, timing: Measurement.Timing) {
        kernel = measurement.kernel
        variant = measurement.variant
        self.provider = provider
        mode = measurement.mode
        rows = measurement.shape.rows
        columns = measurement.shape.columns
        depth = measurement.shape.depth
        threads = timing.threads
        samples = measurement.pairs
        p20 = timing.time.p20
        p50 = timing.time.p50
        p80 = timing.time.p80
        gflops = timing.gflops.finite
        gigabytesPerSecond = timing.gigabytesPerSecond.finite
    }

    /// Written by hand because a synthesised one leaves absent values out; here they are null, so that
    /// every record has the same fields.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(kernel, forKey: .kernel)
        try container.encode(variant, forKey: .variant)
        try container.encode(provider, forKey: .provider)
        try container.encode(mode, forKey: .mode)
        try container.encode(rows, forKey: .rows)
        try container.encode(columns, forKey: .columns)
        try container.encode(depth, forKey: .depth)
        try container.encode(threads, forKey: .threads)
        try container.encode(samples, forKey: .samples)
        try container.encode(p20, forKey: .p20)
        try container.encode(p50, forKey: .p50)
        try container.encode(p80, forKey: .p80)
        try container.encode(ratioToNaive, forKey: .ratioToNaive)
        try container.encode(ratioLow, forKey: .ratioLow)
        try container.encode(ratioHigh, forKey: .ratioHigh)
        try container.encode(gflops, forKey: .gflops)
        try container.encode(gigabytesPerSecond, forKey: .gigabytesPerSecond)
        try container.encode(ceiling, forKey: .ceiling)
        try container.encode(ceilingRate, forKey: .ceilingRate)
        try container.encode(shareOfCeiling, forKey: .shareOfCeiling)
        try container.encode(shareOfOneWorker, forKey: .shareOfOneWorker)
        try container.encode(shareOfPeak, forKey: .shareOfPeak)
        try container.encode(oneWorkerRatio, forKey: .oneWorkerRatio)
        try container.encode(oneWorkerRatioLow, forKey: .oneWorkerRatioLow)
        try container.encode(oneWorkerRatioHigh, forKey: .oneWorkerRatioHigh)
        try container.encode(sgemmRatio, forKey: .sgemmRatio)
        try container.encode(sgemmRatioLow, forKey: .sgemmRatioLow)
        try container.encode(sgemmRatioHigh, forKey: .sgemmRatioHigh)
        try container.encode(partsRatio, forKey: .partsRatio)
        try container.encode(partsRatioLow, forKey: .partsRatioLow)
        try container.encode(partsRatioHigh, forKey: .partsRatioHigh)
        try container.encode(workspaceBytes, forKey: .workspaceBytes)
        try container.encode(maxRelativeError, forKey: .maxRelativeError)
        try container.encode(note, forKey: .note)
    }
}

extension Double {
    /// Nil for what JSON has no number for.
    fileprivate var finite: Double? { isFinite ? self : nil }
}

extension Report {
    /// The report as JSON.
    package func encoded() throws -> Data {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self)
    }

    /// Reads what ``encoded()`` gave.
    ///
    /// - Throws: ``ReportFormatError``.
    package init(json: Data) throws(ReportFormatError) {
        struct Version: Decodable {
            var schema: Int
        }
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        do {
            let version = try decoder.decode(Version.self, from: json)
            guard version.schema == Self.currentSchema else {
                throw ReportFormatError.schema(found: version.schema, expected: Self.currentSchema)
            }
            self = try decoder.decode(Report.self, from: json)
        } catch let error as ReportFormatError {
            throw error
        } catch let error as DecodingError {
            throw .malformed(reason: error.sentence)
        } catch {
            throw .malformed(reason: "\(error)")
        }
    }
}

/// Why a file is no report that can be read.
package enum ReportFormatError: Error, Equatable, CustomStringConvertible {
    case schema(found: Int, expected: Int)
    case malformed(reason: String)

    package var description: String {
        switch self {
        case .schema(let found, let expected):
            "has schema \(found), and this program reads schema \(expected); run the benchmarks again with --json"
        case .malformed(let reason):
            "is no report of the benchmarks: \(reason)"
        }
    }
}

extension DecodingError {
    /// What is wrong, and where.
    var sentence: String {
        func place(_ path: [any CodingKey]) -> String {
            path.isEmpty ? "it" : path.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        }
        return switch self {
        case .keyNotFound(let key, let context): "\(place(context.codingPath + [key])) is missing"
        case .typeMismatch(let type, let context): "\(place(context.codingPath)) is not of type \(type)"
        case .valueNotFound(_, let context): "\(place(context.codingPath)) is null"
        case .dataCorrupted(let context) where context.codingPath.isEmpty: "it is not JSON"
        case .dataCorrupted(let context): "\(place(context.codingPath)): \(context.debugDescription)"
        @unknown default: "\(self)"
        }
    }
}

/// A file that a report, or what is made of one, goes to.
package struct ReportFile: Sendable {
    package let url: URL

    /// Makes sure that the file can be written, before minutes are spent on measuring.
    ///
    /// - Throws: ``ReportFileError``.
    package init(path: String) throws(ReportFileError) {
        url = URL(filePath: path)
        let files = FileManager.default
        var isFolder: ObjCBool = false
        if files.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue {
            throw .unwritable(path: path, reason: "it is a folder")
        }
        // The file is written beside its place and renamed, so it is the folder that must be writable.
        let folder = url.deletingLastPathComponent()
        guard files.fileExists(atPath: folder.path, isDirectory: &isFolder), isFolder.boolValue else {
            throw .unwritable(path: path, reason: "there is no folder \(folder.path)")
        }
        guard files.isWritableFile(atPath: folder.path) else {
            throw .unwritable(path: path, reason: "the folder \(folder.path) is not writable")
        }
    }

    /// Writes the report, whole or not at all.
    package func write(_ report: Report) throws {
        try write(try report.encoded())
    }

    /// Writes `data`, whole or not at all.
    package func write(_ data: Data) throws {
        try data.write(to: url, options: .atomic)
    }

    /// Writes the text, whole or not at all.
    package func write(_ text: String) throws {
        try Data(text.utf8).write(to: url, options: .atomic)
    }
}

/// Why a report cannot be written or read.
package enum ReportFileError: Error, Equatable, CustomStringConvertible {
    case unwritable(path: String, reason: String)
    case unreadable(path: String, reason: String)

    package var description: String {
        switch self {
        case .unwritable(let path, let reason): "cannot write \(path): \(reason)"
        case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
        }
    }
}
