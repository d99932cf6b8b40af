// One record of a report: the measurements of one implementation in one row.
//
// In the file a record is a flat object. An interval occupies three fields: the median, and the same name
// with `_low` and `_high`. A field that does not apply is absent.

/// One implementation of one row.
package struct Record: Equatable, Sendable {
    package enum Provider: String, Codable, Sendable {
        case naive
        case fastloss
    }

    /// What was computed.
    package struct Row: Codable, Hashable, Sendable {
        package var kernel: String
        package var variant: String?
        package var mode: Mode
        package var rows: Int
        package var columns: Int
        package var depth: Int

        package var shape: ProblemShape { ProblemShape(rows, columns, depth) }
        /// The name that `--list` shows: ``Benchmark/name``.
        package var name: String {
            Benchmark.name(kernel: kernel, variant: variant, mode: mode, shape: shape)
        }
    }

    /// Nanoseconds per call, and the rates at the median.
    package struct Time: Codable, Equatable, Sendable {
        package var threads: Int
        package var samples: Int
        package var p20: Double
        package var p50: Double
        package var p80: Double
        package var gflops: Double?
        package var gigabytesPerSecond: Double?

        enum CodingKeys: String, CodingKey {
            case threads, samples, gflops
            case p20 = "p20_ns"
            case p50 = "p50_ns"
            case p80 = "p80_ns"
            case gigabytesPerSecond = "gb_per_s"
        }
    }

    /// The row's ceiling and the shares of it.
    package struct Share: Codable, Equatable, Sendable {
        package var ceiling: String
        package var rate: Double?
        package var ofCeiling: Double?
        package var ofOneWorker: Double?
        package var ofPeak: Double?

        enum CodingKeys: String, CodingKey {
            case ceiling
            case rate = "ceiling_rate"
            case ofCeiling = "share_of_ceiling"
            case ofOneWorker = "share_of_one_worker"
            case ofPeak = "share_of_peak"
        }
    }

    /// Times of others over FastLoss's.
    package struct Ratios: Equatable, Sendable {
        package var naive: Interval?
        package var oneWorker: Interval?
        package var sgemm: Interval?
        package var parts: Interval?
        package var upstream: Interval?
    }

    package var row: Row
    package var provider: Provider
    package var time: Time
    /// FastLoss's record has these.
    package var share: Share?
    package var ratios = Ratios()
    package var workspaceBytes: Int?
    package var maxRelativeError: Double?
    package var note: String?

    /// The meaning of the fields, for readers of the file.
    static let meaning: KeyValuePairs = [
        "kernel": "the loss or reduction",
        "variant": "distinguishes rows of one kernel and shape",
        "provider": "fastloss, or naive: the plain Swift loop in single precision",
        "mode": "value, or valueAndGradient",
        "rows, columns, depth": "the shape of the input; depth is 1 for matrices",
        "threads": "threads that the call may use",
        "samples": "timed samples; those of the two providers alternate",
        "p20_ns, p50_ns, p80_ns": "percentiles of the samples, nanoseconds per call",
        "gflops": "1e9 floating-point operations per second at p50",
        "gb_per_s": "1e9 bytes of input and output per second at p50",
        "ceiling, ceiling_rate":
            "what limits the row, and the rate that all workers reach of it: GFLOP/s for sgemm, else GB/s. "
            + "A stream moves as many bytes through memory and is timed in pairs with the row; its rate is "
            + "gb_per_s / share_of_ceiling",
        "share_of_ceiling":
            "gflops or gb_per_s / ceiling_rate; for a stream the median of stream time / fastloss time",
        "share_of_one_worker": "the same against the ceiling, or the stream, of one worker",
        "share_of_peak":
            "time of as many multiply-adds in registers on all workers, timed in pairs with the row / fastloss "
            + "time; rows limited by arithmetic only",
        "ratio_to_naive, ratio_low, ratio_high":
            "median of naive time / fastloss time over pairs of samples, and its 95 % interval",
        "ratio_to_one_worker, ratio_to_one_worker_low, ratio_to_one_worker_high":
            "time on one worker / on all workers, over separate pairs",
        "ratio_to_sgemm, ratio_to_sgemm_low, ratio_to_sgemm_high":
            "time of one sgemm of the full product on as many workers / fastloss time",
        "ratio_to_parts, ratio_to_parts_low, ratio_to_parts_high":
            "time of an objective's terms, one call each / time of the whole in one call",
        "ratio_to_upstream, ratio_to_upstream_low, ratio_to_upstream_high":
            "time of a head in upstream's order, every token and layer by layer with sgemm / fastloss time",
        "workspace_bytes": "scratch memory of fastloss, without inputs and outputs",
        "max_rel_error": "largest relative error of fastloss against the reference in double precision",
        "note": "a remark on the row",
    ]
}

extension Record {
    /// The records of a measurement: FastLoss's, then the naive loop's if it was timed.
    static func records(of measurement: Measurement, share: CeilingShare) -> [Record] {
        var fastloss = Record(measurement, provider: .fastloss, timing: measurement.fastloss)
        fastloss.share = Share(
            ceiling: share.name, rate: share.rate.allWorkers.finite, ofCeiling: share.ofAllWorkers.finite,
            ofOneWorker: share.ofOneWorker.finite, ofPeak: share.ofPeak?.finite)
        fastloss.ratios = Ratios(
            naive: measurement.ratioToNaive?.finite, oneWorker: measurement.ratioToOneWorker?.finite,
            sgemm: measurement.ratioToSgemm?.finite, parts: measurement.ratioToParts?.finite,
            upstream: measurement.ratioToUpstream?.finite)
        fastloss.workspaceBytes = measurement.workspaceBytes
        fastloss.maxRelativeError = measurement.maxRelativeError.finite
        fastloss.note = measurement.note
        guard let naive = measurement.naive else { return [fastloss] }
        return [fastloss, Record(measurement, provider: .naive, timing: naive)]
    }

