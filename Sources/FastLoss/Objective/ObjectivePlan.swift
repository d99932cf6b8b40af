// The computation of the total objective: the terms are planned over one layout; then the value terms run in
// one pass, and the others after them.

import CFastLossKernels

extension TotalObjective {
    /// The total, every term and the relative error, from spans.
    ///
    /// Outputs of the model are `Float`, ``BFloat16`` or `Float16`; the value is that of the widened outputs.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and their targets.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: an enabled term's input is missing; the errors of the terms' own losses.
    @specialized(where Element == Float)
    public func value<Element: ModelOutputElement>(
        _ inputs: ObjectiveInputFields<Span<Element>, Span<Float>, Span<Bool>, Span<Int32>>,
        workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try value(of: inputs.elements(), workspace)
    }

    /// The total, every term and the relative error, from arrays.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and their targets.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: an enabled term's input is missing; the errors of the terms' own losses.
    public func value(_ inputs: ObjectiveArrays, workspace: Workspace) throws(LossError) -> ObjectiveValue {
        defer { withExtendedLifetime(inputs) {} }
        return try value(of: inputs.elements(), workspace)
    }

    /// The total, every term and the relative error, from buffer pointers.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and their targets.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: an enabled term's input is missing; the errors of the terms' own losses.
    public func value(_ inputs: ObjectiveBuffers, workspace: Workspace) throws(LossError) -> ObjectiveValue {
        try value(of: inputs.elements(), workspace)
    }

    /// The total, every term and the relative error, and the total's gradients, from spans and into spans.
    ///
    /// Outputs of the model are `Float`, ``BFloat16`` or `Float16`, and their gradients have the same type. The
    /// gradient of the cell embedding is summed over ECS and CCE before it is rounded.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and their targets.
    ///   - gradients: a buffer for each gradient that is wanted; none may overlap an input or another buffer.
    ///   - gradientScale: a finite factor of all gradients, but of no value: 1 / accumulation steps, loss
    ///     scaling.
    ///   - update: whether the gradients replace the buffers' contents or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: the errors of `value`; a buffer whose input is missing;
    ///   overlap. The buffers are unchanged, unless a probability is out of range.
    @specialized(where Element == Float)
    public func valueAndGradient<Element: ModelOutputElement>(
        _ inputs: ObjectiveInputFields<Span<Element>, Span<Float>, Span<Bool>, Span<Int32>>,
        gradients: inout ObjectiveGradientFields<MutableSpan<Element>>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        let table = gradients.table(scale: gradientScale, update: update)
        return try valueAndGradient(of: inputs.elements(), table, workspace)
    }

    /// The total, every term and the relative error, and the total's gradients, from arrays and into arrays.
    ///
    /// ```swift
    /// let value = try objective.valueAndGradient(arrays, gradients: &gradients, workspace: workspace)
    /// ```
    ///
    /// Calls allocate no memory after the first, unless a gradient shares its elements with a copy of it.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and their targets.
    ///   - gradients: an array for each gradient that is wanted, of its input's size.
    ///   - gradientScale: a finite factor of all gradients, but of no value: 1 / accumulation steps, loss
    ///     scaling.
    ///   - update: whether the gradients replace the arrays' contents or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: the errors of `value`; a gradient whose input is missing. The
    ///   arrays are unchanged, unless a probability is out of range.
    public func valueAndGradient(
        _ inputs: ObjectiveArrays, gradients: inout ObjectiveGradientArrays, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        defer { withExtendedLifetime(inputs) {} }
        let table = gradients.table(scale: gradientScale, update: update)
        return try valueAndGradient(of: inputs.elements(), table, workspace)
    }

    /// The total, every term and the relative error, and the total's gradients, from buffer pointers and
    /// through buffer pointers.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and their targets.
    ///   - gradients: a buffer for each gradient that is wanted; none may overlap an input or another buffer.
    ///   - gradientScale: a finite factor of all gradients, but of no value: 1 / accumulation steps, loss
    ///     scaling.
    ///   - update: whether the gradients replace the buffers' contents or are added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: the errors of `value`; a buffer whose input is missing;
    ///   overlap. The buffers are unchanged, unless a probability is out of range.
    public func valueAndGradient(
        _ inputs: ObjectiveBuffers, gradients: ObjectiveGradientBuffers, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try valueAndGradient(
            of: inputs.elements(), gradients.table(scale: gradientScale, update: update), workspace)
    }

    /// A plan of the value.
    package func plan(
        _ inputs: ObjectiveElements, in layout: inout ScratchLayout
    ) throws(LossError) -> Plan {
        try Plan(self, inputs, GradientTable(), in: &layout)
    }

    /// A plan of the value and the gradients.
    package func plan(
        _ inputs: ObjectiveElements, gradients: ObjectiveGradientMemory, gradientScale: Float,
        update: GradientUpdate, in layout: inout ScratchLayout
    ) throws(LossError) -> Plan {
        try Plan(self, inputs, gradients.table(scale: gradientScale, update: update), in: &layout)
    }

