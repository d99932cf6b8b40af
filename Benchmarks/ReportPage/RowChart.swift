// Kernel by kernel, one line per row of the benchmark: the ratio to the naive loop, what further workers
// bring, and the share of the machine's peak.
//
// The peak is what cannot be exceeded: multiply-adds in registers, or bandwidth. OpenBLAS's sgemm, which rows
// of arithmetic are held against too, stands as a mark of its own within the bars, because FastLoss's kernels
// may be faster than it.

/// The chart of all rows.
struct RowChart {
    /// FastLoss's records, in the report's order.
    let records: [Record]

    private static let width = 990.0
    private static let rowHeight = 20.0
    private static let top = 62.0
    private static let labels = 0.0..<224.0
    private static let ratios = 240.0..<460.0
    private static let speedups = 532.0..<602.0
    private static let shares = 660.0..<780.0

    /// - Parameter style: CSS for a drawing in a file of its own; empty in a page.
    func svg(style: String = "") -> String {
        let groups = records.grouped(by: \.title)
        let bounds = records.flatMap { [$0.ratioToNaive, $0.ratioLow, $0.ratioHigh].compactMap(\.self) }
            .filter { $0 > 0 }
        // 1 belongs to the axis: it is where the naive loop stands.
        let ratioAxis = Axis(decadesAround: bounds + [1])
        // A bandwidth can be exceeded a little, by what a cache still holds of a larger array.
        let shareAxis = Axis(to: 1, step: 0.5)
        let workers = Double(records.map(\.threads).max() ?? 1)
        let speedupAxis = Axis(to: max(2, workers), step: max(1, (workers / 2).rounded()))
        let height =
            Self.top + Self.rowHeight * Double(records.count) + 30 * Double(groups.count) + 10

        var drawing = Drawing(width: Self.width)
        drawing.text("Times as fast as the naive loop", x: Self.ratios.lowerBound, y: 18, style: "strong")
        drawing.text("median and 95 % interval, log scale", x: Self.ratios.lowerBound, y: 34, style: "quiet")
        drawing.text("All workers", x: Self.speedups.lowerBound - 6, y: 18, style: "strong")
        drawing.text("against one", x: Self.speedups.lowerBound - 6, y: 34, style: "quiet")
        drawing.text("Share of the machine’s peak", x: Self.shares.lowerBound, y: 18, style: "strong")
        drawing.text("of multiply-adds or of bandwidth", x: Self.shares.lowerBound, y: 34, style: "quiet")
        drawing.line(Self.shares.upperBound + 34, 43, Self.shares.upperBound + 34, 57, style: "mark")
        drawing.text("where sgemm stands", x: Self.shares.upperBound + 40, y: 54, style: "quiet")
        grid(ratioAxis, in: Self.ratios, marking: 1, height: height, into: &drawing) { "\(trimmed($0))×" }
        grid(speedupAxis, in: Self.speedups, marking: 1, height: height, into: &drawing) { "\(trimmed($0))×" }
        grid(shareAxis, in: Self.shares, marking: 1, height: height, into: &drawing) { "\(Int(100 * $0)) %" }

        var y = Self.top
        for group in groups {
            drawing.text(group.key, x: Self.labels.lowerBound, y: y + 21, style: "strong")
            y += 30
            for record in group.elements {
                let label = "\(record.mode.words) · \(record.shapeText)"
                drawing.text(label, x: Self.labels.upperBound, y: y + 13, anchor: "end")
                ratio(of: record, at: y, axis: ratioAxis, into: &drawing)
                speedup(of: record, at: y, axis: speedupAxis, into: &drawing)
                share(of: record, at: y, axis: shareAxis, into: &drawing)
                y += Self.rowHeight
            }
        }
        return drawing.svg(
            height: height,
            label:
                "Ratio to the naive loop, gain of all workers, and share of the machine's peak, row by row",
            style: style)
    }

