// The arrays of an objective's call as one list: what is read, and what is written.

/// An array that the objective reads. The raw value is what it is called in messages.
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

    /// What the buffer is called in messages.
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

    /// What it is the gradient of.
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

// MARK: - Inputs by slot

extension ObjectiveInputs {
    /// The memory of an array, if it was given, and how many elements it has.
    func memory(_ slot: InputSlot) -> (memory: NamedMemory, count: Int)? {
        func named<Element: BitwiseCopyable>(_ span: Span<Element>?) -> (memory: NamedMemory, count: Int)? {
            guard let span else { return nil }
            return (NamedMemory(slot.name, span.memory), span.count)
        }
        return switch slot {
        case .targets: named(targets)
        case .mask: named(mask)
        case .genePredictions: named(genePredictions)
        case .geneNonzero: named(geneNonzero)
        case .cellPredictions: named(cellPredictions)
        case .cellNonzero: named(cellNonzero)
        case .generatedPredictions: named(generatedPredictions)
        case .cellEmbedding: named(cellEmbedding)
        case .secondCellEmbedding: named(secondCellEmbedding)
        case .cellTypeLogits: named(cellTypes?.logits)
        case .cellTypeLabels: named(cellTypes?.labels)
        case .batchLogits: named(batches?.logits)
        case .batchLabels: named(batches?.labels)
        }
    }
}

// MARK: - Gradients by slot

/// The buffers of the gradients that are wanted, and what every gradient is multiplied by.
struct GradientTable {
    private var buffers = InlineArray<10, UnsafeMutableBufferPointer<Float>?>(repeating: nil)
    let scale: Float
    let update: GradientUpdate

    /// No gradient is wanted.
    init() {
        scale = 1
        update = .overwrite
    }

    init(_ gradients: inout ObjectiveGradients, scale: Float, update: GradientUpdate) {
        self.scale = scale
        self.update = update
        self[.genePredictions] = gradients.genePredictions?.memory
        self[.geneNonzero] = gradients.geneNonzero?.memory
        self[.cellPredictions] = gradients.cellPredictions?.memory
        self[.cellNonzero] = gradients.cellNonzero?.memory
        self[.generatedPredictions] = gradients.generatedPredictions?.memory
        self[.cellEmbedding] = gradients.cellEmbedding?.memory
        self[.secondCellEmbedding] = gradients.secondCellEmbedding?.memory
        self[.cellTypeLogits] = gradients.cellTypeLogits?.memory
        self[.batchLogits] = gradients.batchLogits?.memory
        self[.reversedBatchLogits] = gradients.reversedBatchLogits?.memory
    }

    subscript(slot: GradientSlot) -> UnsafeMutableBufferPointer<Float>? {
        get { buffers[slot.rawValue] }
        set { buffers[slot.rawValue] = newValue }
    }

    /// Throws where a buffer has no input, not its input's size, or memory that is also an input's or another buffer's.
    func check(against inputs: ObjectiveInputs) throws(LossError) {
        for slot in GradientSlot.allCases {
            guard let buffer = self[slot] else { continue }
            guard let input = inputs.memory(slot.input) else {
                throw .gradientWithoutInput(gradient: slot.name)
            }
            try checkCount(slot.name, buffer.count, is: input.count)
            let memory = NamedMemory(slot.name, buffer)
            for other in InputSlot.allCases { try checkNoOverlap(memory, inputs.memory(other)?.memory) }
            for other in GradientSlot.allCases where other.rawValue < slot.rawValue {
                try checkNoOverlap(memory, self[other].map { NamedMemory(other.name, $0) })
            }
        }
    }

    /// Where a term of this weight writes its gradient; nil where it is not wanted or the term is off.
    ///
    /// - Parameter lambda: what stands before the gradient beyond a reversal, with its sign.
    func output(
        _ slot: GradientSlot, weight: Float?, reversedBy lambda: Float? = nil, update: GradientUpdate? = nil
    ) -> GradientOutput? {
        guard let buffer = self[slot], let weight else { return nil }
        return GradientOutput(
            buffer, named: slot.name, scale: -Double(lambda ?? -1) * Double(weight) * Double(scale),
            named: lambda == nil ? "weight · gradientScale" : "lambda · weight · gradientScale",
            update: update ?? self.update)
    }

    /// Writes 0 to a buffer whose terms are off.
    func clear(_ slot: GradientSlot) {
        if update == .overwrite { self[slot]?.update(repeating: 0) }
    }
}