    private func value(
        of inputs: ObjectiveElements, _ workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try valueAndGradient(of: inputs, GradientTable(), workspace)
    }

    private func valueAndGradient(
        of inputs: ObjectiveElements, _ gradients: GradientTable, _ workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        var layout = workspace.layout
        let plan = try Plan(self, inputs, gradients, in: &layout)
        return try workspace.run(plan, layout)
    }
}

// MARK: - The plan

extension TotalObjective {
    /// The terms that are on. They run one after the other, and share scratch memory.
    package struct Plan: FastLoss.Plan {
        private let objective: TotalObjective
        private let gradients: GradientTable
        private var values: MaskedPass.Reduced?
        private var cellType: CrossEntropy.Plan?
        private var elastic: ElasticCellSimilarity.Plan?
        private var contrastive: ContrastiveCellEmbedding.Plan?
        private var batch: CrossEntropy.Plan?
        private let sum: EmbeddingGradientSum?

        package var name: String { "TotalObjective" }

        init(
            _ objective: TotalObjective, _ inputs: ObjectiveElements, _ gradients: GradientTable,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            self.objective = objective
            self.gradients = gradients
            try checkParameter("gradientScale", gradients.scale, "finite") { $0.isFinite }
            for term in ObjectiveTerm.allCases {
                guard let weight = objective.weights[term] else { continue }
                try checkParameter(term.weightName, weight, "finite") { $0.isFinite }
            }
            _ = try inputs.shape.checkedCount()
            try gradients.check(against: inputs)
            sum = try EmbeddingGradientSum(gradients, of: objective, in: &layout)
            let start = layout.mark
            cellType = try planCellType(inputs, in: &layout)
            layout.rewind(to: start)
            batch = try planBatch(inputs, in: &layout)
            layout.rewind(to: start)
            elastic = try planElastic(inputs, in: &layout)
            layout.rewind(to: start)
            contrastive = try planContrastive(inputs, in: &layout)
            layout.rewind(to: start)
            values = try planValues(inputs, in: &layout)
        }

        package func run(on execution: Execution) throws(LossError) -> ObjectiveValue {
            var result = ObjectiveValue()
            if let values {
                result.selectedCount = values.selectedCount
                record(try values.run(on: execution), in: &result)
            }
            record(cellType?.run(on: execution), of: .cellType, in: &result)
            // CCE runs after ECS and adds to its gradient.
            sum?.start(on: execution)
            let similarity = elastic?.run(on: execution)
            record(similarity, of: .elastic, in: &result)
            result.certifiedPairs = similarity?.certifiedPairs ?? 0
            record(contrastive?.run(on: execution), of: .contrastive, in: &result)
            sum?.finish(on: execution)
            record(batch?.run(on: execution), of: .batch, in: &result)
            for slot in GradientSlot.allCases where !isWritten(slot) { gradients.clear(slot) }
            return result
        }
    }
}

// MARK: - Planning the terms

extension TotalObjective.Plan {
    private var weights: TermValues<Float> { objective.weights }

    /// The value terms and the relative error, in one pass.
    private func planValues(
        _ inputs: ObjectiveElements, in layout: inout ScratchLayout
    ) throws(LossError) -> MaskedPass.Reduced? {
        let terms = ObjectiveTerm.valueTerms
        var count = weights.maskedGene == nil ? 0 : 1
        var first: ObjectiveTerm?
        for index in terms.indices where weights[terms[index]] != nil {
            count += 1
            first = first ?? terms[index]
        }
        guard let first else { return nil }

        let targets = try inputs.requiredTargets(by: first)
        let mask = inputs.mask
        let pass = try MaskedPass(
            targets: targets.span, mask: mask?.span, count: inputs.shape.checkedCount())
        var values = try MaskedPass.Reduced(pass, terms: count, reduction: .mean, in: &layout)
        for index in terms.indices {
            let term = terms[index]
            guard let weight = weights[term] else { continue }
            let predictions = try inputs.required(term.predictions, by: term)
            values.add(
                try pass.term(
                    objective.kernel(of: term), predictions: predictions,
                    named: term.predictions.name,
                    gradient: gradients.output(term.gradient, weight: weight)))
        }
        if weights.maskedGene != nil {
            let predictions = try inputs.required(.genePredictions, by: .maskedGene)
            values.add(
                try pass.term(
                    ElementwiseMetric.relativeError.kernel, predictions: predictions,
                    named: InputSlot.genePredictions.name))
        }
        try values.select(workers: layout.workers, whenEmpty: objective.whenMaskEmpty, named: name)
        return values
    }

