// The memory of the objective's gradients: checked against everything else, and given to the terms that are
// on.

import CFastLossKernels

/// The memory of ``ObjectiveGradients``.
struct GradientBuffers {
    typealias Buffer = UnsafeMutableBufferPointer<Float>

    var genePredictions: Buffer?
    var geneNonzero: Buffer?
    var cellPredictions: Buffer?
    var cellNonzero: Buffer?
    var generatedPredictions: Buffer?
    var cellEmbedding: Buffer?
    var secondCellEmbedding: Buffer?
    var cellTypeLogits: Buffer?
    var batchLogits: Buffer?
    var reversedBatchLogits: Buffer?

    /// No gradient is wanted.
    init() {}

    init(_ gradients: inout ObjectiveGradients) {
        genePredictions = gradients.genePredictions?.memory
        geneNonzero = gradients.geneNonzero?.memory
        cellPredictions = gradients.cellPredictions?.memory
        cellNonzero = gradients.cellNonzero?.memory
        generatedPredictions = gradients.generatedPredictions?.memory
        cellEmbedding = gradients.cellEmbedding?.memory
        secondCellEmbedding = gradients.secondCellEmbedding?.memory
        cellTypeLogits = gradients.cellTypeLogits?.memory
        batchLogits = gradients.batchLogits?.memory
        reversedBatchLogits = gradients.reversedBatchLogits?.memory
    }

    /// Throws where a buffer has no input, not its input's size, or memory that is also an input's or another
    /// buffer's.
    func check(against inputs: ObjectiveInputs) throws(LossError) {
        var memory = MemoryList()
        memory.add("targets", inputs.targets)
        memory.add("mask", inputs.mask)
        memory.add("cellTypes.labels", inputs.cellTypes?.labels)
        memory.add("batches.labels", inputs.batches?.labels)
        memory.add("genePredictions", inputs.genePredictions)
        memory.add("geneNonzero", inputs.geneNonzero)
        memory.add("cellPredictions", inputs.cellPredictions)
        memory.add("cellNonzero", inputs.cellNonzero)
        memory.add("generatedPredictions", inputs.generatedPredictions)
        memory.add("cellEmbedding", inputs.cellEmbedding)
        memory.add("secondCellEmbedding", inputs.secondCellEmbedding)
        memory.add("cellTypes.logits", inputs.cellTypes?.logits)
        memory.add("batches.logits", inputs.batches?.logits)

        try memory.claim(genePredictions, "gradients.genePredictions", of: inputs.genePredictions)
        try memory.claim(geneNonzero, "gradients.geneNonzero", of: inputs.geneNonzero)
        try memory.claim(cellPredictions, "gradients.cellPredictions", of: inputs.cellPredictions)
        try memory.claim(cellNonzero, "gradients.cellNonzero", of: inputs.cellNonzero)
        try memory.claim(
            generatedPredictions, "gradients.generatedPredictions", of: inputs.generatedPredictions)
        try memory.claim(cellEmbedding, "gradients.cellEmbedding", of: inputs.cellEmbedding)
        try memory.claim(secondCellEmbedding, "gradients.secondCellEmbedding", of: inputs.secondCellEmbedding)
        try memory.claim(cellTypeLogits, "gradients.cellTypeLogits", of: inputs.cellTypes?.logits)
        try memory.claim(batchLogits, "gradients.batchLogits", of: inputs.batches?.logits)
        try memory.claim(reversedBatchLogits, "gradients.reversedBatchLogits", of: inputs.batches?.logits)
    }

    /// The memory of a call, without allocating: 13 inputs and 10 outputs at most.
    private struct MemoryList {
        private var entries = InlineArray<23, NamedMemory?>(repeating: nil)
        private var count = 0

        mutating func add<Element: BitwiseCopyable>(_ name: String, _ input: Span<Element>?) {
            guard let input else { return }
            append(NamedMemory(name, input.memory))
        }

