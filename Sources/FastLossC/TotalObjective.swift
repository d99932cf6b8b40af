// The total objective for C: its inputs and gradients as matrices of one call, and its result.

import CFastLoss
import FastLoss

// MARK: - Inputs

extension fastloss_objective_inputs: SizedStruct {
    static var firstSize: Int { 240 }
    static var name: String { "fastloss_objective_inputs" }
    static var defaults: Self {
        var inputs = Self()
        inputs.size = firstSize
        return inputs
    }
}

/// The objective's inputs among the matrices of a call; nil where one was not given.
private struct TakenInputs {
    let shape: MatrixShape
    let width: Int
    let targets: Taken<Float>
    let mask: Taken<Bool>?
    let genePredictions: Taken<Float>?
    let geneNonzero: Taken<Float>?
    let cellPredictions: Taken<Float>?
    let cellNonzero: Taken<Float>?
    let generatedPredictions: Taken<Float>?
    let cellEmbedding: Taken<Float>?
    let secondCellEmbedding: Taken<Float>?
    let cellTypes: TakenClassification?
    let batches: TakenClassification?

    init(_ inputs: fastloss_objective_inputs, _ call: borrowing Call) throws(CallError) {
        let (cells, genes, width) = (inputs.cells, inputs.genes, inputs.width)
        shape = MatrixShape(rows: Int(clamping: cells), columns: Int(clamping: genes))
        self.width = Int(clamping: width)
        // Without value terms nobody looks at the targets.
        if let targets = try call.optional(inputs.targets, cells, genes, "targets") {
            self.targets = targets
        } else {
            targets = try call.input(nil, Strides(count: 0, of: "targets"))
        }
        let mask = inputs.mask
        self.mask =
            mask.data == nil
            ? nil
            : try call.input(mask.data, Strides(rows: cells, columns: genes, stride: mask.stride, of: "mask"))
        genePredictions = try call.optional(inputs.gene_predictions, cells, genes, "genePredictions")
        geneNonzero = try call.optional(inputs.gene_nonzero, cells, genes, "geneNonzero")
        cellPredictions = try call.optional(inputs.cell_predictions, cells, genes, "cellPredictions")
        cellNonzero = try call.optional(inputs.cell_nonzero, cells, genes, "cellNonzero")
        generatedPredictions = try call.optional(
            inputs.generated_predictions, cells, genes, "generatedPredictions")
        cellEmbedding = try call.optional(inputs.cell_embedding, cells, width, "cellEmbedding")
        secondCellEmbedding = try call.optional(
            inputs.second_cell_embedding, cells, width, "secondCellEmbedding")
        cellTypes = try TakenClassification(
            inputs.cell_type_logits, inputs.cell_type_labels, cells, inputs.cell_type_count,
            ("cellTypes.logits", "cellTypes.labels"), call)
        batches = try TakenClassification(
            inputs.batch_logits, inputs.batch_labels, cells, inputs.batch_count,
            ("batches.logits", "batches.labels"), call)
    }
}

/// Logits and labels among the matrices of a call.
private struct TakenClassification {
    let logits: Taken<Float>
    let labels: Taken<Int32>
    let classes: Int

    /// Nil where neither was given; one without the other is an error.
    init?(
        _ logits: fastloss_view, _ labels: UnsafePointer<Int32>?, _ cells: Int64, _ classes: Int64,
        _ names: (logits: String, labels: String), _ call: borrowing Call
    ) throws(CallError) {
        guard logits.data != nil || labels != nil else { return nil }
        self.logits = try call.input(
            logits.data,
            Strides(rows: cells, columns: classes, stride: logits.stride, of: names.logits))
        self.labels = try call.input(labels, Strides(count: cells, of: names.labels))
        self.classes = Int(clamping: classes)
    }

    @_lifetime(borrow call)
    func spans(_ call: borrowing Call) -> Classification {
        Classification(logits: call.span(logits), labels: call.span(labels), classes: classes)
    }
}

extension Call {
    /// An input that may be absent.
    fileprivate func optional(
        _ view: fastloss_view, _ rows: Int64, _ columns: Int64, _ name: String
    ) throws(CallError) -> Taken<Float>? {
        guard view.data != nil else { return nil }
        return try input(view.data, Strides(rows: rows, columns: columns, stride: view.stride, of: name))
    }

