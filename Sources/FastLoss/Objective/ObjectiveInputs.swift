// What a model and its batch hand to the total objective: as spans, arrays or buffer pointers.

/// The outputs of a model for one batch, and their targets, as spans over the caller's memory.
///
/// Spans suit arrays in local variables. Arrays in a class, an actor or a global variable have no spans that
/// outlive one expression: use ``ObjectiveArrays`` for those.
public typealias ObjectiveInputs = ObjectiveInputFields<Span<Float>, Span<Bool>, Span<Int32>>

/// The outputs of a model for one batch, and their targets, as arrays.
///
/// Assigning an array shares its elements and copies none. The value can be stored anywhere, and sent to
/// another task.
public typealias ObjectiveArrays = ObjectiveInputFields<[Float], [Bool], [Int32]>

/// The outputs of a model for one batch, and their targets, as buffer pointers.
///
/// The memory must stay valid until the call that receives the value returns, and only then may it change.
public typealias ObjectiveBuffers = ObjectiveInputFields<
    UnsafeBufferPointer<Float>, UnsafeBufferPointer<Bool>, UnsafeBufferPointer<Int32>
>

/// Logits and labels as spans.
public typealias Classification = ClassificationFields<Span<Float>, Span<Int32>>

/// Logits and labels as arrays.
public typealias ClassificationArrays = ClassificationFields<[Float], [Int32]>

/// Logits and labels as buffer pointers.
public typealias ClassificationBuffers = ClassificationFields<
    UnsafeBufferPointer<Float>, UnsafeBufferPointer<Int32>
>

/// Logits of B rows over C classes, with a label for each row.
///
/// The call that uses the value checks its counts. Its forms are ``Classification``, ``ClassificationArrays``
/// and ``ClassificationBuffers``.
public struct ClassificationFields<Floats: ~Escapable, Labels: ~Escapable>: ~Escapable {
    /// B·C logits, row-major.
    public var logits: Floats
    /// B labels, one for each cell of the batch: in 0..<C, or the loss's ignored label.
    public var labels: Labels
    /// C, the number of classes.
    public var classes: Int

    /// Logits and labels as they are.
    @_lifetime(copy logits, copy labels)
    public init(logits: consuming Floats, labels: consuming Labels, classes: Int) {
        self.logits = logits
        self.labels = labels
        self.classes = classes
    }
}

/// The outputs of a model for one batch, and their targets.
///
/// Each enabled term requires its inputs; the others may be nil, and are not read. B is the number of cells,
/// L of tokens, D the width of a cell embedding; matrices are row-major. The call that uses the value checks
/// its counts.
///
/// Its forms are ``ObjectiveInputs``, ``ObjectiveArrays`` and ``ObjectiveBuffers``. They have the same
/// members, and all give bitwise the same results.
public struct ObjectiveInputFields<Floats: ~Escapable, Selections: ~Escapable, Labels: ~Escapable>: ~Escapable
{
    /// B cells and L tokens: the shape of targets, mask and all value predictions.
    public var shape: MatrixShape
    /// B·L target values: all value terms.
    public var targets: Optional<Floats>
    /// B·L selections, or nil to select everything: all value terms.
    public var mask: Optional<Selections>
    /// B·L decoder outputs: ``ObjectiveTerm/maskedGene``.
    public var genePredictions: Optional<Floats>
    /// B·L probabilities (or logits) of a non-zero value: ``ObjectiveTerm/maskedGeneZero``.
    public var geneNonzero: Optional<Floats>
    /// B·L values predicted from the cell embedding: ``ObjectiveTerm/cellGene``.
    public var cellPredictions: Optional<Floats>
    /// B·L probabilities (or logits) predicted from the cell embedding: ``ObjectiveTerm/cellGeneZero``.
    public var cellNonzero: Optional<Floats>
    /// B·L values generated from the detached cell embedding: ``ObjectiveTerm/generation``.
    public var generatedPredictions: Optional<Floats>
    /// D, the width of both cell embeddings.
    public var width: Int
    /// B·D values: ``ObjectiveTerm/elastic``, ``ObjectiveTerm/contrastive``.
    public var cellEmbedding: Optional<Floats>
    /// B·D values, a second encoding of the same cells: ``ObjectiveTerm/contrastive``.
    public var secondCellEmbedding: Optional<Floats>
    /// The classifier's logits and the cell types: ``ObjectiveTerm/cellType``.
    public var cellTypes: Optional<ClassificationFields<Floats, Labels>>
    /// The discriminator's logits and the batch labels: ``ObjectiveTerm/batch``.
    public var batches: Optional<ClassificationFields<Floats, Labels>>

