// The layers that the decoder of cell types and the discriminator of batches share.

import CFastLossKernels
import FastLoss

/// Blocks of Linear → activation → LayerNorm, and a linear layer with one output for each class.
struct NormalizedClassifier: Equatable, Sendable {
    /// The place of one block's parameters.
    struct Block: Equatable, Sendable {
        let linear: LinearPlace
        let norm: LayerNormPlace
    }

    /// The head's name in messages.
    let name: String
    let width: Int
    let classes: Int
    let activation: Activation
    let blocks: [Block]
    let output: LinearPlace
    let layout: ParameterLayout

    /// The function between a block's two layers.
    enum Activation: Equatable, Sendable {
        case relu
        case leakyReLU

        var kernelValue: fastloss_activation { self == .relu ? FASTLOSS_RELU : FASTLOSS_LEAKY_RELU }
    }

    init(
        _ name: String, width: Int, classes: Int, blocks count: Int, activation: Activation
    ) throws(LossError) {
        self.name = name
        try checkSize("width", width)
        try checkSize(activation == .relu ? "classes" : "batches", classes)
        try checkSize("blocks", count)
        self.width = width
        self.classes = classes
        self.activation = activation
        var layout = ParameterLayout()
        // A block's activation counts in PyTorch's names.
        blocks = (0..<count).map { index in
            Block(
                linear: layout.addLinear("_decoder.\(3 * index)", inputs: width, outputs: width),
                norm: layout.addLayerNorm("_decoder.\(3 * index + 2)", width: width))
        }
        output = layout.addLinear("out_layer", inputs: width, outputs: classes)
        self.layout = layout
    }
}