    /// An output that may be absent.
    fileprivate func optional(
        _ view: fastloss_mutable_view, _ rows: Int64, _ columns: Int64, _ name: String,
        input: Bool, update: GradientUpdate
    ) throws(CallError) -> Taken<Float>? {
        guard view.data != nil else { return nil }
        guard input else { throw .loss(.gradientWithoutInput(gradient: name)) }
        let strides = Strides(rows: rows, columns: columns, stride: view.stride, of: name)
        return try output(view.data, strides, update: update)
    }
}

extension TakenInputs {
    /// The inputs as the objective takes them.
    @_lifetime(borrow call)
    func spans(_ call: borrowing Call) -> ObjectiveInputs {
        ObjectiveInputs(
            shape: shape, targets: call.span(targets), mask: call.optionalSpan(mask),
            genePredictions: call.optionalSpan(genePredictions), geneNonzero: call.optionalSpan(geneNonzero),
            cellPredictions: call.optionalSpan(cellPredictions), cellNonzero: call.optionalSpan(cellNonzero),
            generatedPredictions: call.optionalSpan(generatedPredictions), width: width,
            cellEmbedding: call.optionalSpan(cellEmbedding),
            secondCellEmbedding: call.optionalSpan(secondCellEmbedding), cellTypes: cellTypes?.spans(call),
            batches: batches?.spans(call))
    }
}

// MARK: - Gradients

extension fastloss_objective_gradients: SizedStruct {
    static var firstSize: Int { 176 }
    static var name: String { "fastloss_objective_gradients" }
    static var defaults: Self {
        var gradients = Self()
        gradients.size = firstSize
        gradients.scale = 1
        return gradients
    }
}

/// The objective's gradients among the matrices of a call; nil where one is not wanted.
private struct TakenGradients {
    let scale: Float
    let update: GradientUpdate
    let genePredictions: Taken<Float>?
    let geneNonzero: Taken<Float>?
    let cellPredictions: Taken<Float>?
    let cellNonzero: Taken<Float>?
    let generatedPredictions: Taken<Float>?
    let cellEmbedding: Taken<Float>?
    let secondCellEmbedding: Taken<Float>?
    let cellTypeLogits: Taken<Float>?
    let batchLogits: Taken<Float>?
    let reversedBatchLogits: Taken<Float>?

    init(
        _ gradients: fastloss_objective_gradients, of inputs: fastloss_objective_inputs, _ taken: TakenInputs,
        _ call: borrowing Call
    ) throws(CallError) {
        scale = gradients.scale
        update = try GradientUpdate(gradients.update, of: "gradients")
        let (cells, genes, width) = (inputs.cells, inputs.genes, inputs.width)
        genePredictions = try call.optional(
            gradients.gene_predictions, cells, genes, "gradients.genePredictions",
            input: taken.genePredictions != nil, update: update)
        geneNonzero = try call.optional(
            gradients.gene_nonzero, cells, genes, "gradients.geneNonzero", input: taken.geneNonzero != nil,
            update: update)
        cellPredictions = try call.optional(
            gradients.cell_predictions, cells, genes, "gradients.cellPredictions",
            input: taken.cellPredictions != nil, update: update)
        cellNonzero = try call.optional(
            gradients.cell_nonzero, cells, genes, "gradients.cellNonzero", input: taken.cellNonzero != nil,
            update: update)
        generatedPredictions = try call.optional(
            gradients.generated_predictions, cells, genes, "gradients.generatedPredictions",
            input: taken.generatedPredictions != nil, update: update)
        cellEmbedding = try call.optional(
            gradients.cell_embedding, cells, width, "gradients.cellEmbedding",
            input: taken.cellEmbedding != nil, update: update)
        secondCellEmbedding = try call.optional(
            gradients.second_cell_embedding, cells, width, "gradients.secondCellEmbedding",
            input: taken.secondCellEmbedding != nil, update: update)
        cellTypeLogits = try call.optional(
            gradients.cell_type_logits, cells, inputs.cell_type_count, "gradients.cellTypeLogits",
            input: taken.cellTypes != nil, update: update)
        batchLogits = try call.optional(
            gradients.batch_logits, cells, inputs.batch_count, "gradients.batchLogits",
            input: taken.batches != nil, update: update)
        reversedBatchLogits = try call.optional(
            gradients.reversed_batch_logits, cells, inputs.batch_count, "gradients.reversedBatchLogits",
            input: taken.batches != nil, update: update)
    }

