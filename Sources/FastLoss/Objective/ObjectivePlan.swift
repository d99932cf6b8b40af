// Computing the total objective: every term is planned over one layout; then the value terms run in one pass, and the others
// after them.

import CFastLossKernels

extension TotalObjective {
    /// The total, every term and the relative error.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and what they are to match.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: an input that a term needs and that is missing; whatever the terms' own
    ///   losses throw.
    public func value(_ inputs: ObjectiveInputs, workspace: Workspace) throws(LossError) -> ObjectiveValue {
        var layout = workspace.layout
        let plan = try Plan(self, inputs, GradientTable(), in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The total, every term and the relative error, and the total's gradient with respect to every input
    /// that has a buffer in `gradients`.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and what they are to match.
    ///   - gradients: a buffer for each gradient that is wanted; none may overlap an input or another buffer.
    ///   - gradientScale: a finite factor of all gradients.
    ///   - update: whether the gradients replace what the buffers hold or are added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(_:workspace:)``; a gradient buffer for an input that was not given; overlap.
    ///   Except for a probability out of range, nothing has been written then.
    public func valueAndGradient(
        _ inputs: ObjectiveInputs, gradients: inout ObjectiveGradients, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        var layout = workspace.layout
        let plan = try plan(
            inputs, gradients: &gradients, gradientScale: gradientScale, update: update, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// A plan of the value alone.
    package func plan(_ inputs: ObjectiveInputs, in layout: inout ScratchLayout) throws(LossError) -> Plan {
        try Plan(self, inputs, GradientTable(), in: &layout)
    }

    /// A plan of the value and the gradients.
    package func plan(
        _ inputs: ObjectiveInputs, gradients: inout ObjectiveGradients, gradientScale: Float,
        update: GradientUpdate, in layout: inout ScratchLayout
    ) throws(LossError) -> Plan {
        try Plan(
            self, inputs, GradientTable(&gradients, scale: gradientScale, update: update), in: &layout)
    }
}

// MARK: - The plan

extension TotalObjective {
    /// The terms that are on, which share their scratch memory: they run one after the other.
    package struct Plan: FastLoss.Plan {
        private let objective: TotalObjective
        private let gradients: GradientTable
        private var values: MaskedPass.Reduced?
        private var cellType: CrossEntropy.Plan?
        private var elastic: ElasticCellSimilarity.Plan?
        private var contrastive: ContrastiveCellEmbedding.Plan?
        private var batch: CrossEntropy.Plan?

        package var name: String { "TotalObjective" }

        fileprivate init(
            _ objective: TotalObjective, _ inputs: ObjectiveInputs, _ gradients: GradientTable,
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
            // CCE comes after ECS and adds to what that left.
            record(elastic?.run(on: execution), of: .elastic, in: &result)
            record(contrastive?.run(on: execution), of: .contrastive, in: &result)
            record(batch?.run(on: execution), of: .batch, in: &result)
            for slot in GradientSlot.allCases where !isWritten(slot) { gradients.clear(slot) }
            return result
        }
    }
}

// MARK: - Planning the terms

extension TotalObjective.Plan {
    private var weights: TermValues<Float> { objective.weights }

    /// The terms over targets and mask, in one pass, with the relative error.
    private func planValues(
        _ inputs: ObjectiveInputs, in layout: inout ScratchLayout
    ) throws(LossError) -> MaskedPass.Reduced? {
        let terms = ObjectiveTerm.valueTerms
        var count = weights.maskedGene == nil ? 0 : 1
        for index in terms.indices where weights[terms[index]] != nil { count += 1 }
        guard count > 0 else { return nil }

        let pass = try MaskedPass(
            targets: inputs.targets, mask: inputs.mask, count: inputs.shape.checkedCount())
        var values = try MaskedPass.Reduced(pass, terms: count, reduction: .mean, in: &layout)
        for index in terms.indices {
            let term = terms[index]
            guard let weight = weights[term] else { continue }
            values.add(
                try pass.term(
                    objective.kernel(of: term), predictions: inputs.predictions(of: term),
                    named: term.argument,
                    gradient: term.gradient.flatMap { gradients.output($0, weight: weight) }))
        }
        if weights.maskedGene != nil {
            values.add(
                try pass.term(
                    MaskedRelativeError().kernel, predictions: inputs.predictions(of: .maskedGene),
                    named: ObjectiveTerm.maskedGene.argument))
        }
        try values.select(workers: layout.workers, whenEmpty: objective.whenMaskEmpty)
        return values
    }

    private func planCellType(
        _ inputs: ObjectiveInputs, in layout: inout ScratchLayout
    ) throws(LossError) -> CrossEntropy.Plan? {
        guard let weight = weights.cellType else { return nil }
        let cellTypes = try inputs.classification(of: .cellType)
        try checkCount(InputSlot.cellTypeLabels.name, cellTypes.labels.count, is: inputs.shape.rows)
        return try CrossEntropy.Plan(
            objective.cellTypes, logits: cellTypes.logits, labels: cellTypes.labels,
            named: CrossEntropy.Names(
                logits: InputSlot.cellTypeLogits.name, labels: InputSlot.cellTypeLabels.name,
                loss: "CrossEntropy of cellTypes.labels"),
            classes: cellTypes.classes, into: gradients.output(.cellTypeLogits, weight: weight), in: &layout)
    }

    private func planBatch(
        _ inputs: ObjectiveInputs, in layout: inout ScratchLayout
    ) throws(LossError) -> CrossEntropy.Plan? {
        guard let weight = weights.batch else { return nil }
        let reversal = objective.domainAdversarial.reversal
        try reversal.checkLambda()
        let batches = try inputs.classification(of: .batch)
        try checkCount(InputSlot.batchLabels.name, batches.labels.count, is: inputs.shape.rows)
        return try CrossEntropy.Plan(
            objective.domainAdversarial.crossEntropy, logits: batches.logits, labels: batches.labels,
            named: CrossEntropy.Names(
                logits: InputSlot.batchLogits.name, labels: InputSlot.batchLabels.name,
                loss: "CrossEntropy of batches.labels"),
            classes: batches.classes, into: gradients.output(.batchLogits, weight: weight),
            reversed: gradients.output(.reversedBatchLogits, weight: weight, reversedBy: reversal.lambda),
            in: &layout)
    }

    private func planElastic(
        _ inputs: ObjectiveInputs, in layout: inout ScratchLayout
    ) throws(LossError) -> ElasticCellSimilarity.Plan? {
        guard let weight = weights.elastic else { return nil }
        return try ElasticCellSimilarity.Plan(
            objective.elasticCellSimilarity, embeddings: inputs.embedding(of: .elastic),
            named: InputSlot.cellEmbedding.name, shape: inputs.embeddingShape,
            into: gradients.output(.cellEmbedding, weight: weight), in: &layout)
    }

    private func planContrastive(
        _ inputs: ObjectiveInputs, in layout: inout ScratchLayout
    ) throws(LossError) -> ContrastiveCellEmbedding.Plan? {
        guard let weight = weights.contrastive else { return nil }
        return try ContrastiveCellEmbedding.Plan(
            objective.contrastiveCellEmbedding, first: inputs.embedding(of: .contrastive),
            second: inputs.secondEmbedding(),
            named: (InputSlot.cellEmbedding.name, InputSlot.secondCellEmbedding.name),
            shape: inputs.embeddingShape,
            into: gradients.output(
                .cellEmbedding, weight: weight, update: weights.elastic == nil ? nil : .accumulate),
            gradients.output(.secondCellEmbedding, weight: weight), in: &layout)
    }
}

extension TotalObjective {
    fileprivate func kernel(of term: ObjectiveTerm) -> ElementwiseKernel {
        switch term {
        case .maskedGeneZero, .cellGeneZero: BernoulliNLL(from: nonzeroForm).kernel
        default: MaskedMSE().kernel
        }
    }
}

// MARK: - Results

extension TotalObjective.Plan {
    /// The values of the value terms that are on, in their order, and after them the relative error.
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
