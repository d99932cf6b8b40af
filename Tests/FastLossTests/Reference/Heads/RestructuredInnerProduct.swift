// The inner product of the masked value decoder in the order that saves most of its work.

import FastLossReference
import Testing

/// (W q)·c = q·(Wᵀc), with q computed for each distinct gene and u = Wᵀc for each cell.
///
///     Q = σ(gene2query(table))        U = C·W        prediction_bl = q_g(bl) · u_b
///     U₀ = C·W₀, β = C·b₀             zero logit_bl = q_g(bl) · u₀_b + β_b
///
///     dU_b = Σ_l dp_bl q_g(bl)        dQ_g = Σ dp_bl u_b over the positions with the gene g
///     dW = Cᵀ·dU        dC = dU·Wᵀ        db₀ = Cᵀ·dβ        dC += dβ·b₀ᵀ
struct RestructuredInnerProduct {
    let predictions: [Double]
    let probabilities: [Double]?
    private let queryLogits: [Double]
    private let queries: [Double]
    private let answers: Reference.Linear<Double>
    private let zeroAnswers: Reference.Linear<Double>?
    private let cellVectors: [Double]

    init(_ head: MaskedValueDecoderCase<Double>) throws {
        let width = head.geneTable.width
        queryLogits = head.parameters.gene2query.value(input: head.geneTable.weight)
        queries = Reference.Activation.sigmoid.value(input: queryLogits)
        let embeddings = head.cellEmbeddings
        cellVectors = (0..<head.cells).flatMap { cell in
            let row = cell * width..<(cell + 1) * width
            return embeddings[row] + (head.batchEmbeddings?[row] ?? [])
        }
        answers = Self.transposed(try #require(head.parameters.w))
        zeroAnswers = head.parameters.wZeroLogit.map(Self.transposed)

        predictions = Self.products(head, queries, answers.value(input: cellVectors))
        guard let zeroAnswers, let bias = head.parameters.wZeroLogit?.bias else {
            probabilities = nil
            return
        }
        var logits = Self.products(head, queries, zeroAnswers.value(input: cellVectors))
        for position in logits.indices {
            let cell = position / head.tokens
            logits[position] += dot(bias, Array(cellVectors[cell * bias.count..<(cell + 1) * bias.count]))
        }
        probabilities = Reference.Activation.sigmoid.value(input: logits)
    }

    /// The gradients of the parameters, of the cells' vectors, and of the gene table.
    func gradients(
        _ head: MaskedValueDecoderCase<Double>
    ) -> (parameters: Reference.MaskedValueDecoder.Parameters<Double>, cells: [Double], genes: [Double]) {
        var parameters = head.parameters
        var queryGradient = [Double](repeating: 0, count: queries.count)
        var cellGradient = [Double](repeating: 0, count: cellVectors.count)
        parameters.w?.weight = add(
            head.outputGradients.predictions, through: answers, head, &queryGradient, &cellGradient)
        if let zeroAnswers, let probabilities, let bias = head.parameters.wZeroLogit?.bias {
            let upstream = head.outputGradients.nonzeroProbabilities!
            let logitGradient = probabilities.indices.map {
                upstream[$0] * probabilities[$0] * (1 - probabilities[$0])
            }
            parameters.wZeroLogit?.weight = add(
                logitGradient, through: zeroAnswers, head, &queryGradient, &cellGradient)
            var biasGradient = bias.map { _ in 0.0 }
            for position in logitGradient.indices {
                let start = position / head.tokens * bias.count
                for i in bias.indices {
                    biasGradient[i] += logitGradient[position] * cellVectors[start + i]
                    cellGradient[start + i] += logitGradient[position] * bias[i]
                }
            }
            parameters.wZeroLogit?.bias = biasGradient
        }
        let (query, genes) = head.parameters.gene2query.gradients(
            outputGradient: Reference.Activation.sigmoid.gradient(
                outputGradient: queryGradient, input: queryLogits),
            input: head.geneTable.weight)
        parameters.gene2query = query
        let detached = head.parameters.style == .innerProductDetached
        return (parameters, cellGradient, detached ? genes.map { _ in 0 } : genes)
    }

    /// The gradient of a product's W; adds those of the queries and of the cells' vectors.
    private func add(
        _ outputGradient: [Double], through answers: Reference.Linear<Double>,
        _ head: MaskedValueDecoderCase<Double>, _ queryGradient: inout [Double],
        _ cellGradient: inout [Double]
    ) -> [Double] {
        let width = head.geneTable.width
        let answered = answers.value(input: cellVectors)
        var answerGradient = [Double](repeating: 0, count: answered.count)
        for (position, gene) in head.genes.enumerated() {
            let (cell, query) = (position / head.tokens * width, Int(gene) * width)
            for i in 0..<width {
                answerGradient[cell + i] += outputGradient[position] * queries[query + i]
                queryGradient[query + i] += outputGradient[position] * answered[cell + i]
            }
        }
        let (parameters, input) = answers.gradients(outputGradient: answerGradient, input: cellVectors)
        for i in input.indices { cellGradient[i] += input[i] }
        return Self.transposed(parameters).weight
    }

    /// The inner product of every position's query with its cell's answer.
    private static func products(
        _ head: MaskedValueDecoderCase<Double>, _ queries: [Double], _ answers: [Double]
    ) -> [Double] {
        let width = head.geneTable.width
        return head.genes.enumerated().map { position, gene in
            let (cell, query) = (position / head.tokens * width, Int(gene) * width)
            return dot(Array(queries[query..<query + width]), Array(answers[cell..<cell + width]))
        }
    }

    /// The layer with Wᵀ in place of W, without bias.
    private static func transposed(_ layer: Reference.Linear<Double>) -> Reference.Linear<Double> {
        var result = Reference.Linear<Double>(
            inputWidth: layer.outputWidth, outputWidth: layer.inputWidth, hasBias: false)
        for row in 0..<layer.outputWidth {
            for column in 0..<layer.inputWidth {
                result.weight[column * layer.outputWidth + row] =
                    layer.weight[row * layer.inputWidth + column]
            }
        }
        return result
    }
}
