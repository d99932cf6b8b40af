// The report of a run: numbers that the page report.html draws, without external resources.

import BenchmarkData
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
            _ name: String, _ rows: [Float], width: Int, _ metric: NearestNeighbors.Metric
        ) throws -> Embedding {
            let shape = MatrixShape(rows: data.count, columns: width)
            let neighbors = try NearestNeighbors(embeddings: rows, shape: shape, metric: metric)
            let plane = try PrincipalComponents(of: rows, shape: shape, count: 2)
            return Embedding(
                name: name, purity: try neighbors.purity(of: data.cellTypes),
                mixing: try neighbors.mixing(of: data.gemWells), plane: plane.scores)
        }
        let values = data.values.enumerated().filter { $0.offset % data.geneCount < settings.genes }
        let components = try PrincipalComponents(
            of: values.map(\.element), shape: MatrixShape(rows: data.count, columns: settings.genes),
            count: 20)
        embeddings = try [
            embedding("before training", untrained, width: settings.width, .cosine),
            embedding("after training", run.cellEmbeddings(), width: settings.width, .cosine),
            embedding("principal components", components.scores, width: components.count, .euclidean),
        ]

        /// The errors of predicting one value for each gene.
        func prediction(_ name: String, _ geneValues: [Float]) throws -> Prediction {
            let batch = run.validation
            let rows = Array(repeating: [0] + geneValues, count: batch.cells).flatMap { $0 }
            return Prediction(
                name: name,
                error: try MaskedMSE().value(predictions: rows, targets: batch.targets, mask: batch.mask)
                    .value,
                relativeError: try MaskedRelativeError().value(
                    predictions: rows, targets: batch.targets, mask: batch.mask
                ).value)
        }
        let means = (0..<settings.genes).map { gene in
            run.trainingCells.reduce(0) { $0 + data.values[$1 * data.geneCount + gene] }
                / Float(run.trainingCells.count)
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
        guard let url = Bundle.module.url(forResource: "report", withExtension: "html") else {
            throw CocoaError(.fileNoSuchFile)
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        // A run that diverged has a report, too.
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        let json = String(decoding: try encoder.encode(self), as: UTF8.self)
        return try String(contentsOf: url, encoding: .utf8).replacing("{{report}}", with: json)
    }
}

/// A number with two digits after the point, or none from 1,000 on.
func text(_ number: some BinaryFloatingPoint) -> String {
    String(format: number < 1000 ? "%.2f" : "%.0f", Double(number))
}
