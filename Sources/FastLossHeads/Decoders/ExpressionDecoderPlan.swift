// One batch through the expression decoder: block by block forward, through the losses, and back.

import CFastLossKernels
import FastLoss

/// The sizes and options of an expression decoder.
package struct ExpressionDecoderOptions {
    let width: Int
    let hasExplicitZeros: Bool
    let hasBatchEmbeddings: Bool
    let nonzeroForm: BernoulliNLL.Form
    let whenEmpty: EmptySelectionRule

    package init(
        width: Int, hasExplicitZeros: Bool, hasBatchEmbeddings: Bool, nonzeroForm: BernoulliNLL.Form,
        whenEmpty: EmptySelectionRule
    ) {
        self.width = width
        self.hasExplicitZeros = hasExplicitZeros
        self.hasBatchEmbeddings = hasBatchEmbeddings
        self.nonzeroForm = nonzeroForm
        self.whenEmpty = whenEmpty
    }
}

/// The memory of an expression decoder's gradients.
package struct ExpressionDecoderBuffers {
    let perceptrons: InlineArray<2, PerceptronGradients?>
    let states: GradientOutput?
    let batchEmbeddings: GradientOutput?
    let update: GradientUpdate

    package init(
        perceptrons: InlineArray<2, PerceptronGradients?>, states: GradientOutput?,
        batchEmbeddings: GradientOutput?, update: GradientUpdate
    ) {
        self.perceptrons = perceptrons
        self.states = states
        self.batchEmbeddings = batchEmbeddings
        self.update = update
    }
}

