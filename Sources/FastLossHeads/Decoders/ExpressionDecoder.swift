// The decoder of expression values from the states of tokens (MLM, MGM, GEP), on the masked tokens alone.

import FastLoss

/// Predicts the expression value of each masked token from the token's state (scGPT: `ExprDecoder`).
///
///     x = h, or [h; e] with the embedding e of the cell's batch
///     prediction = fc(x)        logit of a value that is not zero = zero_logit(x)
///
/// `fc` and `zero_logit` are two perceptrons, Linear → LeakyReLU → Linear → LeakyReLU → Linear, of D hidden
/// units. They share their input alone.
///
/// scGPT decodes every token and then selects those under the mask. Here the others are never computed: at a
/// mask ratio of 0.4 that is 60 % of the arithmetic. The embedding's half of the first layer is computed once
/// per batch. And a block of tokens goes forward, through its losses and back while its activations are in
/// cache, so that no activation of all tokens is ever stored.
///
/// | parameter | shape |
/// |---|---|
/// | `fc.0.weight`, `fc.0.bias` | D × D, or D × 2D with batch embeddings; D |
/// | `fc.2.weight`, `fc.2.bias` | D × D; D |
/// | `fc.4.weight`, `fc.4.bias` | 1 × D; 1 |
/// | `zero_logit.0…4.weight`, `.bias` | the same, with explicit zeros |
///
/// Results are bitwise the same for any number of workers. Scratch memory is that of 1,536 tokens, and a few
/// copies of the weights.
///
/// Source: scGPT's `ExprDecoder`, whose `zero_probs` are the probabilities of a value that is **not** zero.
public struct ExpressionDecoder: Sendable {
    /// D, the width of a state.
    public let width: Int
    /// Whether there is a second perceptron, for the logit of a value that is not zero.
    public let hasExplicitZeros: Bool
    /// Whether the first layers read the embedding of the cell's batch, too.
    public let hasBatchEmbeddings: Bool
    /// Whether the loss of explicit zeros is computed from the logits, or from probabilities with scGPT's
    /// clamp: see `BernoulliNLL`.
    public var nonzeroForm: BernoulliNLL.Form = .logits
    /// The result if no token is masked.
    public var whenEmpty: EmptySelectionRule = .error
    /// The parameters, by scGPT's names.
    public let layout: ParameterLayout

    let perceptrons: [PerceptronPlace]

    /// A decoder for states of `width` elements.
    ///
    /// - Throws: `LossError`: a width that is negative or above 2²⁸.
    public init(width: Int, explicitZeros: Bool = false, batchEmbeddings: Bool = false) throws(LossError) {
        try checkSize("width", width)
        self.width = width
        hasExplicitZeros = explicitZeros
        hasBatchEmbeddings = batchEmbeddings
        var layout = ParameterLayout()
        perceptrons = (explicitZeros ? ["fc", "zero_logit"] : ["fc"]).map {
            PerceptronPlace($0, inputs: batchEmbeddings ? 2 * width : width, width: width, in: &layout)
        }
        self.layout = layout
    }
}

/// The place of one perceptron's parameters.
struct PerceptronPlace: Equatable, Sendable {
    let first: LinearPlace
    let second: LinearPlace
    let third: LinearPlace

    init(_ name: String, inputs: Int, width: Int, in layout: inout ParameterLayout) {
        // The activations between the layers count in PyTorch's names.
        first = layout.addLinear("\(name).0", inputs: inputs, outputs: width)
        second = layout.addLinear("\(name).2", inputs: width, outputs: width)
        third = layout.addLinear("\(name).4", inputs: width, outputs: 1)
    }

    func parameters(in memory: UnsafePointer<Float>) -> PerceptronParameters {
        PerceptronParameters(
            first: LinearParameters(first, in: memory), second: LinearParameters(second, in: memory),
            third: LinearParameters(third, in: memory))
    }

    func gradients(in memory: UnsafeMutablePointer<Float>) -> PerceptronGradients {
        PerceptronGradients(
            first: LinearGradients(first, in: memory), second: LinearGradients(second, in: memory),
            third: LinearGradients(third, in: memory))
    }
}

/// What an ``ExpressionDecoder`` reads, as spans.
public typealias ExpressionDecoderInputs = ExpressionDecoderInputFields<
    Span<Float>, Span<Bool>, Span<Int32>
>

/// What an ``ExpressionDecoder`` reads, as arrays, which may be stored anywhere.
public typealias ExpressionDecoderArrays = ExpressionDecoderInputFields<[Float], [Bool], [Int32]>

