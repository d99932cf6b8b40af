// Shapes and embeddings for the similarity losses: tile edges, kinks, and rows of very different size.

import FastLoss
import FastLossReference
import Testing

/// A shape as a test's argument.
struct EmbeddingShape: Sendable, CustomStringConvertible {
    let rows: Int
    let columns: Int
    var matrix: MatrixShape { MatrixShape(rows: rows, columns: columns) }
    var description: String { "\(rows)×\(columns)" }

    /// Around the strips of tasks (16, 32, 64 rows), the packed panels (32), the tiles (128, 256) and CCE's
    /// slabs (256), below and above the 1,024 rows from which ECS is streamed, at widths from a number to an
    /// embedding.
    ///
    /// An unoptimised oracle needs 50 ns for each of its B²·D products: a debug build leaves out what would
    /// take minutes.
    static let all: [EmbeddingShape] = {
        let rows = [
            1, 2, 3, 5, 15, 31, 33, 64, 127, 128, 129, 255, 257, 300, 511, 513, 600, 1_024, 1_025, 1_300,
        ]
        let shapes = rows.flatMap { rows in
            [1, 3, 16, 33, 128].map { EmbeddingShape(rows: rows, columns: $0) }
        }
        #if DEBUG
            return shapes.filter {
                $0.rows * $0.rows * $0.columns <= 400_000 || $0.rows > 1_000 && $0.columns == 1
            }
        #else
            return shapes.filter { $0.rows * $0.rows * $0.columns <= 60_000_000 }
        #endif
    }()
}

extension RandomInputs {
    /// Embeddings in clusters, of which no two are so nearly orthogonal that Float and Double may disagree
    /// about the sign.
    mutating func cells(_ shape: EmbeddingShape, spread: Double = 0.5) -> [Float] {
        let (rows, columns) = (shape.rows, shape.columns)
        let clusters = 5
        var accepted: [Float] = []
        var directions: [[Double]] = []
        let centres = embeddings(rows: clusters, columns: columns, clusters: clusters, spread: 0)
        while directions.count < rows {
            let start = directions.count % clusters * columns
            let row = centres[start..<start + columns].map { $0 + Float(spread * normal()) }
            let norm = row.norm
            let direction = row.map { Double($0) / norm }
            let isNearKink = directions.contains { other in
                var similarity = 0.0
                for d in 0..<columns { similarity += other[d] * direction[d] }
                return abs(similarity) < Tolerances.kinkWidth
            }
            if isNearKink { continue }
            directions.append(direction)
            accepted += row
        }
        return accepted
    }
}

/// Embeddings at the edges of what a batch may hold.
enum EdgeEmbeddings: CaseIterable, Sendable {
    case scaledRows, tinyRows, hugeRows, zeroRows, nearDuplicates, equalRows, opposites, normsAroundTheFloor

    func apply(to embeddings: [Float], _ shape: EmbeddingShape) -> [Float] {
        let columns = shape.columns
        var result = embeddings
        for i in result.indices {
            let (row, column) = (i / columns, i % columns)
            switch self {
            case .scaledRows: result[i] *= [1, 1e18, 1e-18, 1e9, 1e-9][row % 5]
            case .tinyRows: result[i] *= 1e-18
            case .hugeRows: result[i] *= 1e18
            case .zeroRows: result[i] *= row % 3 == 0 ? 0 : 1
            case .nearDuplicates:
                result[i] = embeddings[column] * (1 + Float((row * 7 + column) % 5 - 2) * 0x1p-22)
            case .equalRows: result[i] = embeddings[column]
            case .opposites: result[i] = embeddings[column] * (row % 2 == 0 ? 1 : -1)
            case .normsAroundTheFloor: result[i] *= [1, 1e-7, 1e-8, 1e-9, 1e-11, 1e-12, 1e-13][row % 7]
            }
        }
        return result
    }
}

/// The gradients of embeddings in the unit in which they can be compared: that of the normalised rows.
///
/// A row's gradient is 1/‖E_i‖ times as large as what came to its normalised row, so among rows of any size
/// the largest error would be that of the shortest row. Multiplied by the norms, all rows count alike, and
/// the norm of the whole is that of the gradient before the projection, relative to which errors are
/// promised.
struct EmbeddingYardstick {
    private let norms: [Double]
    private let before: [Double]
    private let columns: Int

    /// - Parameter before: ‖dN_i‖ / max(‖E_i‖, floor) of every row, as the oracle tells it.
    init(embeddings: [Float], columns: Int, before: [Double], floor: Double) {
        norms = before.indices.map { row in
            max(embeddings[row * columns..<(row + 1) * columns].norm, floor)
        }
        self.before = before
        self.columns = columns
    }

    private func inUnitsOfNormalizedRows<T: BinaryFloatingPoint>(_ gradient: [T]) -> [Double] {
        gradient.indices.map { Double(gradient[$0]) * norms[$0 / columns] }
    }

    private var scale: Double { zip(norms, before).map { $0 * $1 }.norm }

    /// - Parameter cancelling: the norm of terms that cancel already in the gradient of the normalised rows,
    ///   as those of nearly equal rows do: what remains of them is no yardstick.
    func expect(
        _ gradient: [Float], _ truth: [Double], tolerance: Double = Tolerances.embeddingGradient,
        cancelling: Double = 0, _ label: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectNormwise(
            actual: inUnitsOfNormalizedRows(gradient), oracle: inUnitsOfNormalizedRows(truth),
            scale: scale + cancelling, tolerance: tolerance, label, sourceLocation: sourceLocation)
    }

    /// Row by row, which asks more: for rows whose own sum does not cancel.
    func expectEachRow(
        _ gradient: [Float], _ truth: [Double], _ label: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectRowsNormwise(
            actual: gradient, oracle: truth, columns: columns, scales: before,
            tolerance: Tolerances.embeddingGradient, label, sourceLocation: sourceLocation)
    }

    /// The accuracy rule, for rows that the naive loop can compute.
    func expectAsAccurateAsNaive(
        _ gradient: [Float], naive: [Float], _ truth: [Double], tolerance: Double = Tolerances.accuracyRule,
        _ label: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        FastLossTests.expectAsAccurateAsNaive(
            fast: gradient, naive: naive, truth: truth, scale: before.norm, tolerance: tolerance, label,
            sourceLocation: sourceLocation)
    }
}