    private func grid(
        _ axis: Axis, in range: Range<Double>, marking limit: Double, height: Double,
        into drawing: inout Drawing,
        label: (Double) -> String
    ) {
        for tick in axis.ticks {
            let x = range.at(axis.position(tick))
            let isLimit = tick == limit
            drawing.line(x, Self.top, x, height - 4, style: isLimit ? "limit" : "grid")
            drawing.text(
                label(tick), x: x, y: Self.top - 8, anchor: "middle", style: isLimit ? "limit-text" : "quiet")
        }
    }

    private func ratio(of record: Record, at y: Double, axis: Axis, into drawing: inout Drawing) {
        guard let ratio = record.ratioToNaive, ratio > 0 else {
            drawing.text(
                "naive not timed", x: Self.ratios.at(axis.position(1)) + 8, y: y + 13, style: "quiet")
            return
        }
        if let low = record.ratioLow, let high = record.ratioHigh, low > 0, high > 0 {
            drawing.line(
                Self.ratios.at(axis.position(low)), y + 9, Self.ratios.at(axis.position(high)), y + 9,
                style: "whisker")
        }
        drawing.dot(
            x: Self.ratios.at(axis.position(ratio)), y: y + 9, style: ratio < 1 ? "slower" : "fast",
            title: "\(significant(ratio)) times as fast")
        drawing.text(
            "\(significant(ratio))×", x: Self.ratios.upperBound + 48, y: y + 13, anchor: "end", style: "quiet"
        )
    }

    private func speedup(of record: Record, at y: Double, axis: Axis, into drawing: inout Drawing) {
        guard let ratio = record.oneWorkerRatio else { return }
        if let low = record.oneWorkerRatioLow, let high = record.oneWorkerRatioHigh {
            drawing.line(
                Self.speedups.at(axis.position(low)), y + 9, Self.speedups.at(axis.position(high)), y + 9,
                style: "whisker")
        }
        // Plainly slower: the whole interval lies below 1 by more than the 2 % by which equal code differs
        // from itself.
        let isSlower = record.oneWorkerRatioHigh.map { $0 < 0.98 } ?? false
        drawing.dot(
            x: Self.speedups.at(axis.position(ratio)), y: y + 9, style: isSlower ? "slower" : "fast",
            title: "\(significant(ratio)) times as fast as one worker")
        drawing.text(
            "\(significant(ratio))×", x: Self.speedups.upperBound + 44, y: y + 13, anchor: "end",
            style: "quiet")
    }

    private func share(of record: Record, at y: Double, axis: Axis, into drawing: inout Drawing) {
        guard let ofCeiling = record.shareOfCeiling, let text = record.shareText else { return }
        let share = record.shareOfPeak ?? ofCeiling
        let end = Self.shares.at(axis.position(share))
        drawing.bar(
            x: Self.shares.lowerBound, y: y + 4, width: end - Self.shares.lowerBound, height: 10,
            style: "bar",
            title: text)
        if record.shareOfPeak != nil, ofCeiling > 0 {
            let sgemm = Self.shares.at(axis.position(share / ofCeiling))
            drawing.line(sgemm, y + 2, sgemm, y + 16, style: "mark")
        }
        drawing.text(
            record.shareOfPeak.map { "\(percent($0)) · \(percent(ofCeiling)) of sgemm" } ?? text,
            x: Self.shares.upperBound + 12, y: y + 13, style: "quiet")
    }
}

/// "0.1", "1", "1000".
func trimmed(_ number: Double) -> String {
    number >= 1 ? String(Int(number.rounded())) : significant(number).replacing(/\.?0+$/, with: "")
}

extension Range<Double> {
    /// The point at a share of the range.
    func at(_ share: Double) -> Double { lowerBound + share * (upperBound - lowerBound) }
}

extension Array {
    /// Runs of elements with an equal key, merged, in the order of their first elements.
    func grouped<Key: Hashable>(by key: (Element) -> Key) -> [(key: Key, elements: [Element])] {
        var order: [Key] = []
        let groups = Dictionary(grouping: self) { element in
            let key = key(element)
            if !order.contains(key) { order.append(key) }
            return key
        }
        return order.map { ($0, groups[$0] ?? []) }
    }
}
