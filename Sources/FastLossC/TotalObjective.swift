// The total objective of the C interface: its inputs, gradients and result.

import CFastLoss
import FastLoss

// MARK: - Inputs

extension fastloss_objective_inputs: SizedStruct {
    static var firstSize: Int { 240 }
    static var name: String { "fastloss_objective_inputs" }
}

/// The element types of the model's outputs.
private struct OutputTypes {
    let genePredictions: ElementType
    let geneNonzero: ElementType
    let cellPredictions: ElementType
    let cellNonzero: ElementType
    let generatedPredictions: ElementType
    let cellEmbedding: ElementType
    let secondCellEmbedding: ElementType
    let cellTypeLogits: ElementType
    let batchLogits: ElementType

    init(_ inputs: fastloss_objective_inputs) throws(CallError) {
        genePredictions = try ElementType(inputs.gene_predictions_type, "gene_predictions_type")
        geneNonzero = try ElementType(inputs.gene_nonzero_type, "gene_nonzero_type")
        cellPredictions = try ElementType(inputs.cell_predictions_type, "cell_predictions_type")
        cellNonzero = try ElementType(inputs.cell_nonzero_type, "cell_nonzero_type")
        generatedPredictions = try ElementType(
            inputs.generated_predictions_type, "generated_predictions_type")
        cellEmbedding = try ElementType(inputs.cell_embedding_type, "cell_embedding_type")
        secondCellEmbedding = try ElementType(inputs.second_cell_embedding_type, "second_cell_embedding_type")
        cellTypeLogits = try ElementType(inputs.cell_type_logits_type, "cell_type_logits_type")
        batchLogits = try ElementType(inputs.batch_logits_type, "batch_logits_type")
        try checkReserved(inputs.reserved, "inputs.reserved")
    }
}

/// The objective's inputs among the matrices of a call; nil for absent ones.
private struct TakenInputs {
    let types: OutputTypes
    let shape: MatrixShape
    let width: Int
    let targets: Taken<Float>
    let mask: Taken<Bool>?
    let genePredictions: TakenOutput?
    let geneNonzero: TakenOutput?
    let cellPredictions: TakenOutput?
    let cellNonzero: TakenOutput?
    let generatedPredictions: TakenOutput?
    let cellEmbedding: TakenOutput?
    let secondCellEmbedding: TakenOutput?
    let cellTypes: TakenClassification?
    let batches: TakenClassification?

    init(_ inputs: fastloss_objective_inputs, _ call: borrowing Call) throws(CallError) {
        let (cells, genes, width) = (inputs.cells, inputs.genes, inputs.width)
        let types = try OutputTypes(inputs)
        self.types = types
        shape = MatrixShape(rows: Int(clamping: cells), columns: Int(clamping: genes))
        self.width = Int(clamping: width)
        // The targets may be absent if no value term is enabled.
        let targets = inputs.targets
        self.targets =
            targets.data == nil
            ? try call.input(nil, Strides(count: 0, of: "targets"))
            : try call.input(
                targets.data,
                Strides(rows: cells, columns: genes, stride: targets.stride, of: "targets"))
        let mask = inputs.mask
        self.mask =
            mask.data == nil
            ? nil
            : try call.input(mask.data, Strides(rows: cells, columns: genes, stride: mask.stride, of: "mask"))
        genePredictions = try call.optional(
            inputs.gene_predictions, cells, genes, "gene_predictions", types.genePredictions)
        geneNonzero = try call.optional(inputs.gene_nonzero, cells, genes, "gene_nonzero", types.geneNonzero)
        cellPredictions = try call.optional(
            inputs.cell_predictions, cells, genes, "cell_predictions", types.cellPredictions)
        cellNonzero = try call.optional(inputs.cell_nonzero, cells, genes, "cell_nonzero", types.cellNonzero)
        generatedPredictions = try call.optional(
            inputs.generated_predictions, cells, genes, "generated_predictions", types.generatedPredictions)
        cellEmbedding = try call.optional(
            inputs.cell_embedding, cells, width, "cell_embedding", types.cellEmbedding)
        secondCellEmbedding = try call.optional(
            inputs.second_cell_embedding, cells, width, "second_cell_embedding", types.secondCellEmbedding)
        cellTypes = try TakenClassification(
            inputs.cell_type_logits, inputs.cell_type_labels, cells, inputs.cell_type_count,
            ("cell_type_logits", "cell_type_labels"), types.cellTypeLogits, call)
        batches = try TakenClassification(
            inputs.batch_logits, inputs.batch_labels, cells, inputs.batch_count,
            ("batch_logits", "batch_labels"), types.batchLogits, call)
    }
}

