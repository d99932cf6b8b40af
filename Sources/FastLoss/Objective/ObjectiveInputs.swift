// What a model and its batch hand to the total objective. Nothing is copied.

/// Logits of B rows over C classes, with a label for each row.
public struct Classification: ~Escapable {
    /// B·C logits, row-major.
    public let logits: Span<Float>
    /// B labels, one for each cell of the batch.
    public let labels: Span<Int32>
    /// C.
    public let classes: Int

    /// Logits and labels as they are; their counts are checked by the call that uses them.
    @_lifetime(copy logits, copy labels)
    public init(logits: Span<Float>, labels: Span<Int32>, classes: Int) {
        self.logits = logits
        self.labels = labels
        self.classes = classes
    }
}

/// The outputs of a model for one batch, and what they are to match.
///
/// An input is needed if a term that reads it is on; others may be given and are not looked at.
public struct ObjectiveInputs: ~Escapable {
    /// B cells and L tokens: the shape of targets, mask and all value predictions.
    public let shape: MatrixShape
    /// B·L target values.
    public let targets: Span<Float>
    /// B·L selections, or nil to select everything.
    public let mask: Span<Bool>?
    /// B·L decoder outputs: ``ObjectiveTerm/maskedGene``.
    public let genePredictions: Span<Float>?
    /// B·L probabilities (or logits) of a non-zero value: ``ObjectiveTerm/maskedGeneZero``.
    public let geneNonzero: Span<Float>?
    /// B·L values predicted from the cell embedding: ``ObjectiveTerm/cellGene``.
    public let cellPredictions: Span<Float>?
    /// B·L probabilities (or logits) predicted from the cell embedding: ``ObjectiveTerm/cellGeneZero``.
    public let cellNonzero: Span<Float>?
    /// B·L values generated from the detached cell embedding: ``ObjectiveTerm/generation``.
    public let generatedPredictions: Span<Float>?
    /// D, the width of both cell embeddings.
    public let width: Int
    /// B·D values: ``ObjectiveTerm/elastic``, ``ObjectiveTerm/contrastive``.
    public let cellEmbedding: Span<Float>?
    /// B·D values, a second encoding of the same cells: ``ObjectiveTerm/contrastive``.
    public let secondCellEmbedding: Span<Float>?
    /// ``ObjectiveTerm/cellType``.
    public let cellTypes: Classification?
    /// The discriminator's output: ``ObjectiveTerm/batch``.
    public let batches: Classification?

    /// Inputs that no term reads may be left out: without value terms also `targets`, without ECS and CCE
    /// `width`.
    @_lifetime(
        copy targets, copy mask, copy genePredictions, copy geneNonzero, copy cellPredictions,
        copy cellNonzero,
        copy generatedPredictions, copy cellEmbedding, copy secondCellEmbedding, copy cellTypes, copy batches)
    public init(
        shape: MatrixShape, targets: Span<Float> = Span(), mask: Span<Bool>? = nil,
        genePredictions: Span<Float>? = nil,
        geneNonzero: Span<Float>? = nil, cellPredictions: Span<Float>? = nil, cellNonzero: Span<Float>? = nil,
        generatedPredictions: Span<Float>? = nil, width: Int = 0, cellEmbedding: Span<Float>? = nil,
        secondCellEmbedding: Span<Float>? = nil, cellTypes: Classification? = nil,
        batches: Classification? = nil
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

// MARK: - What a term needs

extension ObjectiveTerm {
    /// The terms over targets and mask, in the order of upstream's sum.
    package static var valueTerms: InlineArray<5, ObjectiveTerm> {
        [.maskedGene, .maskedGeneZero, .cellGene, .cellGeneZero, .generation]
    }

    /// The input that the term reads, as it is called in messages.
    var argument: String {
        switch self {
        case .maskedGene: "genePredictions"
        case .maskedGeneZero: "geneNonzero"
        case .cellGene: "cellPredictions"
        case .cellGeneZero: "cellNonzero"
        case .generation: "generatedPredictions"
        case .elastic, .contrastive: "cellEmbedding"
        case .cellType: "cellTypes"
        case .batch: "batches"
        }
    }

    /// What the term's weight is called in messages. Written out: a name that is put together takes memory.
    var weightName: String {
        switch self {
        case .maskedGene: "weights.maskedGene"
        case .maskedGeneZero: "weights.maskedGeneZero"
        case .cellGene: "weights.cellGene"
        case .cellGeneZero: "weights.cellGeneZero"
        case .generation: "weights.generation"
        case .cellType: "weights.cellType"
        case .contrastive: "weights.contrastive"
        case .elastic: "weights.elastic"
        case .batch: "weights.batch"
        }
    }

    /// The gradient of what a value term reads.
    var gradient: GradientSlot? {
        switch self {
        case .maskedGene: .genePredictions
        case .maskedGeneZero: .geneNonzero
        case .cellGene: .cellPredictions
        case .cellGeneZero: .cellNonzero
        case .generation: .generatedPredictions
        case .elastic, .contrastive, .cellType, .batch: nil
        }
    }
}

extension Classification {
    /// The shape of the logits.
    var shape: MatrixShape { MatrixShape(rows: labels.count, columns: classes) }
}

extension ObjectiveInputs {
    /// The shape of both cell embeddings.
    var embeddingShape: MatrixShape { MatrixShape(rows: shape.rows, columns: width) }

    /// The predictions that a value term reads.
    @_lifetime(copy self)
    func predictions(of term: ObjectiveTerm) throws(LossError) -> Span<Float> {
        switch term {
        case .maskedGene: try required(genePredictions, term)
        case .maskedGeneZero: try required(geneNonzero, term)
        case .cellGene: try required(cellPredictions, term)
        case .cellGeneZero: try required(cellNonzero, term)
        default: try required(generatedPredictions, term)
        }
    }

    @_lifetime(copy self)
    func embedding(of term: ObjectiveTerm) throws(LossError) -> Span<Float> {
        try required(cellEmbedding, term)
    }

    @_lifetime(copy self)
    func secondEmbedding() throws(LossError) -> Span<Float> {
        guard let secondCellEmbedding else {
            throw .missingInput(term: ObjectiveTerm.contrastive.rawValue, argument: "secondCellEmbedding")
        }
        return secondCellEmbedding
    }

    @_lifetime(copy self)
    func classification(of term: ObjectiveTerm) throws(LossError) -> Classification {
        guard let classification = term == .batch ? batches : cellTypes else {
            throw .missingInput(term: term.rawValue, argument: term.argument)
        }
        return classification
    }

    @_lifetime(copy input)
    private func required(_ input: Span<Float>?, _ term: ObjectiveTerm) throws(LossError) -> Span<Float> {
        guard let input else { throw .missingInput(term: term.rawValue, argument: term.argument) }
        return input
    }
}
