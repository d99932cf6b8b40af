// The decoder of expression values from the cell embedding and the genes' queries (MVC, GEPC).

import FastLoss

/// Predicts the expression value of each masked gene from the cell embedding (scGPT: `MVCDecoder`).
///
/// Each gene asks with a query q made from its embedding g, and the cell embedding c answers:
///
///     q = σ(gene2query(g))
///     inner product    prediction = W(q)·c        logit of a value that is not zero = W_zero_logit(q)·c
///     concat query     prediction = fc2(PReLU(fc1([c; q])))
///     sum query        prediction = fc2(PReLU(fc1(c + q)))
///
/// With batch embeddings e, [c; e] takes the place of c. The inner product alone has those and explicit zeros.
///
/// scGPT computes a query for each token, and multiplies a matrix into it. Here a query is computed once for
/// each distinct gene, and a matrix is multiplied into each cell embedding, not into each token:
/// (W q)·c = q·(Wᵀc). The hidden layers split likewise: fc1([c; q]) is a part of the cell plus a part of the
/// gene.
///
/// D is the width of g and c, H the hidden width, 64 in scGPT.
///
/// | parameter | inner product | concat query | sum query |
/// |---|---|---|---|
/// | `gene2query.weight`, `.bias` | D × D; D | H × D; H | D × D; D |
/// | `W.weight` | D × D, or 2D × D | | |
/// | `W_zero_logit.weight`, `.bias` | as `W`; D, or 2D | | |
/// | `fc1.weight`, `.bias` | | H × (D + H); H | H × D; H |
/// | `hidden_activation.weight` | | 1 | 1 |
/// | `fc2.weight`, `.bias` | | 1 × H; 1 | 1 × H; 1 |
///
/// Results are bitwise the same for any number of workers.
///
/// Source: scGPT's `MVCDecoder`.
public struct MaskedValueDecoder: Sendable {
    /// How the cell embedding answers a query; the raw values are scGPT's `arch_style`.
    public enum Style: String, Sendable, CaseIterable {
        /// The inner product of both.
        case innerProduct = "inner product"
        /// The same without a gradient for the gene embeddings.
        case innerProductDetached = "inner product, detach"
        /// A hidden layer over both, one after the other.
        case concatQuery = "concat query"
        /// A hidden layer over their sum.
        case sumQuery = "sum query"

        /// Whether the answer is an inner product rather than a hidden layer.
        public var isInnerProduct: Bool { self == .innerProduct || self == .innerProductDetached }
    }

    /// How the cell embedding answers.
    public let style: Style
    /// D, the width of the embeddings of cells and genes.
    public let width: Int
    /// H, the units of the hidden layer of the query styles.
    public let hiddenWidth: Int
    /// Whether there is a second output, the logit of a value that is not zero.
    public let hasExplicitZeros: Bool
    /// Whether the cell embedding is continued by the embedding of the cell's batch.
    public let hasBatchEmbeddings: Bool
    /// Whether the loss of explicit zeros is computed from the logits, or from probabilities with scGPT's
    /// clamp: see `BernoulliNLL`.
    public var nonzeroForm: BernoulliNLL.Form = .logits
    /// The result if no token is masked.
    public var whenEmpty: EmptySelectionRule = .error
    /// The parameters, by scGPT's names.
    public let layout: ParameterLayout

    let query: LinearPlace
    let answers: [LinearPlace]
    let hidden: HiddenPlace?

