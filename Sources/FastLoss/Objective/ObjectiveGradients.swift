// Where the gradients of the total objective go.

/// Where the gradients of the total objective go, one buffer for each input that a gradient is wanted of.
///
/// A buffer needs the input that it is the gradient of, whose size it has. Where the terms that read the
/// input are off, it receives 0 (or keeps what it holds, when accumulating).
public struct ObjectiveGradients: ~Copyable, ~Escapable {
    /// B·L elements, as the inputs of the same name.
    public var genePredictions: MutableSpan<Float>?
    public var geneNonzero: MutableSpan<Float>?
    public var cellPredictions: MutableSpan<Float>?
    public var cellNonzero: MutableSpan<Float>?
    public var generatedPredictions: MutableSpan<Float>?
    /// B·D elements: the sum over ECS and CCE.
    public var cellEmbedding: MutableSpan<Float>?
    public var secondCellEmbedding: MutableSpan<Float>?
    /// B·C elements, for the classifier's own parameters and everything before it.
    public var cellTypeLogits: MutableSpan<Float>?
    /// B·C elements, for the discriminator's own parameters.
    public var batchLogits: MutableSpan<Float>?
    /// B·C elements, −λ times `batchLogits`, for everything before the gradient reversal.
    public var reversedBatchLogits: MutableSpan<Float>?

    /// The buffers of the gradients that are wanted.
    @_lifetime(
        copy genePredictions, copy geneNonzero, copy cellPredictions, copy cellNonzero,
        copy generatedPredictions, copy cellEmbedding, copy secondCellEmbedding, copy cellTypeLogits,
        copy batchLogits, copy reversedBatchLogits)
    public init(
        genePredictions: consuming MutableSpan<Float>? = nil,
        geneNonzero: consuming MutableSpan<Float>? = nil,
        cellPredictions: consuming MutableSpan<Float>? = nil,
        cellNonzero: consuming MutableSpan<Float>? = nil,
        generatedPredictions: consuming MutableSpan<Float>? = nil,
        cellEmbedding: consuming MutableSpan<Float>? = nil,
        secondCellEmbedding: consuming MutableSpan<Float>? = nil,
        cellTypeLogits: consuming MutableSpan<Float>? = nil,
        batchLogits: consuming MutableSpan<Float>? = nil,
        reversedBatchLogits: consuming MutableSpan<Float>? = nil
    ) {
        self.genePredictions = genePredictions
        self.geneNonzero = geneNonzero
        self.cellPredictions = cellPredictions
        self.cellNonzero = cellNonzero
        self.generatedPredictions = generatedPredictions
        self.cellEmbedding = cellEmbedding
        self.secondCellEmbedding = secondCellEmbedding
        self.cellTypeLogits = cellTypeLogits
        self.batchLogits = batchLogits
        self.reversedBatchLogits = reversedBatchLogits
    }
}
