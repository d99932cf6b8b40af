// The classifier of batches that the cell embedding learns to defeat (DAB, DAR).

import FastLoss

/// Logits of a cell's batch from its embedding, behind a gradient reversal, with their cross-entropy (scGPT:
/// `AdversarialDiscriminator`).
///
///     logits = out_layer(block_n(… block_1(c)))        block(x) = LayerNorm(leakyReLU(Linear(x)))
///     the gradient of c is −λ times that of the loss
///
/// The parameters have the names and shapes of ``CellTypeDecoder``'s. Results are bitwise the same for any
/// number of workers.
///
/// Source: scGPT's `AdversarialDiscriminator` with `reverse_grad`, whose λ is 1.
public struct AdversarialDiscriminator: Sendable {
    /// The loss of the logits.
    public var crossEntropy = CrossEntropy()
    /// λ, a finite number.
    public var reversalStrength: Float
    let classifier: NormalizedClassifier

    /// D, the width of a cell embedding.
    public var width: Int { classifier.width }
    /// C, the number of batches.
    public var batches: Int { classifier.classes }
    /// The parameters, by scGPT's names.
    public var layout: ParameterLayout { classifier.layout }

    /// A classifier with this number of blocks before its last layer.
    ///
    /// - Throws: `LossError`: a size that is negative or above 2²⁸.
    public init(
        width: Int, batches: Int, blocks: Int = 2, reversalStrength: Float = 1
    ) throws(LossError) {
        classifier = try NormalizedClassifier(
            "AdversarialDiscriminator", width: width, classes: batches, blocks: blocks, activation: .leakyReLU
        )
        self.reversalStrength = reversalStrength
    }
}

extension AdversarialDiscriminator {
    /// The cross-entropy of the logits.
    ///
    /// - Parameters:
    ///   - cellEmbeddings: B·D values.
    ///   - labels: B batch labels, each in 0..<C or the ignored label.
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
    /// The gradient of the cell embeddings is reversed, −λ times that of the loss; those of the parameters
    /// are not.
    ///
    /// - Parameters:
    ///   - cellEmbeddings: B·D values.
    ///   - labels: B batch labels, each in 0..<C or the ignored label.
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
            loss: .labels(labels.memory, crossEntropy), gradients: buffers(of: &gradients, update: update),
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
    /// The gradient of the cell embeddings is reversed, −λ times that of the loss; those of the parameters
    /// are not.
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
            loss: .given(logitsGradient.memory), gradients: buffers(of: &gradients, update: update),
            gradientScale: gradientScale,
            workspace: workspace)
    }

    /// The memory of the gradients, that of the cell embeddings reversed. Throws unless λ is finite.
    private func buffers<Element: ModelOutputElement>(
        of gradients: inout ClassifierGradientFields<Element>, update: GradientUpdate
    ) throws(LossError) -> ClassifierMemory {
        try checkParameter("reversalStrength", reversalStrength, "finite") { $0.isFinite }
        return gradients.buffers(cellFactor: -Double(reversalStrength), update: update)
    }
}
