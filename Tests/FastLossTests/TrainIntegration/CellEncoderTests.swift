// The encoder of the example against central differences.

import BenchmarkData
import FastLoss
import FastLossHeads
import Testing
import TrainIntegration

/// The gradient of the encoder's hand-written backward pass.
@Suite struct CellEncoderTests {
    /// Each parameter's gradient along a random direction, against a central difference.
    @Test func gradientsAreCentralDifferences() throws {
        let (genes, width) = (30, 8)
        let workspace = Workspace(workers: 2)
        let encoder = try CellEncoder(tokens: genes + 1, bins: 51, width: width)
        var generator = SeededGenerator(seed: 4)
        var parameters = encoder.layout.initialValues(using: &generator)
        for place in parameters.indices { parameters[place] += 0.1 * generator.normal() }
        let batch = try RealCells.bundled().batch(
            of: 10..<15, genes: genes, maskRatio: 0.4, using: &generator)
        let forward = try encoder.forward(batch, parameters, workspace)
        let upstream = [forward.genes.count, forward.cells.count, forward.states.count].map { count in
            (0..<count).map { _ in generator.normal() }
        }
        /// The sum of g, e and s, each element times its upstream gradient.
        func objective(_ parameters: [Float]) throws -> Double {
            let forward = try encoder.forward(batch, parameters, workspace)
            return zip([forward.genes, forward.cells, forward.states], upstream).reduce(0) { sum, pair in
                zip(pair.0, pair.1).reduce(sum) { $0 + Double($1.0) * Double($1.1) }
            }
        }
        var gradient = [Float](repeating: 0, count: parameters.count)
        var span = gradient.mutableSpan
        try encoder.backward(
            batch, forward, genes: upstream[0], cells: upstream[1], states: upstream[2], parameters,
            to: &span, workspace)
        for parameter in encoder.layout.parameters {
            let step: Float = 0x1p-8
            let direction = parameter.range.map { _ in generator.normal() }
            func moved(_ step: Float) -> [Float] {
                var moved = parameters
                for (place, slope) in zip(parameter.range, direction) { moved[place] += step * slope }
                return moved
            }
            let difference = (try objective(moved(step)) - objective(moved(-step))) / Double(2 * step)
            let slope = zip(parameter.range, direction).reduce(0) { $0 + Double(gradient[$1.0] * $1.1) }
            expectClose(slope, difference, Tolerances.directionalDifferences, parameter.name)
        }
    }
}
