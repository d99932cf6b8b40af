// One batch for the total objective, as the tests write it down: arrays by name, and a call that hands them
// over.

import FastLoss
import Testing

/// The inputs that have a gradient, under their names in the API. `reversedBatchLogits` is a gradient alone.
enum ObjectiveSlot: String, CaseIterable, CustomTestStringConvertible {
    case genePredictions, geneNonzero, cellPredictions, cellNonzero, generatedPredictions
    case cellEmbedding, secondCellEmbedding
    case cellTypeLogits, batchLogits, reversedBatchLogits

    var testDescription: String { rawValue }

    /// The input that this is the gradient of.
    var input: ObjectiveSlot { self == .reversedBatchLogits ? .batchLogits : self }

    /// All inputs.
    static let inputs = allCases.filter { $0.input == $0 }

    /// The inputs over targets and mask.
    static let values: [ObjectiveSlot] = [
        .genePredictions, .geneNonzero, .cellPredictions, .cellNonzero, .generatedPredictions,
    ]

    /// The gradients of cell embeddings.
    static let embeddings: [ObjectiveSlot] = [.cellEmbedding, .secondCellEmbedding]

    /// What messages call the input.
    var argument: String {
        switch self {
        case .cellTypeLogits: "cellTypes.logits"
        case .batchLogits, .reversedBatchLogits: "batches.logits"
        default: rawValue
        }
    }

    /// The inputs that a term reads.
    static func read(by term: ObjectiveTerm) -> [ObjectiveSlot] {
        switch term {
        case .maskedGene: [.genePredictions]
        case .maskedGeneZero: [.geneNonzero]
        case .cellGene: [.cellPredictions]
        case .cellGeneZero: [.cellNonzero]
        case .generation: [.generatedPredictions]
        case .elastic: [.cellEmbedding]
        case .contrastive: [.cellEmbedding, .secondCellEmbedding]
        case .cellType: [.cellTypeLogits]
        case .batch: [.batchLogits]
        }
    }
}

/// A model's outputs for one batch, and what they are to match.
struct ObjectiveBatch {
    var shape: MatrixShape
    var width: Int
    var targets: [Float]
    var mask: [Bool]?
    var cellTypeLabels: [Int32]
    var cellTypeCount: Int
    var batchLabels: [Int32]
    var batchCount: Int
    /// The inputs that are given.
    var inputs: [ObjectiveSlot: [Float]]
}

extension ObjectiveBatch {
    /// A batch with every input.
    static func random(
        cells: Int, tokens: Int, width: Int, cellTypes: Int = 4, batches: Int = 3, seed: UInt64 = 1
    ) -> ObjectiveBatch {
        var random = RandomInputs(seed: seed)
        let count = cells * tokens
        let embedding = random.embeddings(rows: cells, columns: width)
        var mask = random.mask(count)
        // Something is selected however small the batch is.
        if !mask.isEmpty { mask[mask.count / 2] = true }
        var cellTypeLabels = random.labels(cells, classes: cellTypes, ignored: 0.2)
        if cells > 0 { cellTypeLabels[cells - 1] = 0 }
        return ObjectiveBatch(
            shape: MatrixShape(rows: cells, columns: tokens), width: width, targets: random.targets(count),
            mask: mask,
            cellTypeLabels: cellTypeLabels, cellTypeCount: cellTypes,
            batchLabels: random.labels(cells, classes: batches), batchCount: batches,
            inputs: [
                .genePredictions: random.predictions(count), .geneNonzero: random.probabilities(count),
                .cellPredictions: random.predictions(count), .cellNonzero: random.probabilities(count),
                .generatedPredictions: random.predictions(count),
                .cellEmbedding: embedding, .secondCellEmbedding: random.secondEncoding(of: embedding),
                .cellTypeLogits: random.normals(cells * cellTypes, scale: 2),
                .batchLogits: random.normals(cells * batches, scale: 2),
            ])
    }

    /// A gradient buffer for everything that has an input, filled with what no loss writes.
    var untouchedGradients: [ObjectiveSlot: [Float]] {
        var gradients: [ObjectiveSlot: [Float]] = [:]
        for slot in ObjectiveSlot.allCases {
            if let input = inputs[slot.input] { gradients[slot] = .untouched(input.count) }
        }
        return gradients
    }

    /// The value alone.
    func value(
        of objective: TotalObjective, workspace: Workspace = Workspace()
    ) throws(LossError) -> ObjectiveValue {
        let memory = ObjectiveMemory(self, gradients: [:])
        return try memory.value(of: objective, workspace: workspace)
    }

    /// Value and gradients. Slots that are absent from `gradients` get no buffer. Afterwards the arrays hold
    /// the buffers' contents, even if the call threw.
    func valueAndGradient(
        of objective: TotalObjective, gradients: inout [ObjectiveSlot: [Float]], gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace = Workspace()
    ) throws(LossError) -> ObjectiveValue {
        let memory = ObjectiveMemory(self, gradients: gradients)
        defer { gradients = memory.gradients.mapValues { Array($0) } }
        return try memory.valueAndGradient(
            of: objective, gradientScale: gradientScale, update: update, workspace: workspace)
    }

    /// Value and all gradients.
    func evaluate(
        _ objective: TotalObjective, gradientScale: Float = 1, workspace: Workspace = Workspace()
    ) throws(LossError) -> (value: ObjectiveValue, gradients: [ObjectiveSlot: [Float]]) {
        var gradients = untouchedGradients
        let value = try valueAndGradient(
            of: objective, gradients: &gradients, gradientScale: gradientScale, workspace: workspace)
        return (value, gradients)
    }
}

/// The memory of one call of floats.
typealias ObjectiveMemory = TypedObjectiveMemory<Float>

