// One batch through a decoder whose hidden layer adds a part of the cell and a part of the gene.

import CFastLossKernels
import FastLoss

/// The styles "concat query" and "sum query" over the masked tokens of one batch.
///
/// The first layer is linear, so it splits: F[c; q] = F_c·c + F_q·q, and F(c + q) = F·c + F·q. Both parts are
/// computed once, for each cell and for each gene. A token then costs O(H) instead of O(H·D):
///
///     x = F_c·c + F_q·q + b₁        y = Σ w₂·PReLU(x) + b₂
///     dF_c = Σ_cells dx_b·cᵀ        dF_q = Σ_genes dx_g·qᵀ        dx_b, dx_g = Σ dx over a cell's, a gene's tokens
///
/// Cells run forward and back first, one task for each. Then genes run back, in blocks of 48. Scratch memory
/// is that of the genes' embeddings, queries and query gradients.
package struct HiddenQueryPlan: Plan {
    package var name: String { "MaskedValueDecoder" }

    private let arguments: MaskedValueArguments
    private let tokens: MaskedValueTokens

    private let query: LinearParameters
    private let first: LinearParameters
    private let second: LinearParameters
    private let slope: UnsafePointer<Float>
    /// H, and the width of a query.
    private let hiddenWidth: Int
    private let queryWidth: Int

    private let queryWeight: PackedOperand
    private let cellWeight: PackedOperand
    private let geneWeight: PackedOperand
    /// F_c·c of every cell, and of every gene its embedding, its query and F_q·q + b₁.
    private let cellParts: ScratchMatrix
    private let cellEmbeddings: WidenedMatrix
    private let embeddings: ScratchMatrix
    private let queries: ScratchMatrix
    private let geneParts: ScratchMatrix
    private let cellSums: ScratchArray<BlockSums>
    private let backward: HiddenQueryBackward?

    package init(_ arguments: MaskedValueArguments, in layout: inout ScratchLayout) throws(LossError) {
        let decoder = arguments.options
        guard let hidden = arguments.parameters.hidden else {
            preconditionFailure("\(decoder.style) has a hidden layer")
        }
        self.arguments = arguments
        TileProducts.prepare(in: &layout)
        tokens = try MaskedValueTokens(arguments, in: &layout)
        query = arguments.parameters.query
        first = hidden.first
        second = hidden.second
        slope = hidden.slope
        hiddenWidth = decoder.hiddenWidth
        queryWidth = query.weight.rows

        let genes = arguments.genes.embeddings.rows
        queryWeight = try PackedOperand(query.weight, transposed: true, in: &layout)
        cellWeight = try PackedOperand(
            Self.part(first, from: 0, columns: decoder.width), transposed: true, in: &layout)
        geneWeight = try PackedOperand(
            Self.geneWeight(decoder, first), transposed: true, in: &layout)
        cellEmbeddings = try WidenedMatrix(arguments.cellEmbeddings, in: &layout)
        cellParts = try ScratchMatrix(rows: arguments.cells, columns: hiddenWidth, in: &layout)
        embeddings = try ScratchMatrix(rows: genes, columns: decoder.width, in: &layout)
        queries = try ScratchMatrix(rows: genes, columns: queryWidth, in: &layout)
        geneParts = try ScratchMatrix(rows: genes, columns: hiddenWidth, in: &layout)
        cellSums = try layout.add(arguments.cells, of: BlockSums.self)
        guard let gradients = arguments.gradients, let places = gradients.parameters.hidden else {
            backward = nil
            return
        }
        backward = try HiddenQueryBackward(
            arguments, gradients, places: places, query: query, first: first, total: tokens.rows.total,
            in: &layout)
    }

    /// Some columns of a layer's weight.
    static func part(_ layer: LinearParameters, from column: Int, columns: Int) -> MatrixPointer {
        MatrixPointer(
            layer.weight.base + column, rows: layer.weight.rows, columns: columns, stride: layer.weight.stride
        )
    }

    /// F_q: the columns behind those of the cell, or the same ones if cell and query are added.
    static func geneWeight(_ decoder: MaskedValueOptions, _ first: LinearParameters) -> MatrixPointer {
        decoder.style == .concatQuery
            ? part(first, from: decoder.width, columns: decoder.hiddenWidth) : first.weight
    }

    package func run(on execution: Execution) throws(LossError) -> DecoderLosses {
        guard tokens.rows.count > 0 else {
            arguments.gradients?.fill(Float(tokens.emptyValue), like: arguments.parameters)
            return DecoderLosses(emptyValue: tokens.emptyValue, explicitZeros: false)
        }
        tokens.prepare(on: execution)
        queryWeight.pack(on: execution)
        geneWeight.pack(on: execution)
        cellEmbeddings.prepare(on: execution)
        cellWeight.multiplyOnce(
            cellEmbeddings.matrix(on: execution), into: cellParts.row(0, on: execution),
            stride: cellParts.stride,
            on: execution)
        computeGeneParts(on: execution)
        backward?.prepare(on: execution)
        execution.forEachTask(
            arguments.cells, estimatedNanoseconds: Double(tokens.rows.count) * Double(hiddenWidth) / 4
        ) { cell, _ in
            execution.pointer(cellSums)[cell] = visitTokens(ofCell: cell, on: execution)
        }
        var sums = BlockSums()
        for cell in 0..<arguments.cells { sums += execution.pointer(cellSums)[cell] }
        backward?.finish(
            tokens: tokens.byGene, genes: genePointers(on: execution), cellParts: cellParts, second: second,
            slope: slope.pointee, on: execution)
        return try sums.losses(count: tokens.rows.count, explicitZeros: false)
    }

    private func genePointers(on execution: Execution) -> HiddenGenes {
        let all = 0..<arguments.genes.embeddings.rows
        return HiddenGenes(
            embeddings: embeddings.matrix(rows: all, on: execution),
            queries: queries.matrix(rows: all, on: execution),
            parts: geneParts.matrix(rows: all, on: execution))
    }

    private func computeGeneParts(on execution: Execution) {
        let genes = arguments.genes.embeddings
        let blocks = tokens.byGene.blocks
        execution.forEachTask(
            blocks.tasks,
            estimatedNanoseconds: TileProducts.nanoseconds(
                rows: genes.rows, columns: queryWidth, depth: genes.columns)
        ) { task, _ in
            let range = blocks[task]
            for gene in range {
                genes.copy(row: gene, to: embeddings.row(gene, on: execution))
            }
            queryWeight.multiply(
                embeddings.matrix(rows: range, on: execution),
                into: queries.row(range.lowerBound, on: execution), stride: queries.stride, on: execution)
            for gene in range {
                kernels.activate(queries.row(gene, on: execution), query.bias, queryWidth, FASTLOSS_SIGMOID)
            }
            geneWeight.multiply(
                queries.matrix(rows: range, on: execution),
                into: geneParts.row(range.lowerBound, on: execution), stride: geneParts.stride,
                on: execution)
            for gene in range {
                kernels.activate(
                    geneParts.row(gene, on: execution), first.bias, hiddenWidth, FASTLOSS_IDENTITY)
            }
        }
    }

    /// Processes the masked tokens of a cell, and carries their gradients back to the cell's part.
    private func visitTokens(ofCell cell: Int, on execution: Execution) -> BlockSums {
        let range = tokens.rows.positions(ofCell: cell, tokens: arguments.tokens, on: execution)
        let indices = tokens.rows.indices(on: execution)
        let part = cellParts.row(cell, on: execution)
        let bias = second.bias?.pointee ?? 0
        return withFloats(TokenOutputs.mostTokens) { predictions in
            var sums = BlockSums()
            for start in stride(from: range.lowerBound, to: range.upperBound, by: TokenOutputs.mostTokens) {
                let count = min(TokenOutputs.mostTokens, range.upperBound - start)
                let chunk = indices + start
                for token in 0..<count {
                    let gene = geneParts.row(arguments.genes.gene(of: chunk[token]), on: execution)
                    predictions[token] = Float(
                        kernels.hidden_query(part, gene, second.weight.base, hiddenWidth, slope.pointee)
                            + Double(bias))
                }
                sums += tokens.outputs.process(count, rows: chunk, predictions: predictions, logits: nil)
                guard let backward else { continue }
                for token in 0..<count {
                    backward.addToken(
                        chunk[token], cell: cell, gradient: predictions[token], cellPart: part,
                        genePart: geneParts.row(arguments.genes.gene(of: chunk[token]), on: execution),
                        second: second.weight.base, slope: slope.pointee, on: execution)
                }
            }
            return sums
        }
    }
}

/// The matrices of all genes.
struct HiddenGenes {
    let embeddings: MatrixPointer
    let queries: MatrixPointer
    let parts: MatrixPointer
}