    /// A decoder for embeddings of `width` elements.
    ///
    /// - Throws: `LossError`: a width that is negative or above 2²⁸; explicit zeros or batch embeddings with a hidden
    ///   layer.
    public init(
        style: Style = .innerProduct, width: Int, hiddenWidth: Int = 64, explicitZeros: Bool = false,
        batchEmbeddings: Bool = false
    ) throws(LossError) {
        try checkSize("width", width)
        try checkSize("hiddenWidth", hiddenWidth)
        if !style.isInnerProduct, explicitZeros || batchEmbeddings {
            throw .invalidInput(
                argument: explicitZeros ? "explicitZeros" : "batchEmbeddings",
                requirement: "false for the style \"\(style.rawValue)\"")
        }
        self.style = style
        self.width = width
        self.hiddenWidth = hiddenWidth
        hasExplicitZeros = explicitZeros
        hasBatchEmbeddings = batchEmbeddings
        var layout = ParameterLayout()
        query = layout.addLinear(
            "gene2query", inputs: width, outputs: style == .concatQuery ? hiddenWidth : width)
        if style.isInnerProduct {
            let outputs = batchEmbeddings ? 2 * width : width
            let prediction = layout.addLinear("W", inputs: width, outputs: outputs, hasBias: false)
            answers =
                explicitZeros
                ? [prediction, layout.addLinear("W_zero_logit", inputs: width, outputs: outputs)]
                : [prediction]
            hidden = nil
        } else {
            answers = []
            hidden = HiddenPlace(
                inputs: style == .concatQuery ? width + hiddenWidth : width, width: hiddenWidth, in: &layout)
        }
        self.layout = layout
    }
}

/// The place of the parameters of a query style's hidden layer.
struct HiddenPlace: Equatable, Sendable {
    let first: LinearPlace
    /// The slope of the activation, one element.
    let slope: Range<Int>
    let second: LinearPlace

    init(inputs: Int, width: Int, in layout: inout ParameterLayout) {
        first = layout.addLinear("fc1", inputs: inputs, outputs: width)
        slope = layout.add("hidden_activation.weight", shape: [1], initialValues: .constant(0.25))
        second = layout.addLinear("fc2", inputs: width, outputs: 1)
    }
}

/// What a ``MaskedValueDecoder`` reads, as spans.
public typealias MaskedValueInputs = MaskedValueInputFields<Span<Float>, Span<Bool>, Span<Int32>>

/// What a ``MaskedValueDecoder`` reads, as arrays, which may be stored anywhere.
public typealias MaskedValueArrays = MaskedValueInputFields<[Float], [Bool], [Int32]>

/// What a ``MaskedValueDecoder`` reads.
///
/// Its forms are ``MaskedValueInputs`` and ``MaskedValueArrays``; and spans of `BFloat16` or `Float16`, whose elements are
/// widened as they are read.
public struct MaskedValueInputFields<
    Floats: ~Escapable, Selections: ~Escapable, Labels: ~Escapable
>: ~Escapable {
    /// B cells and L tokens of each.
    public var shape: MatrixShape
    /// B·D values.
    public var cellEmbeddings: Floats
    /// The embeddings of the tokens' genes.
    public var genes: GeneEmbeddingFields<Floats, Labels>
    /// B·L selections of tokens; nil selects every token.
    public var mask: Optional<Selections>
    /// The embeddings of the cells' batches, exactly if the decoder has them.
    public var batches: Optional<BatchEmbeddingFields<Floats, Labels>>

    /// Inputs as they are; the call that uses them checks their counts.
    @_lifetime(copy cellEmbeddings, copy genes, copy mask, copy batches)
    public init(
        shape: MatrixShape, cellEmbeddings: consuming Floats,
        genes: consuming GeneEmbeddingFields<Floats, Labels>, mask: consuming Selections? = nil,
        batches: consuming BatchEmbeddingFields<Floats, Labels>? = nil
    ) {
        self.shape = shape
        self.cellEmbeddings = cellEmbeddings
        self.genes = genes
        self.mask = mask
        self.batches = batches
    }
}

extension MaskedValueInputFields: Escapable
where Floats: Escapable, Selections: Escapable, Labels: Escapable {}
extension MaskedValueInputFields: Sendable
where Floats: Sendable & ~Escapable, Selections: Sendable & ~Escapable, Labels: Sendable & ~Escapable {}

/// The memory of a decoder's inputs.
package typealias MaskedValueInputBuffers = MaskedValueInputFields<
    ModelElements, UnsafeBufferPointer<Bool>, UnsafeBufferPointer<Int32>
>

