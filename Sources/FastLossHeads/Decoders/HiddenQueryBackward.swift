// The backward pass of a decoder whose hidden layer adds a part of the cell and a part of the gene.

import CFastLossKernels
import FastLoss

/// From the gradients of the predictions back to cells, genes and layers; see ``HiddenQueryPlan``.
struct HiddenQueryBackward {
    private let arguments: MaskedValueArguments
    private let width: Int
    private let hiddenWidth: Int
    private let queryWidth: Int
    private let addsQuery: Bool
    private let query: LinearGradients
    private let first: LinearGradients
    private let firstStride: Int
    private let second: LinearGradients
    private let slopeGradient: UnsafeMutablePointer<Float>?
    private let genes: ModelMatrixGradient?
    private let cells: ModelMatrixGradient?
    private let writer: GradientWriter
    private let queryWeight: PackedOperand?
    private let cellWeight: PackedOperand?
    private let geneWeight: PackedOperand

    /// The gradient of the prediction of every token, at the masked ones.
    private let predictionGradients: ScratchArray<Float>
    /// Of each cell: the sums of dx, of dw₂, and of the gradients of the slope and of b₂.
    private let cellSums: ScratchArray<Double>
    private let weightSums: ScratchArray<Double>
    private let scalarSums: ScratchArray<Double>
    /// Of each gene and worker: the sums of dx.
    private let geneSums: ScratchArray<Double>
    /// dx of every cell and of every gene, and ds of every query.
    private let cellGradients: ScratchMatrix
    private let geneGradients: ScratchMatrix
    private let queryGradients: ScratchMatrix
    private let cellCopy: ScratchMatrix
    private let biasSums: ScratchArray<Double>
    private let columnProducts: ColumnProducts

    init(
        _ arguments: MaskedValueArguments, _ gradients: MaskedValueBuffers, places: HiddenGradients,
        query parameters: LinearParameters, first: LinearParameters, total: Int,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        let decoder = arguments.options
        self.arguments = arguments
        width = decoder.width
        hiddenWidth = decoder.hiddenWidth
        queryWidth = parameters.weight.rows
        addsQuery = decoder.style == .sumQuery
        writer = GradientWriter(update: gradients.update)
        query = gradients.parameters.query
        self.first = places.first
        firstStride = first.weight.columns
        second = places.second
        slopeGradient = places.slope
        queryWeight =
            gradients.genes == nil
            ? nil : try PackedOperand(parameters.weight, transposed: false, in: &layout)
        cellWeight =
            gradients.cellEmbeddings == nil
            ? nil
            : try PackedOperand(
                HiddenQueryPlan.part(first, from: 0, columns: width), transposed: false, in: &layout)
        geneWeight = try PackedOperand(
            HiddenQueryPlan.geneWeight(decoder, first), transposed: false, in: &layout)

        let cells = arguments.cells
        let genes = arguments.genes.embeddings.rows
        self.genes = try ModelMatrixGradient(gradients.genes, rows: genes, columns: width, in: &layout)
        self.cells = try ModelMatrixGradient(
            gradients.cellEmbeddings, rows: cells, columns: width, in: &layout)
        predictionGradients = try layout.add(total, of: Float.self)
        cellSums = try layout.add(cells, by: hiddenWidth, of: Double.self)
        weightSums = try layout.add(cells, by: hiddenWidth, of: Double.self)
        scalarSums = try layout.add(2 * cells, of: Double.self)
        geneSums = try layout.add(layout.workers, by: hiddenWidth, of: Double.self)
        cellGradients = try ScratchMatrix(rows: cells, columns: hiddenWidth, in: &layout)
        geneGradients = try ScratchMatrix(rows: genes, columns: hiddenWidth, in: &layout)
        queryGradients = try ScratchMatrix(rows: genes, columns: queryWidth, in: &layout)
        cellCopy = try ScratchMatrix(rows: cells, columns: width, in: &layout)
        biasSums = try layout.add(max(hiddenWidth, queryWidth), of: Double.self)
        columnProducts = try ColumnProducts(in: &layout)
    }

    /// Packs the right operands and clears the sums.
    func prepare(on execution: Execution) {
        queryWeight?.pack(on: execution)
        geneWeight.pack(on: execution)
        let count = arguments.cells * hiddenWidth
        execution.pointer(cellSums).update(repeating: 0, count: count)
        execution.pointer(weightSums).update(repeating: 0, count: count)
        execution.pointer(scalarSums).update(repeating: 0, count: 2 * arguments.cells)
    }

    /// Adds the gradient of one token to the sums of its cell, and keeps it for its gene.
    func addToken(
        _ row: Int, cell: Int, gradient: Float, cellPart: UnsafePointer<Float>,
        genePart: UnsafePointer<Float>, second: UnsafePointer<Float>, slope: Float, on execution: Execution
    ) {
        execution.pointer(predictionGradients)[row] = gradient
        let scalars = execution.pointer(scalarSums) + 2 * cell
        scalars[0] += kernels.hidden_query_gradient(
            cellPart, genePart, second, hiddenWidth, slope, gradient,
            execution.pointer(cellSums) + cell * hiddenWidth,
            execution.pointer(weightSums) + cell * hiddenWidth)
        scalars[1] += Double(gradient)
    }

