// The report of a run: one HTML page with its learning curves and its cells, without external resources.

import BenchmarkData
import Foundation

/// Fills the template report.html.
package struct TrainingReport {
    private let run: TrainingRun
    private let embeddings: [(name: String, rows: CellRows, labels: NeighbourLabels)]
    private let errors: [(name: String, error: Double)]

    /// - Parameter untrained: the cell embeddings before training.
    package init(_ run: TrainingRun, untrained: [Float]) throws {
        self.run = run
        let (data, width) = (run.data, run.settings.width)
        let values = cellRows(data.values, width: data.geneCount, normalized: false).map {
            Array($0.prefix(run.settings.genes))
        }
        embeddings = [
            ("before training", cellRows(untrained, width: width, normalized: true)),
            ("after training", cellRows(try run.cellEmbeddings(), width: width, normalized: true)),
            ("principal components", principalComponents(values, 20)),
        ].map { ($0, $1, NeighbourLabels($1, types: data.cellTypes, wells: data.gemWells)) }
        let baselines = run.baselines()
        let last = run.validationCurve.last ?? []
        errors = [
            ("decoder", Double(last[0])), ("cell embedding (MVC)", Double(last[2])),
            ("mean of each gene", baselines.geneMean), ("mean of all values", baselines.mean),
        ]
    }

    /// The results in a few lines of text.
    var summary: String {
        let scores = embeddings.map {
            "\($0.name): type purity \(text($0.labels.purity, 3)), well mixing \(text($0.labels.mixing, 3))"
        }
        let list = errors.map { "\($0.name) \(text($0.error))" }
        return (["validation MSE: \(list.joined(separator: ", "))"] + scores).joined(separator: "\n")
    }

    package func html() throws -> String {
        guard let url = Bundle.module.url(forResource: "report", withExtension: "html") else {
            throw CocoaError(.fileNoSuchFile)
        }
        let (data, settings) = (run.data, run.settings)
        let wells = (1...data.gemWellCount).map { "well \($0)" }
        let planes = embeddings.map { ($0.name, principalComponents($0.rows, 2)) }
        let sections = [
            "summary": """
            \(data.count) cells, \(settings.genes) genes, \(run.epoch) epochs of \(run.stepsPerEpoch) \
            steps, \(run.parameters.count) parameters, seed \(settings.seed).
            """,
            "scores": embeddings.map { tableRow($0.name, [$0.labels.purity, $0.labels.mixing], digits: 3) }
                .joined(),
            "errors": errors.map { tableRow($0.name, [$0.error], digits: 2) }.joined(),
            "curves": Terms.names.indices.map(curve).joined(),
            "types": legend(data.cellTypeNames), "wells": legend(wells),
            "cellsByType": planes.map { figure($0, points($1, data.cellTypes)) }.joined(),
            "cellsByWell": planes.map { figure($0, points($1, data.gemWells)) }.joined(),
        ]
        return sections.reduce(try String(contentsOf: url, encoding: .utf8)) {
            $0.replacing("{{\($1.key)}}", with: $1.value)
        }
    }

    /// One term over the steps.
    private func curve(_ term: Int) -> String {
        let training = run.trainingCurve.enumerated().map { (Double($0 + 1), Double($1[term])) }
        let validation = run.validationCurve.enumerated().map {
            (Double($0 * run.stepsPerEpoch), Double($1[term]))
        }
        let values = (training + validation).map(\.1)
        let range = "\(text(values.min() ?? 0)) to \(text(values.max() ?? 0))"
        return figure(
            "\(Terms.names[term]) <span>\(range), at the end \(text(validation.last?.1 ?? 0))</span>",
            [("train", training), ("validation", validation)])
    }

    /// The cells of each label as a group of points.
    private func points(_ rows: CellRows, _ labels: [Int32]) -> [(String, [(Double, Double)])] {
        Set(labels).sorted().map { label in
            (
                "dots c\(label % 10)",
                rows.indices.filter { labels[$0] == label }.map { (rows[$0][0], rows[$0][1]) }
            )
        }
    }
}
