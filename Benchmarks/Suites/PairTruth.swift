// The truth for losses over pairs of cells at shapes where nested loops would take minutes: products in
// double precision, one panel of the similarity matrix at a time. Tests compare it with FastLossReference at
// small shapes.

import COpenBLAS
import FastLossReference
import Foundation

/// Normalised rows in double precision, and what follows from their similarities.
package struct PairTruth {
    private let embeddings: [Double]
    private let rows: Int
    private let columns: Int
    private let unit: [Double]
    private let norms: [Double]
    private let floor: Double

    /// Rows of a panel, and of the sample whose gradients are computed.
    private static let panelRows = 256

    package init(_ embeddings: [Float], rows: Int, columns: Int, floor: Double) {
        self.embeddings = embeddings.map(Double.init)
        self.rows = rows
        self.columns = columns
        self.floor = floor
        (unit, norms) = Reference.CosineSimilarity.normalizedRows(
            embeddings: self.embeddings, rows: rows, columns: columns, floor: floor)
    }

    /// Rows spread evenly from the first to the last: at most a panel of them.
    package var sample: [Int] {
        let count = min(rows, Self.panelRows)
        return (0..<count).map { count == 1 ? 0 : $0 * (rows - 1) / (count - 1) }
    }

    private var panels: [Range<Int>] {
        stride(from: 0, to: rows, by: Self.panelRows).map { $0..<min(rows, $0 + Self.panelRows) }
    }

    /// The elements of `values`' rows that are in the sample, row after row.
    package func sampled<Element>(_ values: [Element]) -> [Element] {
        sample.flatMap { values[$0 * columns..<($0 + 1) * columns] }
    }

    /// Similarities of the sample with all rows, sample × rows.
    package var sampledSimilarities: [Double] {
        product(sampled(unit), sample.count, unit[...], rows)
    }
}

extension PairTruth {
    /// The loss, and the gradient of the sample's rows with its size before the projection.
    package func elasticCellSimilarity(
        threshold: Double
    ) -> (value: Double, gradient: [Double], normsBeforeProjection: [Double]) {
        var sum = 0.0
        for panel in panels {
            // The upper triangle: elements right of the diagonal count twice.
            let width = rows - panel.lowerBound
            let similarities = product(
                Array(unit[elements(panel)]), panel.count, unit[elements(panel.lowerBound..<rows)], width)
            for i in 0..<panel.count {
                sum += threshold * threshold
                for j in i + 1..<max(width, i + 1) {
                    let positive = max(similarities[i * width + j], 0)
                    sum += 2 * (positive - threshold) * (positive - threshold)
                }
            }
        }
        let pairs = Double(rows) * Double(rows)
        var factors = sampledSimilarities
        for (index, row) in sample.enumerated() {
            for j in 0..<rows {
                let similarity = factors[index * rows + j]
                factors[index * rows + j] =
                    j == row || similarity <= 0 ? 0 : -4 / pairs * (similarity - threshold)
            }
        }
        let (gradient, norms) = backward(factors, unit, belowFloor: .constantDenominator)
        return (1 - sum / pairs, gradient, norms)
    }

    /// The loss of this encoding against another, and the gradients of both samples with their sizes before
    /// the projection.
    package func contrastive(
        with second: PairTruth, temperature: Double
    ) -> (
        value: Double, first: (gradient: [Double], norms: [Double]),
        second: (gradient: [Double], norms: [Double])
    ) {
        var logNormalisers: [Double] = []
        var value = 0.0
        for panel in panels {
            let logits = product(Array(unit[elements(panel)]), panel.count, second.unit[...], rows).map {
                $0 / temperature
            }
            for i in 0..<panel.count {
                let row = logits[i * rows..<(i + 1) * rows]
                let largest = row.max() ?? 0
                let logNormaliser = largest + log(row.reduce(0) { $0 + exp($1 - largest) })
                logNormalisers.append(logNormaliser)
                value += logNormaliser - row[row.startIndex + panel.lowerBound + i]
            }
        }
        let scale = 1 / (Double(rows) * temperature)
        // (softmax − I)/(B·τ), for the sample's rows and for its columns.
        var ofFirst = product(sampled(unit), sample.count, second.unit[...], rows)
        var ofSecond = product(second.sampled(second.unit), sample.count, unit[...], rows)
        for (index, row) in sample.enumerated() {
            for j in 0..<rows {
                let place = index * rows + j
                let own = j == row ? 1.0 : 0
                ofFirst[place] = scale * (exp(ofFirst[place] / temperature - logNormalisers[row]) - own)
                ofSecond[place] = scale * (exp(ofSecond[place] / temperature - logNormalisers[j]) - own)
            }
        }
        return (
            value / Double(rows), backward(ofFirst, second.unit, belowFloor: .unclampedDirection),
            second.backward(ofSecond, unit, belowFloor: .unclampedDirection)
        )
    }

    /// `factors` (sample × rows) times `others`, carried back through the normalisation of the sample's rows.
    private func backward(
        _ factors: [Double], _ others: [Double], belowFloor: Reference.CosineSimilarity.BelowFloor
    ) -> (gradient: [Double], norms: [Double]) {
        var unitGradient = [Double](repeating: 0, count: sample.count * columns)
        cblas_dgemm(
            CblasRowMajor, CblasNoTrans, CblasNoTrans, Int32(sample.count), Int32(columns), Int32(rows), 1,
            factors,
            Int32(rows), others, Int32(columns), 0, &unitGradient, Int32(columns))
        var gradient = unitGradient
        let norms = Reference.CosineSimilarity.gradientThroughNormalization(
            normalizedGradient: unitGradient, embeddings: sampled(embeddings), normalized: sampled(unit),
            norms: sample.map { self.norms[$0] }, columns: columns, floor: floor, belowFloor: belowFloor,
            gradient: &gradient)
        return (gradient, norms)
    }

    private func elements(_ range: Range<Int>) -> Range<Int> {
        range.lowerBound * columns..<range.upperBound * columns
    }

    /// first·secondᵀ, firstRows × secondRows.
    private func product(
        _ first: [Double], _ firstRows: Int, _ second: ArraySlice<Double>, _ secondRows: Int
    ) -> [Double] {
        [Double](unsafeUninitializedCapacity: firstRows * secondRows) { result, count in
            second.withUnsafeBufferPointer { second in
                cblas_dgemm(
                    CblasRowMajor, CblasNoTrans, CblasTrans, Int32(firstRows), Int32(secondRows),
                    Int32(columns), 1,
                    first, Int32(columns), second.baseAddress, Int32(columns), 0, result.baseAddress,
                    Int32(secondRows))
            }
            count = firstRows * secondRows
        }
    }
}
