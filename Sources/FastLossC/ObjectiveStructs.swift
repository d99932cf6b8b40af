// The objective of the C interface: its conversion to and from the Swift API's, and the presets.

import CFastLoss
import FastLoss

// MARK: - Terms

extension ObjectiveTerm {
    /// The terms in the order of their constants in C.
    static var numbered: InlineArray<9, ObjectiveTerm> {
        [
            .maskedGene, .maskedGeneZero, .cellGene, .cellGeneZero, .generation, .cellType, .contrastive,
            .elastic, .batch,
        ]
    }

    fileprivate static func checkedNumber(_ term: fastloss_term) throws(CallError) -> Int {
        let number = Int(term)
        guard numbered.indices.contains(number) else { throw .invalidEnumeration(name: "term", value: term) }
        return number
    }
}

@c @implementation
public func fastloss_term_name(_ term: fastloss_term) -> UnsafePointer<CChar>? {
    switch Int(term) {
    case FASTLOSS_TERM_MASKED_GENE: staticText("mse")
    case FASTLOSS_TERM_MASKED_GENE_ZERO: staticText("nzlp")
    case FASTLOSS_TERM_CELL_GENE: staticText("mvc")
    case FASTLOSS_TERM_CELL_GENE_ZERO: staticText("mvc_nzlp")
    case FASTLOSS_TERM_GENERATION: staticText("gen")
    case FASTLOSS_TERM_CELL_TYPE: staticText("cls")
    case FASTLOSS_TERM_CONTRASTIVE: staticText("cce")
    case FASTLOSS_TERM_ELASTIC: staticText("ecs")
    case FASTLOSS_TERM_BATCH: staticText("dab")
    default: nil
    }
}

// MARK: - Arrays over the terms

/// The elements of a C array over the terms. Swift imports it as a tuple.
func withTerms<Value, Tuple, Result>(
    of tuple: inout Tuple, as type: Value.Type, _ body: (UnsafeMutableBufferPointer<Value>) -> Result
) -> Result {
    withUnsafeMutableBytes(of: &tuple) { body($0.assumingMemoryBound(to: Value.self)) }
}

extension TermValues {
    /// Writes each value at its term's index. Other elements keep their values.
    func write(to places: UnsafeMutableBufferPointer<Value>) {
        let terms = ObjectiveTerm.numbered
        for number in terms.indices {
            if let value = self[terms[number]] { places[number] = value }
        }
    }

    /// The bits of the terms that have a value.
    var bits: UInt32 {
        var bits: UInt32 = 0
        let terms = ObjectiveTerm.numbered
        for number in terms.indices where self[terms[number]] != nil { bits |= 1 << UInt32(number) }
        return bits
    }
}

// MARK: - The objective

extension fastloss_objective: SizedStruct {
    static var firstSize: Int { 128 }
    static var name: String { "fastloss_objective" }
    mutating func setDefaults() { self = Self(TotalObjective(weights: TermValues())) }

    /// The objective in C.
    init(_ objective: TotalObjective) {
        self.init()
        size = Self.firstSize
        terms = objective.weights.bits
        nonzero_form = objective.nonzeroForm.inC
        withTerms(of: &weights, as: Float.self) { objective.weights.write(to: $0) }
        mask_when_empty = objective.whenMaskEmpty.inC
        elastic_threshold = objective.elasticCellSimilarity.threshold
        elastic_when_empty = objective.elasticCellSimilarity.whenEmpty.inC
        contrastive_temperature = objective.contrastiveCellEmbedding.temperature
        contrastive_when_empty = objective.contrastiveCellEmbedding.whenEmpty.inC
        cell_type_reduction = objective.cellTypes.reduction.inC
        cell_type_when_empty = objective.cellTypes.whenEmpty.inC
        cell_type_ignored_label = objective.cellTypes.ignoredLabel
        batch_reduction = objective.domainAdversarial.crossEntropy.reduction.inC
        batch_when_empty = objective.domainAdversarial.crossEntropy.whenEmpty.inC
        batch_ignored_label = objective.domainAdversarial.crossEntropy.ignoredLabel
        batch_lambda = objective.domainAdversarial.reversal.lambda
        elastic_certificate = objective.elasticCellSimilarity.certificate.inC
    }

    /// The objective in Swift.
    func objective() throws(CallError) -> TotalObjective {
        guard terms >> UInt32(FASTLOSS_TERM_COUNT) == 0 else { throw .unknownTerms(bits: terms) }
        try checkReserved(reserved, "reserved")
        var weights = weights
        let values = withTerms(of: &weights, as: Float.self) { places in
            var values = TermValues<Float>()
            let numbered = ObjectiveTerm.numbered
            for number in numbered.indices where terms >> UInt32(number) & 1 == 1 {
                values[numbered[number]] = places[number]
            }
            return values
        }
        for number in ObjectiveTerm.numbered.indices {
            guard let weight = values[ObjectiveTerm.numbered[number]], !weight.isFinite else { continue }
            throw .weight(term: number, weight)
        }
        return TotalObjective(
            weights: values,
            elasticCellSimilarity: ElasticCellSimilarity(
                threshold: elastic_threshold,
                whenEmpty: try EmptySelectionRule(elastic_when_empty, "elastic_when_empty"),
                certificate: try ElasticCellSimilarity.Certificate(
                    elastic_certificate, "elastic_certificate")),
            contrastiveCellEmbedding: ContrastiveCellEmbedding(
                temperature: contrastive_temperature,
                whenEmpty: try EmptySelectionRule(contrastive_when_empty, "contrastive_when_empty")),
            cellTypes: CrossEntropy(
                ignoredLabel: cell_type_ignored_label,
                reduction: try LossReduction(cell_type_reduction, "cell_type_reduction"),
                whenEmpty: try EmptySelectionRule(cell_type_when_empty, "cell_type_when_empty")),
            domainAdversarial: DomainAdversarialLoss(
                crossEntropy: CrossEntropy(
                    ignoredLabel: batch_ignored_label,
                    reduction: try LossReduction(batch_reduction, "batch_reduction"),
                    whenEmpty: try EmptySelectionRule(batch_when_empty, "batch_when_empty")),
                reversal: GradientReversal(lambda: batch_lambda)),
            nonzeroForm: try BernoulliNLL.Form(nonzero_form),
            whenMaskEmpty: try EmptySelectionRule(mask_when_empty, "mask_when_empty"))
    }
}