        /// Adds an output, which needs an input of its size and memory of its own.
        mutating func claim(_ buffer: Buffer?, _ name: String, of input: Span<Float>?) throws(LossError) {
            guard let buffer else { return }
            guard let input else { throw .gradientWithoutInput(gradient: name) }
            try checkCount(name, buffer.count, is: input.count)
            let memory = NamedMemory(name, buffer)
            for index in 0..<count { try checkNoOverlap(memory, entries[index]) }
            append(memory)
        }

        private mutating func append(_ memory: NamedMemory) {
            entries[count] = memory
            count += 1
        }
    }
}

/// Where each term that is on writes its gradient, with its weight: nothing where no gradient is wanted.
struct GradientPlaces {
    /// The gradient of what the term reads; for CCE that of its first embedding, for DAB that of the
    /// discriminator.
    private var terms = TermValues<GradientOutput>()
    /// CCE's other gradient.
    let secondCellEmbedding: GradientOutput?
    /// DAB's other gradient, beyond the reversal.
    let reversedBatchLogits: GradientOutput?
    private let buffers: GradientBuffers

    init(
        _ buffers: GradientBuffers, of objective: TotalObjective, gradientScale: Float, update: GradientUpdate
    ) {
        func place(
            _ buffer: GradientBuffers.Buffer?, _ name: String, _ weight: Float?, _ update: GradientUpdate
        ) -> GradientOutput? {
            guard let buffer, let weight else { return nil }
            return GradientOutput(buffer, named: name, scale: weight * gradientScale, update: update)
        }
        let weights = objective.weights
        self.buffers = buffers
        terms.maskedGene = place(
            buffers.genePredictions, "gradients.genePredictions", weights.maskedGene, update)
        terms.maskedGeneZero = place(
            buffers.geneNonzero, "gradients.geneNonzero", weights.maskedGeneZero, update)
        terms.cellGene = place(buffers.cellPredictions, "gradients.cellPredictions", weights.cellGene, update)
        terms.cellGeneZero = place(buffers.cellNonzero, "gradients.cellNonzero", weights.cellGeneZero, update)
        terms.generation = place(
            buffers.generatedPredictions, "gradients.generatedPredictions", weights.generation, update)
        terms.elastic = place(buffers.cellEmbedding, "gradients.cellEmbedding", weights.elastic, update)
        // CCE comes after ECS and adds to what that left.
        terms.contrastive = place(
            buffers.cellEmbedding, "gradients.cellEmbedding", weights.contrastive,
            weights.elastic == nil ? update : .accumulate)
        secondCellEmbedding = place(
            buffers.secondCellEmbedding, "gradients.secondCellEmbedding", weights.contrastive, update)
        terms.cellType = place(buffers.cellTypeLogits, "gradients.cellTypeLogits", weights.cellType, update)
        terms.batch = place(buffers.batchLogits, "gradients.batchLogits", weights.batch, update)
        let lambda = objective.domainAdversarial.reversal.lambda
        reversedBatchLogits = place(
            buffers.reversedBatchLogits, "gradients.reversedBatchLogits", weights.batch.map { -lambda * $0 },
            update)
    }

    subscript(term: ObjectiveTerm) -> GradientOutput? { terms[term] }

    /// Writes 0 to the buffers whose terms are off.
    func clearUnused() {
        clear(buffers.genePredictions, unless: terms.maskedGene)
        clear(buffers.geneNonzero, unless: terms.maskedGeneZero)
        clear(buffers.cellPredictions, unless: terms.cellGene)
        clear(buffers.cellNonzero, unless: terms.cellGeneZero)
        clear(buffers.generatedPredictions, unless: terms.generation)
        clear(buffers.cellEmbedding, unless: terms.elastic ?? terms.contrastive)
        clear(buffers.secondCellEmbedding, unless: secondCellEmbedding)
        clear(buffers.cellTypeLogits, unless: terms.cellType)
        clear(buffers.batchLogits, unless: terms.batch)
        clear(buffers.reversedBatchLogits, unless: reversedBatchLogits)
    }

    private func clear(_ buffer: GradientBuffers.Buffer?, unless place: GradientOutput?) {
        if place == nil { buffer?.update(repeating: 0) }
    }
}
