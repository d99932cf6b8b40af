// Computing the total objective: everything is checked first, then the value terms run in one pass, then the
// others.

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
        try evaluate(
            inputs, buffers: GradientBuffers(), gradientScale: 1, update: .overwrite, workspace: workspace)
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
            // Not checkParameter: a name that is put together would be allocated in every call.
            guard let weight = weights[term], !weight.isFinite else { continue }
            throw .invalidParameter(name: "weights.\(term)", value: Double(weight), requirement: "finite")
        }
        _ = try inputs.shape.checkedCount()
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
        _ inputs: ObjectiveInputs, _ places: GradientPlaces, _ result: inout ObjectiveValue,
        _ workspace: Workspace
    ) throws(LossError) {
        guard ObjectiveTerm.valueTerms.contains(where: { weights[$0] != nil }) else { return }
        let pass = try MaskedPass(targets: inputs.targets, mask: inputs.mask, shape: inputs.shape)
        let capacity = ObjectiveTerm.valueTerms.count + 1
        try withUnsafeTemporaryAllocation(of: MaskedTerm.self, capacity: capacity) {
            (memory) throws(LossError) in
            var count = 0
            defer { memory[..<count].deinitialize() }
            for term in ObjectiveTerm.valueTerms where weights[term] != nil {
                let predictions = try inputs.predictions(of: term)
                memory.initializeElement(
                    at: count,
                    to: try pass.term(
                        kernel(of: term), predictions: predictions, named: term.argument,
                        gradient: places[term]))
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
                UnsafeMutableBufferPointer(rebasing: memory[..<count]), reduction: .mean,
                whenEmpty: whenMaskEmpty,
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

    /// What can be wrong with the terms that are no value terms, found before anything is written. Sizes come
    /// first, under the names that the inputs have here.
    private func checkOtherTerms(_ inputs: ObjectiveInputs, _ places: GradientPlaces) throws(LossError) {
        if weights.cellType != nil {
            let cellTypes = try inputs.classification(of: .cellType)
            try checkCount("cellTypes.labels", cellTypes.labels.count, is: inputs.shape.rows)
            try checkCount("cellTypes.logits", cellTypes.logits.count, is: cellTypes.shape.checkedCount())
            try check(cellTypes, of: .cellType, self.cellTypes, gradient: places[.cellType])
        }
        if weights.batch != nil {
            try checkParameter("lambda", domainAdversarial.reversal.lambda, "finite") { $0.isFinite }
            let batches = try inputs.classification(of: .batch)
            try checkCount("batches.labels", batches.labels.count, is: inputs.shape.rows)
            try checkCount("batches.logits", batches.logits.count, is: batches.shape.checkedCount())
            try check(batches, of: .batch, domainAdversarial.crossEntropy, gradient: places[.batch])
            try check(batches, of: .batch, domainAdversarial.crossEntropy, gradient: places.reversedBatchLogits)
        }
        let shape = inputs.embeddingShape
        if weights.elastic != nil {
            let embedding = try inputs.embedding(of: .elastic)
            try checkEmbeddings(embedding, named: "cellEmbedding", shape: shape)
            try elasticCellSimilarity.check(embeddings: embedding, shape: shape, gradient: places[.elastic])
        }
        if weights.contrastive != nil {
            let first = try inputs.embedding(of: .contrastive)
            let second = try inputs.secondEmbedding()
            try checkEmbeddings(first, named: "cellEmbedding", shape: shape)
            try checkEmbeddings(second, named: "secondCellEmbedding", shape: shape)
            try contrastiveCellEmbedding.check(
                first: first, second: second, shape: shape,
                gradients: .init(first: places[.contrastive], second: places.secondCellEmbedding))
        }
    }

    private func check(
        _ classification: Classification, of term: ObjectiveTerm, _ loss: CrossEntropy, gradient: GradientOutput?
    ) throws(LossError) {
        _ = try loss.check(
            logits: classification.logits, labels: classification.labels, named: labelsName(term),
            classes: classification.classes, gradient: gradient)
    }

    private func evaluate(
        _ classification: Classification, of term: ObjectiveTerm, _ loss: CrossEntropy,
        into gradient: GradientOutput?, workspace: Workspace
    ) throws(LossError) -> Double {
        try loss.evaluate(
            logits: classification.logits, labels: classification.labels, named: labelsName(term),
            classes: classification.classes, into: gradient, workspace: workspace
        ).value
    }

    /// Which of the two classifications a message is about: CLS or DAB.
    private func labelsName(_ term: ObjectiveTerm) -> String {
        term == .cellType ? "cellTypes.labels" : "batches.labels"
    }

    private func evaluateOtherTerms(
        _ inputs: ObjectiveInputs, _ places: GradientPlaces, _ result: inout ObjectiveValue,
        _ workspace: Workspace
    ) throws(LossError) {
        if weights.cellType != nil {
            let loss = try evaluate(
                inputs.classification(of: .cellType), of: .cellType, cellTypes, into: places[.cellType],
                workspace: workspace)
            result.record(loss, of: .cellType, weight: weights.cellType)
        }
        try evaluateEmbeddingTerms(inputs, places, &result, workspace)
        if weights.batch != nil {
            let batches = try inputs.classification(of: .batch)
            let crossEntropy = domainAdversarial.crossEntropy
            let loss = try evaluate(
                batches, of: .batch, crossEntropy, into: places[.batch], workspace: workspace)
            // By itself and not −λ times the other: that may be absent, or hold what it accumulates onto.
            if let reversed = places.reversedBatchLogits {
                _ = try evaluate(batches, of: .batch, crossEntropy, into: reversed, workspace: workspace)
            }
            result.record(loss, of: .batch, weight: weights.batch)
        }
    }

    /// ECS and CCE, whose gradients of the cell embedding add up.
    private func evaluateEmbeddingTerms(
        _ inputs: ObjectiveInputs, _ places: GradientPlaces, _ result: inout ObjectiveValue,
        _ workspace: Workspace
    ) throws(LossError) {
        if weights.elastic != nil {
            let loss = try elasticCellSimilarity.evaluate(
                embeddings: inputs.embedding(of: .elastic), shape: inputs.embeddingShape,
                into: places[.elastic], workspace: workspace)
            result.record(loss.value, of: .elastic, weight: weights.elastic)
        }
        if weights.contrastive != nil {
            let loss = try contrastiveCellEmbedding.evaluate(
                first: inputs.embedding(of: .contrastive), second: inputs.secondEmbedding(),
                shape: inputs.embeddingShape,
                into: .init(first: places[.contrastive], second: places.secondCellEmbedding),
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
