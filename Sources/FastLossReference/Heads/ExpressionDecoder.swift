// The decoder of expression values from the states of tokens (MLM, MGM, GEP).

extension Reference {
    /// Predicts the expression value of each token from the token's state.
    ///
    ///     x_bl = h_bl, or [h_bl; e_b] with the embedding of the cell's batch label
    ///     prediction = fc(x), and the probability that the value is not zero = σ(zero_logit(x))
    ///
    /// `fc` and `zero_logit` are two perceptrons of the same shape that share nothing.
    ///
    /// | array | state dict | shape |
    /// |---|---|---|
    /// | `fc.layers[i]` | `fc.0`, `fc.2`, `fc.4`: `.weight`, `.bias` | D × D or D × 2D, D × D, 1 × D |
    /// | `zeroLogit.layers[i]` | `zero_logit.0`, `zero_logit.2`, `zero_logit.4`: `.weight`, `.bias` | the same |
    ///
    /// Source: scGPT `ExprDecoder`. Its `zero_probs` are the probabilities of a value that is **not** zero.
    public enum ExpressionDecoder {
        /// Linear → LeakyReLU → Linear → LeakyReLU → Linear, with one output.
        public struct Perceptron<T: ReferenceScalar>: HeadParameters {
            /// The three linear layers.
            public var layers: [Linear<T>]

            /// Layers whose parameters are all zero.
            @inlinable
            public init(inputWidth: Int, width: Int) {
                layers = [
                    Linear(inputWidth: inputWidth, outputWidth: width),
                    Linear(inputWidth: width, outputWidth: width), Linear(inputWidth: width, outputWidth: 1),
                ]
            }

            @inlinable
            public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
                // The activations between the linear layers count in the state dict's names.
                layers.indices.flatMap { arrays(named: "\(2 * $0)", of: \.layers[$0]) }
            }

            /// One number for every row of `input`.
            @inlinable
            public func value(input: [T]) -> [T] {
                layers[2].value(input: inputs(of: input).last!)
            }

            /// Carries a gradient of the output back to the parameters and to the input.
            @inlinable
            public func gradients(outputGradient: [T], input: [T]) -> (parameters: Self, input: [T]) {
                let inputs = inputs(of: input)
                var parameters = self
                var gradient = outputGradient
                for i in layers.indices.reversed() {
                    (parameters.layers[i], gradient) = layers[i].gradients(
                        outputGradient: gradient, input: inputs[i])
                    guard i > 0 else { break }
                    gradient = Activation.leakyReLU.gradient(
                        outputGradient: gradient, input: layers[i - 1].value(input: inputs[i - 1]))
                }
                return (parameters, gradient)
            }

            /// What enters each of the linear layers.
            @inlinable
            func inputs(of input: [T]) -> [[T]] {
                let first = Activation.leakyReLU.value(input: layers[0].value(input: input))
                let second = Activation.leakyReLU.value(input: layers[1].value(input: first))
                return [input, first, second]
            }
        }

        /// The two perceptrons.
        public struct Parameters<T: ReferenceScalar>: HeadParameters {
            /// Predicts the value.
            public var fc: Perceptron<T>
            /// Predicts the logit of a value that is not zero; nil without explicit zeros.
            public var zeroLogit: Perceptron<T>?

            /// Parameters that are all zero, for states of `width` elements.
            @inlinable
            public init(width: Int, explicitZeros: Bool, batchLabels: Bool) {
                fc = Perceptron(inputWidth: batchLabels ? 2 * width : width, width: width)
                zeroLogit = explicitZeros ? fc : nil
            }

            @inlinable
            public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
                arrays(named: "fc", of: \.fc)
                    + (zeroLogit == nil ? [] : arrays(named: "zero_logit", of: \.zeroLogit!))
            }
        }

        /// The gradients of everything that the head reads.
        public struct Gradients<T: ReferenceScalar>: Sendable {
            /// With respect to the parameters.
            public var parameters: Parameters<T>
            /// With respect to the states, B × L × D.
            public var states: [T]
            /// With respect to the batch embeddings, B × D; nil without them.
            public var batchEmbeddings: [T]?

            @inlinable
            init(parameters: Parameters<T>, states: [T], batchEmbeddings: [T]?) {
                self.parameters = parameters
                self.states = states
                self.batchEmbeddings = batchEmbeddings
            }
        }

        /// The predictions from states B × L × D, and with explicit zeros the probabilities.
        ///
        /// `batchEmbeddings` has one row per cell, B × D, exactly if the parameters are made for it.
        @inlinable
        public static func value<T: ReferenceScalar>(
            parameters: Parameters<T>, states: [T], batchEmbeddings: [T]? = nil, cells: Int, tokens: Int
        ) -> DecoderOutputs<T> {
            let x = inputs(parameters, states, batchEmbeddings, cells, tokens)
            return DecoderOutputs(
                predictions: parameters.fc.value(input: x),
                nonzeroProbabilities: parameters.zeroLogit.map {
                    Activation.sigmoid.value(input: $0.value(input: x))
                })
        }

        /// Carries the gradients of the outputs back to everything that the head read.
        @inlinable
        public static func gradients<T: ReferenceScalar>(
            outputGradients: DecoderOutputs<T>, parameters: Parameters<T>, states: [T],
            batchEmbeddings: [T]? = nil, cells: Int, tokens: Int
        ) -> Gradients<T> {
            let x = inputs(parameters, states, batchEmbeddings, cells, tokens)
            var gradients = Gradients(parameters: parameters, states: [], batchEmbeddings: nil)
            var dx: [T]
            (gradients.parameters.fc, dx) = parameters.fc.gradients(
                outputGradient: outputGradients.predictions, input: x)
            if let zeroLogit = parameters.zeroLogit {
                let (zeroParameters, zeroInput) = zeroLogit.gradients(
                    outputGradient: Activation.sigmoid.gradient(
                        outputGradient: outputGradients.requiredProbabilities,
                        input: zeroLogit.value(input: x)),
                    input: x)
                gradients.parameters.zeroLogit = zeroParameters
                dx = sum(dx, zeroInput)
            }
            guard batchEmbeddings != nil else {
                gradients.states = dx
                return gradients
            }
            let width = parameters.fc.layers[0].outputWidth
            let (states, embeddings) = split(dx, width: 2 * width, at: width)
            gradients.states = states
            gradients.batchEmbeddings = summedOverTokens(
                embeddings, cells: cells, tokens: tokens, width: width)
            return gradients
        }

        /// x, one row per token.
        @inlinable
        static func inputs<T: ReferenceScalar>(
            _ parameters: Parameters<T>, _ states: [T], _ batchEmbeddings: [T]?, _ cells: Int, _ tokens: Int
        ) -> [T] {
            let width = parameters.fc.layers[0].outputWidth
            precondition(states.count == cells * tokens * width)
            precondition(parameters.fc.layers[0].inputWidth == (batchEmbeddings == nil ? width : 2 * width))
            guard let batchEmbeddings else { return states }
            return concatenated(
                states, width: width, repeated(batchEmbeddings, tokens: tokens, width: width), width: width)
        }
    }
}
