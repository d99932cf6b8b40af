// The inner-product decoder with its losses, against loops over every token and against upstream's order.

import BenchmarkData
import FastLoss
import FastLossHeads
import FastLossReference

extension Suites {
    static var maskedValueDecoder: [Benchmark] {
        [ProblemShape(2, 101, 64), ProblemShape(64, 1201, 64), ProblemShape(64, 1201, 512)].flatMap { shape in
            [maskedValueDecoder(shape, sharesGenes: true), maskedValueDecoder(shape, sharesGenes: false)]
        }
    }

    private static func maskedValueDecoder(_ shape: ProblemShape, sharesGenes: Bool) -> Benchmark {
        Benchmark(
            kernel: "MaskedValueDecoder", variant: sharesGenes ? "shared-genes" : "gene-lists",
            mode: .valueAndGradient, shape: shape, tolerance: 1e-5,
            naiveTimedAt: shape.rows > 2 ? ProblemShape(2, 101, 64) : nil, isQuick: shape.depth < 512
        ) { context in
            let step = try MaskedValueStep(HeadBatch(shape, context), context, sharesGenes: sharesGenes)
            return Prepared(
                work: step.work,
                maxRelativeError: { workspace in
                    let value = try step.run(workspace)
                    return shape.rows == 2
                        ? step.errorAgainstReference(value) : try step.errorAgainstUpstream(value, workspace)
                },
                fastloss: step.run,
                naive: shape.rows > 2 ? nil : { Float(step.reference(of: Float.self).value) },
                rival: Rival(.upstream, call: step.runUpstream))
        }
    }
}

/// One step of the decoder, with its buffers.
final class MaskedValueStep {
    let batch: HeadBatch
    let decoder: MaskedValueDecoder
    let geneCount: Int
    private let geneTable: [Float]
    private let genes: [Int32]
    private let parameters: [Float]
    private let inputs: MaskedValueArrays
    private var gradients: MaskedValueGradientArrays
    private var upstream: UpstreamMaskedValueDecoder?

    /// - Parameter sharesGenes: whether all cells have one list of L genes, or each cell its own order of them.
    init(_ batch: HeadBatch, _ context: BenchmarkContext, sharesGenes: Bool) throws {
        self.batch = batch
        let (cells, tokens, width) = (batch.shape.rows, batch.shape.columns, batch.shape.depth)
        decoder = try MaskedValueDecoder(width: width, explicitZeros: true, batchEmbeddings: true)
        parameters = HeadBatch.parameters(decoder.layout)
        var generator = SeededGenerator(seed: 13)
        geneCount = tokens
        geneTable = (0..<geneCount * width).map { _ in generator.normal() }
        let list = (0..<Int32(tokens)).map { $0 }
        genes = sharesGenes ? list : (0..<cells).flatMap { _ in list.shuffled(using: &generator) }
        inputs = MaskedValueArrays(
            shape: MatrixShape(rows: cells, columns: tokens), cellEmbeddings: batch.cellEmbeddings,
            genes: GeneEmbeddingArrays(embeddings: geneTable, indices: genes), mask: batch.mask,
            batches: BatchEmbeddingArrays(embeddings: batch.batchEmbeddings, labels: batch.batchLabels))
        func zeros(_ count: Int) -> [Float] { [Float](repeating: 0, count: count) }
        gradients = MaskedValueGradientArrays(
            parameters: zeros(decoder.layout.count), cellEmbeddings: zeros(cells * width),
            genes: zeros(geneTable.count), batchEmbeddings: zeros(batch.batchEmbeddings.count))
    }

    var work: Work {
        let (cells, width, masked) = (batch.shape.rows, batch.shape.depth, batch.mask.count { $0 })
        // Queries, products of queries with two vectors for each cell, and the cells' and batches' products
        // with W and W₀: each forward and with two gradients, a product and a sum each. Embeddings and
        // parameters are read and their gradients written.
        let products =
            geneCount * width * width + 2 * masked * width
            + 2 * (cells + HeadBatch.batchCount) * width * width
        return Work(
            flops: 3 * 2 * products,
            bytes: 2 * 4 * (geneCount * width + cells * width + decoder.layout.count),
            limitedBy: .arithmetic)
    }

    func run(_ workspace: Workspace) throws -> Float {
        let losses = try decoder.valueAndGradient(
            inputs, targets: batch.targets, parameters: parameters, gradients: &gradients,
            workspace: workspace)
        return Float(losses.squaredError + (losses.nonzero ?? 0))
    }