/// The expression decoder over the masked tokens of one batch.
///
/// Tokens run in groups of 1,536, and a group in blocks of 48, or of 192 with AMX. A task takes one block
/// forward, computes its losses, and carries the gradients back to its states. Then the group's share is added
/// to the gradients of the weights, one task for some rows of a weight. Every sum runs in the order of the
/// tokens.
package struct ExpressionDecoderPlan: Plan {
    /// The tokens of a group: enough for many workers, and few enough that their activations stay in a
    /// last-level cache.
    private static let tokensPerGroup = 1536
    /// The tokens of a block: whole tiles with every instruction set.
    private let tokensPerBlock: Int
    /// The blocks of a group.
    private var blocksPerGroup: Int { Self.tokensPerGroup / tokensPerBlock }

    package var name: String { "ExpressionDecoder" }

    private let shape: TokenShape
    private let states: ModelMatrix
    private let batches: CheckedBatches?
    private let rows: SelectedRows
    private let perceptrons: Perceptrons
    private let backward: PerceptronsBackward?
    private let outputs: TokenOutputs
    private let gradients: ExpressionDecoderBuffers?
    /// The losses if no token is masked.
    private var emptyValue = 0.0

    /// The states and the hidden layers of a group, or of one block for each worker without a backward pass.
    private let inputs: ScratchMatrix
    private let first: ScratchMatrix
    private let second: ScratchMatrix
    private let firstGradient: ScratchMatrix
    /// The gradient of a block's states for each worker.
    private let statesGradient: ScratchMatrix
    /// The outputs of each block of a group, then their gradients; and each block's dw₃.
    private let blockOutputs: ScratchArray<Float>
    private let thirdGradients: ScratchArray<Float>
    private let blockSums: ScratchArray<BlockSums>

    package init(
        _ decoder: ExpressionDecoderOptions, _ inputs: ExpressionDecoderInputBuffers,
        parameters: InlineArray<2, PerceptronParameters?>, loss: DecoderLoss?,
        gradients: ExpressionDecoderBuffers? = nil, gradientScale: Float = 1, outputs: DecoderOutputs? = nil,
        arrays: ParameterArrays = ParameterArrays(), in layout: inout ScratchLayout
    ) throws(LossError) {
        shape = inputs.shape
        let total = try MatrixShape(rows: shape.cells, columns: shape.tokens).checkedCount()
        let width = decoder.width
        try checkCount("shape.width", shape.width, is: width)
        try checkCount(
            "states", inputs.states.count, is: MatrixShape(rows: total, columns: width).checkedCount())
        try loss?.check(
            total: total, explicitZeros: decoder.hasExplicitZeros, gradientScale: gradientScale)
        if let mask = inputs.mask { try checkCount("mask", mask.count, is: total) }
        states = ModelMatrix(inputs.states, rows: total, columns: width)
        batches = try CheckedBatches.check(
            inputs.batches, wanted: decoder.hasBatchEmbeddings, cells: shape.cells, width: width)
        self.gradients = gradients
        try checkGradient(gradients?.states, of: inputs.states)
        try checkGradient(gradients?.batchEmbeddings, of: inputs.batches?.embeddings)
        try outputs?.check(total: total, explicitZeros: decoder.hasExplicitZeros)
        let read: InlineArray<_, NamedMemory?> = [
            arrays.parameters,
            inputs.states.named("states"),
            NamedMemory("mask", ifGiven: inputs.mask),
            inputs.batches?.embeddings.named("batches.embeddings"),
            NamedMemory("batches.labels", ifGiven: inputs.batches?.labels),
            loss?.inputs.0, loss?.inputs.1,
        ]
        let written: InlineArray<_, NamedMemory?> = [
            arrays.gradients,
            gradients?.states?.named,
            gradients?.batchEmbeddings?.named,
            NamedMemory("predictions", ifGiven: outputs?.predictions),
            NamedMemory("nonzero", ifGiven: outputs?.nonzero),
        ]
        try checkNoOverlap(inputs: read.span, outputs: written.span)
        TileProducts.prepare(in: &layout)

        rows = try SelectedRows(mask: inputs.mask.map(pointer), total: total, in: &layout)
        if rows.count == 0, let loss {
            emptyValue = try loss.emptyValue(decoder.whenEmpty, decoder: "ExpressionDecoder")
        }
        self.outputs = TokenOutputs(
            loss, into: outputs, form: decoder.nonzeroForm, scale: gradientScale, selected: rows.count,
            wantsGradients: gradients != nil)

        let scale = ProductScale.of(rows: rows.count, depth: width)
        tokensPerBlock = scale == .blocks ? 192 : 48
        perceptrons = try Perceptrons(
            parameters, width: width, embeddings: batches?.embeddings, scale: scale, in: &layout)
        let groupBlocks = Self.tokensPerGroup / tokensPerBlock
        let blocks = gradients == nil ? layout.workers : groupBlocks
        let tokens = blocks * tokensPerBlock
        let hidden = perceptrons.hiddenWidth
        self.inputs = try ScratchMatrix(rows: tokens, columns: width, in: &layout)
        first = try ScratchMatrix(rows: tokens, columns: hidden, in: &layout)
        second = try ScratchMatrix(rows: tokens, columns: hidden, in: &layout)
        blockOutputs = try layout.add(
            groupBlocks * Perceptrons.most, by: tokensPerBlock, of: Float.self)
        blockSums = try layout.add(groupBlocks, of: BlockSums.self)
        let backwardTokens = gradients == nil ? 0 : tokens
        firstGradient = try ScratchMatrix(rows: backwardTokens, columns: hidden, in: &layout)
        thirdGradients = try layout.add(gradients == nil ? 0 : groupBlocks, by: hidden, of: Float.self)
        statesGradient = try ScratchMatrix(
            rows: gradients?.states == nil ? 0 : layout.workers * tokensPerBlock, columns: width,
            in: &layout)
        guard let gradients else {
            backward = nil
            return
        }
        backward = try PerceptronsBackward(
            perceptrons, gradients: gradients.perceptrons, writer: GradientWriter(update: gradients.update),
            embeddings: batches?.embeddings, embeddingsGradient: gradients.batchEmbeddings,
            wantsStates: gradients.states != nil, in: &layout)
    }
}

// MARK: - Run

extension ExpressionDecoderPlan {
    package func run(on execution: Execution) throws(LossError) -> DecoderLosses {
        let hasZeros = perceptrons.count == Perceptrons.most
        guard rows.count > 0 else {
            fillGradients(with: Float(emptyValue))
            return DecoderLosses(emptyValue: emptyValue, explicitZeros: hasZeros)
        }
        rows.list(on: execution)
        perceptrons.prepare(on: execution)
        backward?.prepare(on: execution)
        let blocks = (rows.count + tokensPerBlock - 1) / tokensPerBlock
        var sums = BlockSums()
        for start in stride(from: 0, to: blocks, by: blocksPerGroup) {
            let group = start..<min(blocks, start + blocksPerGroup)
            runBlocks(group, on: execution)
            for block in 0..<group.count { sums += execution.pointer(blockSums)[block] }
            addWeights(group, on: execution)
        }
        backward?.finish(on: execution)
        clearUnselected(on: execution)
        return try sums.losses(count: rows.count, explicitZeros: hasZeros)
    }

    /// The selected tokens of a block, as positions in the list of rows.
    private func tokens(of block: Int) -> Range<Int> {
        block * tokensPerBlock..<min(rows.count, (block + 1) * tokensPerBlock)
    }

    /// The batch of a row.
    private func batch(of row: Int) -> Int { batches.map { Int($0.labels[row / shape.tokens]) } ?? 0 }