extension MaskedValueInputFields
where Floats: ~Escapable, Selections == Span<Bool>, Labels == Span<Int32> {
    /// The memory of the spans, under the rule of `Span.memory`.
    fileprivate func buffers<Element: ModelOutputElement>() -> MaskedValueInputBuffers
    where Floats == Span<Element> {
        var buffers = MaskedValueInputBuffers(
            shape: shape, cellEmbeddings: ModelElements(cellEmbeddings), genes: genes.buffers())
        if let mask { buffers.mask = mask.memory }
        if let batches { buffers.batches = batches.buffers() }
        return buffers
    }
}

extension MaskedValueInputFields<[Float], [Bool], [Int32]> {
    /// The memory of the arrays.
    fileprivate func buffers() -> MaskedValueInputBuffers {
        var buffers = MaskedValueInputBuffers(
            shape: shape, cellEmbeddings: ModelElements(cellEmbeddings.span), genes: genes.buffers())
        if let mask { buffers.mask = mask.span.memory }
        if let batches { buffers.batches = batches.buffers() }
        return buffers
    }
}

/// Where the gradients of a ``MaskedValueDecoder`` go, as spans of different variables.
public typealias MaskedValueGradients = MaskedValueGradientFields<MutableSpan<Float>, MutableSpan<Float>>

/// Where the gradients of a ``MaskedValueDecoder`` go, as arrays, which may be stored anywhere.
public typealias MaskedValueGradientArrays = MaskedValueGradientFields<[Float], [Float]>

/// Where the gradients of a ``MaskedValueDecoder`` go.
///
/// Its forms are ``MaskedValueGradients`` and ``MaskedValueGradientArrays``; and those of 16-bit inputs, whose
/// gradients have the type of the inputs, except for the parameters'.
public struct MaskedValueGradientFields<
    Parameters: ~Copyable & ~Escapable, Buffer: ~Copyable & ~Escapable
>: ~Copyable, ~Escapable {
    /// As many elements as the decoder's layout has.
    public var parameters: Parameters
    /// B·D elements; nil if they are not wanted.
    public var cellEmbeddings: Optional<Buffer>
    /// G·D elements, 0 for a decoder of the style `innerProductDetached`; nil if they are not wanted.
    public var genes: Optional<Buffer>
    /// K·D elements; nil if they are not wanted.
    public var batchEmbeddings: Optional<Buffer>

    /// The buffers of the gradients that are wanted.
    @_lifetime(copy parameters, copy cellEmbeddings, copy genes, copy batchEmbeddings)
    public init(
        parameters: consuming Parameters, cellEmbeddings: consuming Buffer? = nil,
        genes: consuming Buffer? = nil,
        batchEmbeddings: consuming Buffer? = nil
    ) {
        self.parameters = parameters
        self.cellEmbeddings = cellEmbeddings
        self.genes = genes
        self.batchEmbeddings = batchEmbeddings
    }
}

extension MaskedValueGradientFields: Copyable
where Parameters: Copyable & ~Escapable, Buffer: Copyable & ~Escapable {}
extension MaskedValueGradientFields: Escapable
where Parameters: Escapable & ~Copyable, Buffer: Escapable & ~Copyable {}
extension MaskedValueGradientFields: Sendable
where Parameters: Sendable & ~Copyable & ~Escapable, Buffer: Sendable & ~Copyable & ~Escapable {}

