// The examples of the article on task heads, as the documentation quotes them.

import FastLoss
import FastLossCheckpoints
import FastLossHeads
import Foundation
import Testing

@Suite struct HeadsExample {
    @Test func aStepLowersTheLoss() throws {
        let shape = TokenShape(cells: 3, tokens: 20, width: 64)
        var random = RandomInputs(seed: 2)
        let states = random.normals(3 * 20 * 64)
        let (targets, mask) = (random.targets(60).map { $0 / 50 }, random.mask(60))
        let workspace = Workspace()
        // example:begin Decoder
        let decoder = try ExpressionDecoder(width: 64, explicitZeros: true)
        var generator = SystemRandomNumberGenerator()
        var parameters = decoder.layout.initialValues(using: &generator)
        var gradients = ExpressionDecoderGradientArrays(
            parameters: [Float](repeating: 0, count: decoder.layout.count),
            states: [Float](repeating: 0, count: states.count))
        let losses = try decoder.valueAndGradient(
            ExpressionDecoderArrays(shape: shape, states: states, mask: mask), targets: targets,
            parameters: parameters, gradients: &gradients, workspace: workspace)
        for index in parameters.indices { parameters[index] -= 0.01 * gradients.parameters[index] }
        // losses.squaredError and losses.nonzero; gradients.states goes on to the encoder.
        // example:end
        let after = try decoder.value(
            ExpressionDecoderArrays(shape: shape, states: states, mask: mask), targets: targets,
            parameters: parameters, workspace: workspace)
        let before = losses.squaredError + (losses.nonzero ?? 0)
        #expect(after.squaredError + (after.nonzero ?? 0) < before)

        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).safetensors").path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        // example:begin Checkpoint
        let layout = decoder.layout.prefixed("decoder.")
        try SafeTensors(tensors: layout.tensors(of: parameters)).write(to: path)
        let restored = try layout.values(from: SafeTensors(contentsOf: path))
        // example:end
        #expect(restored == parameters)
    }
}