/// Logits and labels among the matrices of a call.
private struct TakenClassification {
    let logits: TakenOutput
    let labels: Taken<Int32>
    let classes: Int

    /// Nil if both are absent. Throws if one is.
    init?(
        _ logits: fastloss_view, _ labels: UnsafePointer<Int32>?, _ cells: Int64, _ classes: Int64,
        _ names: (logits: String, labels: String), _ type: ElementType, _ call: borrowing Call
    ) throws(CallError) {
        guard logits.data != nil || labels != nil else { return nil }
        let strides = Strides(rows: cells, columns: classes, stride: logits.stride, of: names.logits)
        self.logits = try call.input(logits.data, strides, type)
        self.labels = try call.input(labels, Strides(count: cells, of: names.labels))
        self.classes = Int(clamping: classes)
    }

    func elements(_ call: borrowing Call) -> ClassificationElements {
        ClassificationElements(
            logits: call.elements(logits), labels: UnsafeBufferPointer(call.buffer(labels)), classes: classes)
    }
}

extension Call {
    /// An input; nil if it is absent.
    fileprivate func optional(
        _ view: fastloss_view, _ rows: Int64, _ columns: Int64, _ name: String, _ type: ElementType
    ) throws(CallError) -> TakenOutput? {
        guard view.data != nil else { return nil }
        let strides = Strides(rows: rows, columns: columns, stride: view.stride, of: name)
        return try input(view.data, strides, type)
    }

    /// An output; nil if it is absent. Throws if the input that it belongs to is absent.
    fileprivate func optional(
        _ view: fastloss_mutable_view, _ rows: Int64, _ columns: Int64, _ name: String,
        input: Bool, type: ElementType, update: GradientUpdate
    ) throws(CallError) -> TakenOutput? {
        guard view.data != nil else { return nil }
        guard input else { throw .loss(.gradientWithoutInput(gradient: name)) }
        let strides = Strides(rows: rows, columns: columns, stride: view.stride, of: name)
        return try output(view.data, strides, type, update: update)
    }
}

extension TakenInputs {
    /// The inputs for the objective.
    func elements(_ call: borrowing Call) -> ObjectiveElements {
        ObjectiveElements(
            shape: shape, targets: UnsafeBufferPointer(call.buffer(targets)), mask: call.optionalBuffer(mask),
            genePredictions: call.optionalElements(genePredictions),
            geneNonzero: call.optionalElements(geneNonzero),
            cellPredictions: call.optionalElements(cellPredictions),
            cellNonzero: call.optionalElements(cellNonzero),
            generatedPredictions: call.optionalElements(generatedPredictions), width: width,
            cellEmbedding: call.optionalElements(cellEmbedding),
            secondCellEmbedding: call.optionalElements(secondCellEmbedding),
            cellTypes: cellTypes?.elements(call), batches: batches?.elements(call))
    }
}

// MARK: - Gradients

extension fastloss_objective_gradients: SizedStruct {
    static var firstSize: Int { 176 }
    static var name: String { "fastloss_objective_gradients" }
    mutating func setDefaults() { scale = 1 }
}

/// The objective's gradients among the matrices of a call; nil for absent ones.
private struct TakenGradients {
    let scale: Float
    let update: GradientUpdate
    let genePredictions: TakenOutput?
    let geneNonzero: TakenOutput?
    let cellPredictions: TakenOutput?
    let cellNonzero: TakenOutput?
    let generatedPredictions: TakenOutput?
    let cellEmbedding: TakenOutput?
    let secondCellEmbedding: TakenOutput?
    let cellTypeLogits: TakenOutput?
    let batchLogits: TakenOutput?
    let reversedBatchLogits: TakenOutput?

