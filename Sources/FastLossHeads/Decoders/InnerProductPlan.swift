// One batch through the inner product of queries and cell embeddings, gene by gene.

import CFastLossKernels
import FastLoss

/// The inner product decoder over the masked tokens of one batch.
///
/// Genes run in groups of up to 1,536, and a group in blocks of up to 48, or of 160 with AMX. A task computes the queries of one block and
/// their products with all cells, visits the masked tokens of its genes, and carries the gradients back to
/// queries and genes. Then the group's share is added to the gradients of `gene2query` and of the cells.
/// Every sum runs in the order of the genes.
package struct InnerProductPlan: Plan {
    private static let mostGenesPerGroup = 1536
    private var mostGenesPerBlock: Int { tokens.byGene.mostGenesPerBlock }
    /// The blocks of a group.
    private var blocksPerGroup: Int { Self.mostGenesPerGroup / mostGenesPerBlock }

    package var name: String { "MaskedValueDecoder" }

    private let arguments: MaskedValueArguments
    private let width: Int
    private let tokens: MaskedValueTokens

    private let query: LinearParameters
    private let answers: CellAnswers
    private let queryWeight: PackedOperand
    private let answerColumns: PackedOperand

    private let backward: InnerProductBackward?
    /// Embeddings and queries of a group's genes, or of one block for each worker without a backward pass.
    private let embeddings: ScratchMatrix
    private let queries: ScratchMatrix
    /// The products of a block with all cells, for each worker.
    private let products: ScratchMatrix
    private let blockSums: ScratchArray<BlockSums>

    package init(_ arguments: MaskedValueArguments, in layout: inout ScratchLayout) throws(LossError) {
        self.arguments = arguments
        width = arguments.options.width
        TileProducts.prepare(in: &layout)
        tokens = try MaskedValueTokens(arguments, in: &layout)

        query = arguments.parameters.query
        answers = try CellAnswers(
            arguments.parameters.answers, embeddings: arguments.cellEmbeddings, batches: arguments.batches,
            in: &layout)
        let scale = tokens.byGene.scale
        let mostGenesPerBlock = tokens.byGene.mostGenesPerBlock
        let blocksPerGroup = Self.mostGenesPerGroup / mostGenesPerBlock
        queryWeight = try PackedOperand(query.weight, transposed: true, scale: scale, in: &layout)
        let answerRows = answers.outputs * answers.cells
        answerColumns = try PackedOperand(
            answers.vectors, rows: answerRows, transposed: true, scale: scale, in: &layout)

        let blocks = arguments.gradients == nil ? layout.workers : blocksPerGroup
        embeddings = try ScratchMatrix(rows: blocks * mostGenesPerBlock, columns: width, in: &layout)
        queries = try ScratchMatrix(rows: blocks * mostGenesPerBlock, columns: width, in: &layout)
        products = try ScratchMatrix(
            rows: layout.workers * mostGenesPerBlock, columns: answerRows, in: &layout)
        blockSums = try layout.add(blocksPerGroup, of: BlockSums.self)
        guard let gradients = arguments.gradients else {
            backward = nil
            return
        }
        backward = try InnerProductBackward(
            arguments, gradients, query: query, answers: answers,
            genesPerGroup: Self.mostGenesPerGroup, scale: scale, in: &layout)
    }

    package func run(on execution: Execution) throws(LossError) -> DecoderLosses {
        let hasZeros = answers.outputs == 2
        guard tokens.rows.count > 0 else {
            arguments.gradients?.fill(Float(tokens.emptyValue), like: arguments.parameters)
            return DecoderLosses(emptyValue: tokens.emptyValue, explicitZeros: hasZeros)
        }
        tokens.prepare(on: execution)
        queryWeight.pack(on: execution)
        answers.prepare(on: execution)
        answerColumns.pack(on: execution)
        backward?.prepare(on: execution)
        let blocks = tokens.byGene.blocks
        var sums = BlockSums()
        for start in stride(from: 0, to: blocks.tasks, by: blocksPerGroup) {
            let group = start..<min(blocks.tasks, start + blocksPerGroup)
            runBlocks(group, of: blocks, on: execution)
            for block in 0..<group.count { sums += execution.pointer(blockSums)[block] }
            let count = blocks[group.upperBound - 1].upperBound - blocks[group.lowerBound].lowerBound
            backward?.addWeights(
                embeddings: embeddings.matrix(rows: 0..<count, on: execution),
                queries: queries.matrix(rows: 0..<count, on: execution), isFirst: start == 0, on: execution)
        }
        backward?.finish(on: execution)
        return try sums.losses(count: tokens.rows.count, explicitZeros: hasZeros)
    }

    private func runBlocks(_ group: Range<Int>, of blocks: EvenShares, on execution: Execution) {
        let genes = arguments.genes.embeddings
        let firstGene = blocks[group.lowerBound].lowerBound
        let answerRows = answers.outputs * answers.cells
        execution.forEachTask(
            group.count,
            estimatedNanoseconds: (backward == nil ? 1 : 2)
                * TileProducts.nanoseconds(
                    rows: group.count * mostGenesPerBlock, columns: width + answerRows, depth: width)
        ) { task, worker in
            let range = blocks[group.lowerBound + task]
            // A block keeps its queries for the weights, or uses its worker's memory.
            let place =
                backward == nil ? worker * mostGenesPerBlock : range.lowerBound - firstGene
            let embedding = embeddings.row(place, on: execution)
            let query = queries.row(place, on: execution)
            for (row, gene) in range.enumerated() {
                genes.copy(row: gene, to: embedding + row * embeddings.stride)
            }
            let block = place..<place + range.count
            queryWeight.multiply(
                embeddings.matrix(rows: block, on: execution), into: query, stride: queries.stride,
                on: execution)
            for row in 0..<range.count {
                kernels.activate(query + row * queries.stride, self.query.bias, width, FASTLOSS_SIGMOID)
            }
            let product = products.row(worker * mostGenesPerBlock, on: execution)
            answerColumns.multiply(
                queries.matrix(rows: block, on: execution), into: product, stride: products.stride,
                on: execution)
            let gradient = backward?.clearedProducts(rows: place, count: range.count, on: execution)
            execution.pointer(blockSums)[task] = visitTokens(range, product, gradient, on: execution)
            backward?.block(range, rows: place, queries: query, stride: queries.stride, on: execution)
        }
    }

    /// Processes the masked tokens of some genes, and adds the gradients of their products to `gradient`.
    private func visitTokens(
        _ genes: Range<Int>, _ product: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>?,
        on execution: Execution
    ) -> BlockSums {
        let rows = tokens.byGene.rows(ofGenes: genes, on: execution)
        let shifts = answers.shifts(on: execution)
        let cells = answers.cells
        return withFloats(2 * TokenOutputs.mostTokens) { predictions in
            let logits = answers.outputs == 2 ? predictions + TokenOutputs.mostTokens : nil
            var sums = BlockSums()
            // The place of each token's product.
            var places = TokenOutputs.Places(repeating: 0)
            for start in stride(from: 0, to: rows.count, by: TokenOutputs.mostTokens) {
                let count = min(TokenOutputs.mostTokens, rows.count - start)
                guard let chunk = rows.baseAddress.map({ $0 + start }) else { break }
                for token in 0..<count {
                    let cell = chunk[token] / arguments.tokens
                    let gene = arguments.genes.gene(of: chunk[token]) - genes.lowerBound
                    places[token] = gene * products.stride + cell
                    predictions[token] = product[places[token]]
                    logits?[token] = product[places[token] + cells] + shifts[cells + cell]
                }
                sums += tokens.outputs.process(count, rows: chunk, predictions: predictions, logits: logits)
                guard let gradient else { continue }
                for token in 0..<count {
                    gradient[places[token]] += predictions[token]
                    if let logits { gradient[places[token] + cells] += logits[token] }
                }
            }
            return sums
        }
    }
}
