// The arrays of an objective's call as two lists: inputs and gradients.

/// An array that the objective reads. The raw value is its name in messages.
enum InputSlot: String, CaseIterable {
    case targets
    case mask
    case genePredictions
    case geneNonzero
    case cellPredictions
    case cellNonzero
    case generatedPredictions
    case cellEmbedding
    case secondCellEmbedding
    case cellTypeLogits = "cellTypes.logits"
    case cellTypeLabels = "cellTypes.labels"
    case batchLogits = "batches.logits"
    case batchLabels = "batches.labels"

    var name: String { rawValue }
}

/// A gradient that the objective writes.
enum GradientSlot: Int, CaseIterable {
    case genePredictions
    case geneNonzero
    case cellPredictions
    case cellNonzero
    case generatedPredictions
    case cellEmbedding
    case secondCellEmbedding
    case cellTypeLogits
    case batchLogits
    case reversedBatchLogits

    /// The name of the buffer in messages.
    var name: String {
        switch self {
        case .genePredictions: "gradients.genePredictions"
        case .geneNonzero: "gradients.geneNonzero"
        case .cellPredictions: "gradients.cellPredictions"
        case .cellNonzero: "gradients.cellNonzero"
        case .generatedPredictions: "gradients.generatedPredictions"
        case .cellEmbedding: "gradients.cellEmbedding"
        case .secondCellEmbedding: "gradients.secondCellEmbedding"
        case .cellTypeLogits: "gradients.cellTypeLogits"
        case .batchLogits: "gradients.batchLogits"
        case .reversedBatchLogits: "gradients.reversedBatchLogits"
        }
    }

    /// The input that it belongs to.
    var input: InputSlot {
        switch self {
        case .genePredictions: .genePredictions
        case .geneNonzero: .geneNonzero
        case .cellPredictions: .cellPredictions
        case .cellNonzero: .cellNonzero
        case .generatedPredictions: .generatedPredictions
        case .cellEmbedding: .cellEmbedding
        case .secondCellEmbedding: .secondCellEmbedding
        case .cellTypeLogits: .cellTypeLogits
        case .batchLogits, .reversedBatchLogits: .batchLogits
        }
    }
}

// MARK: - Terms by slot

extension ObjectiveTerm {
    /// The terms over targets and mask, in the order of upstream's sum.
    package static var valueTerms: InlineArray<5, ObjectiveTerm> {
        [.maskedGene, .maskedGeneZero, .cellGene, .cellGeneZero, .generation]
    }

    /// The predictions that a value term reads.
    var predictions: InputSlot {
        switch self {
        case .maskedGene: .genePredictions
        case .maskedGeneZero: .geneNonzero
        case .cellGene: .cellPredictions
        case .cellGeneZero: .cellNonzero
        default: .generatedPredictions
        }
    }

    /// The gradient of a value term.
    var gradient: GradientSlot {
        switch self {
        case .maskedGene: .genePredictions
        case .maskedGeneZero: .geneNonzero
        case .cellGene: .cellPredictions
        case .cellGeneZero: .cellNonzero
        default: .generatedPredictions
        }
    }

    /// The case's name, for messages. A literal: Swift allocates memory for the name of a case.
    var name: String {
        switch self {
        case .maskedGene: "maskedGene"
        case .maskedGeneZero: "maskedGeneZero"
        case .cellGene: "cellGene"
        case .cellGeneZero: "cellGeneZero"
        case .generation: "generation"
        case .cellType: "cellType"
        case .contrastive: "contrastive"
        case .elastic: "elastic"
        case .batch: "batch"
        }
    }

    /// The weight's name, for messages. A literal, as `name`.
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
}

// MARK: - Inputs by slot

extension ObjectiveElements {
    /// An output of the model; nil if it is not given.
    subscript(slot: InputSlot) -> ModelElements? {
        switch slot {
        case .genePredictions: genePredictions
        case .geneNonzero: geneNonzero
        case .cellPredictions: cellPredictions
        case .cellNonzero: cellNonzero
        case .generatedPredictions: generatedPredictions
        case .cellEmbedding: cellEmbedding
        case .secondCellEmbedding: secondCellEmbedding
        case .cellTypeLogits: cellTypes?.logits
        case .batchLogits: batches?.logits
        case .targets, .mask, .cellTypeLabels, .batchLabels: nil
        }
    }

