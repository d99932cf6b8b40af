// What a model and its batch hand to the total objective: as spans, arrays or buffer pointers.

/// The outputs of a model for one batch, and their targets, as spans over the caller's memory.
///
/// Spans suit arrays in local variables. Arrays in a class, an actor or a global variable have no spans that
/// outlive one expression: use ``ObjectiveArrays`` for those.
public typealias ObjectiveInputs = ObjectiveInputFields<
    Span<Float>, Span<Float>, Span<Bool>, Span<Int32>
>

/// The outputs of a model for one batch, and their targets, as arrays.
///
/// Assigning an array shares its elements and copies none. The value can be stored anywhere, and sent to
/// another task.
public typealias ObjectiveArrays = ObjectiveInputFields<[Float], [Float], [Bool], [Int32]>

/// The outputs of a model for one batch, and their targets, as buffer pointers.
///
/// The memory must stay valid until the call that receives the value returns, and only then may it change.
public typealias ObjectiveBuffers = ObjectiveInputFields<
    UnsafeBufferPointer<Float>, UnsafeBufferPointer<Float>, UnsafeBufferPointer<Bool>,
    UnsafeBufferPointer<Int32>
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
/// and ``ClassificationBuffers``; and spans of ``BFloat16`` or `Float16` logits.
public struct ClassificationFields<Logits: ~Escapable, Labels: ~Escapable>: ~Escapable {
    /// B·C logits, row-major.
    public var logits: Logits
    /// B labels, one for each cell of the batch: in 0..<C, or the loss's ignored label.
    public var labels: Labels
    /// C, the number of classes.
    public var classes: Int