    func runUpstream(_ workspace: Workspace) throws -> Float {
        if upstream == nil {
            upstream = UpstreamMaskedValueDecoder(
                batch, geneTable: geneTable, genes: genes, layout: decoder.layout, parameters: parameters)
        }
        return try upstream!.step(workspace)
    }

    /// The largest error against upstream's order: the loops in Double would take hours.
    func errorAgainstUpstream(_ value: Float, _ workspace: Workspace) throws -> Double {
        let other = try runUpstream(workspace)
        let expected = upstream!.inputGradients(genes: geneCount)
        return error(
            value, Double(other), upstream!.parameterGradient, expected.cells, expected.batches,
            expected.genes)
    }

    /// The largest error against the loops in Double.
    func errorAgainstReference(_ value: Float) -> Double {
        let truth = reference(of: Double.self)
        return error(
            value, truth.value, truth.parameters, truth.cells, truth.batches, truth.genes)
    }

    private func error(
        _ value: Float, _ expected: Double, _ parameters: [Double], _ cells: [Double], _ batches: [Double],
        _ genes: [Double]
    ) -> Double {
        max(
            relativeError(of: value, to: expected),
            normwiseRelativeError(of: gradients.parameters, to: parameters),
            normwiseRelativeError(of: gradients.cellEmbeddings ?? [], to: cells),
            normwiseRelativeError(of: gradients.batchEmbeddings ?? [], to: batches),
            normwiseRelativeError(of: gradients.genes ?? [], to: genes))
    }

    /// The decoder and its losses as plain loops over every token.
    func reference<T: ReferenceScalar>(
        of type: T.Type
    ) -> (value: T, parameters: [T], cells: [T], batches: [T], genes: [T]) {
        let (cells, tokens, width) = (batch.shape.rows, batch.shape.columns, batch.shape.depth)
        var reference = Reference.MaskedValueDecoder.Parameters<T>(
            style: .innerProduct, width: width, explicitZeros: true, batchLabels: true)
        for (name, array) in reference.stateDict {
            reference[keyPath: array] = parameters[decoder.layout[name]!.range].map { T($0) }
        }
        func rows(_ table: [Float], _ indices: [Int32]) -> [T] {
            indices.flatMap { table[Int($0) * width..<(Int($0) + 1) * width].map { T($0) } }
        }
        let perToken = (0..<cells * tokens).map { genes[$0 % genes.count] }
        let perCell = rows(batch.batchEmbeddings, batch.batchLabels)
        let targets = batch.targets.map { T($0) }
        let outputs = Reference.MaskedValueDecoder.value(
            parameters: reference, cellEmbeddings: batch.cellEmbeddings.map { T($0) },
            batchEmbeddings: perCell, geneEmbeddings: rows(geneTable, perToken), cells: cells, tokens: tokens)
        var outputGradients = outputs
        var value = Reference.MaskedMSE.valueAndGradient(
            predictions: outputs.predictions, targets: targets, mask: batch.mask,
            gradient: &outputGradients.predictions)
        if let probabilities = outputs.nonzeroProbabilities {
            var gradient = probabilities
            value += Reference.BernoulliNLL.valueAndGradient(
                probabilities: probabilities, targets: targets, mask: batch.mask, gradient: &gradient)
            outputGradients.nonzeroProbabilities = gradient
        }
        let gradients = Reference.MaskedValueDecoder.gradients(
            outputGradients: outputGradients, parameters: reference,
            cellEmbeddings: batch.cellEmbeddings.map { T($0) }, batchEmbeddings: perCell,
            geneEmbeddings: rows(geneTable, perToken), cells: cells, tokens: tokens)
        return (
            value,
            decoder.layout.parameters.flatMap { parameter in
                let array = reference.stateDict.first { $0.name == parameter.name }!.array
                return gradients.parameters[keyPath: array]
            },
            gradients.cellEmbeddings,
            sumsOfRows(
                gradients.batchEmbeddings ?? [], by: batch.batchLabels, count: batch.batchEmbeddings.count,
                width: width),
            sumsOfRows(gradients.geneEmbeddings, by: perToken, count: geneTable.count, width: width)
        )
    }
}

/// The sums of the rows that have the same index.
func sumsOfRows<T: ReferenceScalar>(_ rows: [T], by indices: [Int32], count: Int, width: Int) -> [T] {
    var sums = [T](repeating: 0, count: count)
    for (row, index) in indices.enumerated() {
        for i in 0..<width { sums[Int(index) * width + i] += rows[row * width + i] }
    }
    return sums
}
