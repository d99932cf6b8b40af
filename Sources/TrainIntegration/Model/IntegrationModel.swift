// The model: the encoder, scGPT's heads, and the integration objective with its gradient.

import BenchmarkData
import FastLoss
import FastLossHeads

/// The weighted terms, whose sum is the objective, and a metric: the relative error of the decoder.
package enum Terms {
    package static let names = ["MSE", "NLL", "MVC MSE", "MVC NLL", "ECS", "DAB", "relative error"]
}

/// A model whose parameters lie in one array, as its layout says.
struct IntegrationModel: Sendable {
    let encoder: CellEncoder
    let layout: ParameterLayout
    private let wells: BatchLabelEncoder
    private var decoder: ExpressionDecoder
    private var mvc: MaskedValueDecoder
    private let discriminator: AdversarialDiscriminator
    private let wellRange, decoderRange, mvcRange, discriminatorRange: Range<Int>

    init(genes: Int, bins: Int, wells count: Int, width: Int) throws {
        encoder = try CellEncoder(tokens: genes + 1, bins: bins, width: width)
        wells = try BatchLabelEncoder(labels: count, width: width)
        decoder = try ExpressionDecoder(width: width, explicitZeros: true, batchEmbeddings: true)
        mvc = try MaskedValueDecoder(width: width, explicitZeros: true, batchEmbeddings: true)
        // As scGPT trains: a sure prediction of a zero costs no more than the clamp allows.
        (decoder.nonzeroForm, mvc.nonzeroForm) = (.probabilities, .probabilities)
        discriminator = try AdversarialDiscriminator(width: width, batches: count)
        var layout = encoder.layout
        wellRange = layout.append(wells.layout.prefixed("batch_encoder."))
        decoderRange = layout.append(decoder.layout.prefixed("decoder."))
        mvcRange = layout.append(mvc.layout.prefixed("mvc_decoder."))
        discriminatorRange = layout.append(discriminator.layout.prefixed("grad_reverse_discriminator."))
        self.layout = layout
    }

    /// The terms of a batch in the order of ``Terms/names``, and the gradient of the objective. Each rank computes
    /// its part of the cells. As many tokens are masked in every cell, so a part's means count as its cells do.
    func evaluate(
        _ all: TrainingBatch, _ parameters: [Float], _ workspace: Workspace, on ranks: ThreadCommunicator,
        _ record: inout StepRecording?
    ) throws -> (terms: [Float], gradient: [Float]) {
        let batch = all.part(ranks.rank, of: ranks.size)
        let share = Float(batch.cells) / Float(all.cells)
        let forward = try encoder.forward(batch, parameters, workspace)
        record?.lap(.encoder)
        let wellEmbeddings = try wells.embeddings(parameters.span.extracting(wellRange), workspace)
        let indices = Array(0..<Int32(batch.tokens))
        var (gradient, wellGradient) = (zeros(parameters.count), zeros(wellEmbeddings.count))
        var (cells, genes) = (zeros(forward.cells.count), zeros(forward.genes.count))
        var states = zeros(forward.states.count)
        var span = gradient.mutableSpan
        let batches = BatchEmbeddings(embeddings: wellEmbeddings.span, labels: batch.gemWells.span)
        var decoderGradients = ExpressionDecoderGradients(
            parameters: span._mutatingExtracting(decoderRange), states: states.mutableSpan,
            batchEmbeddings: wellGradient.mutableSpan)
        let decoded = try decoder.valueAndGradient(
            ExpressionDecoderInputs(
                shape: TokenShape(cells: batch.cells, tokens: batch.tokens, width: encoder.width),
                states: forward.states.span, mask: batch.mask.span, batches: batches),
            targets: batch.targets.span, parameters: parameters.span.extracting(decoderRange),
            gradients: &decoderGradients, gradientScale: share, workspace: workspace)

        // From here on, the gradients of the well and cell embeddings are sums over terms.
        var mvcGradients = MaskedValueGradients(
            parameters: span._mutatingExtracting(mvcRange), cellEmbeddings: cells.mutableSpan,
            genes: genes.mutableSpan, batchEmbeddings: wellGradient.mutableSpan)
        let mvcDecoded = try mvc.valueAndGradient(
            MaskedValueInputs(
                shape: MatrixShape(rows: batch.cells, columns: batch.tokens),
                cellEmbeddings: forward.cells.span,
                genes: GeneEmbeddings(embeddings: forward.genes.span, indices: indices.span),
                mask: batch.mask.span, batches: batches),
            targets: batch.targets.span, parameters: parameters.span.extracting(mvcRange),
            gradients: &mvcGradients, gradientScale: share, update: .accumulate, workspace: workspace)
        record?.lap(.heads)
        var cellSpan = cells.mutableSpan
        let elastic = try ElasticCellSimilarity(threshold: 0.8).valueAndGradient(
            embeddings: forward.cells.span, shape: MatrixShape(rows: batch.cells, columns: encoder.width),
            gradient: &cellSpan, gradientScale: 10, update: .accumulate, across: ranks, workspace: workspace)
        record?.lap(.losses)
        var discriminatorGradients = ClassifierGradients(
            parameters: span._mutatingExtracting(discriminatorRange), cellEmbeddings: cells.mutableSpan)
        let adversarial = try discriminator.valueAndGradient(
            cellEmbeddings: forward.cells.span, labels: batch.gemWells.span,
            parameters: parameters.span.extracting(discriminatorRange),
            gradients: &discriminatorGradients, gradientScale: share, update: .accumulate,
            workspace: workspace)
        try wells.writeGradient(of: wellGradient, wellRange, parameters, to: &span, workspace)
        record?.lap(.heads)
        try encoder.backward(
            batch, forward, genes: genes, cells: cells, states: states, parameters, to: &span, workspace)
        record?.lap(.encoder)
        var terms = [
            decoded.squaredError, decoded.nonzero ?? 0, mvcDecoded.squaredError, mvcDecoded.nonzero ?? 0,
            10 * elastic.value, adversarial.value, decoded.relativeError,
        ].map { share * Float($0) }
        try ranks.sum(&terms)
        try ranks.sum(&gradient)
        return (terms, gradient)
    }
}
