// The terms of the total objective, and one optional value for each of them.

/// A term of the total objective. The raw value is upstream's name in its logs.
public enum ObjectiveTerm: String, Sendable, CaseIterable {
    /// Masked gene modelling: ``MaskedMSE`` of the decoder's output (MLM, MGM, GEP).
    case maskedGene = "mse"
    /// ``BernoulliNLL`` of the decoder's probability of a non-zero value (explicit zero probability).
    case maskedGeneZero = "nzlp"
    /// ``MaskedMSE`` of the values predicted from the cell embedding (MVC, GEPC).
    case cellGene = "mvc"
    /// ``BernoulliNLL`` of the probability predicted from the cell embedding.
    case cellGeneZero = "mvc_nzlp"
    /// ``MaskedMSE`` of the values generated from the detached cell embedding (pretraining).
    case generation = "gen"
    /// ``CrossEntropy`` of the cell types (CLS).
    case cellType = "cls"
    /// ``ContrastiveCellEmbedding`` (CCE).
    case contrastive = "cce"
    /// ``ElasticCellSimilarity`` (ECS, ESC).
    case elastic = "ecs"
    /// ``DomainAdversarialLoss`` of the batch labels (DAB, DAR).
    case batch = "dab"
}

/// One optional value for each term: a weight, a loss. A term that is off has none.
public struct TermValues<Value> {
    /// The value of ``ObjectiveTerm/maskedGene``.
    public var maskedGene: Value?
    /// The value of ``ObjectiveTerm/maskedGeneZero``.
    public var maskedGeneZero: Value?
    /// The value of ``ObjectiveTerm/cellGene``.
    public var cellGene: Value?
    /// The value of ``ObjectiveTerm/cellGeneZero``.
    public var cellGeneZero: Value?
    /// The value of ``ObjectiveTerm/generation``.
    public var generation: Value?
    /// The value of ``ObjectiveTerm/cellType``.
    public var cellType: Value?
    /// The value of ``ObjectiveTerm/contrastive``.
    public var contrastive: Value?
    /// The value of ``ObjectiveTerm/elastic``.
    public var elastic: Value?
    /// The value of ``ObjectiveTerm/batch``.
    public var batch: Value?

    /// Values for the terms that are named, none for the others.
    public init(
        maskedGene: Value? = nil, maskedGeneZero: Value? = nil, cellGene: Value? = nil,
        cellGeneZero: Value? = nil,
        generation: Value? = nil, cellType: Value? = nil, contrastive: Value? = nil, elastic: Value? = nil,
        batch: Value? = nil
    ) {
        self.maskedGene = maskedGene
        self.maskedGeneZero = maskedGeneZero
        self.cellGene = cellGene
        self.cellGeneZero = cellGeneZero
        self.generation = generation
        self.cellType = cellType
        self.contrastive = contrastive
        self.elastic = elastic
        self.batch = batch
    }

    /// The value of a term that is chosen at run time.
    public subscript(term: ObjectiveTerm) -> Value? {
        get {
            switch term {
            case .maskedGene: maskedGene
            case .maskedGeneZero: maskedGeneZero
            case .cellGene: cellGene
            case .cellGeneZero: cellGeneZero
            case .generation: generation
            case .cellType: cellType
            case .contrastive: contrastive
            case .elastic: elastic
            case .batch: batch
            }
        }
        set {
            switch term {
            case .maskedGene: maskedGene = newValue
            case .maskedGeneZero: maskedGeneZero = newValue
            case .cellGene: cellGene = newValue
            case .cellGeneZero: cellGeneZero = newValue
            case .generation: generation = newValue
            case .cellType: cellType = newValue
            case .contrastive: contrastive = newValue
            case .elastic: elastic = newValue
            case .batch: batch = newValue
            }
        }
    }
}

extension TermValues: Sendable where Value: Sendable {}
extension TermValues: Equatable where Value: Equatable {}
