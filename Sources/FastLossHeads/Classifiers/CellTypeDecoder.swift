// The classifier of cells by their embedding (CLS).

import FastLoss

/// Logits of a cell's type from its embedding, with their cross-entropy (scGPT: `ClsDecoder`).
///
///     logits = out_layer(block_n(… block_1(c)))        block(x) = LayerNorm(relu(Linear(x)))
///
/// | parameter of block i | shape |
/// |---|---|
/// | `_decoder.(3i).weight`, `.bias` | D × D; D |
/// | `_decoder.(3i + 2).weight`, `.bias` | D; D |
/// | `out_layer.weight`, `.bias` | C × D; C |
///
/// Results are bitwise the same for any number of workers.
///
/// Source: scGPT's `ClsDecoder`, whose `nlayers` counts the blocks and the last layer.
public struct CellTypeDecoder: Sendable {
    /// The loss of the logits.
    public var crossEntropy = CrossEntropy()
    let classifier: NormalizedClassifier

    /// D, the width of a cell embedding.
    public var width: Int { classifier.width }
    /// C, the number of cell types.
    public var classes: Int { classifier.classes }
    /// The parameters, by scGPT's names.
    public var layout: ParameterLayout { classifier.layout }

    /// A classifier with this number of blocks before its last layer.
    ///
    /// - Throws: `LossError`: a size that is negative or above 2²⁸.
    public init(width: Int, classes: Int, blocks: Int = 2) throws(LossError) {
        classifier = try NormalizedClassifier(
            "CellTypeDecoder", width: width, classes: classes, blocks: blocks, activation: .relu)
    }
}

/// Where the gradients of a ``CellTypeDecoder`` or an ``AdversarialDiscriminator`` go, for embeddings of `Float`.
public typealias ClassifierGradients = ClassifierGradientFields<Float>

/// Where the gradients of a ``CellTypeDecoder`` or an ``AdversarialDiscriminator`` go, for cell embeddings of
/// `Element`.
///
/// Classifiers take spans alone: pass `array.span` and `array.mutableSpan`.
public struct ClassifierGradientFields<Element: ModelOutputElement>: ~Copyable, ~Escapable {
    /// As many elements as the classifier's layout has.
    public var parameters: MutableSpan<Float>
    /// B·D elements; nil if they are not wanted.
    public var cellEmbeddings: MutableSpan<Element>?

    /// The buffers of the gradients that are wanted.
    @_lifetime(copy parameters, copy cellEmbeddings)
    public init(
        parameters: consuming MutableSpan<Float>, cellEmbeddings: consuming MutableSpan<Element>? = nil
    ) {
        self.parameters = parameters
        self.cellEmbeddings = cellEmbeddings
    }

    /// The memory of the spans, under the rule of `Span.memory`.
    @_lifetime(self: copy self)
    mutating func buffers(cellFactor: Double = 1, update: GradientUpdate) -> ClassifierMemory {
        ClassifierMemory(
            parameters: parameters.memory,
            cellEmbeddings: GradientOutput(
                &cellEmbeddings, named: "gradients.cellEmbeddings", scale: cellFactor, update: update),
            update: update)
    }
}

extension CellTypeDecoder {
    /// The cross-entropy of the logits.
    ///
    /// - Parameters:
    ///   - cellEmbeddings: B·D values.
    ///   - labels: B cell types, each in 0..<C or the ignored label.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; only ignored labels, if the rule of
    ///   ``crossEntropy`` is `.error`.
    public func value<Element: ModelOutputElement>(
        cellEmbeddings: Span<Element>, labels: Span<Int32>, parameters: Span<Float>, workspace: Workspace
    ) throws(LossError) -> LossValue {
        try classifier.run(
            cellEmbeddings: ModelElements(cellEmbeddings), cells: labels.count, parameters: parameters,
            loss: .labels(labels.memory, crossEntropy), workspace: workspace)
    }

    /// The cross-entropy of the logits, and its gradients.
    ///
    /// - Parameters:
    ///   - cellEmbeddings: B·D values.
    ///   - labels: B cell types, each in 0..<C or the ignored label.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - gradients: where the gradients go; may not overlap an input or each other.
    ///   - gradientScale: a finite factor of all gradients, but not of the value.
    ///   - update: whether gradients replace the contents of their buffers or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(cellEmbeddings:labels:parameters:workspace:)``; a factor that is not
    ///   finite; overlap.
    public func valueAndGradient<Element: ModelOutputElement>(
        cellEmbeddings: Span<Element>, labels: Span<Int32>, parameters: Span<Float>,
        gradients: inout ClassifierGradientFields<Element>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> LossValue {
        try classifier.run(
            cellEmbeddings: ModelElements(cellEmbeddings), cells: labels.count, parameters: parameters,
            loss: .labels(labels.memory, crossEntropy), gradients: gradients.buffers(update: update),
            gradientScale: gradientScale,
            workspace: workspace)
    }

    /// The logits.
    ///
    /// - Parameters:
    ///   - cellEmbeddings: B·D values.
    ///   - cells: B.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - logits: receives B·C values.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; overlap.
    public func predict<Element: ModelOutputElement>(
        cellEmbeddings: Span<Element>, cells: Int, parameters: Span<Float>, logits: inout MutableSpan<Float>,
        workspace: Workspace
    ) throws(LossError) {
        _ = try classifier.run(
            cellEmbeddings: ModelElements(cellEmbeddings), cells: cells, parameters: parameters,
            logits: logits.memory,
            workspace: workspace)
    }

    /// The gradients of a loss that the caller computes from the logits. It runs the forward pass again.
    ///
    /// - Parameters:
    ///   - cellEmbeddings: B·D values.
    ///   - cells: B.
    ///   - logitsGradient: B·C values.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - gradients: where the gradients go; may not overlap an input or each other.
    ///   - gradientScale: a finite factor of all gradients.
    ///   - update: whether gradients replace the contents of their buffers or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a factor that is not finite; overlap.
    public func gradient<Element: ModelOutputElement>(
        cellEmbeddings: Span<Element>, cells: Int, logitsGradient: Span<Float>, parameters: Span<Float>,
        gradients: inout ClassifierGradientFields<Element>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        _ = try classifier.run(
            cellEmbeddings: ModelElements(cellEmbeddings), cells: cells, parameters: parameters,
            loss: .given(logitsGradient.memory), gradients: gradients.buffers(update: update),
            gradientScale: gradientScale,
            workspace: workspace)
    }
}
