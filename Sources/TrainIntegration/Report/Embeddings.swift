// What cell embeddings are judged by: principal components, and the labels of each cell's neighbours.

import BenchmarkData

private func dot(_ a: [Double], _ b: [Double]) -> Double {
    var sum = 0.0
    for index in a.indices { sum += a[index] * b[index] }
    return sum
}

/// One row of numbers for each cell.
package typealias CellRows = [[Double]]

/// The rows of an array, each scaled to length 1 if they are `normalized`.
func cellRows(_ values: [Float], width: Int, normalized: Bool) -> CellRows {
    stride(from: 0, to: values.count, by: width).map { start in
        let row = values[start..<start + width].map(Double.init)
        let norm = normalized ? max(dot(row, row).squareRoot(), 1e-12) : 1
        return row.map { $0 / norm }
    }
}

/// The scores of the first principal components: power iteration, one direction after the other, each kept
/// orthogonal to those before it.
package func principalComponents(_ rows: CellRows, _ count: Int, iterations: Int = 30) -> CellRows {
    let width = rows[0].count
    let mean = (0..<width).map { column in rows.reduce(0) { $0 + $1[column] } / Double(rows.count) }
    let centred = rows.map { row in row.indices.map { row[$0] - mean[$0] } }
    var generator = SeededGenerator(seed: 1)
    var directions: [[Double]] = []
    for _ in 0..<min(count, width) {
        var direction = (0..<width).map { _ in Double(generator.normal()) }
        for _ in 0..<iterations {
            var next = [Double](repeating: 0, count: width)
            for row in centred {
                let score = dot(row, direction)
                for column in 0..<width { next[column] += score * row[column] }
            }
            for earlier in directions {
                let overlap = dot(next, earlier)
                for column in 0..<width { next[column] -= overlap * earlier[column] }
            }
            let norm = max(dot(next, next).squareRoot(), 1e-300)
            direction = next.map { $0 / norm }
        }
        directions.append(direction)
    }
    return centred.map { row in directions.map { dot(row, $0) } }
}

/// How the labels of cells agree with those of their 15 nearest neighbours.
package struct NeighbourLabels: Sendable {
    /// The mean share of a cell's neighbours that have its type.
    package let purity: Double
    /// The mean share of a cell's neighbours from another well, divided by the share of such cells in the
    /// data: 1 if the wells are mixed as if by chance, 0 if they are apart.
    package let mixing: Double

    package init(_ rows: CellRows, types: [Int32], wells: [Int32], neighbours: Int = 15) {
        let squares = rows.map { dot($0, $0) }
        var (sameType, otherWell, otherWells) = (0, 0, 0)
        for cell in rows.indices {
            // ‖a − b‖² without ‖a‖², which is the same for all b.
            let distances = rows.indices.map { squares[$0] - 2 * dot(rows[cell], rows[$0]) }
            let others = rows.indices.filter { $0 != cell }
            let nearest = others.sorted { (distances[$0], $0) < (distances[$1], $1) }.prefix(neighbours)
            sameType += nearest.count { types[$0] == types[cell] }
            otherWell += nearest.count { wells[$0] != wells[cell] }
            otherWells += others.count { wells[$0] != wells[cell] }
        }
        let pairs = Double(rows.count * min(neighbours, rows.count - 1))
        purity = Double(sameType) / pairs
        mixing = Double(otherWell) / pairs / (Double(otherWells) / Double(rows.count * (rows.count - 1)))
    }
}
