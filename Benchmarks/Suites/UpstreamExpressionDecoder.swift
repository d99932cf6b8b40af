// The expression decoder in upstream's order: every token, layer by layer, then the masked losses.

import CFastLossKernels
import FastLoss
import FastLossHeads

/// One step of the decoder with its losses as upstream computes it, with the same kernels and sgemm.
///
/// The embedding of the batch is repeated for every token and joined to the states. All tokens are decoded,
/// whether they are masked or not, and every activation is kept for the backward pass.
struct UpstreamExpressionDecoder {
    private let batch: HeadBatch
    private var perceptrons: [[UpstreamLinear]]
    private let inputs: [Float]
    /// The hidden layers of one perceptron, and the outputs of both.
    private var hidden: [[Float]]
    private var outputs: [[Float]]
    private var upper: [Float]
    private var inputGradient: [Float]
    private let names: [String]

    init(_ batch: HeadBatch, layout: ParameterLayout, parameters: [Float]) {
        self.batch = batch
        let (tokens, width) = (batch.shape.rows * batch.shape.columns, batch.shape.depth)
        names = ["fc", "zero_logit"]
        func layer(_ name: String, inputs: Int) -> UpstreamLinear {
            UpstreamLinear(
                weight: Array(parameters[layout["\(name).weight"]!.range]),
                bias: Array(parameters[layout["\(name).bias"]!.range]), inputs: inputs)
        }
        perceptrons = names.map {
            [
                layer("\($0).0", inputs: 2 * width), layer("\($0).2", inputs: width),
                layer("\($0).4", inputs: width),
            ]
        }
        inputs = batch.joinedToBatches(batch.states, rowsPerCell: batch.shape.columns)
        hidden = Array(repeating: [Float](repeating: 0, count: tokens * width), count: 4)
        outputs = Array(repeating: [Float](repeating: 0, count: tokens), count: 2)
        upper = hidden[0]
        inputGradient = [Float](repeating: 0, count: 2 * tokens * width)
    }

    /// Runs forward, through the losses and back, and returns the sum of the losses.
    mutating func step(_ workspace: Workspace) throws -> Float {
        let workers = workspace.workers
        for index in perceptrons.indices {
            let layers = perceptrons[index]
            layers[0].forward(inputs, into: &hidden[2 * index], FASTLOSS_LEAKY_RELU, workers: workers)
            layers[1].forward(
                hidden[2 * index], into: &hidden[2 * index + 1], FASTLOSS_LEAKY_RELU, workers: workers)
            layers[2].forward(hidden[2 * index + 1], into: &outputs[index], workers: workers)
        }
        let (value, outputGradients) = try batch.losses(
            predictions: outputs[0], logits: outputs[1], workspace)
        for index in perceptrons.indices {
            let (first, second) = (2 * index, 2 * index + 1)
            perceptrons[index][2].backward(
                outputGradients[index], hidden[second], into: &upper, workers: workers)
            throughActivation(&upper, outputs: hidden[second], FASTLOSS_LEAKY_RELU, workers: workers)
            perceptrons[index][1].backward(upper, hidden[first], into: &hidden[second], workers: workers)
            throughActivation(
                &hidden[second], outputs: hidden[first], FASTLOSS_LEAKY_RELU, workers: workers)
            perceptrons[index][0].backward(
                hidden[second], inputs, into: &inputGradient, adds: index > 0, workers: workers)
        }
        return value
    }

    /// The gradients of the parameters in the order of their layout.
    var parameterGradient: [Double] {
        perceptrons.flatMap { $0.flatMap { ($0.weightGradient + $0.biasGradient).map(Double.init) } }
    }

    /// The gradients of the states, and of each batch's embedding.
    var inputGradients: (states: [Double], batches: [Double]) {
        let width = batch.shape.depth
        var states = [Double](repeating: 0, count: inputGradient.count / 2)
        var batches = [Double](repeating: 0, count: batch.batchEmbeddings.count)
        for token in 0..<batch.shape.rows * batch.shape.columns {
            let label = Int(batch.batchLabels[token / batch.shape.columns])
            for i in 0..<width {
                states[token * width + i] = Double(inputGradient[2 * token * width + i])
                batches[label * width + i] += Double(inputGradient[(2 * token + 1) * width + i])
            }
        }
        return (states, batches)
    }
}
