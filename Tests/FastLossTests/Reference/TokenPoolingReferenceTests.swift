// The oracle of token pooling against PyTorch and central differences.

import FastLossReference
import Testing

@Suite struct TokenPoolingReferenceTests {
    @Test(arguments: try Golden.cases(of: "TokenPooling"))
    func clsAndAverageMatchPyTorch(_ golden: Golden) throws {
        let states = try golden.doubles("states")
        let (cells, tokens) = (try golden.int("cells"), try golden.int("tokens"))
        let width = try golden.int("width")
        let output = try golden.doubles("outputGradient")
        var gradient = [Double].untouched(states.count)

        expectClose(
            Reference.TokenPooling.cls(states: states, cells: cells, tokens: tokens, width: width),
            try golden.truth("cls"), Tolerances.oracle, "cls")
        Reference.TokenPooling.clsGradient(
            outputGradient: output, cells: cells, tokens: tokens, width: width, gradient: &gradient)
        expectClose(gradient, try golden.truth("clsStatesGradient"), Tolerances.oracle, "cls gradient")

        expectClose(
            Reference.TokenPooling.average(states: states, cells: cells, tokens: tokens, width: width),
            try golden.truth("average"), Tolerances.oracle, "average")
        Reference.TokenPooling.averageGradient(
            outputGradient: output, cells: cells, tokens: tokens, width: width, gradient: &gradient)
        expectClose(
            gradient, try golden.truth("averageStatesGradient"), Tolerances.oracle, "average gradient")
    }

    @Test(arguments: try Golden.cases(of: "TokenPooling"), ["weighted", "normalized"])
    func weightedMatchesPyTorch(_ golden: Golden, style: String) throws {
        let (states, weights) = (try golden.doubles("states"), try golden.doubles("weights"))
        let (cells, tokens) = (try golden.int("cells"), try golden.int("tokens"))
        let (width, weightings) = (try golden.int("width"), try golden.int("weightings"))
        expectClose(
            Reference.TokenPooling.weighted(
                states: states, weights: weights, cells: cells, tokens: tokens, width: width,
                weightings: weightings, normalized: style == "normalized"),
            try golden.truth(style), Tolerances.oracle, style)

        var statesGradient = [Double].untouched(states.count)
        var weightsGradient = [Double].untouched(weights.count)
        Reference.TokenPooling.weightedGradient(
            outputGradient: try golden.doubles("weightedOutputGradient"), states: states, weights: weights,
            cells: cells, tokens: tokens, width: width, weightings: weightings,
            normalized: style == "normalized", statesGradient: &statesGradient,
            weightsGradient: &weightsGradient)
        // Per cell, because a cell whose sum is zero has a gradient of the size of 1e12.
        expectRowsNormwise(
            actual: statesGradient, oracle: try golden.truth(style + "StatesGradient"),
            columns: tokens * width, tolerance: Tolerances.oracleNormwise, "states gradient")
        expectRowsNormwise(
            actual: weightsGradient, oracle: try golden.truth(style + "WeightsGradient"), columns: tokens,
            tolerance: Tolerances.oracleNormwise, "weights gradient")
    }

    @Test(arguments: [false, true])
    func weightedGradientsMatchCentralDifferences(normalized: Bool) {
        var random = RandomInputs(seed: 8)
        let (cells, tokens, width, weightings) = (2, 4, 3, 2)
        let states = random.normals(cells * tokens * width).doubles
        let weights = random.normals(cells * weightings * tokens).doubles
        let output = random.normals(cells * weightings * width).doubles
        func objective(_ states: [Double], _ weights: [Double]) -> Double {
            let pooled = Reference.TokenPooling.weighted(
                states: states, weights: weights, cells: cells, tokens: tokens, width: width,
                weightings: weightings, normalized: normalized)
            return zip(pooled, output).reduce(0) { $0 + $1.0 * $1.1 }
        }
        var (statesGradient, weightsGradient) = (states, weights)
        Reference.TokenPooling.weightedGradient(
            outputGradient: output, states: states, weights: weights, cells: cells, tokens: tokens,
            width: width, weightings: weightings, normalized: normalized, statesGradient: &statesGradient,
            weightsGradient: &weightsGradient)
        expectCentralDifferences(
            of: { objective($0, weights) }, at: states, gradient: statesGradient, "states")
        expectCentralDifferences(
            of: { objective(states, $0) }, at: weights, gradient: weightsGradient, "weights")
    }
}