/// What an ``ExpressionDecoder`` reads.
///
/// Its forms are ``ExpressionDecoderInputs`` and ``ExpressionDecoderArrays``; and spans of `BFloat16` or `Float16`, whose
/// elements are widened as they are read.
public struct ExpressionDecoderInputFields<
    Floats: ~Escapable, Selections: ~Escapable, Labels: ~Escapable
>: ~Escapable {
    /// B cells, L tokens and the width D of a state.
    public var shape: TokenShape
    /// B·L·D states. Those of tokens outside the mask are not read.
    public var states: Floats
    /// B·L selections of tokens; nil selects every token.
    public var mask: Optional<Selections>
    /// The embeddings of the cells' batches, exactly if the decoder has them.
    public var batches: Optional<BatchEmbeddingFields<Floats, Labels>>

    /// Inputs as they are; the call that uses them checks their counts.
    @_lifetime(copy states, copy mask, copy batches)
    public init(
        shape: TokenShape, states: consuming Floats, mask: consuming Selections? = nil,
        batches: consuming BatchEmbeddingFields<Floats, Labels>? = nil
    ) {
        self.shape = shape
        self.states = states
        self.mask = mask
        self.batches = batches
    }
}

extension ExpressionDecoderInputFields: Escapable
where Floats: Escapable, Selections: Escapable, Labels: Escapable {}
extension ExpressionDecoderInputFields: Sendable
where Floats: Sendable & ~Escapable, Selections: Sendable & ~Escapable, Labels: Sendable & ~Escapable {}

/// The memory of a decoder's inputs.
package typealias ExpressionDecoderInputBuffers = ExpressionDecoderInputFields<
    ModelElements, UnsafeBufferPointer<Bool>, UnsafeBufferPointer<Int32>
>

extension ExpressionDecoderInputFields
where Floats: ~Escapable, Selections == Span<Bool>, Labels == Span<Int32> {
    /// The memory of the spans, under the rule of `Span.memory`.
    fileprivate func buffers<Element: ModelOutputElement>() -> ExpressionDecoderInputBuffers
    where Floats == Span<Element> {
        var buffers = ExpressionDecoderInputBuffers(shape: shape, states: ModelElements(states))
        if let mask { buffers.mask = mask.memory }
        if let batches { buffers.batches = batches.buffers() }
        return buffers
    }
}

extension ExpressionDecoderInputFields<[Float], [Bool], [Int32]> {
    /// The memory of the arrays.
    fileprivate func buffers() -> ExpressionDecoderInputBuffers {
        var buffers = ExpressionDecoderInputBuffers(shape: shape, states: ModelElements(states.span))
        if let mask { buffers.mask = mask.span.memory }
        if let batches { buffers.batches = batches.buffers() }
        return buffers
    }
}

/// Where the gradients of an ``ExpressionDecoder`` go, as spans of different variables.
public typealias ExpressionDecoderGradients = ExpressionDecoderGradientFields<
    MutableSpan<Float>, MutableSpan<Float>
>

/// Where the gradients of an ``ExpressionDecoder`` go, as arrays, which may be stored anywhere.
public typealias ExpressionDecoderGradientArrays = ExpressionDecoderGradientFields<[Float], [Float]>

/// Where the gradients of an ``ExpressionDecoder`` go.
///
/// Its forms are ``ExpressionDecoderGradients`` and ``ExpressionDecoderGradientArrays``; and those of 16-bit inputs,
/// whose gradients have the type of the inputs, except for the parameters'.
public struct ExpressionDecoderGradientFields<
    Parameters: ~Copyable & ~Escapable, Buffer: ~Copyable & ~Escapable
>: ~Copyable, ~Escapable {
    /// As many elements as the decoder's layout has.
    public var parameters: Parameters
    /// B·L·D elements, 0 outside the mask; nil if the gradient of the states is not wanted.
    public var states: Optional<Buffer>
    /// K·D elements, of each batch's embedding; nil if they are not wanted.
    public var batchEmbeddings: Optional<Buffer>

    /// The buffers of the gradients that are wanted.
    @_lifetime(copy parameters, copy states, copy batchEmbeddings)
    public init(
        parameters: consuming Parameters, states: consuming Buffer? = nil,
        batchEmbeddings: consuming Buffer? = nil
    ) {
        self.parameters = parameters
        self.states = states
        self.batchEmbeddings = batchEmbeddings
    }
}