extension BernoulliNLL.Form {
    init(_ form: fastloss_nonzero_form) throws(CallError) {
        switch Int(form) {
        case FASTLOSS_NONZERO_PROBABILITIES: self = .probabilities
        case FASTLOSS_NONZERO_LOGITS: self = .logits
        default: throw .invalidEnumeration(name: "nonzero_form", value: form)
        }
    }

    fileprivate var inC: fastloss_nonzero_form {
        switch self {
        case .probabilities: fastloss_nonzero_form(FASTLOSS_NONZERO_PROBABILITIES)
        case .logits: fastloss_nonzero_form(FASTLOSS_NONZERO_LOGITS)
        }
    }
}

extension EmptySelectionRule {
    fileprivate var inC: fastloss_empty_rule {
        switch self {
        case .error: fastloss_empty_rule(FASTLOSS_EMPTY_ERROR)
        case .zero: fastloss_empty_rule(FASTLOSS_EMPTY_ZERO)
        case .nan: fastloss_empty_rule(FASTLOSS_EMPTY_NAN)
        }
    }
}

extension LossReduction {
    fileprivate var inC: fastloss_reduction {
        switch self {
        case .mean: fastloss_reduction(FASTLOSS_REDUCTION_MEAN)
        case .sum: fastloss_reduction(FASTLOSS_REDUCTION_SUM)
        }
    }
}

// MARK: - Changing an objective

extension fastloss_objective {
    /// Changes the caller's struct.
    fileprivate static func update(
        _ pointer: UnsafeMutablePointer<fastloss_objective>?,
        _ change: (inout fastloss_objective) throws(CallError) -> Void
    ) -> fastloss_status {
        status { () throws(CallError) in
            let pointer = try required(pointer, "objective")
            var value = try read(pointer)
            let size = value.size
            try change(&value)
            value.write(to: pointer, size: size)
        }
    }
}

@c @implementation
public func fastloss_objective_enable(
    _ objective: UnsafeMutablePointer<fastloss_objective>?, _ term: fastloss_term, _ weight: Float
) -> fastloss_status {
    fastloss_objective.update(objective) { (objective) throws(CallError) in
        let number = try ObjectiveTerm.checkedNumber(term)
        objective.terms |= 1 << UInt32(number)
        withTerms(of: &objective.weights, as: Float.self) { $0[number] = weight }
    }
}

@c @implementation
public func fastloss_objective_disable(
    _ objective: UnsafeMutablePointer<fastloss_objective>?, _ term: fastloss_term
) -> fastloss_status {
    fastloss_objective.update(objective) { (objective) throws(CallError) in
        objective.terms &= ~(1 << UInt32(try ObjectiveTerm.checkedNumber(term)))
    }
}

// MARK: - Presets

extension fastloss_objective {
    fileprivate static func set(
        _ pointer: UnsafeMutablePointer<fastloss_objective>?, _ preset: TotalObjective
    ) -> fastloss_status {
        update(pointer) { $0 = Self(preset) }
    }
}

@c @implementation
public func fastloss_objective_integration(
    _ objective: UnsafeMutablePointer<fastloss_objective>?, _ explicitZeroProbability: Bool,
    _ cellEmbeddingPrediction: Bool, _ elasticThreshold: Float, _ batchWeight: Float
) -> fastloss_status {
    fastloss_objective.set(
        objective,
        .integration(
            explicitZeroProbability: explicitZeroProbability,
            cellEmbeddingPrediction: cellEmbeddingPrediction, elasticThreshold: elasticThreshold,
            batchWeight: batchWeight))
}

@c @implementation
public func fastloss_objective_annotation(
    _ objective: UnsafeMutablePointer<fastloss_objective>?
) -> fastloss_status {
    fastloss_objective.set(objective, .annotation)
}

@c @implementation
public func fastloss_objective_perturbation(
    _ objective: UnsafeMutablePointer<fastloss_objective>?
) -> fastloss_status {
    fastloss_objective.set(objective, .perturbation)
}

@c @implementation
public func fastloss_objective_multi_omics(
    _ objective: UnsafeMutablePointer<fastloss_objective>?
) -> fastloss_status {
    fastloss_objective.set(objective, .multiOmics)
}

@c @implementation
public func fastloss_objective_generative_pretraining(
    _ objective: UnsafeMutablePointer<fastloss_objective>?, _ fromCellEmbedding: Bool
) -> fastloss_status {
    fastloss_objective.set(objective, .generativePretraining(fromCellEmbedding: fromCellEmbedding))
}

@c @implementation
public func fastloss_objective_masked_pretraining(
    _ objective: UnsafeMutablePointer<fastloss_objective>?
) -> fastloss_status {
    fastloss_objective.set(objective, .maskedPretraining)
}

@c @implementation
public func fastloss_objective_scformer(
    _ objective: UnsafeMutablePointer<fastloss_objective>?, _ cellTypes: Bool, _ contrastive: Bool
) -> fastloss_status {
    fastloss_objective.set(objective, .scFormer(cellTypes: cellTypes, contrastive: contrastive))
}
