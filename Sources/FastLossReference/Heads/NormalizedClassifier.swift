// The layers that the decoder of cell types and the discriminator of batches share.

extension Reference {
    /// Blocks of Linear → activation → LayerNorm, and a linear layer with one output per class.
    ///
    /// | array | state dict | shape |
    /// |---|---|---|
    /// | `blocks[i].linear` | `_decoder.(3i).weight`, `.bias` | D × D |
    /// | `blocks[i].norm` | `_decoder.(3i + 2).weight`, `.bias` | D |
    /// | `outLayer` | `out_layer.weight`, `.bias` | classes × D |
    public struct NormalizedClassifier<T: ReferenceScalar>: HeadParameters {
        /// The two layers of a block that have parameters.
        public struct Block: Equatable, Sendable {
            /// D × D.
            public var linear: Linear<T>
            /// Behind the activation.
            public var norm: LayerNorm<T>

            @inlinable
            init(width: Int) {
                linear = Linear(inputWidth: width, outputWidth: width)
                norm = LayerNorm(width: width)
            }
        }

        /// The blocks, the first one first.
        public var blocks: [Block]
        /// From the last block to the logits.
        public var outLayer: Linear<T>

        /// Layers whose parameters are all zero. Upstream's `nlayers` counts the blocks and the last layer.
        @inlinable
        public init(width: Int, classes: Int, blocks: Int = 2) {
            self.blocks = (0..<blocks).map { _ in Block(width: width) }
            outLayer = Linear(inputWidth: width, outputWidth: classes)
        }

        @inlinable
        public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
            // A block's activation counts in the state dict's names.
            blocks.indices.flatMap {
                arrays(named: "_decoder.\(3 * $0)", of: \.blocks[$0].linear)
                    + arrays(named: "_decoder.\(3 * $0 + 2)", of: \.blocks[$0].norm)
            } + arrays(named: "out_layer", of: \.outLayer)
        }

        /// The logits of every row of `input`.
        @inlinable
        public func value(input: [T], activation: Activation) -> [T] {
            outLayer.value(input: blocks.reduce(input) { Self.output(of: $1, $0, activation).output })
        }

        /// Carries a gradient of the logits back to the parameters and to the input.
        @inlinable
        public func gradients(
            outputGradient: [T], input: [T], activation: Activation
        ) -> (parameters: Self, input: [T]) {
            var parameters = self
            var inputs = [input]
            for block in blocks { inputs.append(Self.output(of: block, inputs.last!, activation).output) }
            var gradient: [T]
            (parameters.outLayer, gradient) = outLayer.gradients(
                outputGradient: outputGradient, input: inputs.removeLast())
            for (i, block) in blocks.enumerated().reversed() {
                let (linear, activated, _) = Self.output(of: block, inputs[i], activation)
                (parameters.blocks[i].norm, gradient) = block.norm.gradients(
                    outputGradient: gradient, input: activated)
                gradient = activation.gradient(outputGradient: gradient, input: linear)
                (parameters.blocks[i].linear, gradient) = block.linear.gradients(
                    outputGradient: gradient, input: inputs[i])
            }
            return (parameters, gradient)
        }

        /// What each of a block's three steps makes of `input`.
        @inlinable
        static func output(
            of block: Block, _ input: [T], _ activation: Activation
        ) -> (linear: [T], activated: [T], output: [T]) {
            let linear = block.linear.value(input: input)
            let activated = activation.value(input: linear)
            return (linear, activated, block.norm.value(input: activated))
        }
    }
}