    /// The inputs of the enabled terms; leave out all others.
    @_lifetime(
        copy targets, copy mask, copy genePredictions, copy geneNonzero, copy cellPredictions,
        copy cellNonzero, copy generatedPredictions, copy cellEmbedding, copy secondCellEmbedding,
        copy cellTypes, copy batches)
    public init(
        shape: MatrixShape, targets: consuming Floats? = nil, mask: consuming Selections? = nil,
        genePredictions: consuming Floats? = nil, geneNonzero: consuming Floats? = nil,
        cellPredictions: consuming Floats? = nil, cellNonzero: consuming Floats? = nil,
        generatedPredictions: consuming Floats? = nil, width: Int = 0,
        cellEmbedding: consuming Floats? = nil, secondCellEmbedding: consuming Floats? = nil,
        cellTypes: consuming ClassificationFields<Floats, Labels>? = nil,
        batches: consuming ClassificationFields<Floats, Labels>? = nil
    ) {
        self.shape = shape
        self.targets = targets
        self.mask = mask
        self.genePredictions = genePredictions
        self.geneNonzero = geneNonzero
        self.cellPredictions = cellPredictions
        self.cellNonzero = cellNonzero
        self.generatedPredictions = generatedPredictions
        self.width = width
        self.cellEmbedding = cellEmbedding
        self.secondCellEmbedding = secondCellEmbedding
        self.cellTypes = cellTypes
        self.batches = batches
    }
}

extension ClassificationFields: Escapable where Floats: Escapable, Labels: Escapable {}
extension ClassificationFields: Sendable
where Floats: Sendable & ~Escapable, Labels: Sendable & ~Escapable {}

extension ObjectiveInputFields: Escapable
where Floats: Escapable, Selections: Escapable, Labels: Escapable {}
extension ObjectiveInputFields: Sendable
where Floats: Sendable & ~Escapable, Selections: Sendable & ~Escapable, Labels: Sendable & ~Escapable {}

// MARK: - One form for all

extension ObjectiveInputFields where Floats: ~Escapable, Selections: ~Escapable, Labels: ~Escapable {
    /// The memory behind every member.
    ///
    /// The pointers leave the closures that make them, under the rule of `Span.memory`: the caller keeps this
    /// value alive until the last use of the buffers.
    private func buffers(
        floats: (Floats) -> UnsafeBufferPointer<Float>, selections: (Selections) -> UnsafeBufferPointer<Bool>,
        labels: (Labels) -> UnsafeBufferPointer<Int32>
    ) -> ObjectiveBuffers {
        func memory(_ values: Floats?) -> UnsafeBufferPointer<Float>? {
            guard let values else { return nil }
            return floats(values)
        }
        func memory(_ values: Selections?) -> UnsafeBufferPointer<Bool>? {
            guard let values else { return nil }
            return selections(values)
        }
        func memory(_ values: ClassificationFields<Floats, Labels>?) -> ClassificationBuffers? {
            guard let values else { return nil }
            return ClassificationBuffers(
                logits: floats(values.logits), labels: labels(values.labels), classes: values.classes)
        }
        return ObjectiveBuffers(
            shape: shape, targets: memory(targets), mask: memory(mask),
            genePredictions: memory(genePredictions), geneNonzero: memory(geneNonzero),
            cellPredictions: memory(cellPredictions), cellNonzero: memory(cellNonzero),
            generatedPredictions: memory(generatedPredictions), width: width,
            cellEmbedding: memory(cellEmbedding), secondCellEmbedding: memory(secondCellEmbedding),
            cellTypes: memory(cellTypes), batches: memory(batches))
    }
}

extension ObjectiveInputFields<Span<Float>, Span<Bool>, Span<Int32>> {
    /// The memory of the spans.
    var buffers: ObjectiveBuffers {
        buffers(floats: { $0.memory }, selections: { $0.memory }, labels: { $0.memory })
    }
}

extension ObjectiveInputFields<[Float], [Bool], [Int32]> {
    /// The memory of the arrays.
    var buffers: ObjectiveBuffers {
        buffers(floats: { $0.span.memory }, selections: { $0.span.memory }, labels: { $0.span.memory })
    }
}