extension ExpressionDecoderGradientFields: Copyable
where Parameters: Copyable & ~Escapable, Buffer: Copyable & ~Escapable {}
extension ExpressionDecoderGradientFields: Escapable
where Parameters: Escapable & ~Copyable, Buffer: Escapable & ~Copyable {}
extension ExpressionDecoderGradientFields: Sendable
where Parameters: Sendable & ~Copyable & ~Escapable, Buffer: Sendable & ~Copyable & ~Escapable {}

extension ExpressionDecoder {
    /// The losses over the masked tokens.
    ///
    /// - Parameters:
    ///   - inputs: states, mask and batch embeddings.
    ///   - targets: B·L values.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; an empty mask, if ``whenEmpty`` is
    ///   `.error`; a probability that is NaN, if ``nonzeroForm`` is `.probabilities`.
    public func value<Element: ModelOutputElement>(
        _ inputs: ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>, targets: Span<Float>,
        parameters: Span<Float>,
        workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.memory, loss: .targets(targets.memory, DecoderWeights()),
            workspace: workspace)
    }

    /// The losses over the masked tokens, and their gradients.
    ///
    /// The gradient is that of weights.squaredError·MSE + weights.nonzero·NLL.
    ///
    /// - Parameters:
    ///   - inputs: states, mask and batch embeddings.
    ///   - targets: B·L values.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - weights: the finite factors of the losses in the gradient.
    ///   - gradients: where the gradients go; may not overlap an input or each other.
    ///   - gradientScale: a finite factor of all gradients, but not of the losses.
    ///   - update: whether gradients replace the contents of their buffers or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of `value`; a factor, or its product with the scale, that is not finite;
    ///   overlap.
    public func valueAndGradient<Element: ModelOutputElement>(
        _ inputs: ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>, targets: Span<Float>,
        parameters: Span<Float>,
        weights: DecoderWeights = DecoderWeights(),
        gradients: inout ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<Element>>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.memory, loss: .targets(targets.memory, weights),
            gradients: gradients.memory(update), gradientScale: gradientScale, workspace: workspace)
    }

    /// The gradients of a loss that the caller computes from the outputs.
    ///
    /// It runs the forward pass again. For mean squared error and explicit zeros use `valueAndGradient`.
    ///
    /// - Parameters:
    ///   - inputs: states, mask and batch embeddings.
    ///   - predictionsGradient: B·L gradients of the predictions; those outside the mask are not read.
    ///   - nonzeroGradient: B·L gradients of the logits or probabilities, as ``nonzeroForm`` says; exactly
    ///     with explicit zeros.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - gradients: where the gradients go; may not overlap an input or each other.
    ///   - gradientScale: a finite factor of all gradients.
    ///   - update: whether gradients replace the contents of their buffers or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; a factor that is not finite;
    ///   overlap.
    public func gradient<Element: ModelOutputElement>(
        _ inputs: ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>,
        predictionsGradient: Span<Float>,
        nonzeroGradient: Span<Float>? = nil, parameters: Span<Float>,
        gradients: inout ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<Element>>,
        gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        var nonzero: UnsafeBufferPointer<Float>?
        if let nonzeroGradient { nonzero = nonzeroGradient.memory }
        _ = try run(
            inputs.buffers(), parameters: parameters.memory,
            loss: .given(predictions: predictionsGradient.memory, nonzero: nonzero),
            gradients: gradients.memory(update), gradientScale: gradientScale, workspace: workspace)
    }

    /// The outputs for the masked tokens. Those of other tokens are not computed and keep their contents.
    ///
    /// - Parameters:
    ///   - inputs: states, mask and batch embeddings.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - predictions: receives B·L values.
    ///   - nonzero: receives B·L logits or probabilities, as ``nonzeroForm`` says; nil if they are not wanted.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; overlap.
    public func predict<Element: ModelOutputElement>(
        _ inputs: ExpressionDecoderInputFields<Span<Element>, Span<Bool>, Span<Int32>>,
        parameters: Span<Float>,
        predictions: inout MutableSpan<Float>, nonzero: inout MutableSpan<Float>?, workspace: Workspace
    ) throws(LossError) {
        _ = try run(
            inputs.buffers(), parameters: parameters.memory, loss: nil,
            outputs: DecoderOutputs(predictions: &predictions, nonzero: &nonzero), workspace: workspace)
    }

    private func run(
        _ inputs: ExpressionDecoderInputBuffers, parameters: UnsafeBufferPointer<Float>, loss: DecoderLoss?,
        gradients: ExpressionDecoderMemory? = nil, gradientScale: Float = 1,
        outputs: DecoderOutputs? = nil, workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        let arrays = try ParameterArrays(
            parameters, gradients: gradients?.parameters, count: self.layout.count)
        var pointers = InlineArray<2, PerceptronParameters?>(repeating: nil)
        var places = InlineArray<2, PerceptronGradients?>(repeating: nil)
        for (index, place) in perceptrons.enumerated() {
            pointers[index] = place.parameters(in: pointer(parameters))
            places[index] = gradients.map { place.gradients(in: pointer($0.parameters)) }
        }
        let options = ExpressionDecoderOptions(
            width: width, hasExplicitZeros: hasExplicitZeros, hasBatchEmbeddings: hasBatchEmbeddings,
            nonzeroForm: nonzeroForm, whenEmpty: whenEmpty)
        let buffers = gradients.map {
            ExpressionDecoderBuffers(
                perceptrons: places, states: $0.states, batchEmbeddings: $0.batchEmbeddings,
                update: $0.update)
        }
        var layout = workspace.layout
        let plan = try ExpressionDecoderPlan(
            options, inputs, parameters: pointers, loss: loss, gradients: buffers,
            gradientScale: gradientScale, outputs: outputs, arrays: arrays, in: &layout)
        return try workspace.run(plan, layout)
    }
}

