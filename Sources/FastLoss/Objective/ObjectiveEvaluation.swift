// Computing the total objective: everything is checked first, then the value terms run in one pass, then the others.

import CFastLossKernels

extension TotalObjective {
    /// The total, every term and the relative error.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and what they are to match.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: an input that a term needs and that is missing; whatever the terms' own losses throw.
    public func value(_ inputs: ObjectiveInputs, workspace: Workspace) throws(LossError) -> ObjectiveValue {
        try evaluate(inputs, buffers: GradientBuffers(), gradientScale: 1, update: .overwrite, workspace: workspace)
    }

    /// The total, every term and the relative error, and the total's gradient with respect to every input that has a
    /// buffer in `gradients`.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs and what they are to match.
    ///   - gradients: a buffer for each gradient that is wanted; none may overlap an input or another buffer.
    ///   - gradientScale: a finite factor of all gradients.
    ///   - update: whether the gradients replace what the buffers hold or are added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(_:workspace:)``; a gradient buffer for an input that was not given; overlap. Except for a
    ///   probability out of range, nothing has been written then.
    public func valueAndGradient(
        _ inputs: ObjectiveInputs, gradients: inout ObjectiveGradients, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        let buffers = GradientBuffers(&gradients)
        return try evaluate(
            inputs, buffers: buffers, gradientScale: gradientScale, update: update, workspace: workspace)
    }
}

// MARK: - The evaluation

extension TotalObjective {
    private func evaluate(
        _ inputs: ObjectiveInputs, buffers: GradientBuffers, gradientScale: Float, update: GradientUpdate,
        workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try checkGradientScale(gradientScale)
        for term in ObjectiveTerm.allCases {
            guard let weight = weights[term] else { continue }
            try checkParameter("the weight of \(term)", weight, "finite") { $0.isFinite }
        }
        try buffers.check(against: inputs)
        let places = GradientPlaces(buffers, of: self, gradientScale: gradientScale, update: update)
        try checkOtherTerms(inputs, places)

        var result = ObjectiveValue()
        try evaluateValueTerms(inputs, places, &result, workspace)
        try evaluateOtherTerms(inputs, places, &result, workspace)
        if update == .overwrite { places.clearUnused() }
        return result
    }

    /// The terms over targets and mask, in one pass, with the relative error.
    private func evaluateValueTerms(
        _ inputs: ObjectiveInputs, _ places: GradientPlaces, _ result: inout ObjectiveValue, _ workspace: Workspace
    ) throws(LossError) {
        guard ObjectiveTerm.valueTerms.contains(where: { weights[$0] != nil }) else { return }
        let pass = try MaskedPass(targets: inputs.targets, mask: inputs.mask, shape: inputs.shape)
        let capacity = ObjectiveTerm.valueTerms.count + 1
        try withUnsafeTemporaryAllocation(of: MaskedTerm.self, capacity: capacity) { (memory) throws(LossError) in
            var count = 0
            defer { memory[..<count].deinitialize() }
            for term in ObjectiveTerm.valueTerms where weights[term] != nil {
                let predictions = try inputs.predictions(of: term)
                memory.initializeElement(
                    at: count,
                    to: try pass.term(
                        kernel(of: term), predictions: predictions, named: term.argument, gradient: places[term]))
                count += 1
            }
            if weights.maskedGene != nil {
                memory.initializeElement(
                    at: count,
                    to: try pass.term(
                        MaskedRelativeError().kernel, predictions: inputs.predictions(of: .maskedGene),
                        named: ObjectiveTerm.maskedGene.argument))
                count += 1
            }

            result.selectedCount = try pass.run(
                UnsafeMutableBufferPointer(rebasing: memory[..<count]), reduction: .mean, whenEmpty: whenMaskEmpty,
                workspace: workspace)

            var next = 0
            for term in ObjectiveTerm.valueTerms where weights[term] != nil {
                result.record(memory[next].value, of: term, weight: weights[term])
                next += 1
            }
            if weights.maskedGene != nil { result.relativeError = memory[next].value }
        }
    }

    private func kernel(of term: ObjectiveTerm) -> ElementwiseKernel {
        switch term {
        case .maskedGeneZero, .cellGeneZero: BernoulliNLL(from: nonzeroForm).kernel
        default: MaskedMSE().kernel
        }
    }