    private func runBlocks(_ group: Range<Int>, on execution: Execution) {
        let products = backward == nil ? 2.0 : 4
        execution.forEachTask(
            group.count,
            estimatedNanoseconds: products
                * TileProducts.nanoseconds(
                    rows: group.count * tokensPerBlock, columns: perceptrons.hiddenWidth,
                    depth: shape.width)
        ) { task, worker in
            let tokens = tokens(of: group.lowerBound + task)
            let indices = rows.indices(on: execution) + tokens.lowerBound
            // A block keeps its activations for the weights, or uses its worker's memory.
            let place = (backward == nil ? worker : task) * tokensPerBlock
            let input = inputs.row(place, on: execution)
            for token in 0..<tokens.count {
                states.copy(row: indices[token], to: input + token * inputs.stride)
            }
            let outputs = execution.pointer(blockOutputs) + task * Perceptrons.most * tokensPerBlock
            perceptrons.forward(
                inputs.matrix(rows: place..<place + tokens.count, on: execution),
                batch: { batch(of: indices[$0]) }, first: first.row(place, on: execution),
                second: second.row(place, on: execution), stride: first.stride, outputs: outputs,
                on: execution)
            execution.pointer(blockSums)[task] = self.outputs.process(
                tokens.count, rows: indices, predictions: outputs,
                logits: perceptrons.count == Perceptrons.most ? outputs + tokens.count : nil)
            guard let backward else { return }
            let states =
                gradients?.states == nil
                ? nil : statesGradient.row(worker * tokensPerBlock, on: execution)
            backward.block(
                rows: tokens.count, outputGradients: outputs, first: first.row(place, on: execution),
                second: second.row(place, on: execution),
                firstGradient: firstGradient.row(place, on: execution), stride: first.stride,
                thirdGradient: execution.pointer(thirdGradients) + task * perceptrons.hiddenWidth,
                states: states, statesStride: statesGradient.stride, on: execution)
            if let states { scatter(states, tokens: tokens.count, rows: indices) }
        }
    }

    /// Writes the gradients of a block's states.
    private func scatter(
        _ block: UnsafeMutablePointer<Float>, tokens: Int, rows: UnsafePointer<Int>
    ) {
        for token in 0..<tokens {
            gradients?.states?.write(block + token * statesGradient.stride, to: elements(ofRow: rows[token]))
        }
    }

    /// Adds a group to the gradients of the parameters.
    private func addWeights(_ group: Range<Int>, on execution: Execution) {
        guard let backward else { return }
        let start = tokens(of: group.lowerBound).lowerBound
        let count = tokens(of: group.upperBound - 1).upperBound - start
        let indices = rows.indices(on: execution) + start
        for (task, block) in group.enumerated() {
            backward.addBlock(
                rows: tokens(of: block).count,
                outputGradients: execution.pointer(blockOutputs)
                    + task * Perceptrons.most * tokensPerBlock,
                thirdGradient: execution.pointer(thirdGradients) + task * perceptrons.hiddenWidth,
                on: execution)
        }
        backward.addWeights(
            states: inputs.matrix(rows: 0..<count, on: execution),
            first: first.matrix(rows: 0..<count, on: execution),
            second: second.matrix(rows: 0..<count, on: execution),
            firstGradient: firstGradient.matrix(rows: 0..<count, on: execution),
            isFirst: group.lowerBound == 0, batch: { batch(of: indices[$0]) }, on: execution)
    }

    /// Writes zero gradients for the states outside the mask.
    private func clearUnselected(on execution: Execution) {
        guard let gradients, gradients.update == .overwrite, rows.count < rows.total,
            let states = gradients.states
        else { return }
        execution.forEachTask(
            shape.cells, estimatedNanoseconds: Double(rows.total - rows.count) * Double(shape.width) / 4
        ) { cell, _ in
            for row in cell * shape.tokens..<(cell + 1) * shape.tokens where !rows.contains(row) {
                states.clear(elements(ofRow: row))
            }
        }
    }

    /// The elements of a token's state.
    private func elements(ofRow row: Int) -> Range<Int> { row * shape.width..<(row + 1) * shape.width }

    /// Writes the gradients of an empty selection.
    private func fillGradients(with value: Float) {
        guard let gradients else { return }
        let writer = GradientWriter(update: gradients.update)
        for index in 0..<perceptrons.count {
            gradients.perceptrons[index]?.fill(value, like: perceptrons[index], writer)
        }
        gradients.states?.fill(with: value)
        gradients.batchEmbeddings?.fill(with: value)
    }
}