    /// The gradients as the objective takes them.
    @_lifetime(borrow call)
    func spans(_ call: borrowing Call) -> ObjectiveGradients {
        ObjectiveGradients(
            genePredictions: call.optionalMutableSpan(genePredictions),
            geneNonzero: call.optionalMutableSpan(geneNonzero),
            cellPredictions: call.optionalMutableSpan(cellPredictions),
            cellNonzero: call.optionalMutableSpan(cellNonzero),
            generatedPredictions: call.optionalMutableSpan(generatedPredictions),
            cellEmbedding: call.optionalMutableSpan(cellEmbedding),
            secondCellEmbedding: call.optionalMutableSpan(secondCellEmbedding),
            cellTypeLogits: call.optionalMutableSpan(cellTypeLogits),
            batchLogits: call.optionalMutableSpan(batchLogits),
            reversedBatchLogits: call.optionalMutableSpan(reversedBatchLogits))
    }
}

extension TotalObjective {
    /// A term that reads the targets, if one is on.
    fileprivate var firstValueTerm: ObjectiveTerm? {
        let terms = ObjectiveTerm.valueTerms
        for index in terms.indices where weights[terms[index]] != nil { return terms[index] }
        return nil
    }
}

// MARK: - The result

extension fastloss_objective_value: SizedStruct {
    static var firstSize: Int { 424 }
    static var name: String { "fastloss_objective_value" }
    static var defaults: Self {
        var value = Self()
        value.size = firstSize
        return value
    }

    fileprivate init(_ value: ObjectiveValue, of objective: TotalObjective) {
        self = Self.defaults
        total = value.total
        relative_error = value.relativeError ?? .nan
        selected_count = Int64(value.selectedCount)
        terms = objective.weights.bits
        withTerms(of: &values, as: Double.self) { value.values.write(to: $0) }
        withTerms(of: &weighted, as: Double.self) { value.weighted.write(to: $0) }
        withTerms(of: &logged, as: Double.self) { value.logged.write(to: $0) }
    }

    /// Writes the result to the caller's struct, as far as that goes in the caller's version of it.
    fileprivate func write(to pointer: UnsafeMutablePointer<fastloss_objective_value>, size: Int) {
        var value = self
        value.size = size
        withUnsafeBytes(of: value) {
            UnsafeMutableRawPointer(pointer).copyMemory(from: $0.baseAddress!, byteCount: min(size, $0.count))
        }
    }
}

@c @implementation
public func fastloss_total_objective(
    _ objective: UnsafePointer<fastloss_objective>?, _ inputs: UnsafePointer<fastloss_objective_inputs>?,
    _ gradients: UnsafePointer<fastloss_objective_gradients>?, _ workspace: OpaquePointer?,
    _ value: UnsafeMutablePointer<fastloss_objective_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let objective = try fastloss_objective.read(required(objective, "objective")).objective()
        let place = try required(value, "value")
        let size = try fastloss_objective_value.checkedSize(place)
        let inputs = try fastloss_objective_inputs.read(required(inputs, "inputs"))
        let taken = try TakenInputs(inputs, call)
        let hasValues = inputs.cells > 0 && inputs.genes > 0
        if let term = objective.firstValueTerm, inputs.targets.data == nil, hasValues {
            throw .loss(.missingInput(term: term.rawValue, argument: "targets"))
        }
        let takenGradients: TakenGradients? =
            gradients == nil
            ? nil
            : try TakenGradients(fastloss_objective_gradients.read(gradients), of: inputs, taken, call)
        let result = try call.run { (layout) throws(LossError) in
            let spans = taken.spans(call)
            guard let takenGradients else { return try objective.plan(spans, in: &layout) }
            var gradients = takenGradients.spans(call)
            return try objective.plan(
                spans, gradients: &gradients, gradientScale: takenGradients.scale,
                update: takenGradients.update, in: &layout)
        }
        fastloss_objective_value(result, of: objective).write(to: place, size: size)
    }
}