    /// What can be wrong with the terms that are no value terms, found before anything is written.
    private func checkOtherTerms(_ inputs: ObjectiveInputs, _ places: GradientPlaces) throws(LossError) {
        if weights.cellType != nil {
            let cellTypes = try inputs.classification(of: .cellType)
            _ = try self.cellTypes.check(
                logits: cellTypes.logits, labels: cellTypes.labels, classes: cellTypes.classes,
                gradient: places.cellTypeLogits)
        }
        if weights.batch != nil {
            try checkParameter("lambda", domainAdversarial.reversal.lambda, "finite") { $0.isFinite }
            let batches = try inputs.classification(of: .batch)
            let loss = domainAdversarial.crossEntropy
            _ = try loss.check(
                logits: batches.logits, labels: batches.labels, classes: batches.classes, gradient: places.batchLogits)
            _ = try loss.check(
                logits: batches.logits, labels: batches.labels, classes: batches.classes,
                gradient: places.reversedBatchLogits)
        }
        if weights.elastic != nil {
            try elasticCellSimilarity.check(
                embeddings: inputs.embedding(of: .elastic), shape: inputs.embeddingShape,
                gradient: places.elasticEmbedding)
        }
        if weights.contrastive != nil {
            try contrastiveCellEmbedding.check(
                first: inputs.embedding(of: .contrastive), second: inputs.secondEmbedding(),
                shape: inputs.embeddingShape,
                gradients: .init(first: places.contrastiveEmbedding, second: places.secondCellEmbedding))
        }
    }

    private func evaluateOtherTerms(
        _ inputs: ObjectiveInputs, _ places: GradientPlaces, _ result: inout ObjectiveValue, _ workspace: Workspace
    ) throws(LossError) {
        if weights.cellType != nil {
            let cellTypes = try inputs.classification(of: .cellType)
            let loss = try self.cellTypes.evaluate(
                logits: cellTypes.logits, labels: cellTypes.labels, classes: cellTypes.classes,
                into: places.cellTypeLogits, workspace: workspace)
            result.record(loss.value, of: .cellType, weight: weights.cellType)
        }
        if weights.contrastive != nil || weights.elastic != nil {
            try evaluateEmbeddingTerms(inputs, places, &result, workspace)
        }
        if weights.batch != nil {
            let batches = try inputs.classification(of: .batch)
            let loss = try domainAdversarial.crossEntropy.evaluate(
                logits: batches.logits, labels: batches.labels, classes: batches.classes, into: places.batchLogits,
                workspace: workspace)
            if let reversed = places.reversedBatchLogits {
                _ = try domainAdversarial.crossEntropy.evaluate(
                    logits: batches.logits, labels: batches.labels, classes: batches.classes, into: reversed,
                    workspace: workspace)
            }
            result.record(loss.value, of: .batch, weight: weights.batch)
        }
    }

    /// ECS and CCE, whose gradients of the cell embedding add up.
    private func evaluateEmbeddingTerms(
        _ inputs: ObjectiveInputs, _ places: GradientPlaces, _ result: inout ObjectiveValue, _ workspace: Workspace
    ) throws(LossError) {
        if weights.elastic != nil {
            let loss = try elasticCellSimilarity.evaluate(
                embeddings: inputs.embedding(of: .elastic), shape: inputs.embeddingShape,
                into: places.elasticEmbedding, workspace: workspace)
            result.record(loss.value, of: .elastic, weight: weights.elastic)
        }
        if weights.contrastive != nil {
            let loss = try contrastiveCellEmbedding.evaluate(
                first: inputs.embedding(of: .contrastive), second: inputs.secondEmbedding(),
                shape: inputs.embeddingShape,
                into: .init(first: places.contrastiveEmbedding, second: places.secondCellEmbedding),
                workspace: workspace)
            result.record(loss.value, of: .contrastive, weight: weights.contrastive)
        }
    }
}

extension ObjectiveValue {
    fileprivate mutating func record(_ value: Double, of term: ObjectiveTerm, weight: Float?) {
        let weightedValue = Double(weight ?? 0) * value
        values[term] = value
        weighted[term] = weightedValue
        total += weightedValue
    }
}
