// The HTML and SVG that fill the template: rows of tables, legends and drawings.

import Foundation

/// One row of a table.
func tableRow(_ name: String, _ numbers: [Double], digits: Int) -> String {
    "<tr><td>\(name)</td>\(numbers.map { "<td>\(text($0, digits))</td>" }.joined())</tr>\n"
}

/// The names of the colours.
func legend(_ names: [String]) -> String {
    names.enumerated().map { "<li class=\"c\($0 % 10)\"><span>\($1)</span></li>" }.joined()
}

/// A drawing that fits its groups of points: dots, or else the line through them.
func figure(_ caption: String, _ groups: [(style: String, points: [(Double, Double)])]) -> String {
    let (x, y) = (groups.flatMap { $0.points.map(\.0) }, groups.flatMap { $0.points.map(\.1) })
    let (left, top) = (x.min() ?? 0, y.max() ?? 0)
    let (width, height) = (max((x.max() ?? 1) - left, 1e-9), max(top - (y.min() ?? 0), 1e-9))
    let paths = groups.map { style, points in
        let isDots = style.hasPrefix("dots")
        let steps = points.enumerated().map { index, point in
            let place =
                "\(text((point.0 - left) / width * 360, 1)) \(text((top - point.1) / height * 200, 1))"
            return isDots ? "M\(place)h0" : "\(index == 0 ? "M" : "L")\(place)"
        }
        return "<path class=\"\(style)\" d=\"\(steps.joined())\"/>"
    }
    return """
        <figure><figcaption>\(caption)</figcaption>
        <svg viewBox="-4 -4 368 208" role="img">\(paths.joined())</svg></figure>

        """
}

/// A number with this many digits after the point: by default two, or none from 1,000 on.
func text(_ number: some BinaryFloatingPoint, _ digits: Int? = nil) -> String {
    String(format: "%.\(digits ?? (number < 1000 ? 2 : 0))f", Double(number))
}
