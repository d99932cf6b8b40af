// The backward pass of the inner product of queries and cell embeddings.

import CFastLossKernels
import FastLoss

/// From the gradients of the products p = q·u back to genes, cells and layers.
///
///     dq = Σ dp·u        ds = dq ∘ q(1 − q)        dg = W_qᵀ ds        dW_q = Σ ds·gᵀ        db_q = Σ ds
///     du = Σ dp·q        dshift = Σ dp
struct InnerProductBackward {
    private let answers: CellAnswersBackward
    private let answerRows: Int
    private let width: Int
    private let query: LinearGradients
    private let queryWeight: PackedOperand?
    private let answerVectors: PackedOperand
    private let genes: ModelMatrixGradient?
    private let writesZeroGenes: Bool
    private let writer: GradientWriter

    /// dp and ds of a group's genes.
    private let products: ScratchMatrix
    private let queryGradients: ScratchMatrix
    private let querySums: ScratchArray<Double>
    private let columnProducts: ColumnProducts

    init(
        _ arguments: MaskedValueArguments, _ gradients: MaskedValueBuffers,
        query parameters: LinearParameters, answers: CellAnswers, genesPerGroup: Int,
        scale: ProductScale, in layout: inout ScratchLayout
    ) throws(LossError) {
        width = arguments.options.width
        answerRows = answers.outputs * answers.cells
        writer = GradientWriter(update: gradients.update)
        query = gradients.parameters.query
        self.answers = try CellAnswersBackward(
            answers, gradients: gradients.parameters.answers, cells: gradients.cellEmbeddings,
            batches: gradients.batchEmbeddings, writer: writer, in: &layout)
        answerVectors = try PackedOperand(
            answers.vectors, rows: answerRows, transposed: false, scale: scale, in: &layout)
        genes = try ModelMatrixGradient(
            gradients.genes, rows: arguments.genes.embeddings.rows, columns: width, in: &layout)
        writesZeroGenes = arguments.options.style == .innerProductDetached
        queryWeight =
            genes == nil || writesZeroGenes
            ? nil : try PackedOperand(parameters.weight, transposed: false, scale: scale, in: &layout)
        products = try ScratchMatrix(rows: genesPerGroup, columns: answerRows, in: &layout)
        queryGradients = try ScratchMatrix(rows: genesPerGroup, columns: width, in: &layout)
        querySums = try layout.add(width, of: Double.self)
        columnProducts = try ColumnProducts(scale: scale, in: &layout)
    }

    /// Packs the right operands and clears the sums, after the cells' answers are computed.
    func prepare(on execution: Execution) {
        answers.prepare(on: execution)
        answerVectors.pack(on: execution)
        queryWeight?.pack(on: execution)
        execution.pointer(querySums).update(repeating: 0, count: width)
        if writesZeroGenes, !writer.accumulates { genes?.clear() }
    }

    /// The rows of dp of a block, set to zero.
    func clearedProducts(rows first: Int, count: Int, on execution: Execution) -> UnsafeMutablePointer<Float>
    {
        let memory = products.row(first, on: execution)
        memory.update(repeating: 0, count: count * products.stride)
        return memory
    }

    /// Carries dp of a block back to its queries and genes.
    ///
    /// - Parameters:
    ///   - block: the genes.
    ///   - first: the block's first row in the group.
    func block(
        _ block: Range<Int>, rows first: Int, queries: UnsafePointer<Float>, stride: Int,
        on execution: Execution
    ) {
        let rows = first..<first + block.count
        let gradient = queryGradients.row(first, on: execution)
        answerVectors.multiply(
            products.matrix(rows: rows, on: execution), into: gradient, stride: queryGradients.stride,
            on: execution)
        for row in 0..<block.count {
            kernels.activation_gradient(
                gradient + row * queryGradients.stride, queries + row * stride, width, FASTLOSS_SIGMOID)
        }
        guard let queryWeight, let genes else { return }
        queryWeight.multiply(
            queryGradients.matrix(rows: rows, on: execution), into: genes.begin(rows: block, on: execution),
            stride: width, accumulates: writer.accumulates, on: execution)
        genes.end(rows: block, on: execution)
    }

    /// Adds a group of genes to the gradients of the query's layer and of the cells.
    func addWeights(
        embeddings: MatrixPointer, queries: MatrixPointer, isFirst: Bool, on execution: Execution
    ) {
        let rows = 0..<embeddings.rows
        let queryGradient = queryGradients.matrix(rows: rows, on: execution)
        let productGradient = products.matrix(rows: rows, on: execution)
        if let weight = query.weight {
            columnProducts.multiplyAll(
                queryGradient, embeddings, into: weight, stride: width,
                accumulates: writer.accumulates || !isFirst, on: execution)
        }
        columnProducts.multiplyAll(
            productGradient, queries, into: answers.vectors.row(0, on: execution),
            stride: answers.vectors.stride, accumulates: !isFirst, on: execution)
        kernels.add_rows(
            queryGradient.base, rows.count, width, queryGradient.stride, execution.pointer(querySums))
        kernels.add_rows(
            productGradient.base, rows.count, answerRows, productGradient.stride,
            answers.shifts(on: execution))
    }

    /// Writes the gradients of the biases, the answers' layers, and the embeddings of cells and batches.
    func finish(on execution: Execution) {
        query.bias.map { writer.write(execution.pointer(querySums), count: width, to: $0) }
        answers.finish(on: execution)
    }
}
