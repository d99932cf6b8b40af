// The total objective: which terms a task adds up, with which weights.

/// The weighted sum of the terms that a task trains on.
///
///     total = Σ over the terms that are on of weight · value
///
/// All value terms share one mask and one target, and are computed with the relative error in one fused pass
/// over them. The gradient of the cell embedding is the sum over the terms that read it directly, ECS and
/// CCE; what reaches it through a decoder, a classifier or the reversed discriminator comes from the model's
/// own backward pass.
///
/// ```swift
/// let objective = TotalObjective.integration()
/// ```
///
/// Sources: scGPT's `finetune_integration.py`, `pretrain.py`, `trainer.py` and tutorials; scFormer's
/// integration script.
public struct TotalObjective: Sendable {
    /// The weight of every term; a term without one is off. Upstream's weights are 1, but 10 for ECS and CCE.
    public var weights: TermValues<Float>
    /// The loss of ``ObjectiveTerm/elastic``, with its threshold β.
    public var elasticCellSimilarity: ElasticCellSimilarity
    /// The loss of ``ObjectiveTerm/contrastive``, with its temperature τ.
    public var contrastiveCellEmbedding: ContrastiveCellEmbedding
    /// The loss of ``ObjectiveTerm/cellType``.
    public var cellTypes: CrossEntropy
    /// The loss of ``ObjectiveTerm/batch``, with its gradient reversal.
    public var domainAdversarial: DomainAdversarialLoss
    /// Whether the explicit-zero predictions are probabilities (upstream's) or logits.
    public var nonzeroForm: BernoulliNLL.Form
    /// What the value terms do when the mask selects nothing. The other losses have rules of their own.
    public var whenMaskEmpty: EmptySelectionRule

    /// An objective of the terms that have a weight; the other parameters matter where their term is on.
    public init(
        weights: TermValues<Float>,
        elasticCellSimilarity: ElasticCellSimilarity = ElasticCellSimilarity(),
        contrastiveCellEmbedding: ContrastiveCellEmbedding = ContrastiveCellEmbedding(),
        cellTypes: CrossEntropy = CrossEntropy(),
        domainAdversarial: DomainAdversarialLoss = DomainAdversarialLoss(),
        nonzeroForm: BernoulliNLL.Form = .probabilities,
        whenMaskEmpty: EmptySelectionRule = .error
    ) {
        self.weights = weights
        self.elasticCellSimilarity = elasticCellSimilarity
        self.contrastiveCellEmbedding = contrastiveCellEmbedding
        self.cellTypes = cellTypes
        self.domainAdversarial = domainAdversarial
        self.nonzeroForm = nonzeroForm
        self.whenMaskEmpty = whenMaskEmpty
    }
}

// MARK: - Presets

extension TotalObjective {
    /// Integration of batches, as `finetune_integration.py` with its defaults:
    /// MSE + NLL + [GEPC] (MSE + NLL) + 10·ECS + `batchWeight`·DAB.
    ///
    /// - Parameters:
    ///   - explicitZeroProbability: upstream's `explicit_zero_prob`: the two NLL terms.
    ///   - cellEmbeddingPrediction: upstream's `GEPC`: the two terms predicted from the cell embedding.
    ///   - elasticThreshold: upstream's `ecs_thres`; 0 or less switches ECS off, as there.
    ///   - batchWeight: upstream's `dab_weight`.
    public static func integration(
        explicitZeroProbability: Bool = true, cellEmbeddingPrediction: Bool = true,
        elasticThreshold: Float = 0.8,
        batchWeight: Float = 1
    ) -> TotalObjective {
        TotalObjective(
            weights: TermValues(
                maskedGene: 1,
                maskedGeneZero: explicitZeroProbability ? 1 : nil,
                cellGene: cellEmbeddingPrediction ? 1 : nil,
                cellGeneZero: cellEmbeddingPrediction && explicitZeroProbability ? 1 : nil,
                elastic: elasticThreshold > 0 ? 10 : nil,
                batch: batchWeight),
            elasticCellSimilarity: ElasticCellSimilarity(threshold: elasticThreshold))
    }

    /// Cell-type annotation: CLS alone.
    public static var annotation: TotalObjective {
        TotalObjective(weights: TermValues(cellType: 1))
    }

    /// Perturbation: MSE alone. Upstream's mask is all ones: give no mask.
    public static var perturbation: TotalObjective {
        TotalObjective(weights: TermValues(maskedGene: 1))
    }

    /// Multi-omics: MSE + MVC + DAB.
    public static var multiOmics: TotalObjective {
        TotalObjective(weights: TermValues(maskedGene: 1, cellGene: 1, batch: 1))
    }

    /// Generative pretraining: MSE of the generated values + MVC, and the MSE of the values generated from
    /// the detached cell embedding, which upstream adds after 1,000 iterations.
    public static func generativePretraining(fromCellEmbedding: Bool = true) -> TotalObjective {
        TotalObjective(
            weights: TermValues(maskedGene: 1, cellGene: 1, generation: fromCellEmbedding ? 1 : nil))
    }

    /// Pretraining on masked values with cell types: MSE + CLS + 10·CCE + MVC.
    public static var maskedPretraining: TotalObjective {
        TotalObjective(weights: TermValues(maskedGene: 1, cellGene: 1, cellType: 1, contrastive: 10))
    }

    /// scFormer's integration: as
    /// ``integration(explicitZeroProbability:cellEmbeddingPrediction:elasticThreshold:batchWeight:)`` with β
    /// = 0.5, optionally with CLS and 10·CCE.
    public static func scFormer(cellTypes: Bool = false, contrastive: Bool = false) -> TotalObjective {
        var objective = integration(elasticThreshold: 0.5)
        objective.weights.cellType = cellTypes ? 1 : nil
        objective.weights.contrastive = contrastive ? 10 : nil
        return objective
    }
}

// MARK: - Results

/// The total objective with everything that upstream logs beside it.
public struct ObjectiveValue: Equatable, Sendable {
    /// Σ weight · value.
    public internal(set) var total = 0.0
    /// Every term that is on, before its weight.
    public internal(set) var values = TermValues<Double>()
    /// Every term that is on, after its weight.
    public internal(set) var weighted = TermValues<Double>()
    /// ``MaskedRelativeError`` of the gene predictions, where ``ObjectiveTerm/maskedGene`` is on. A metric:
    /// not in the total.
    public internal(set) var relativeError: Double?
    /// How many elements the mask selected.
    public internal(set) var selectedCount = 0

    /// Every term as upstream logs it: after its weight, but the batch term before.
    public var logged: TermValues<Double> {
        var logged = weighted
        logged.batch = values.batch
        return logged
    }
}