    init(
        _ gradients: fastloss_objective_gradients, of inputs: fastloss_objective_inputs, _ taken: TakenInputs,
        _ call: borrowing Call
    ) throws(CallError) {
        scale = gradients.scale
        update = try GradientUpdate(gradients.update, of: "gradients")
        let (cells, genes, width) = (inputs.cells, inputs.genes, inputs.width)
        genePredictions = try call.optional(
            gradients.gene_predictions, cells, genes, "gradients.gene_predictions",
            input: taken.genePredictions != nil, type: taken.types.genePredictions, update: update)
        geneNonzero = try call.optional(
            gradients.gene_nonzero, cells, genes, "gradients.gene_nonzero", input: taken.geneNonzero != nil,
            type: taken.types.geneNonzero, update: update)
        cellPredictions = try call.optional(
            gradients.cell_predictions, cells, genes, "gradients.cell_predictions",
            input: taken.cellPredictions != nil, type: taken.types.cellPredictions, update: update)
        cellNonzero = try call.optional(
            gradients.cell_nonzero, cells, genes, "gradients.cell_nonzero", input: taken.cellNonzero != nil,
            type: taken.types.cellNonzero, update: update)
        generatedPredictions = try call.optional(
            gradients.generated_predictions, cells, genes, "gradients.generated_predictions",
            input: taken.generatedPredictions != nil, type: taken.types.generatedPredictions, update: update)
        cellEmbedding = try call.optional(
            gradients.cell_embedding, cells, width, "gradients.cell_embedding",
            input: taken.cellEmbedding != nil, type: taken.types.cellEmbedding, update: update)
        secondCellEmbedding = try call.optional(
            gradients.second_cell_embedding, cells, width, "gradients.second_cell_embedding",
            input: taken.secondCellEmbedding != nil, type: taken.types.secondCellEmbedding, update: update)
        cellTypeLogits = try call.optional(
            gradients.cell_type_logits, cells, inputs.cell_type_count, "gradients.cell_type_logits",
            input: taken.cellTypes != nil, type: taken.types.cellTypeLogits, update: update)
        batchLogits = try call.optional(
            gradients.batch_logits, cells, inputs.batch_count, "gradients.batch_logits",
            input: taken.batches != nil, type: taken.types.batchLogits, update: update)
        reversedBatchLogits = try call.optional(
            gradients.reversed_batch_logits, cells, inputs.batch_count, "gradients.reversed_batch_logits",
            input: taken.batches != nil, type: taken.types.batchLogits, update: update)
    }

    /// The gradients for the objective.
    func memory(_ call: borrowing Call) -> ObjectiveGradientMemory {
        ObjectiveGradientMemory(
            genePredictions: call.optionalMemory(genePredictions),
            geneNonzero: call.optionalMemory(geneNonzero),
            cellPredictions: call.optionalMemory(cellPredictions),
            cellNonzero: call.optionalMemory(cellNonzero),
            generatedPredictions: call.optionalMemory(generatedPredictions),
            cellEmbedding: call.optionalMemory(cellEmbedding),
            secondCellEmbedding: call.optionalMemory(secondCellEmbedding),
            cellTypeLogits: call.optionalMemory(cellTypeLogits),
            batchLogits: call.optionalMemory(batchLogits),
            reversedBatchLogits: call.optionalMemory(reversedBatchLogits))
    }
}

// MARK: - Required inputs

extension fastloss_objective_inputs {
    /// Throws if an enabled term's input is absent.
    fileprivate func checkInputs(of objective: TotalObjective) throws(CallError) {
        let terms = ObjectiveTerm.numbered
        for number in terms.indices where objective.weights[terms[number]] != nil {
            if let input = missingInput(of: terms[number]) {
                throw .missingInput(term: number, input: input)
            }
        }
    }

    /// The name of the first input that the term requires and that is absent.
    private func missingInput(of term: ObjectiveTerm) -> String? {
        func missing(_ view: fastloss_view, _ name: String) -> String? { view.data == nil ? name : nil }
        let targets = cells > 0 && genes > 0 ? missing(targets, "targets") : nil
        return switch term {
        case .maskedGene: targets ?? missing(gene_predictions, "gene_predictions")
        case .maskedGeneZero: targets ?? missing(gene_nonzero, "gene_nonzero")
        case .cellGene: targets ?? missing(cell_predictions, "cell_predictions")
        case .cellGeneZero: targets ?? missing(cell_nonzero, "cell_nonzero")
        case .generation: targets ?? missing(generated_predictions, "generated_predictions")
        case .cellType: missing(cell_type_logits, "cell_type_logits")
        case .contrastive:
            missing(cell_embedding, "cell_embedding")
                ?? missing(second_cell_embedding, "second_cell_embedding")
        case .elastic: missing(cell_embedding, "cell_embedding")
        case .batch: missing(batch_logits, "batch_logits")
        }
    }
}

