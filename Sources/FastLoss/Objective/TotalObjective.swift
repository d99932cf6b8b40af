// The total objective: which terms a task adds up, with which weights.

/// The weighted sum of the terms that a task trains on.
///
///     total = Σ over the terms that are on of weight · value
///
/// All value terms share the targets and the mask; one fused pass over both computes them and the relative
/// error. The gradient of the cell embedding is the sum over ECS and CCE, the terms that read it. The
/// gradients that reach it through a decoder, a classifier or the reversed discriminator come from the
/// model's own backward pass.
///
/// ```swift
/// let objective = TotalObjective.integration()
/// let value = try objective.valueAndGradient(inputs, gradients: &gradients, workspace: workspace)
/// ```
///
/// `inputs` and `gradients` are spans (``ObjectiveInputs``, ``ObjectiveGradients``), arrays
/// (``ObjectiveArrays``, ``ObjectiveGradientArrays``) or buffer pointers (``ObjectiveBuffers``,
/// ``ObjectiveGradientBuffers``). Spans of a model's outputs may be ``BFloat16`` or `Float16`.
///
/// Sources: scGPT's `finetune_integration.py`, `pretrain.py`, `trainer.py` and tutorials; scFormer's
/// integration script.
public struct TotalObjective: Sendable {
    /// The finite weights of the terms; a term without one is off. Upstream's are 10 for ECS and CCE, else 1.
    public var weights: TermValues<Float>
    /// The loss of ``ObjectiveTerm/elastic``, with its threshold β.
    public var elasticCellSimilarity: ElasticCellSimilarity
    /// The loss of ``ObjectiveTerm/contrastive``, with its temperature τ.
    public var contrastiveCellEmbedding: ContrastiveCellEmbedding
    /// The loss of ``ObjectiveTerm/cellType``.
    public var cellTypes: CrossEntropy
    /// The loss of ``ObjectiveTerm/batch``, with its gradient reversal.
    public var domainAdversarial: DomainAdversarialLoss
    /// Whether `geneNonzero` and `cellNonzero` are probabilities (upstream's form) or logits.
    public var nonzeroForm: BernoulliNLL.Form
    /// The result of the value terms if the mask selects nothing. The other losses have rules of their own.
    public var whenMaskEmpty: EmptySelectionRule

    /// An objective of the terms that have a weight. The other parameters apply to their terms.
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
    /// Batch integration, with the defaults of `finetune_integration.py`:
    /// MSE + NLL + [GEPC] (MSE + NLL) + 10·ECS + `batchWeight`·DAB.
    ///
    /// - Parameters:
    ///   - explicitZeroProbability: upstream's `explicit_zero_prob`: the two NLL terms.
    ///   - cellEmbeddingPrediction: upstream's `GEPC`: the two terms predicted from the cell embedding.
    ///   - elasticThreshold: upstream's `ecs_thres`, at most 1; as there, 0 or less switches ECS off.
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

    /// Cell-type annotation: CLS.
    public static var annotation: TotalObjective {
        TotalObjective(weights: TermValues(cellType: 1))
    }

    /// Perturbation: MSE. Upstream's mask selects everything: give none.
    public static var perturbation: TotalObjective {
        TotalObjective(weights: TermValues(maskedGene: 1))
    }

    /// Multi-omics: MSE + MVC + DAB.
    public static var multiOmics: TotalObjective {
        TotalObjective(weights: TermValues(maskedGene: 1, cellGene: 1, batch: 1))
    }

    /// Generative pretraining: MSE + MVC + GEN.
    ///
    /// - Parameter fromCellEmbedding: whether GEN is on, the MSE of the values generated from the detached
    ///   cell embedding. Upstream adds it after 1,000 iterations.
    public static func generativePretraining(fromCellEmbedding: Bool = true) -> TotalObjective {
        TotalObjective(
            weights: TermValues(maskedGene: 1, cellGene: 1, generation: fromCellEmbedding ? 1 : nil))
    }

    /// Pretraining on masked values with cell types: MSE + CLS + 10·CCE + MVC.
    public static var maskedPretraining: TotalObjective {
        TotalObjective(weights: TermValues(maskedGene: 1, cellGene: 1, cellType: 1, contrastive: 10))
    }

    /// scFormer's integration:
    /// ``integration(explicitZeroProbability:cellEmbeddingPrediction:elasticThreshold:batchWeight:)`` with
    /// β = 0.5.
    ///
    /// - Parameters:
    ///   - cellTypes: whether CLS is on.
    ///   - contrastive: whether 10·CCE is on.
    public static func scFormer(cellTypes: Bool = false, contrastive: Bool = false) -> TotalObjective {
        var objective = integration(elasticThreshold: 0.5)
        objective.weights.cellType = cellTypes ? 1 : nil
        objective.weights.contrastive = contrastive ? 10 : nil
        return objective
    }
}

// MARK: - Results

/// The total objective and the values that upstream logs.
public struct ObjectiveValue: Equatable, Sendable {
    /// Σ weight · value.
    public internal(set) var total = 0.0
    /// The terms that are on, without their weights.
    public internal(set) var values = TermValues<Double>()
    /// The terms that are on, times their weights.
    public internal(set) var weighted = TermValues<Double>()
    /// ``MaskedRelativeError`` of the gene predictions, if ``ObjectiveTerm/maskedGene`` is on. It is a
    /// metric, and no part of the total.
    public internal(set) var relativeError: Double?
    /// The number of elements that the mask selected; 0 without value terms.
    public internal(set) var selectedCount = 0
    /// How many of the B² pairs ``ObjectiveTerm/elastic`` summed in closed form.
    public internal(set) var certifiedPairs = 0

    /// The terms as upstream logs them: weighted, except the batch term.
    public var logged: TermValues<Double> {
        var logged = weighted
        logged.batch = values.batch
        return logged
    }
}