/// The memory of one call, by address, so that tests can make two arguments share it. The outputs of the model are
/// rounded to the type.
final class TypedObjectiveMemory<Output: ModelOutputElement> {
    let batch: ObjectiveBatch
    let targets: UnsafeMutableBufferPointer<Float>
    let mask: UnsafeMutableBufferPointer<Bool>?
    let cellTypeLabels: UnsafeMutableBufferPointer<Int32>
    let batchLabels: UnsafeMutableBufferPointer<Int32>
    private(set) var inputs: [ObjectiveSlot: UnsafeMutableBufferPointer<Output>] = [:]
    var gradients: [ObjectiveSlot: UnsafeMutableBufferPointer<Output>] = [:]
    private var blocks: [UnsafeMutableRawPointer] = []

    /// Zero bytes behind every array: a gradient that is put there stays inside.
    private static var slack: Int { 256 }

    init(_ batch: ObjectiveBatch, gradients: [ObjectiveSlot: [Output]]) {
        var blocks: [UnsafeMutableRawPointer] = []
        func copy<Element: BitwiseCopyable>(_ array: [Element]) -> UnsafeMutableBufferPointer<Element> {
            let size = array.count * MemoryLayout<Element>.stride + Self.slack
            let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
            block.initializeMemory(as: UInt8.self, repeating: 0, count: size)
            blocks.append(block)
            let buffer = UnsafeMutableBufferPointer(
                start: block.bindMemory(to: Element.self, capacity: array.count), count: array.count)
            _ = buffer.initialize(from: array)
            return buffer
        }
        self.batch = batch
        targets = copy(batch.targets)
        mask = batch.mask.map { copy($0) }
        cellTypeLabels = copy(batch.cellTypeLabels)
        batchLabels = copy(batch.batchLabels)
        inputs = batch.inputs.mapValues { copy($0.map { Output($0) }) }
        self.gradients = gradients.mapValues { copy($0) }
        self.blocks = blocks
    }

    deinit {
        for block in blocks { block.deallocate() }
    }

    func value(of objective: TotalObjective, workspace: Workspace) throws(LossError) -> ObjectiveValue {
        try objective.value(spans, workspace: workspace)
    }

    func valueAndGradient(
        of objective: TotalObjective, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        var gradients = gradientSpans
        return try objective.valueAndGradient(
            spans, gradients: &gradients, gradientScale: gradientScale, update: update, workspace: workspace)
    }

    func valueAndGradient(
        of objective: TotalObjective, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        var gradients = gradientSpans
        return try objective.valueAndGradient(
            spans, gradients: &gradients, gradientScale: gradientScale, update: update,
            across: communicator, workspace: workspace)
    }

    func value(
        of objective: TotalObjective, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try objective.value(spans, across: communicator, workspace: workspace)
    }

    private var gradientSpans: ObjectiveGradientFields<MutableSpan<Output>> {
        @_lifetime(borrow self)
        get {
            ObjectiveGradientFields<MutableSpan<Output>>(
                genePredictions: gradient(.genePredictions), geneNonzero: gradient(.geneNonzero),
                cellPredictions: gradient(.cellPredictions), cellNonzero: gradient(.cellNonzero),
                generatedPredictions: gradient(.generatedPredictions),
                cellEmbedding: gradient(.cellEmbedding),
                secondCellEmbedding: gradient(.secondCellEmbedding),
                cellTypeLogits: gradient(.cellTypeLogits),
                batchLogits: gradient(.batchLogits), reversedBatchLogits: gradient(.reversedBatchLogits))
        }
    }

    private typealias Inputs = ObjectiveInputFields<Span<Output>, Span<Float>, Span<Bool>, Span<Int32>>

    private var spans: Inputs {
        @_lifetime(borrow self)
        get {
            Inputs(
                shape: batch.shape, targets: span(targets), mask: maskSpan,
                genePredictions: input(.genePredictions), geneNonzero: input(.geneNonzero),
                cellPredictions: input(.cellPredictions), cellNonzero: input(.cellNonzero),
                generatedPredictions: input(.generatedPredictions), width: batch.width,
                cellEmbedding: input(.cellEmbedding), secondCellEmbedding: input(.secondCellEmbedding),
                cellTypes: classification(.cellTypeLogits, cellTypeLabels, batch.cellTypeCount),
                batches: classification(.batchLogits, batchLabels, batch.batchCount))
        }
    }

    private var maskSpan: Span<Bool>? {
        @_lifetime(borrow self)
        get {
            guard let mask else { return nil }
            return span(mask)
        }
    }

    @_lifetime(borrow self)
    private func classification(
        _ slot: ObjectiveSlot, _ labels: UnsafeMutableBufferPointer<Int32>, _ classes: Int
    ) -> ClassificationFields<Span<Output>, Span<Int32>>? {
        guard let logits = inputs[slot] else { return nil }
        return ClassificationFields(logits: span(logits), labels: span(labels), classes: classes)
    }

    @_lifetime(borrow self)
    private func input(_ slot: ObjectiveSlot) -> Span<Output>? {
        guard let input = inputs[slot] else { return nil }
        return span(input)
    }

    @_lifetime(borrow self)
    private func span<Element: BitwiseCopyable>(
        _ buffer: UnsafeMutableBufferPointer<Element>
    ) -> Span<Element> {
        _overrideLifetime(Span(_unsafeElements: UnsafeBufferPointer(buffer)), borrowing: self)
    }

    @_lifetime(borrow self)
    private func gradient(_ slot: ObjectiveSlot) -> MutableSpan<Output>? {
        guard let gradient = gradients[slot] else { return nil }
        return _overrideLifetime(MutableSpan(_unsafeElements: gradient), borrowing: self)
    }
}
