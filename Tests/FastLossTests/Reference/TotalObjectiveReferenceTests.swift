// The oracle of the total objective: its presets, and every term and gradient against PyTorch.

import FastLossReference
import Testing

@Suite struct TotalObjectiveReferenceTests {
    typealias Objective = Reference.TotalObjective

    /// The presets under the names of their golden cases.
    static let presets: [String: Objective.Configuration<Double>] = [
        "integration": .integration,
        "annotation": .annotation,
        "perturbation": .perturbation,
        "multiOmics": .multiOmics,
        "generativePretraining": .generativePretraining,
        "maskedPretraining": .maskedPretraining,
        "scFormer": .scFormer,
    ]

    @Test func everyPresetHasTheWeightsOfItsGolden() throws {
        let goldens = Dictionary(
            uniqueKeysWithValues: try Golden.cases(of: "TotalObjective").map { ($0.name, $0) })
        for (name, preset) in Self.presets {
            let configuration = try Self.configuration(of: try #require(goldens[name]))
            #expect(preset.weights == configuration.weights, "\(name)")
            #expect(preset.threshold == configuration.threshold, "\(name)")
            #expect(preset.temperature == configuration.temperature, "\(name)")
        }
    }

    @Test(arguments: try Golden.cases(of: "TotalObjective"))
    func matchesPyTorch(_ golden: Golden) throws {
        let result = Objective.evaluate(
            inputs: try Self.inputs(of: golden), configuration: try Self.configuration(of: golden))
        for name in golden.resultNames {
            let truth = try golden.truth(name)
            let actual = try #require(Self.result(name, of: result), "\(name) is missing")
            if name.hasPrefix("gradient.") {
                expectNormwise(actual: actual, oracle: truth, tolerance: Tolerances.oracleNormwise, name)
            } else {
                expectClose(actual, truth, Tolerances.oracle, name)
            }
        }
        #expect(result.values.count == golden.resultNames.count(where: { $0.hasPrefix("value.") }))
        #expect((result.relativeError != nil) == golden.resultNames.contains("relativeError"))
    }

    /// A term that is off neither has a value nor leaves a gradient, even where its input is there.
    @Test func termsThatAreOffLeaveNothing() throws {
        let golden = try #require(try Golden.cases(of: "TotalObjective").first { $0.name == "integration" })
        let result = Objective.evaluate(
            inputs: try Self.inputs(of: golden), configuration: .init(weights: [.elastic: 10]))
        #expect(Set(result.values.keys) == [.elastic])
        #expect(result.relativeError == nil)
        #expect(result.gradients.cellEmbedding != nil)
        #expect(result.gradients.genePredictions == nil)
        #expect(result.gradients.batchLogits == nil)
    }

    @Test func gradientScaleMultipliesEveryGradientAndNoValue() throws {
        for golden in try Golden.cases(of: "TotalObjective") {
            let (inputs, configuration) = (try Self.inputs(of: golden), try Self.configuration(of: golden))
            let plain = Objective.evaluate(inputs: inputs, configuration: configuration)
            let scaled = Objective.evaluate(
                inputs: inputs, configuration: configuration, gradientScale: 1024)
            for name in golden.resultNames {
                let factor: Double = name.hasPrefix("gradient.") ? 1024 : 1
                let expected = try #require(Self.result(name, of: plain)).map { factor * $0 }
                #expect(Self.result(name, of: scaled) == expected, "\(golden.name): \(name)")
            }
        }
    }

    // MARK: - From a golden to the oracle and back

    static func configuration(of golden: Golden) throws -> Objective.Configuration<Double> {
        var weights: [Objective.Term: Double] = [:]
        for term in Objective.Term.allCases where golden.parameterNames.contains("weight.\(term.rawValue)") {
            weights[term] = try golden.double("weight.\(term.rawValue)")
        }
        return .init(
            weights: weights, threshold: try golden.double("threshold"),
            temperature: try golden.double("temperature"))
    }

    static func inputs(of golden: Golden) throws -> Objective.Inputs<Double> {
        var inputs = Objective.Inputs<Double>(
            cells: try golden.int("cells"), tokens: try golden.int("tokens"), width: try golden.int("width"))
        func optional(_ name: String) throws -> [Double]? {
            golden.hasInput(name) ? try golden.doubles(name) : nil
        }
        if golden.hasInput("mask") {
            inputs.targets = try golden.doubles("targets")
            inputs.mask = try golden.bools("mask")
        }
        inputs.genePredictions = try optional("genePredictions")
        inputs.geneNonzeroProbabilities = try optional("geneNonzeroProbabilities")
        inputs.cellPredictions = try optional("cellPredictions")
        inputs.cellNonzeroProbabilities = try optional("cellNonzeroProbabilities")
        inputs.generatedPredictions = try optional("generatedPredictions")
        inputs.cellEmbedding = try optional("cellEmbedding")
        inputs.secondCellEmbedding = try optional("secondCellEmbedding")
        inputs.cellTypeLogits = try optional("cellTypeLogits")
        inputs.batchLogits = try optional("batchLogits")
        if golden.hasInput("cellTypeLabels") { inputs.cellTypeLabels = try golden.int32s("cellTypeLabels") }
        if golden.hasInput("batchLabels") { inputs.batchLabels = try golden.int32s("batchLabels") }
        return inputs
    }

    /// The part of an evaluation that a golden's result name stands for; nil if the evaluation lacks it.
    static func result(_ name: String, of result: Objective.Evaluation<Double>) -> [Double]? {
        let parts = name.split(separator: ".", maxSplits: 1).map(String.init)
        let term = parts.count == 2 ? Objective.Term(rawValue: parts[1]) : nil
        switch (parts[0], term) {
        case ("total", _): return [result.total]
        case ("relativeError", _): return result.relativeError.map { [$0] }
        case ("value", let term?): return result.values[term].map { [$0] }
        case ("logged", let term?): return result.logged[term].map { [$0] }
        case ("gradient", nil): return gradient(parts[1], of: result.gradients)
        default: return nil
        }
    }

    static func gradient(_ name: String, of gradients: Objective.Gradients<Double>) -> [Double]? {
        switch name {
        case "genePredictions": gradients.genePredictions
        case "geneNonzeroProbabilities": gradients.geneNonzeroProbabilities
        case "cellPredictions": gradients.cellPredictions
        case "cellNonzeroProbabilities": gradients.cellNonzeroProbabilities
        case "generatedPredictions": gradients.generatedPredictions
        case "cellEmbedding": gradients.cellEmbedding
        case "secondCellEmbedding": gradients.secondCellEmbedding
        case "cellTypeLogits": gradients.cellTypeLogits
        case "batchLogits": gradients.batchLogits
        default: nil
        }
    }
}