// MARK: - From arrays

extension ExpressionDecoder {
    /// The losses over the masked tokens, from arrays.
    public func value(
        _ inputs: ExpressionDecoderArrays, targets: [Float], parameters: [Float], workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.span.memory,
            loss: .targets(targets.span.memory, DecoderWeights()), workspace: workspace)
    }

    /// The losses over the masked tokens from arrays, and their gradients into arrays.
    public func valueAndGradient(
        _ inputs: ExpressionDecoderArrays, targets: [Float], parameters: [Float],
        weights: DecoderWeights = DecoderWeights(), gradients: inout ExpressionDecoderGradientArrays,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.span.memory,
            loss: .targets(targets.span.memory, weights),
            gradients: gradients.memory(update), gradientScale: gradientScale, workspace: workspace)
    }

    /// The gradients of a loss that the caller computes from the outputs, from and into arrays.
    public func gradient(
        _ inputs: ExpressionDecoderArrays, predictionsGradient: [Float], nonzeroGradient: [Float]? = nil,
        parameters: [Float], gradients: inout ExpressionDecoderGradientArrays, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        _ = try run(
            inputs.buffers(), parameters: parameters.span.memory,
            loss: .given(
                predictions: predictionsGradient.span.memory, nonzero: nonzeroGradient.map { $0.span.memory }),
            gradients: gradients.memory(update), gradientScale: gradientScale, workspace: workspace)
    }

    /// The outputs for the masked tokens, from and into arrays.
    public func predict(
        _ inputs: ExpressionDecoderArrays, parameters: [Float], predictions: inout [Float],
        nonzero: inout [Float]?,
        workspace: Workspace
    ) throws(LossError) {
        _ = try run(
            inputs.buffers(), parameters: parameters.span.memory, loss: nil,
            outputs: DecoderOutputs(predictions: &predictions, nonzero: &nonzero), workspace: workspace)
    }
}

/// The memory of a decoder's gradients, with one array for those of all parameters.
private struct ExpressionDecoderMemory {
    let parameters: UnsafeMutableBufferPointer<Float>
    let states: GradientOutput?
    let batchEmbeddings: GradientOutput?
    let update: GradientUpdate
}

extension ExpressionDecoderGradientFields
where Parameters == MutableSpan<Float>, Buffer: ~Copyable & ~Escapable {
    /// The memory of the spans that are given, under the rule of `Span.memory`.
    @_lifetime(self: copy self)
    fileprivate mutating func memory<Element: ModelOutputElement>(
        _ update: GradientUpdate
    ) -> ExpressionDecoderMemory where Buffer == MutableSpan<Element> {
        ExpressionDecoderMemory(
            parameters: parameters.memory,
            states: GradientOutput(&states, named: "gradients.states", update: update),
            batchEmbeddings: GradientOutput(
                &batchEmbeddings, named: "gradients.batchEmbeddings", update: update), update: update)
    }
}

extension ExpressionDecoderGradientFields<[Float], [Float]> {
    /// The memory of the arrays, each the only owner of its elements from now on.
    fileprivate mutating func memory(_ update: GradientUpdate) -> ExpressionDecoderMemory {
        ExpressionDecoderMemory(
            parameters: parameters.uniqueMemory,
            states: GradientOutput(&states, named: "gradients.states", update: update),
            batchEmbeddings: GradientOutput(
                &batchEmbeddings, named: "gradients.batchEmbeddings", update: update), update: update)
    }
}