extension MaskedValueDecoder {
    /// The losses over the masked tokens.
    ///
    /// - Parameters:
    ///   - inputs: the embeddings of cells, genes and batches, and the mask.
    ///   - targets: B·L values.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label or a gene out of range; an empty mask, if
    ///   ``whenEmpty`` is `.error`; a probability that is NaN, if ``nonzeroForm`` is `.probabilities`.
    public func value<Element: ModelOutputElement>(
        _ inputs: MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>, targets: Span<Float>,
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
    ///   - inputs: the embeddings of cells, genes and batches, and the mask.
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
        _ inputs: MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>, targets: Span<Float>,
        parameters: Span<Float>,
        weights: DecoderWeights = DecoderWeights(),
        gradients: inout MaskedValueGradientFields<MutableSpan<Float>, MutableSpan<Element>>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.memory, loss: .targets(targets.memory, weights),
            gradients: gradients.memory(update), gradientScale: gradientScale, workspace: workspace)
    }

    /// The gradients of a loss that the caller computes from the outputs. It runs the forward pass again.
    ///
    /// - Parameters:
    ///   - inputs: the embeddings of cells, genes and batches, and the mask.
    ///   - predictionsGradient: B·L gradients of the predictions; those outside the mask are not read.
    ///   - nonzeroGradient: B·L gradients of the logits or probabilities, as ``nonzeroForm`` says; exactly
    ///     with explicit zeros.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - gradients: where the gradients go; may not overlap an input or each other.
    ///   - gradientScale: a finite factor of all gradients.
    ///   - update: whether gradients replace the contents of their buffers or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label or a gene out of range; a factor that is not
    ///   finite; overlap.
    public func gradient<Element: ModelOutputElement>(
        _ inputs: MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>,
        predictionsGradient: Span<Float>,
        nonzeroGradient: Span<Float>? = nil, parameters: Span<Float>,
        gradients: inout MaskedValueGradientFields<MutableSpan<Float>, MutableSpan<Element>>,
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
    ///   - inputs: the embeddings of cells, genes and batches, and the mask.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - predictions: receives B·L values.
    ///   - nonzero: receives B·L logits or probabilities, as ``nonzeroForm`` says; nil if they are not wanted.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label or a gene out of range; overlap.
    public func predict<Element: ModelOutputElement>(
        _ inputs: MaskedValueInputFields<Span<Element>, Span<Bool>, Span<Int32>>, parameters: Span<Float>,
        predictions: inout MutableSpan<Float>, nonzero: inout MutableSpan<Float>?, workspace: Workspace
    ) throws(LossError) {
        _ = try run(
            inputs.buffers(), parameters: parameters.memory, loss: nil,
            outputs: DecoderOutputs(predictions: &predictions, nonzero: &nonzero), workspace: workspace)
    }

    private func run(
        _ inputs: MaskedValueInputBuffers, parameters: UnsafeBufferPointer<Float>, loss: DecoderLoss?,
        gradients: MaskedValueMemory? = nil, gradientScale: Float = 1,
        outputs: DecoderOutputs? = nil, workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        let arrays = try ParameterArrays(
            parameters, gradients: gradients?.parameters, count: self.layout.count)
        let options = MaskedValueOptions(
            style: style, width: width, hiddenWidth: hiddenWidth, hasExplicitZeros: hasExplicitZeros,
            hasBatchEmbeddings: hasBatchEmbeddings, nonzeroForm: nonzeroForm, whenEmpty: whenEmpty)
        let buffers = gradients.map {
            MaskedValueBuffers(
                parameters: places(in: pointer($0.parameters)),
                cellEmbeddings: $0.cellEmbeddings, genes: $0.genes,
                batchEmbeddings: $0.batchEmbeddings, update: $0.update)
        }
        let arguments = try MaskedValueArguments(
            options, inputs, parameters: pointers(in: pointer(parameters)), loss: loss, gradients: buffers,
            gradientScale: gradientScale, outputs: outputs, arrays: arrays)
        var layout = workspace.layout
        guard style.isInnerProduct else {
            let plan = try HiddenQueryPlan(arguments, in: &layout)
            return try workspace.run(plan, layout)
        }
        let plan = try InnerProductPlan(arguments, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The parameters in one array.
    private func pointers(in memory: UnsafePointer<Float>) -> MaskedValueParameters {
        var layers = InlineArray<2, LinearParameters?>(repeating: nil)
        for (index, place) in answers.enumerated() { layers[index] = LinearParameters(place, in: memory) }
        return MaskedValueParameters(
            query: LinearParameters(query, in: memory), answers: layers,
            hidden: hidden.map {
                HiddenParameters(
                    first: LinearParameters($0.first, in: memory), slope: memory + $0.slope.lowerBound,
                    second: LinearParameters($0.second, in: memory))
            })
    }

    /// Where the gradients of the parameters go in one array.
    private func places(in memory: UnsafeMutablePointer<Float>) -> MaskedValueParameterGradients {
        var layers = InlineArray<2, LinearGradients?>(repeating: nil)
        for (index, place) in answers.enumerated() { layers[index] = LinearGradients(place, in: memory) }
        return MaskedValueParameterGradients(
            query: LinearGradients(query, in: memory), answers: layers,
            hidden: hidden.map {
                HiddenGradients(
                    first: LinearGradients($0.first, in: memory), slope: memory + $0.slope.lowerBound,
                    second: LinearGradients($0.second, in: memory))
            })
    }
}

// MARK: - From arrays

extension MaskedValueDecoder {
    /// The losses over the masked tokens, from arrays.
    public func value(
        _ inputs: MaskedValueArrays, targets: [Float], parameters: [Float], workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.span.memory,
            loss: .targets(targets.span.memory, DecoderWeights()), workspace: workspace)
    }

    /// The losses over the masked tokens from arrays, and their gradients into arrays.
    public func valueAndGradient(
        _ inputs: MaskedValueArrays, targets: [Float], parameters: [Float],
        weights: DecoderWeights = DecoderWeights(), gradients: inout MaskedValueGradientArrays,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> DecoderLosses {
        try run(
            inputs.buffers(), parameters: parameters.span.memory,
            loss: .targets(targets.span.memory, weights),
            gradients: gradients.memory(update), gradientScale: gradientScale, workspace: workspace)
    }

    /// The gradients of a loss that the caller computes from the outputs, from and into arrays.
    public func gradient(
        _ inputs: MaskedValueArrays, predictionsGradient: [Float], nonzeroGradient: [Float]? = nil,
        parameters: [Float], gradients: inout MaskedValueGradientArrays, gradientScale: Float = 1,
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
        _ inputs: MaskedValueArrays, parameters: [Float], predictions: inout [Float], nonzero: inout [Float]?,
        workspace: Workspace
    ) throws(LossError) {
        _ = try run(
            inputs.buffers(), parameters: parameters.span.memory, loss: nil,
            outputs: DecoderOutputs(predictions: &predictions, nonzero: &nonzero), workspace: workspace)
    }
}

/// The memory of a decoder's gradients, with one array for those of all parameters.
private struct MaskedValueMemory {
    let parameters: UnsafeMutableBufferPointer<Float>
    let cellEmbeddings: GradientOutput?
    let genes: GradientOutput?
    let batchEmbeddings: GradientOutput?
    let update: GradientUpdate
}

extension MaskedValueGradientFields
where Parameters == MutableSpan<Float>, Buffer: ~Copyable & ~Escapable {
    /// The memory of the spans that are given, under the rule of `Span.memory`.
    @_lifetime(self: copy self)
    fileprivate mutating func memory<Element: ModelOutputElement>(
        _ update: GradientUpdate
    ) -> MaskedValueMemory where Buffer == MutableSpan<Element> {
        MaskedValueMemory(
            parameters: parameters.memory,
            cellEmbeddings: GradientOutput(
                &cellEmbeddings, named: "gradients.cellEmbeddings", update: update),
            genes: GradientOutput(&genes, named: "gradients.genes", update: update),
            batchEmbeddings: GradientOutput(
                &batchEmbeddings, named: "gradients.batchEmbeddings", update: update), update: update)
    }
}

extension MaskedValueGradientFields<[Float], [Float]> {
    /// The memory of the arrays, each the only owner of its elements from now on.
    fileprivate mutating func memory(_ update: GradientUpdate) -> MaskedValueMemory {
        MaskedValueMemory(
            parameters: parameters.uniqueMemory,
            cellEmbeddings: GradientOutput(
                &cellEmbeddings, named: "gradients.cellEmbeddings", update: update),
            genes: GradientOutput(&genes, named: "gradients.genes", update: update),
            batchEmbeddings: GradientOutput(
                &batchEmbeddings, named: "gradients.batchEmbeddings", update: update), update: update)
    }
}
