// Growth of time and scratch memory with B for the losses over all pairs of cells.

/// One line of a chart.
struct Series {
    let name: String
    /// "fast", "naive" or "limit"; see ``ChartStyle``.
    let style: String
    let points: [(x: Double, y: Double)]
}

/// A chart with logarithmic axes.
struct ScalingChart {
    let title: String
    let unit: String
    let series: [Series]
    /// The label of a tick of the vertical axis.
    let tick: (Double) -> String

    private static let width = 380.0
    private static let height = 286.0
    private static let horizontal = 56.0..<366.0
    private static let vertical = 50.0..<208.0

    func svg() -> String {
        let points = series.flatMap(\.points)
        let (x, y) = (Axis(doublingsAt: points.map(\.x)), Axis(decadesAround: points.map(\.y)))
        func place(_ point: (x: Double, y: Double)) -> (x: Double, y: Double) {
            (Self.horizontal.at(x.position(point.x)), Self.vertical.at(1 - y.position(point.y)))
        }
        var drawing = Drawing(width: Self.width)
        drawing.text(title, x: 0, y: 14, style: "strong")
        drawing.text(unit, x: 0, y: 31, style: "quiet")
        for value in y.ticks {
            let height = Self.vertical.at(1 - y.position(value))
            drawing.line(
                Self.horizontal.lowerBound, height, Self.horizontal.upperBound, height, style: "grid")
            drawing.text(
                tick(value), x: Self.horizontal.lowerBound - 6, y: height + 4, anchor: "end", style: "quiet")
        }
        for value in x.ticks {
            let place = Self.horizontal.at(x.position(value))
            drawing.line(place, Self.vertical.lowerBound, place, Self.vertical.upperBound, style: "grid")
            drawing.text(
                trimmed(value), x: place, y: Self.vertical.upperBound + 17, anchor: "middle", style: "quiet")
        }
        drawing.text(
            "B, cells of a batch", x: Self.horizontal.at(0.5), y: Self.vertical.upperBound + 34,
            anchor: "middle",
            style: "quiet")
        var legend = (x: 0.0, y: Self.height - 10)
        for line in series {
            drawing.polyline(line.points.map(place), style: "\(line.style)-line")
            for point in line.points where line.style != "limit" {
                let (x, y) = place(point)
                drawing.dot(
                    x: x, y: y, style: line.style,
                    title: "\(line.name), B = \(Int(point.x)): \(tick(point.y))")
            }
            drawing.line(legend.x, legend.y - 4, legend.x + 18, legend.y - 4, style: "\(line.style)-line")
            drawing.text(line.name, x: legend.x + 23, y: legend.y)
            legend.x += 44 + 6.6 * Double(line.name.count)
        }
        return drawing.svg(height: Self.height, label: "\(title), \(unit)")
    }
}

extension ScalingChart {
    /// Time, then scratch memory, of every kernel timed at three or more B of one D; with the gradient if the
    /// kernel has one.
    static func all(of records: [Record]) -> [ScalingChart] {
        let withGradient = Set(records.filter { $0.row.mode == .valueAndGradient }.map(\.row.title))
        let families = records.filter { $0.row.depth > 1 && $0.row.rows == $0.row.columns }
            .filter { $0.row.mode == .valueAndGradient || !withGradient.contains($0.row.title) }
            .grouped { [$0.row.title, $0.row.mode.rawValue, String($0.row.depth)] }
            .map { $0.elements }
            .filter { Set($0.map(\.row.rows)).count >= 3 }
        return families.flatMap { [time(of: $0), memory(of: $0)].compactMap(\.self) }
    }

    private static func time(of records: [Record]) -> ScalingChart? {
        func points(_ provider: Record.Provider) -> [(x: Double, y: Double)] {
            records.filter { $0.provider == provider && $0.time.p50 > 0 }
                .map { (Double($0.row.rows), $0.time.p50) }
        }
        guard let first = records.first?.row else { return nil }
        return ScalingChart(
            title: "\(first.title), D = \(first.depth): time",
            unit: "per call, \(first.mode.words)",
            series: [
                Series(name: "FastLoss", style: "fast", points: points(.fastloss)),
                Series(name: "naive loop", style: "naive", points: points(.naive)),
            ].filter { !$0.points.isEmpty },
            tick: { roundDuration(nanoseconds: $0) })
    }

    /// Nil if no scratch memory is known.
    private static func memory(of records: [Record]) -> ScalingChart? {
        let known = records.compactMap { record in
            record.workspaceBytes.flatMap { $0 > 0 ? (x: Double(record.row.rows), y: Double($0)) : nil }
        }
        guard let first = records.first?.row, !known.isEmpty else { return nil }
        return ScalingChart(
            title: "\(first.title), D = \(first.depth): memory",
            unit: "scratch memory, \(first.mode.words)",
            series: [
                Series(name: "FastLoss's scratch", style: "fast", points: known),
                Series(name: "one B×B matrix", style: "limit", points: known.map { ($0.x, 4 * $0.x * $0.x) }),
            ],
            tick: { byteText($0) })
    }

    /// "10 µs": ticks need no decimals.
    private static func roundDuration(nanoseconds: Double) -> String {
        duration(nanoseconds: nanoseconds).replacing(#/\.0+ /#, with: " ")
    }
}
