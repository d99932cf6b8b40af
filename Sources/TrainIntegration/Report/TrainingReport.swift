// The report of a run: numbers that the page report.html draws, without external resources.

import FastLoss
import FastLossDiagnostics
import Foundation

/// What the page shows.
package struct TrainingReport: Encodable {
    private struct Embedding: Encodable {
        let name: String
        /// The purity of types and the mixing of wells among 15 neighbours.
        let purity, mixing: Double
        /// The first two principal components of every cell.
        let plane: [Float]
    }

    /// The errors at the masked values of the validation cells.
    private struct Prediction: Encodable {
        let name: String
        let error: Double
        var relativeError: Double?
    }

    private let heading: String
    private let terms = Terms.names
    private let training, validation: [[Float]]
    private let stepsPerEpoch: Int
    private let types, wells: [Int32]
    private let typeNames: [String]
    private let embeddings: [Embedding]
    private let predictions: [Prediction]

    /// - Parameter untrained: the cell embeddings before training.
    package init(_ run: TrainingRun, untrained: [Float]) throws {
        let (data, settings) = (run.data, run.settings)
        heading = "\(data.count) cells, \(run.epoch) epochs, \(run.parameters.count) parameters; \(settings)"
        (training, validation) = (run.trainingCurve, run.validationCurve)
        stepsPerEpoch = run.stepsPerEpoch
        (types, wells, typeNames) = (data.cellTypes, data.gemWells, data.cellTypeNames)

        func embedding(
            _ name: String, _ rows: [Float], _ metric: NearestNeighbors.Metric = .cosine
        ) throws -> Embedding {
            let shape = MatrixShape(rows: data.count, columns: rows.count / data.count)
            let neighbors = try NearestNeighbors(embeddings: rows, shape: shape, metric: metric)
            return try Embedding(
                name: name, purity: neighbors.purity(of: data.cellTypes),
                mixing: neighbors.mixing(of: data.gemWells),
                plane: PrincipalComponents(of: rows, shape: shape, count: 2).scores)
        }
        let values = data.values.enumerated().filter { $0.offset % data.geneCount < settings.genes }
        let shape = MatrixShape(rows: data.count, columns: settings.genes)
        let components = try PrincipalComponents(of: values.map(\.element), shape: shape, count: 20)
        embeddings = try [
            embedding("before training", untrained), embedding("after training", run.cellEmbeddings()),
            embedding("principal components", components.scores, .euclidean),
        ]

        /// The errors of predicting one value for each gene.
        func prediction(_ name: String, _ geneValues: [Float]) throws -> Prediction {
            let (targets, mask) = (run.validation.targets, run.validation.mask)
            let rows = Array(repeating: [0] + geneValues, count: run.validation.cells).flatMap { $0 }
            let error = try MaskedMSE().value(predictions: rows, targets: targets, mask: mask)
            let relative = try MaskedRelativeError().value(predictions: rows, targets: targets, mask: mask)
            return Prediction(name: name, error: error.value, relativeError: relative.value)
        }
        let cells = run.trainingCells
        let means = (0..<settings.genes).map { gene in
            cells.reduce(0) { $0 + data.values[$1 * data.geneCount + gene] } / Float(cells.count)
        }
        let mean = means.reduce(0, +) / Float(means.count)
        let last = run.validationCurve.last ?? []
        predictions = try [
            Prediction(name: "decoder", error: Double(last[0]), relativeError: Double(last[6])),
            Prediction(name: "cell embedding (MVC)", error: Double(last[2])),
            prediction("mean of each gene", means), prediction("mean of all values", means.map { _ in mean }),
        ]
    }

    /// The results in a few lines of text.
    var summary: String {
        let errors = predictions.map { "\($0.name) \(text($0.error))" }
        let scores = embeddings.map {
            "\($0.name): type purity \(text($0.purity)), well mixing \(text($0.mixing))"
        }
        return (["validation MSE: \(errors.joined(separator: ", "))"] + scores).joined(separator: "\n")
    }

    package func html() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        // A run that diverged has a report, too.
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        let json = String(decoding: try encoder.encode(self), as: UTF8.self)
        let page = try String(contentsOfFile: "\(Bundle.module.bundlePath)/report.html", encoding: .utf8)
        return page.replacing("{{report}}", with: json)
    }
}

/// A number with two digits after the point, or none from 1,000 on.
func text(_ number: some BinaryFloatingPoint) -> String {
    String(format: number < 1000 ? "%.2f" : "%.0f", Double(number))
}
