// The model: the encoder, scGPT's heads, and the integration objective with its gradient.

import BenchmarkData
import FastLoss
import FastLossHeads

/// The terms of the objective with their weights, and the relative error of the decoder's predictions.
package enum Terms {
    /// The objective is the sum of all but the last, which is a metric.
    package static let names = ["MSE", "NLL", "MVC MSE", "MVC NLL", "ECS", "DAB", "relative error"]
}

/// A model whose parameters lie in one array, as its layout says.
struct IntegrationModel: Sendable {
    let encoder: CellEncoder
    let layout: ParameterLayout
    private let wells: BatchLabelEncoder
    private let decoder: ExpressionDecoder
    private let mvc: MaskedValueDecoder
    private let discriminator: AdversarialDiscriminator
    private let wellRange: Range<Int>
    private let decoderRange: Range<Int>
    private let mvcRange: Range<Int>
    private let discriminatorRange: Range<Int>

    init(genes: Int, bins: Int, wells count: Int, width: Int) throws {
        encoder = try CellEncoder(tokens: genes + 1, bins: bins, width: width)
        wells = try BatchLabelEncoder(labels: count, width: width)
        var decoder = try ExpressionDecoder(width: width, explicitZeros: true, batchEmbeddings: true)
        var mvc = try MaskedValueDecoder(width: width, explicitZeros: true, batchEmbeddings: true)
        // As scGPT trains: a sure prediction of a zero costs no more than the clamp allows.
        (decoder.nonzeroForm, mvc.nonzeroForm) = (.probabilities, .probabilities)
        (self.decoder, self.mvc) = (decoder, mvc)
        discriminator = try AdversarialDiscriminator(width: width, batches: count)
        var layout = encoder.layout
        wellRange = layout.append(wells.layout.prefixed("batch_encoder."))
        decoderRange = layout.append(decoder.layout.prefixed("decoder."))
        mvcRange = layout.append(mvc.layout.prefixed("mvc_decoder."))
        discriminatorRange = layout.append(discriminator.layout.prefixed("grad_reverse_discriminator."))
        self.layout = layout
    }

    func initialValues(using generator: inout SeededGenerator) -> [Float] {
        layout.initialValues(using: &generator)
    }

    /// The terms of a batch in the order of ``Terms/names``, and the gradient of the objective.
    func evaluate(
        _ batch: TrainingBatch, _ parameters: [Float], _ workspace: Workspace, _ clock: inout StepClock
    ) throws -> (terms: [Float], gradient: [Float]) {
        let (width, shape) = (encoder.width, MatrixShape(rows: batch.cells, columns: batch.tokens))
        let forward = try encoder.forward(batch, parameters, workspace)
        clock.lap(.encoder)
        let wellEmbeddings = try wells.embeddings(wellRange, parameters, workspace)
        let indices = Array(0..<Int32(batch.tokens))
        var gradient = zeros(parameters.count)
        var wellGradient = zeros(wellEmbeddings.count)
        var (cells, genes) = (zeros(forward.cells.count), zeros(forward.genes.count))
        var states = zeros(forward.states.count)
        let terms: [Double]
        do {
            let batches = BatchEmbeddings(embeddings: wellEmbeddings.span, labels: batch.gemWells.span)
            var all = gradient.mutableSpan
            var gradients = ExpressionDecoderGradients(
                parameters: all._mutatingExtracting(decoderRange), states: states.mutableSpan,
                batchEmbeddings: wellGradient.mutableSpan)
            let values = try decoder.valueAndGradient(
                ExpressionDecoderInputs(
                    shape: TokenShape(cells: batch.cells, tokens: batch.tokens, width: width),
                    states: forward.states.span, mask: batch.mask.span, batches: batches),
                targets: batch.targets.span, parameters: parameters.span.extracting(decoderRange),
                gradients: &gradients, workspace: workspace)

            // From here on, the gradients of the well and cell embeddings are sums over terms.
            var mvcGradients = MaskedValueGradients(
                parameters: all._mutatingExtracting(mvcRange), cellEmbeddings: cells.mutableSpan,
                genes: genes.mutableSpan, batchEmbeddings: wellGradient.mutableSpan)
            let mvcValues = try mvc.valueAndGradient(
                MaskedValueInputs(
                    shape: shape, cellEmbeddings: forward.cells.span,
                    genes: GeneEmbeddings(embeddings: forward.genes.span, indices: indices.span),
                    mask: batch.mask.span, batches: batches),
                targets: batch.targets.span, parameters: parameters.span.extracting(mvcRange),
                gradients: &mvcGradients, update: .accumulate, workspace: workspace)
            clock.lap(.heads)
            var cellSpan = cells.mutableSpan
            let elastic = try ElasticCellSimilarity(threshold: 0.8).valueAndGradient(
                embeddings: forward.cells.span, shape: MatrixShape(rows: batch.cells, columns: width),
                gradient: &cellSpan, gradientScale: 10, update: .accumulate, workspace: workspace)
            clock.lap(.losses)
            var discriminatorGradients = ClassifierGradients(
                parameters: all._mutatingExtracting(discriminatorRange),
                cellEmbeddings: cells.mutableSpan)
            let adversarial = try discriminator.valueAndGradient(
                cellEmbeddings: forward.cells.span, labels: batch.gemWells.span,
                parameters: parameters.span.extracting(discriminatorRange),
                gradients: &discriminatorGradients, update: .accumulate, workspace: workspace)
            terms = [
                values.squaredError, values.nonzero ?? 0, mvcValues.squaredError, mvcValues.nonzero ?? 0,
                10 * elastic.value, adversarial.value, values.relativeError,
            ]
        }
        try wells.writeGradient(wellGradient, wellRange, parameters, to: &gradient, workspace)
        clock.lap(.heads)
        try encoder.backward(
            batch, forward, genes: genes, cells: cells, states: states, parameters, to: &gradient, workspace)
        clock.lap(.encoder)
        return (terms.map(Float.init), gradient)
    }
}
