// Where the gradients of the total objective go: spans, arrays or buffer pointers.

/// The gradients of the total objective, as spans over the caller's memory.
///
/// The spans must be of different variables. Spans of two stored properties of one variable are overlapping
/// accesses to it: use ``ObjectiveGradientArrays`` for arrays in a class, an actor or a struct.
public typealias ObjectiveGradients = ObjectiveGradientFields<MutableSpan<Float>>

/// The gradients of the total objective, as arrays.
///
/// A call writes into the arrays and allocates nothing, unless an array shares its elements with a copy of
/// it. Arrays never overlap.
public typealias ObjectiveGradientArrays = ObjectiveGradientFields<[Float]>

/// The gradients of the total objective, as buffer pointers.
///
/// The memory must be initialised, and stay valid until the call that receives the value returns.
public typealias ObjectiveGradientBuffers = ObjectiveGradientFields<UnsafeMutableBufferPointer<Float>>

/// The gradients of the total objective, one buffer for each gradient that is wanted.
///
/// A buffer has as many elements as the input that it belongs to, and requires that input. If no enabled term
/// reads the input, the buffer receives 0, or keeps its contents when accumulating.
///
/// Its forms are ``ObjectiveGradients``, ``ObjectiveGradientArrays`` and ``ObjectiveGradientBuffers``; and spans
/// of the type of 16-bit outputs. Each element is rounded once: of the cell embedding, the sum over its terms.
public struct ObjectiveGradientFields<Buffer: ~Copyable & ~Escapable>: ~Copyable, ~Escapable {
    /// B·L elements.
    public var genePredictions: Optional<Buffer>
    /// B·L elements.
    public var geneNonzero: Optional<Buffer>
    /// B·L elements.
    public var cellPredictions: Optional<Buffer>
    /// B·L elements.
    public var cellNonzero: Optional<Buffer>
    /// B·L elements.
    public var generatedPredictions: Optional<Buffer>
    /// B·D elements: the sum over ECS and CCE.
    public var cellEmbedding: Optional<Buffer>
    /// B·D elements.
    public var secondCellEmbedding: Optional<Buffer>
    /// B·C elements, for the classifier's own parameters and everything before it.
    public var cellTypeLogits: Optional<Buffer>
    /// B·C elements, for the discriminator's own parameters.
    public var batchLogits: Optional<Buffer>
    /// B·C elements, −λ times `batchLogits`, for everything before the gradient reversal.
    public var reversedBatchLogits: Optional<Buffer>

    /// The buffers of the gradients that are wanted; leave out all others.
    @_lifetime(
        copy genePredictions, copy geneNonzero, copy cellPredictions, copy cellNonzero,
        copy generatedPredictions, copy cellEmbedding, copy secondCellEmbedding, copy cellTypeLogits,
        copy batchLogits, copy reversedBatchLogits)
    public init(
        genePredictions: consuming Buffer? = nil, geneNonzero: consuming Buffer? = nil,
        cellPredictions: consuming Buffer? = nil, cellNonzero: consuming Buffer? = nil,
        generatedPredictions: consuming Buffer? = nil, cellEmbedding: consuming Buffer? = nil,
        secondCellEmbedding: consuming Buffer? = nil, cellTypeLogits: consuming Buffer? = nil,
        batchLogits: consuming Buffer? = nil, reversedBatchLogits: consuming Buffer? = nil
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

extension ObjectiveGradientFields: Copyable where Buffer: Copyable & ~Escapable {}
extension ObjectiveGradientFields: Escapable where Buffer: Escapable & ~Copyable {}
extension ObjectiveGradientFields: Sendable where Buffer: Sendable & ~Copyable & ~Escapable {}

extension ObjectiveGradientFields<[Float]> {
    /// Zeros for the gradient of every input that is given: what accumulation starts from. Set those that are
    /// not wanted to nil.
    public init(zerosFor inputs: ObjectiveArrays) {
        func zeros(_ input: [Float]?) -> [Float]? { input.map { [Float](repeating: 0, count: $0.count) } }
        let batchLogits = inputs.batches?.logits
        self.init(
            genePredictions: zeros(inputs.genePredictions), geneNonzero: zeros(inputs.geneNonzero),
            cellPredictions: zeros(inputs.cellPredictions), cellNonzero: zeros(inputs.cellNonzero),
            generatedPredictions: zeros(inputs.generatedPredictions),
            cellEmbedding: zeros(inputs.cellEmbedding),
            secondCellEmbedding: zeros(inputs.secondCellEmbedding),
            cellTypeLogits: zeros(inputs.cellTypes?.logits), batchLogits: zeros(batchLogits),
            reversedBatchLogits: zeros(batchLogits))
    }
}

// MARK: - One form for all

extension ObjectiveGradientFields where Buffer: ~Copyable & ~Escapable {
    /// The memory of every buffer that is given.
    ///
    /// The pointers leave the closure that makes them, under the rule of `Span.memory`: the caller has
    /// exclusive access to this value until the last use of the table.
    @_lifetime(self: copy self)
    private mutating func table(
        scale: Float, update: GradientUpdate,
        _ memory: (inout Buffer) -> GradientMemory
    ) -> GradientTable {
        @_lifetime(buffer: copy buffer)
        func memoryIfGiven(_ buffer: inout Buffer?) -> GradientMemory? {
            buffer == nil ? nil : memory(&buffer!)
        }
        var table = GradientTable(scale: scale, update: update)
        table[.genePredictions] = memoryIfGiven(&genePredictions)
        table[.geneNonzero] = memoryIfGiven(&geneNonzero)
        table[.cellPredictions] = memoryIfGiven(&cellPredictions)
        table[.cellNonzero] = memoryIfGiven(&cellNonzero)
        table[.generatedPredictions] = memoryIfGiven(&generatedPredictions)
        table[.cellEmbedding] = memoryIfGiven(&cellEmbedding)
        table[.secondCellEmbedding] = memoryIfGiven(&secondCellEmbedding)
        table[.cellTypeLogits] = memoryIfGiven(&cellTypeLogits)
        table[.batchLogits] = memoryIfGiven(&batchLogits)
        table[.reversedBatchLogits] = memoryIfGiven(&reversedBatchLogits)
        return table
    }
}

extension ObjectiveGradientFields where Buffer: ~Copyable & ~Escapable {
    /// The memory of the spans.
    @_lifetime(self: copy self)
    mutating func table<Element: ModelOutputElement>(
        scale: Float, update: GradientUpdate
    ) -> GradientTable where Buffer == MutableSpan<Element> {
        table(scale: scale, update: update) { GradientMemory($0.memory) }
    }
}

extension ObjectiveGradientFields<UnsafeMutableBufferPointer<Float>> {
    /// The memory that the buffers point to.
    func table(scale: Float, update: GradientUpdate) -> GradientTable {
        var gradients = self
        return gradients.table(scale: scale, update: update) { GradientMemory($0) }
    }
}

/// The memory of an objective's gradients, each of the type of its input.
package typealias ObjectiveGradientMemory = ObjectiveGradientFields<GradientMemory>

extension ObjectiveGradientMemory {
    /// The memory as it is.
    func table(scale: Float, update: GradientUpdate) -> GradientTable {
        var gradients = self
        return gradients.table(scale: scale, update: update) { $0 }
    }
}

extension ObjectiveGradientFields<[Float]> {
    /// The memory of the arrays, each the only owner of its elements from now on.
    mutating func table(scale: Float, update: GradientUpdate) -> GradientTable {
        table(scale: scale, update: update) {
            var span = $0.mutableSpan
            return GradientMemory(span.memory)
        }
    }
}
