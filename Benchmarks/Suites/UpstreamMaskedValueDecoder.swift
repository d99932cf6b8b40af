// The inner-product decoder in upstream's order: a query and two products with W for every token.

import CFastLossKernels
import FastLoss
import FastLossHeads

/// One step of the decoder with its losses as upstream computes it, with the same kernels and sgemm.
///
/// Every token has its own copy of its gene's embedding, and from it a query. W and W_zero_logit are
/// multiplied into each query, and each result by the cell's embedding, joined to its batch's.
struct UpstreamMaskedValueDecoder {
    private let batch: HeadBatch
    private let genes: [Int32]
    private var query: UpstreamLinear
    private var answers: [UpstreamLinear]
    /// The embedding of every token's gene, and of every cell with that of its batch.
    private let tokenGenes: [Float]
    private let cells: [Float]
    private var queries: [Float]
    private var vectors: [[Float]]
    private var outputs: [[Float]]
    private var queryGradient: [Float]
    private var tokenGradient: [Float]
    private var cellGradient: [Float]

    init(_ batch: HeadBatch, geneTable: [Float], genes: [Int32], layout: ParameterLayout, parameters: [Float])
    {
        self.batch = batch
        self.genes = genes
        let (tokens, width) = (batch.shape.rows * batch.shape.columns, batch.shape.depth)
        func layer(_ name: String) -> UpstreamLinear {
            UpstreamLinear(
                weight: Array(parameters[layout["\(name).weight"]!.range]),
                bias: layout["\(name).bias"].map { Array(parameters[$0.range]) }, inputs: width)
        }
        query = layer("gene2query")
        answers = ["W", "W_zero_logit"].map(layer)
        var tokenGenes: [Float] = []
        tokenGenes.reserveCapacity(tokens * width)
        for token in 0..<tokens {
            let gene = Int(genes[token % genes.count])
            tokenGenes += geneTable[gene * width..<(gene + 1) * width]
        }
        self.tokenGenes = tokenGenes
        cells = batch.joinedToBatches(batch.cellEmbeddings, rowsPerCell: 1)
        queries = [Float](repeating: 0, count: tokens * width)
        vectors = Array(repeating: [Float](repeating: 0, count: 2 * tokens * width), count: 2)
        outputs = Array(repeating: [Float](repeating: 0, count: tokens), count: 2)
        queryGradient = queries
        tokenGradient = queries
        cellGradient = [Float](repeating: 0, count: cells.count)
    }

    /// Runs forward, through the losses and back, and returns the sum of the losses.
    mutating func step(_ workspace: Workspace) throws -> Float {
        let workers = workspace.workers
        query.forward(tokenGenes, into: &queries, FASTLOSS_SIGMOID, workers: workers)
        for index in answers.indices {
            answers[index].forward(queries, into: &vectors[index], workers: workers)
            multiplyByCells(vectors[index], into: &outputs[index], workers: workers)
        }
        let (value, outputGradients) = try batch.losses(
            predictions: outputs[0], logits: outputs[1], workspace)
        for index in cellGradient.indices { cellGradient[index] = 0 }
        for index in answers.indices {
            vectorGradients(of: index, outputGradients[index], workers: workers)
            answers[index].backward(
                vectors[index], queries, into: &queryGradient, adds: index > 0, workers: workers)
        }
        throughActivation(&queryGradient, outputs: queries, FASTLOSS_SIGMOID, workers: workers)
        query.backward(queryGradient, tokenGenes, into: &tokenGradient, workers: workers)
        return value
    }

    /// The product of each token's vector with its cell.
    private func multiplyByCells(_ vectors: [Float], into outputs: inout [Float], workers: Int) {
        let (tokens, width) = (batch.shape.columns, cells.count / batch.shape.rows)
        outputs.withUnsafeMutableBufferPointer { outputs in
            vectors.withUnsafeBufferPointer { vectors in
                cells.withUnsafeBufferPointer { cells in
                    forEachTask(batch.shape.rows, workers: workers, estimatedNanoseconds: .infinity) {
                        cell, _ in
                        for token in cell * tokens..<(cell + 1) * tokens {
                            outputs[token] = Float(
                                kernels.dot(
                                    vectors.baseAddress! + token * width, cells.baseAddress! + cell * width,
                                    width))
                        }
                    }
                }
            }
        }
    }

    /// Adds the gradient of the cells, and replaces the vectors by their gradient, dp·c.
    private mutating func vectorGradients(of index: Int, _ gradients: [Float], workers: Int) {
        let (tokens, width) = (batch.shape.columns, cells.count / batch.shape.rows)
        let cells = cells
        let rows = batch.shape.rows
        vectors[index].withUnsafeMutableBufferPointer { vectors in
            cellGradient.withUnsafeMutableBufferPointer { cellGradient in
                forEachTask(rows, workers: workers, estimatedNanoseconds: .infinity) { cell, _ in
                    cells.withUnsafeBufferPointer { cells in
                        let embedding = cells.baseAddress! + cell * width
                        for token in cell * tokens..<(cell + 1) * tokens {
                            let vector = vectors.baseAddress! + token * width
                            kernels.scale(
                                vector, width, Double(gradients[token]),
                                cellGradient.baseAddress! + cell * width, FASTLOSS_ACCUMULATE)
                            kernels.scale(
                                embedding, width, Double(gradients[token]), vector, FASTLOSS_OVERWRITE)
                        }
                    }
                }
            }
        }
    }

    /// The gradients of the parameters in the order of their layout.
    var parameterGradient: [Double] {
        ([query] + answers).flatMap { ($0.weightGradient + $0.biasGradient).map(Double.init) }
    }

    /// The gradients of cells, batches and genes.
    func inputGradients(genes count: Int) -> (cells: [Double], batches: [Double], genes: [Double]) {
        let width = batch.shape.depth
        var cells: [Double] = []
        var batches = [Double](repeating: 0, count: batch.batchEmbeddings.count)
        for cell in 0..<batch.shape.rows {
            let row = cellGradient[2 * cell * width..<2 * (cell + 1) * width]
            cells += row.prefix(width).map(Double.init)
            for (i, value) in row.suffix(width).enumerated() {
                batches[Int(batch.batchLabels[cell]) * width + i] += Double(value)
            }
        }
        var genesGradient = [Double](repeating: 0, count: count * width)
        for token in 0..<batch.shape.rows * batch.shape.columns {
            let gene = Int(genes[token % genes.count])
            for i in 0..<width { genesGradient[gene * width + i] += Double(tokenGradient[token * width + i]) }
        }
        return (cells, batches, genesGradient)
    }
}