// MARK: - The result

extension fastloss_objective_value: SizedStruct {
    static var firstSize: Int { 424 }
    static var name: String { "fastloss_objective_value" }

    fileprivate init(_ value: ObjectiveValue, of objective: TotalObjective) {
        self = Self.defaults
        total = value.total
        relative_error = value.relativeError ?? .nan
        selected_count = Int64(value.selectedCount)
        terms = objective.weights.bits
        withTerms(of: &values, as: Double.self) { value.values.write(to: $0) }
        withTerms(of: &weighted, as: Double.self) { value.weighted.write(to: $0) }
        withTerms(of: &logged, as: Double.self) { value.logged.write(to: $0) }
        certified_pairs = Int64(value.certifiedPairs)
    }

}

@c @implementation
public func fastloss_total_objective(
    _ objective: UnsafePointer<fastloss_objective>?, _ inputs: UnsafePointer<fastloss_objective_inputs>?,
    _ gradients: UnsafePointer<fastloss_objective_gradients>?, _ workspace: OpaquePointer?,
    _ value: UnsafeMutablePointer<fastloss_objective_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        try call.totalObjective(objective, inputs, gradients, value) {
            (objective, inputs, gradients) throws(CallError) in
            try call.runObjective { (layout) throws(LossError) in
                let elements = inputs.elements(call)
                guard let gradients else { return try objective.plan(elements, in: &layout) }
                return try objective.plan(
                    elements, gradients: gradients.memory(call), gradientScale: gradients.scale,
                    update: gradients.update, in: &layout)
            }
        }
    }
}

@c @implementation
public func fastloss_ranks_total_objective(
    _ objective: UnsafePointer<fastloss_objective>?, _ inputs: UnsafePointer<fastloss_objective_inputs>?,
    _ gradients: UnsafePointer<fastloss_objective_gradients>?,
    _ communicator: UnsafePointer<fastloss_communicator>?, _ workspace: OpaquePointer?,
    _ value: UnsafeMutablePointer<fastloss_objective_value>?
) -> fastloss_status {
    callAcrossRanks(workspace, communicator) { (call, ranks) throws(CallError) in
        try call.totalObjective(objective, inputs, gradients, value) {
            (objective, inputs, gradients) throws(CallError) in
            do throws(LossError) {
                return try call.runAcrossRanks { (workspace) throws(LossError) in
                    try objective.valueAndGradient(
                        inputs.elements(call), gradients: gradients.map { $0.memory(call) },
                        gradientScale: gradients?.scale ?? 1, update: gradients?.update ?? .overwrite,
                        across: ranks, workspace: workspace)
                }
            } catch {
                throw .objective(error)
            }
        }
    }
}

extension Call {
    /// Reads the arguments of an objective's call, and writes what `compute` returns.
    fileprivate func totalObjective(
        _ objective: UnsafePointer<fastloss_objective>?, _ inputs: UnsafePointer<fastloss_objective_inputs>?,
        _ gradients: UnsafePointer<fastloss_objective_gradients>?,
        _ value: UnsafeMutablePointer<fastloss_objective_value>?,
        _ compute: (TotalObjective, TakenInputs, TakenGradients?) throws(CallError) -> ObjectiveValue
    ) throws(CallError) {
        let objective = try fastloss_objective.read(required(objective, "objective")).objective()
        let place = try required(value, "value")
        let size = try fastloss_objective_value.checkedSize(place)
        let inputs = try fastloss_objective_inputs.read(required(inputs, "inputs"))
        let taken = try TakenInputs(inputs, self)
        let takenGradients: TakenGradients? =
            gradients == nil
            ? nil
            : try TakenGradients(fastloss_objective_gradients.read(gradients), of: inputs, taken, self)
        try inputs.checkInputs(of: objective)
        let result = try compute(objective, taken, takenGradients)
        fastloss_objective_value(result, of: objective).write(to: place, size: size)
    }
}