    /// Carries the gradients back to genes and queries, and writes those of all layers.
    func finish(
        tokens: TokensByGene, genes: HiddenGenes, cellParts: ScratchMatrix, second: LinearParameters,
        slope: Float, on execution: Execution
    ) {
        visitGenes(tokens, genes, cellParts, second, slope, on: execution)
        writeCells(on: execution)
        let allGenes = 0..<arguments.genes.embeddings.rows
        let allCells = 0..<arguments.cells
        let geneGradient = geneGradients.matrix(rows: allGenes, on: execution)
        let queryGradient = queryGradients.matrix(rows: allGenes, on: execution)
        // With one matrix for both parts, the cells' share is added to the genes'.
        if let weight = first.weight {
            columnProducts.multiplyAll(
                geneGradient, genes.queries, into: weight + (addsQuery ? 0 : width), stride: firstStride,
                accumulates: writer.accumulates, on: execution)
            columnProducts.multiplyAll(
                cellGradients.matrix(rows: allCells, on: execution),
                cellCopy.matrix(rows: allCells, on: execution), into: weight, stride: firstStride,
                accumulates: writer.accumulates || addsQuery, on: execution)
        }
        if let weight = query.weight {
            columnProducts.multiplyAll(
                queryGradient, genes.embeddings, into: weight, stride: width,
                accumulates: writer.accumulates, on: execution)
        }
        writeBias(first.bias, sumsOf: geneGradient, on: execution)
        writeBias(query.bias, sumsOf: queryGradient, on: execution)
    }

    private func visitGenes(
        _ tokens: TokensByGene, _ genes: HiddenGenes, _ cellParts: ScratchMatrix,
        _ second: LinearParameters, _ slope: Float, on execution: Execution
    ) {
        let count = arguments.genes.embeddings.rows
        let blocks = tokens.blocks
        execution.forEachTask(
            blocks.tasks,
            estimatedNanoseconds: TileProducts.nanoseconds(rows: count, columns: queryWidth, depth: width)
        ) { task, worker in
            let range = blocks[task]
            let sums = execution.pointer(geneSums) + worker * hiddenWidth
            for gene in range {
                sums.update(repeating: 0, count: hiddenWidth)
                for row in tokens.rows(ofGenes: gene..<gene + 1, on: execution) {
                    _ = kernels.hidden_query_gradient(
                        cellParts.row(row / arguments.tokens, on: execution),
                        genes.parts.base + gene * genes.parts.stride, second.weight.base, hiddenWidth, slope,
                        execution.pointer(predictionGradients)[row], sums, nil)
                }
                let target = geneGradients.row(gene, on: execution)
                for i in 0..<hiddenWidth { target[i] = Float(sums[i]) }
            }
            geneWeight.multiply(
                geneGradients.matrix(rows: range, on: execution),
                into: queryGradients.row(range.lowerBound, on: execution), stride: queryGradients.stride,
                on: execution)
            for gene in range {
                kernels.activation_gradient(
                    queryGradients.row(gene, on: execution),
                    genes.queries.base + gene * genes.queries.stride, queryWidth, FASTLOSS_SIGMOID)
            }
            guard let queryWeight, let target = self.genes else { return }
            queryWeight.multiply(
                queryGradients.matrix(rows: range, on: execution),
                into: target.begin(rows: range, on: execution), stride: width,
                accumulates: writer.accumulates, on: execution)
            target.end(rows: range, on: execution)
        }
    }

    /// Writes the gradients of the cells, of the second layer and of the slope.
    private func writeCells(on execution: Execution) {
        let weights = execution.pointer(weightSums)
        let scalars = execution.pointer(scalarSums)
        for cell in 0..<arguments.cells {
            let target = cellGradients.row(cell, on: execution)
            for i in 0..<hiddenWidth {
                target[i] = Float(execution.pointer(cellSums)[cell * hiddenWidth + i])
                if cell > 0 { weights[i] += weights[cell * hiddenWidth + i] }
            }
            if cell > 0 {
                scalars[0] += scalars[2 * cell]
                scalars[1] += scalars[2 * cell + 1]
            }
            arguments.cellEmbeddings.copy(row: cell, to: cellCopy.row(cell, on: execution))
        }
        writer.write(weights, count: hiddenWidth, to: second.weight)
        writer.write(scalars, count: 1, to: slopeGradient)
        second.bias.map { writer.write(scalars + 1, count: 1, to: $0) }
        guard let cellWeight, let cells else { return }
        let rows = 0..<arguments.cells
        cellWeight.multiplyOnce(
            cellGradients.matrix(rows: rows, on: execution), into: cells.begin(rows: rows, on: execution),
            stride: width, accumulates: writer.accumulates, on: execution)
        cells.end(rows: rows, on: execution)
    }

    private func writeBias(
        _ bias: UnsafeMutablePointer<Float>?, sumsOf rows: MatrixPointer, on execution: Execution
    ) {
        guard let bias else { return }
        let sums = execution.pointer(biasSums)
        sums.update(repeating: 0, count: rows.columns)
        kernels.add_rows(rows.base, rows.rows, rows.columns, rows.stride, sums)
        writer.write(sums, count: rows.columns, to: bias)
    }
}