    /// The memory of an input; nil if it is not given.
    func memory(_ slot: InputSlot) -> NamedMemory? {
        switch slot {
        case .targets: targets.map { NamedMemory(slot.name, $0) }
        case .mask: mask.map { NamedMemory(slot.name, $0) }
        case .cellTypeLabels: cellTypes.map { NamedMemory(slot.name, $0.labels) }
        case .batchLabels: batches.map { NamedMemory(slot.name, $0.labels) }
        default: self[slot].map { $0.named(slot.name) }
        }
    }

    /// The output of the model that an enabled term reads.
    func required(_ slot: InputSlot, by term: ObjectiveTerm) throws(LossError) -> ModelElements {
        guard let elements = self[slot] else { throw .missingInput(term: term.name, argument: slot.name) }
        return elements
    }

    /// The targets that an enabled term reads.
    func requiredTargets(by term: ObjectiveTerm) throws(LossError) -> UnsafeBufferPointer<Float> {
        guard let targets else { throw .missingInput(term: term.name, argument: InputSlot.targets.name) }
        return targets
    }

    /// The classification that an enabled term reads.
    func classification(of term: ObjectiveTerm) throws(LossError) -> ClassificationElements {
        let (classification, argument) = term == .batch ? (batches, "batches") : (cellTypes, "cellTypes")
        guard let classification else { throw .missingInput(term: term.name, argument: argument) }
        return classification
    }

    /// The shape of both cell embeddings.
    var embeddingShape: MatrixShape { MatrixShape(rows: shape.rows, columns: width) }
}

// MARK: - Gradients by slot

/// The buffers of the gradients that are wanted, and the factor of all gradients.
struct GradientTable {
    private var buffers = InlineArray<10, GradientMemory?>(repeating: nil)
    let scale: Float
    let update: GradientUpdate

    /// A table without buffers.
    init(scale: Float = 1, update: GradientUpdate = .overwrite) {
        self.scale = scale
        self.update = update
    }

    subscript(slot: GradientSlot) -> GradientMemory? {
        get { buffers[slot.rawValue] }
        set { buffers[slot.rawValue] = newValue }
    }

    /// Throws if a buffer has no input, not its input's size, or shares memory with an input or another
    /// buffer.
    func check(against inputs: ObjectiveElements) throws(LossError) {
        for slot in GradientSlot.allCases {
            guard let buffer = self[slot] else { continue }
            guard let input = inputs[slot.input] else {
                throw .gradientWithoutInput(gradient: slot.name)
            }
            try checkCount(slot.name, buffer.count, is: input.count)
            let memory = buffer.named(slot.name)
            for other in InputSlot.allCases { try checkNoOverlap(memory, inputs.memory(other)) }
            for other in GradientSlot.allCases where other.rawValue < slot.rawValue {
                try checkNoOverlap(memory, self[other].map { $0.named(other.name) })
            }
        }
    }

    /// The output of a term's gradient; nil if the gradient is not wanted or the term is off.
    ///
    /// - Parameter lambda: λ for the gradient before a reversal.
    func output(
        _ slot: GradientSlot, weight: Float?, reversedBy lambda: Float? = nil, update: GradientUpdate? = nil
    ) -> GradientOutput? {
        guard let buffer = self[slot], let weight else { return nil }
        return GradientOutput(
            buffer, named: slot.name, scale: -Double(lambda ?? -1) * Double(weight) * Double(scale),
            named: lambda == nil ? "weight · gradientScale" : "lambda · weight · gradientScale",
            update: update ?? self.update)
    }

    /// Writes 0 to a buffer whose terms are off, unless gradients accumulate.
    func clear(_ slot: GradientSlot) {
        if update == .overwrite { self[slot]?.clear() }
    }
}
