// The chart of the committed results: how many times as fast as the naive loop each row is.

/// One dot and interval per row on a logarithmic axis.
struct NaiveChart {
    /// FastLoss's records that have a ratio to the naive loop.
    let records: [Record]

    private static let width = 640.0
    private static let rowHeight = 20.0
    private static let top = 58.0
    private static let labels = 0.0..<220.0
    private static let ratios = 236.0..<580.0

    /// An SVG file that follows the reader's light or dark colours.
    var svg: String {
        let groups = records.grouped(by: \.row.title)
        let ratios = records.compactMap(\.ratios.naive).flatMap { ratio in
            [ratio.median] + (ratio.bounds.map { [$0.lowerBound, $0.upperBound] } ?? [])
        }
        // The axis includes 1, the naive loop.
        let axis = Axis(decadesAround: ratios.filter { $0 > 0 } + [1])
        let height = Self.top + Self.rowHeight * Double(records.count) + 30 * Double(groups.count) + 10

        var drawing = Drawing(width: Self.width)
        drawing.text("Times as fast as the naive loop", x: 0, y: 18, style: "strong")
        drawing.text("median and 95 % interval, log scale", x: 0, y: 34, style: "quiet")
        for tick in axis.ticks {
            let x = Self.ratios.at(axis.position(tick))
            drawing.line(x, Self.top, x, height - 4, style: tick == 1 ? "limit" : "grid")
            drawing.text(
                "\(trimmed(tick))×", x: x, y: Self.top - 8, anchor: "middle",
                style: tick == 1 ? "limit-text" : "quiet")
        }
        var y = Self.top
        for group in groups {
            drawing.text(group.key, x: Self.labels.lowerBound, y: y + 21, style: "strong")
            y += 30
            for record in group.elements {
                let label = "\(record.row.mode.words) · \(record.row.shapeText)"
                drawing.text(label, x: Self.labels.upperBound, y: y + 13, anchor: "end")
                if let ratio = record.ratios.naive, ratio.median > 0 {
                    draw(ratio, at: y, axis, into: &drawing)
                }
                y += Self.rowHeight
            }
        }
        return drawing.svg(
            height: height, label: "Speed relative to the naive loop, row by row",
            style: ChartStyle.colours + "\n" + ChartStyle.marks)
    }

    private func draw(_ ratio: Interval, at y: Double, _ axis: Axis, into drawing: inout Drawing) {
        func x(_ value: Double) -> Double { Self.ratios.at(axis.position(value)) }
        if let bounds = ratio.bounds, bounds.lowerBound > 0 {
            drawing.line(x(bounds.lowerBound), y + 9, x(bounds.upperBound), y + 9, style: "whisker")
        }
        drawing.dot(
            x: x(ratio.median), y: y + 9, style: ratio.median < 1 ? "slower" : "fast",
            title: "\(timesText(ratio)) as fast")
        drawing.text(timesText(ratio), x: Self.width, y: y + 13, anchor: "end", style: "quiet")
    }
}