    private init(_ measurement: Measurement, provider: Provider, timing: Measurement.Timing) {
        row = Row(
            kernel: measurement.kernel, variant: measurement.variant, mode: measurement.mode,
            rows: measurement.shape.rows, columns: measurement.shape.columns, depth: measurement.shape.depth)
        self.provider = provider
        time = Time(
            threads: timing.threads, samples: measurement.pairs, p20: timing.time.p20, p50: timing.time.p50,
            p80: timing.time.p80, gflops: timing.gflops.finite,
            gigabytesPerSecond: timing.gigabytesPerSecond.finite)
    }
}

extension Record: Codable {
    private enum CodingKeys: String, CodingKey {
        case provider, ceiling, note
        case workspaceBytes = "workspace_bytes"
        case maxRelativeError = "max_rel_error"
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        row = try Row(from: decoder)
        provider = try container.decode(Provider.self, forKey: .provider)
        time = try Time(from: decoder)
        let hasShare = try container.decodeIfPresent(String.self, forKey: .ceiling) != nil
        share = hasShare ? try Share(from: decoder) : nil
        ratios = try Ratios(from: decoder)
        workspaceBytes = try container.decodeIfPresent(Int.self, forKey: .workspaceBytes)
        maxRelativeError = try container.decodeIfPresent(Double.self, forKey: .maxRelativeError)
        note = try container.decodeIfPresent(String.self, forKey: .note)
    }

    package func encode(to encoder: any Encoder) throws {
        try row.encode(to: encoder)
        try time.encode(to: encoder)
        try share?.encode(to: encoder)
        try ratios.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(provider, forKey: .provider)
        try container.encodeIfPresent(workspaceBytes, forKey: .workspaceBytes)
        try container.encodeIfPresent(maxRelativeError, forKey: .maxRelativeError)
        try container.encodeIfPresent(note, forKey: .note)
    }
}

extension Record.Ratios: Codable {
    /// Three fields per interval.
    private enum CodingKeys: String, CodingKey {
        case naive = "ratio_to_naive"
        case naiveLow = "ratio_low"
        case naiveHigh = "ratio_high"
        case oneWorker = "ratio_to_one_worker"
        case oneWorkerLow = "ratio_to_one_worker_low"
        case oneWorkerHigh = "ratio_to_one_worker_high"
        case sgemm = "ratio_to_sgemm"
        case sgemmLow = "ratio_to_sgemm_low"
        case sgemmHigh = "ratio_to_sgemm_high"
        case parts = "ratio_to_parts"
        case partsLow = "ratio_to_parts_low"
        case partsHigh = "ratio_to_parts_high"
        case upstream = "ratio_to_upstream"
        case upstreamLow = "ratio_to_upstream_low"
        case upstreamHigh = "ratio_to_upstream_high"
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func interval(_ median: CodingKeys, _ low: CodingKeys, _ high: CodingKeys) throws -> Interval? {
            func number(_ key: CodingKeys) throws -> Double? {
                try container.decodeIfPresent(Double.self, forKey: key)
            }
            guard let median = try number(median) else { return nil }
            guard let low = try number(low), let upper = try number(high) else {
                return Interval(median: median, bounds: nil)
            }
            guard low <= upper else {
                throw DecodingError.dataCorruptedError(
                    forKey: high, in: container, debugDescription: "\(upper) is less than \(low)")
            }
            return Interval(median: median, bounds: low...upper)
        }
        naive = try interval(.naive, .naiveLow, .naiveHigh)
        oneWorker = try interval(.oneWorker, .oneWorkerLow, .oneWorkerHigh)
        sgemm = try interval(.sgemm, .sgemmLow, .sgemmHigh)
        parts = try interval(.parts, .partsLow, .partsHigh)
        upstream = try interval(.upstream, .upstreamLow, .upstreamHigh)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        func encode(
            _ interval: Interval?, _ median: CodingKeys, _ low: CodingKeys, _ high: CodingKeys
        ) throws {
            try container.encodeIfPresent(interval?.median, forKey: median)
            try container.encodeIfPresent(interval?.bounds?.lowerBound, forKey: low)
            try container.encodeIfPresent(interval?.bounds?.upperBound, forKey: high)
        }
        try encode(naive, .naive, .naiveLow, .naiveHigh)
        try encode(oneWorker, .oneWorker, .oneWorkerLow, .oneWorkerHigh)
        try encode(sgemm, .sgemm, .sgemmLow, .sgemmHigh)
        try encode(parts, .parts, .partsLow, .partsHigh)
        try encode(upstream, .upstream, .upstreamLow, .upstreamHigh)
    }
}

extension Double {
    /// Nil for numbers that JSON cannot represent.
    fileprivate var finite: Double? { isFinite ? self : nil }
}

extension Interval {
    /// Nil if the median is not finite; without bounds if one of them is not.
    fileprivate var finite: Interval? {
        guard median.isFinite else { return nil }
        let isBounded = bounds.map { $0.lowerBound.isFinite && $0.upperBound.isFinite } ?? false
        return Interval(median: median, bounds: isBounded ? bounds : nil)
    }
}
