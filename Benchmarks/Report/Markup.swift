// SVG and HTML for the charts and the page.

import Foundation

/// Text as content of an element or as a quoted attribute.
func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
}

/// A coordinate: to a tenth of a pixel.
func px(_ value: Double) -> String {
    String(format: "%.1f", value)
}

/// A drawing in its own coordinates, y downwards.
struct Drawing {
    let width: Double
    private var elements: [String] = []

    init(width: Double) {
        self.width = width
    }

    /// - Parameter anchor: the point of the text at x: "start", "middle" or "end".
    mutating func text(_ text: String, x: Double, y: Double, anchor: String = "start", style: String = "") {
        elements.append(
            "<text x=\"\(px(x))\" y=\"\(px(y))\" text-anchor=\"\(anchor)\" class=\"\(style)\">\(escaped(text))</text>"
        )
    }

    mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, style: String) {
        elements.append(
            "<line x1=\"\(px(x1))\" y1=\"\(px(y1))\" x2=\"\(px(x2))\" y2=\"\(px(y2))\" class=\"\(style)\"/>")
    }

    mutating func polyline(_ points: [(x: Double, y: Double)], style: String) {
        let list = points.map { "\(px($0.x)),\(px($0.y))" }.joined(separator: " ")
        elements.append("<polyline points=\"\(list)\" class=\"\(style)\"/>")
    }

    mutating func dot(x: Double, y: Double, radius: Double = 4, style: String, title: String) {
        elements.append(
            "<circle cx=\"\(px(x))\" cy=\"\(px(y))\" r=\"\(px(radius))\" class=\"\(style)\">"
                + "<title>\(escaped(title))</title></circle>")
    }

    /// The element for a page, or a file with its own style.
    ///
    /// - Parameters:
    ///   - label: the alternative text.
    ///   - style: CSS of a file; empty in a page, which has its own.
    func svg(height: Double, label: String, style: String = "") -> String {
        // A page has margins of its own.
        let margin = style.isEmpty ? 0 : 16
        let size = "\(Int(width) + 2 * margin) \(Int(height.rounded(.up)))"
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="\(-margin) 0 \(size)" \
            role="img" aria-label="\(escaped(label))">
            \(style.isEmpty ? "" : "<style>\(style)</style>\n<rect x=\"\(-margin)\" width=\"100%\" height=\"100%\" class=\"paper\"/>\n")\
            \(elements.joined(separator: "\n"))
            </svg>
            """
    }
}

/// Numbers along a side of a chart.
struct Axis {
    let lower: Double
    let upper: Double
    let isLogarithmic: Bool
    let ticks: [Double]

    /// 0 to `greatest`, which is positive, with 4 to 10 ticks at round numbers.
    init(to greatest: Double) {
        let power = pow(10, floor(log10(greatest)))
        let step = [0.1, 0.2, 0.5, 1, 2].map { $0 * power }.first { greatest / $0 <= 10 } ?? power
        lower = 0
        upper = greatest
        isLogarithmic = false
        ticks = Array(stride(from: 0, through: greatest, by: step))
    }

    /// The powers of ten around all `values`, which are positive; at least one decade.
    init(decadesAround values: [Double]) {
        let exponents = values.map(log10)
        let first = floor(exponents.min() ?? 0)
        let last = max(ceil(exponents.max() ?? 1), first + 1)
        lower = pow(10, first)
        upper = pow(10, last)
        isLogarithmic = true
        ticks = stride(from: first, through: last, by: 1).map { pow(10, $0) }
    }

    /// Doublings from the least to the greatest of `values`, which are positive, with a tick at each value.
    init(doublingsAt values: [Double]) {
        let sorted = Set(values).sorted()
        lower = (sorted.first ?? 1) / 1.2
        upper = (sorted.last ?? 2) * 1.2
        isLogarithmic = true
        ticks = sorted
    }

    /// 0 at the lower end, 1 at the upper; held within them.
    func position(_ value: Double) -> Double {
        let position =
            isLogarithmic ? log(value / lower) / log(upper / lower) : (value - lower) / (upper - lower)
        return min(max(position, 0), 1)
    }
}

/// The colours and type of all drawings; dark if the reader prefers it.
enum ChartStyle {
    /// Contrast is at least 4.5 : 1 for text and 3 : 1 for marks on both backgrounds.
    static let colours = """
        :root{color-scheme:light dark;--paper:#ffffff;--ink:#1c2430;--quiet:#5a6675;--grid:#dfe4ea;--fast:#1f5fbf;\
        --fast-soft:#8db4ea;--naive:#b4510c;--limit:#7a2f8f;--good:#11755a;--fair:#1f5fbf;--far:#b4510c;--bad:#c0182b}
        @media(prefers-color-scheme:dark){:root{--paper:#14181e;--ink:#e6eaf0;--quiet:#a3aebb;--grid:#303946;\
        --fast:#6ea8ff;--fast-soft:#35598f;--naive:#f0924c;--limit:#d494ea;--good:#3fbf95;--fair:#6ea8ff;--far:#f0924c;--bad:#ff7080}}
        """
    static let marks = """
        svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;fill:var(--ink)}
        svg .quiet{fill:var(--quiet)}svg .strong{font-weight:600}svg .paper{fill:var(--paper)}
        svg .grid{stroke:var(--grid);stroke-width:1}svg .limit{stroke:var(--limit);stroke-width:1.5;stroke-dasharray:5 3}
        svg text.limit-text{fill:var(--limit)}
        svg .fast{fill:var(--fast)}svg .slower{fill:var(--paper);stroke:var(--naive);stroke-width:2.5}
        svg .whisker{stroke:var(--fast-soft);stroke-width:3}
        svg .fast-line,svg .naive-line,svg .limit-line{fill:none;stroke-width:2}
        svg .fast-line{stroke:var(--fast)}svg .naive-line{stroke:var(--naive)}
        svg .limit-line{stroke:var(--limit);stroke-dasharray:5 3}svg .naive{fill:var(--naive)}
        """
}

/// "0.1", "1", "1000".
func trimmed(_ number: Double) -> String {
    number >= 1 || number == 0
        ? String(Int(number.rounded())) : significant(number).replacing(/\.?0+$/, with: "")
}

extension Range<Double> {
    /// The point at a share of the range.
    func at(_ share: Double) -> Double { lowerBound + share * (upperBound - lowerBound) }
}
