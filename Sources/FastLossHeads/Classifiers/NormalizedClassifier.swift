// The layers that the decoder of cell types and the discriminator of batches share: sizes and parameters.

import CFastLossKernels
import FastLoss

/// The sizes of a classifier.
package struct ClassifierOptions {
    /// The head's name in messages.
    let name: String
    let width: Int
    let classes: Int
    let activation: ClassifierActivation

    package init(name: String, width: Int, classes: Int, activation: ClassifierActivation) {
        self.name = name
        self.width = width
        self.classes = classes
        self.activation = activation
    }
}

/// The function between a block's two layers.
package enum ClassifierActivation: Equatable, Sendable {
    case relu
    case leakyReLU

    var kernelValue: fastloss_activation { self == .relu ? FASTLOSS_RELU : FASTLOSS_LEAKY_RELU }
}

/// The parameters of a classifier in memory.
package struct ClassifierParameters {
    /// The parameters of a block.
    struct Block {
        let linear: LinearParameters
        let norm: LayerNormParameters
    }

    private enum Blocks {
        /// In one array.
        case array(UnsafePointer<Float>, [NormalizedClassifier.Block])
        /// Weight and bias of the linear layer, then of the layer normalisation, for each block.
        case pointers(UnsafePointer<UnsafePointer<Float>?>?, count: Int)
    }

    let output: LinearParameters
    private let blocks: Blocks

    /// - Parameters:
    ///   - blocks: four pointers for each of `count` blocks: weight and bias of the linear layer, then of the
    ///     layer normalisation.
    package init(
        blocks: UnsafePointer<UnsafePointer<Float>?>?, count: Int, output: LinearParameters
    ) {
        self.blocks = .pointers(blocks, count: count)
        self.output = output
    }

    init(_ classifier: NormalizedClassifier, in memory: UnsafePointer<Float>) {
        blocks = .array(memory, classifier.blocks)
        output = LinearParameters(classifier.output, in: memory)
    }

    /// The number of blocks.
    var count: Int {
        switch blocks {
        case .array(_, let places): places.count
        case .pointers(_, let count): count
        }
    }

    /// The parameters of a block.
    func block(_ index: Int, width: Int) -> Block {
        switch blocks {
        case .array(let memory, let places):
            return Block(
                linear: LinearParameters(places[index].linear, in: memory),
                norm: LayerNormParameters(places[index].norm, in: memory))
        case .pointers(let pointers, _):
            guard let block = pointers.map({ $0 + 4 * index }) else {
                preconditionFailure("block \(index) is missing")
            }
            return Block(
                linear: LinearParameters(weight: block[0], bias: block[1], outputs: width, inputs: width),
                norm: LayerNormParameters(weight: block[2], bias: block[3]))
        }
    }
}

/// Where the gradients of a classifier's parameters go.
package struct ClassifierParameterGradients {
    /// Where the gradients of a block go.
    struct Block {
        let linear: LinearGradients
        let norm: LayerNormGradients
    }

    private enum Blocks {
        case array(UnsafeMutablePointer<Float>, [NormalizedClassifier.Block])
        case pointers(UnsafePointer<UnsafeMutablePointer<Float>?>?)
    }

    let output: LinearGradients
    private let blocks: Blocks

    /// - Parameters:
    ///   - blocks: four pointers for each block, as of ``ClassifierParameters``; nil if none is wanted.
    package init(blocks: UnsafePointer<UnsafeMutablePointer<Float>?>?, output: LinearGradients) {
        self.blocks = .pointers(blocks)
        self.output = output
    }

    init(_ classifier: NormalizedClassifier, in memory: UnsafeMutablePointer<Float>) {
        blocks = .array(memory, classifier.blocks)
        output = LinearGradients(classifier.output, in: memory)
    }

    /// Where the gradients of a block go.
    func block(_ index: Int) -> Block {
        switch blocks {
        case .array(let memory, let places):
            return Block(
                linear: LinearGradients(places[index].linear, in: memory),
                norm: LayerNormGradients(places[index].norm, in: memory))
        case .pointers(let pointers):
            let block = pointers.map { $0 + 4 * index }
            return Block(
                linear: LinearGradients(weight: block?[0], bias: block?[1]),
                norm: LayerNormGradients(weight: block?[2], bias: block?[3]))
        }
    }
}

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
    let activation: ClassifierActivation
    let blocks: [Block]
    let output: LinearPlace
    let layout: ParameterLayout

    init(
        _ name: String, width: Int, classes: Int, blocks count: Int, activation: ClassifierActivation
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