    private func planCellType(
        _ inputs: ObjectiveElements, in layout: inout ScratchLayout
    ) throws(LossError) -> CrossEntropy.Plan? {
        guard let weight = weights.cellType else { return nil }
        let cellTypes = try inputs.classification(of: .cellType)
        try checkCount(InputSlot.cellTypeLabels.name, cellTypes.labels.count, is: inputs.shape.rows)
        return try CrossEntropy.Plan(
            objective.cellTypes, logits: cellTypes.logits, labels: cellTypes.labels.span,
            named: CrossEntropy.Names(
                logits: InputSlot.cellTypeLogits.name, labels: InputSlot.cellTypeLabels.name,
                loss: "CrossEntropy of cellTypes.labels"),
            classes: cellTypes.classes, into: gradients.output(.cellTypeLogits, weight: weight), in: &layout)
    }

    private func planBatch(
        _ inputs: ObjectiveElements, in layout: inout ScratchLayout
    ) throws(LossError) -> CrossEntropy.Plan? {
        guard let weight = weights.batch else { return nil }
        let reversal = objective.domainAdversarial.reversal
        try reversal.checkLambda()
        let batches = try inputs.classification(of: .batch)
        try checkCount(InputSlot.batchLabels.name, batches.labels.count, is: inputs.shape.rows)
        return try CrossEntropy.Plan(
            objective.domainAdversarial.crossEntropy, logits: batches.logits,
            labels: batches.labels.span,
            named: CrossEntropy.Names(
                logits: InputSlot.batchLogits.name, labels: InputSlot.batchLabels.name,
                loss: "CrossEntropy of batches.labels"),
            classes: batches.classes, into: gradients.output(.batchLogits, weight: weight),
            reversed: gradients.output(.reversedBatchLogits, weight: weight, reversedBy: reversal.lambda),
            in: &layout)
    }

    private func planElastic(
        _ inputs: ObjectiveElements, in layout: inout ScratchLayout
    ) throws(LossError) -> ElasticCellSimilarity.Plan? {
        guard let weight = weights.elastic else { return nil }
        let embeddings = try inputs.required(.cellEmbedding, by: .elastic)
        return try ElasticCellSimilarity.Plan(
            objective.elasticCellSimilarity, embeddings: embeddings,
            named: InputSlot.cellEmbedding.name, shape: inputs.embeddingShape,
            into: gradients.output(.cellEmbedding, weight: weight), summedIn: sum?.floats, in: &layout)
    }

    private func planContrastive(
        _ inputs: ObjectiveElements, in layout: inout ScratchLayout
    ) throws(LossError) -> ContrastiveCellEmbedding.Plan? {
        guard let weight = weights.contrastive else { return nil }
        let first = try inputs.required(.cellEmbedding, by: .contrastive)
        let second = try inputs.required(.secondCellEmbedding, by: .contrastive)
        return try ContrastiveCellEmbedding.Plan(
            objective.contrastiveCellEmbedding, first: first, second: second,
            named: (InputSlot.cellEmbedding.name, InputSlot.secondCellEmbedding.name),
            shape: inputs.embeddingShape,
            into: gradients.output(
                .cellEmbedding, weight: weight, update: weights.elastic == nil ? nil : .accumulate),
            gradients.output(.secondCellEmbedding, weight: weight), firstSummedIn: sum?.floats, in: &layout)
    }
}

extension TotalObjective {
    fileprivate func kernel(of term: ObjectiveTerm) -> ElementwiseKernel {
        switch term {
        case .maskedGeneZero, .cellGeneZero: ElementwiseMetric.bernoulliNLL(nonzeroForm).kernel
        default: ElementwiseMetric.squaredError.kernel
        }
    }
}

// MARK: - Results

extension TotalObjective.Plan {
    /// Records the value terms that are on, in their order, and then the relative error.
    private func record(_ values: InlineArray<6, Double>, in result: inout ObjectiveValue) {
        let terms = ObjectiveTerm.valueTerms
        var next = 0
        for index in terms.indices where weights[terms[index]] != nil {
            record(values[next], of: terms[index], in: &result)
            next += 1
        }
        if weights.maskedGene != nil { result.relativeError = values[next] }
    }

    private func record(_ loss: LossValue?, of term: ObjectiveTerm, in result: inout ObjectiveValue) {
        if let loss { record(loss.value, of: term, in: &result) }
    }

    private func record(_ value: Double, of term: ObjectiveTerm, in result: inout ObjectiveValue) {
        let weightedValue = Double(weights[term] ?? 0) * value
        result.values[term] = value
        result.weighted[term] = weightedValue
        result.total += weightedValue
    }

    /// Whether a term that is on writes this gradient.
    private func isWritten(_ slot: GradientSlot) -> Bool {
        switch slot {
        case .cellEmbedding: weights.elastic != nil || weights.contrastive != nil
        case .secondCellEmbedding: weights.contrastive != nil
        case .cellTypeLogits: weights.cellType != nil
        case .batchLogits, .reversedBatchLogits: weights.batch != nil
        case .genePredictions: weights.maskedGene != nil
        case .geneNonzero: weights.maskedGeneZero != nil
        case .cellPredictions: weights.cellGene != nil
        case .cellNonzero: weights.cellGeneZero != nil
        case .generatedPredictions: weights.generation != nil
        }
    }
}
