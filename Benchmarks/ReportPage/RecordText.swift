// A record's fields as people read them, for the page and for README; nil where the field is absent.

import Foundation

extension Mode {
    var words: String {
        switch self {
        case .value: "value"
        case .valueAndGradient: "value, gradient"
        }
    }
}

extension Record {
    var shape: ProblemShape { ProblemShape(rows, columns, depth) }

    /// The row's name: ``Benchmark/name``.
    package var name: String {
        Benchmark.name(kernel: kernel, variant: variant, mode: mode, shape: shape)
    }

    /// The kernel with its variant: "TokenPooling (w-pool)".
    var title: String { kernel + (variant.map { " (\($0))" } ?? "") }

    var shapeText: String { shape.description.replacing("x", with: "×") }

    var timeText: String { duration(nanoseconds: p50).replacing("us", with: "µs") }

    var ratioText: String? { ratioToNaive.map { "\(significant($0))×" } }

    var intervalText: String? {
        guard let ratioLow, let ratioHigh else { return nil }
        return "\(significant(ratioLow)) – \(significant(ratioHigh))"
    }

    /// In the unit of the row's ceiling.
    var rateText: String? {
        ceiling?.hasPrefix("sgemm") == true
            ? gflops.map { "\(significant($0)) GFLOP/s" }
            : gigabytesPerSecond.map { "\(significant($0)) GB/s" }
    }

    /// The share with the name of the ceiling, and of arithmetic the share of the peak.
    var shareText: String? {
        guard let shareOfCeiling, let ceiling else { return nil }
        return "\(percent(shareOfCeiling)) \(ceiling)" + (shareOfPeak.map { ", \(percent($0)) peak" } ?? "")
    }

    var oneWorkerText: String? { oneWorkerRatio.map { "\(significant($0))×" } }

    /// How the row stands against what it is to beat besides the naive loop.
    var rivalText: String? {
        sgemmRatio.map { "\(significant($0))× sgemm" } ?? partsRatio.map { "\(significant($0))× parts" }
    }

    var scratchText: String? { workspaceBytes.map { byteText(Double($0)) } }

    var errorText: String? { maxRelativeError.map { String(format: "%.1e", $0) } }
}