    /// Logits and labels as they are.
    @_lifetime(copy logits, copy labels)
    public init(logits: consuming Logits, labels: consuming Labels, classes: Int) {
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
/// members, and all give bitwise the same results. Outputs of the model may also be spans of ``BFloat16`` or
/// `Float16`, all of one type, beside targets of `Float`.
public struct ObjectiveInputFields<
    Outputs: ~Escapable, Targets: ~Escapable, Selections: ~Escapable, Labels: ~Escapable
>: ~Escapable {
    /// B cells and L tokens: the shape of targets, mask and all value predictions.
    public var shape: MatrixShape
    /// B·L target values: all value terms.
    public var targets: Optional<Targets>
    /// B·L selections, or nil to select everything: all value terms.
    public var mask: Optional<Selections>
    /// B·L decoder outputs: ``ObjectiveTerm/maskedGene``.
    public var genePredictions: Optional<Outputs>
    /// B·L probabilities (or logits) of a non-zero value: ``ObjectiveTerm/maskedGeneZero``.
    public var geneNonzero: Optional<Outputs>
    /// B·L values predicted from the cell embedding: ``ObjectiveTerm/cellGene``.
    public var cellPredictions: Optional<Outputs>
    /// B·L probabilities (or logits) predicted from the cell embedding: ``ObjectiveTerm/cellGeneZero``.
    public var cellNonzero: Optional<Outputs>
    /// B·L values generated from the detached cell embedding: ``ObjectiveTerm/generation``.
    public var generatedPredictions: Optional<Outputs>
    /// D, the width of both cell embeddings.
    public var width: Int
    /// B·D values: ``ObjectiveTerm/elastic``, ``ObjectiveTerm/contrastive``.
    public var cellEmbedding: Optional<Outputs>
    /// B·D values, a second encoding of the same cells: ``ObjectiveTerm/contrastive``.
    public var secondCellEmbedding: Optional<Outputs>
    /// The classifier's logits and the cell types: ``ObjectiveTerm/cellType``.
    public var cellTypes: Optional<ClassificationFields<Outputs, Labels>>
    /// The discriminator's logits and the batch labels: ``ObjectiveTerm/batch``.
    public var batches: Optional<ClassificationFields<Outputs, Labels>>

    /// The inputs of the enabled terms; leave out all others.
    @_lifetime(
        copy targets, copy mask, copy genePredictions, copy geneNonzero, copy cellPredictions,
        copy cellNonzero, copy generatedPredictions, copy cellEmbedding, copy secondCellEmbedding,
        copy cellTypes, copy batches)
    public init(
        shape: MatrixShape, targets: consuming Targets? = nil, mask: consuming Selections? = nil,
        genePredictions: consuming Outputs? = nil, geneNonzero: consuming Outputs? = nil,
        cellPredictions: consuming Outputs? = nil, cellNonzero: consuming Outputs? = nil,
        generatedPredictions: consuming Outputs? = nil, width: Int = 0,
        cellEmbedding: consuming Outputs? = nil, secondCellEmbedding: consuming Outputs? = nil,
        cellTypes: consuming ClassificationFields<Outputs, Labels>? = nil,
        batches: consuming ClassificationFields<Outputs, Labels>? = nil
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

extension ClassificationFields: Escapable where Logits: Escapable, Labels: Escapable {}
extension ClassificationFields: Sendable
where Logits: Sendable & ~Escapable, Labels: Sendable & ~Escapable {}

extension ObjectiveInputFields: Escapable
where Outputs: Escapable, Targets: Escapable, Selections: Escapable, Labels: Escapable {}
extension ObjectiveInputFields: Sendable
where
    Outputs: Sendable & ~Escapable, Targets: Sendable & ~Escapable, Selections: Sendable & ~Escapable,
    Labels: Sendable & ~Escapable
{}

// MARK: - One form for all

/// The memory of an objective's inputs; each output of the model has a type of its own.
package typealias ObjectiveElements = ObjectiveInputFields<
    ModelElements, UnsafeBufferPointer<Float>, UnsafeBufferPointer<Bool>, UnsafeBufferPointer<Int32>
>

/// The memory of logits and labels.
package typealias ClassificationElements = ClassificationFields<ModelElements, UnsafeBufferPointer<Int32>>

extension ObjectiveInputFields
where Outputs: ~Escapable, Targets: ~Escapable, Selections: ~Escapable, Labels: ~Escapable {
    /// The memory behind every member.
    ///
    /// The pointers leave the closures that make them, under the rule of `Span.memory`: the caller keeps this
    /// value alive until the last use of the elements.
    private func elements(
        outputs: (Outputs) -> ModelElements, targets: (Targets) -> UnsafeBufferPointer<Float>,
        selections: (Selections) -> UnsafeBufferPointer<Bool>, labels: (Labels) -> UnsafeBufferPointer<Int32>
    ) -> ObjectiveElements {
        func memory(_ values: Outputs?) -> ModelElements? {
            guard let values else { return nil }
            return outputs(values)
        }
        func memory(_ values: ClassificationFields<Outputs, Labels>?) -> ClassificationElements? {
            guard let values else { return nil }
            return ClassificationElements(
                logits: outputs(values.logits), labels: labels(values.labels), classes: values.classes)
        }
        var elements = ObjectiveElements(
            shape: shape, genePredictions: memory(genePredictions), geneNonzero: memory(geneNonzero),
            cellPredictions: memory(cellPredictions), cellNonzero: memory(cellNonzero),
            generatedPredictions: memory(generatedPredictions), width: width,
            cellEmbedding: memory(cellEmbedding), secondCellEmbedding: memory(secondCellEmbedding),
            cellTypes: memory(cellTypes), batches: memory(batches))
        if let values = self.targets { elements.targets = targets(values) }
        if let mask { elements.mask = selections(mask) }
        return elements
    }
}

extension ObjectiveInputFields
where Outputs: ~Escapable, Targets == Span<Float>, Selections == Span<Bool>, Labels == Span<Int32> {
    /// The memory of the spans.
    func elements<Element: ModelOutputElement>() -> ObjectiveElements where Outputs == Span<Element> {
        elements(
            outputs: { ModelElements($0) }, targets: { $0.memory }, selections: { $0.memory },
            labels: { $0.memory })
    }
}

extension ObjectiveInputFields<[Float], [Float], [Bool], [Int32]> {
    /// The memory of the arrays.
    func elements() -> ObjectiveElements {
        elements(
            outputs: { ModelElements($0.span) }, targets: { $0.span.memory }, selections: { $0.span.memory },
            labels: { $0.span.memory })
    }
}

extension ObjectiveBuffers {
    /// The memory that the buffers point to.
    func elements() -> ObjectiveElements {
        elements(
            outputs: { ModelElements($0.baseAddress, count: $0.count, type: .float32) }, targets: { $0 },
            selections: { $0 }, labels: { $0 })
    }
}
