// The heads of scGPT's integration with all their losses: what a step computes behind the encoder.

import FastLoss
import FastLossHeads
import FastLossReference

extension Suites {
    static var integrationHeads: [Benchmark] {
        [ProblemShape(2, 101, 64), ProblemShape(64, 1201, 64), ProblemShape(64, 1201, 512)].map { shape in
            Benchmark(
                kernel: "IntegrationHeads", mode: .valueAndGradient, shape: shape, tolerance: 1e-5,
                naiveTimedAt: shape.rows > 2 ? ProblemShape(2, 101, 64) : nil, isQuick: shape.depth < 512
            ) { context in
                let step = try IntegrationHeadsStep(HeadBatch(shape, context), context)
                return Prepared(
                    work: step.work,
                    maxRelativeError: step.errorOfParts,
                    fastloss: step.run,
                    naive: shape.rows > 2 ? nil : { Float(step.reference(of: Float.self)) },
                    rival: Rival(.upstream, call: step.runUpstream))
            }
        }
    }
}

/// Expression decoder, masked-value decoder, discriminator and elastic cell similarity, one after the other.
final class IntegrationHeadsStep {
    private let batch: HeadBatch
    private let expression: ExpressionDecoderStep
    private let maskedValue: MaskedValueStep
    private let discriminator: AdversarialDiscriminator
    private let parameters: [Float]
    private var parameterGradient: [Float]
    private var cellGradient: [Float]
    private let elastic = ElasticCellSimilarity(threshold: 0.8)
    /// The factor of elastic cell similarity in scGPT's integration.
    private static let elasticWeight: Float = 10

    init(_ batch: HeadBatch, _ context: BenchmarkContext) throws {
        self.batch = batch
        expression = try ExpressionDecoderStep(batch)
        maskedValue = try MaskedValueStep(batch, context, sharesGenes: true)
        discriminator = try AdversarialDiscriminator(
            width: batch.shape.depth, batches: HeadBatch.batchCount)
        parameters = HeadBatch.parameters(discriminator.layout)
        parameterGradient = [Float](repeating: 0, count: parameters.count)
        cellGradient = [Float](repeating: 0, count: batch.cellEmbeddings.count)
    }

    var work: Work {
        let (cells, width) = (batch.shape.rows, batch.shape.depth)
        // Two square layers of the discriminator, and the similarities with their gradient.
        let others = 3 * 2 * 2 * cells * width * width + 3 * cells * cells * width
        return Work(
            flops: expression.work.flops + maskedValue.work.flops + others,
            bytes: expression.work.bytes + maskedValue.work.bytes + 8 * parameters.count,
            limitedBy: .arithmetic)
    }

    func run(_ workspace: Workspace) throws -> Float {
        try expression.run(workspace) + maskedValue.run(workspace) + embeddingLosses(workspace)
    }

    func runUpstream(_ workspace: Workspace) throws -> Float {
        try expression.runUpstream(workspace) + maskedValue.runUpstream(workspace)
            + embeddingLosses(workspace)
    }

    /// The losses of the cell embeddings, with one accumulated gradient.
    private func embeddingLosses(_ workspace: Workspace) throws -> Float {
        var (parameterGradient, cellGradient) = ([Float](), [Float]())
        swap(&parameterGradient, &self.parameterGradient)
        swap(&cellGradient, &self.cellGradient)
        defer {
            swap(&parameterGradient, &self.parameterGradient)
            swap(&cellGradient, &self.cellGradient)
        }
        let (embeddings, labels, parameters) = (batch.cellEmbeddings, batch.batchLabels, parameters)
        let adversarial = try {
            var gradients = ClassifierGradients(
                parameters: parameterGradient.mutableSpan, cellEmbeddings: cellGradient.mutableSpan)
            return try discriminator.valueAndGradient(
                cellEmbeddings: embeddings.span, labels: labels.span, parameters: parameters.span,
                gradients: &gradients, workspace: workspace)
        }()
        var span = cellGradient.mutableSpan
        let similarity = try elastic.valueAndGradient(
            embeddings: embeddings.span,
            shape: MatrixShape(rows: batch.shape.rows, columns: batch.shape.depth), gradient: &span,
            gradientScale: Self.elasticWeight, update: .accumulate, workspace: workspace)
        return Float(Double(Self.elasticWeight) * similarity.value + adversarial.value)
    }

    /// The largest error of the decoders; the value of the rest against the loops in Double.
    func errorOfParts(_ workspace: Workspace) throws -> Double {
        let isSmall = batch.shape.rows == 2
        let (values, masked) = (try expression.run(workspace), try maskedValue.run(workspace))
        return max(
            isSmall
                ? expression.errorAgainstReference(values)
                : try expression.errorAgainstUpstream(values, workspace),
            isSmall
                ? maskedValue.errorAgainstReference(masked)
                : try maskedValue.errorAgainstUpstream(masked, workspace),
            relativeError(
                of: try embeddingLosses(workspace), to: referenceOfEmbeddings(of: Double.self)))
    }

    /// All heads and losses as plain loops.
    func reference<T: ReferenceScalar>(of type: T.Type) -> T {
        expression.reference(of: type).value + maskedValue.reference(of: type).value
            + referenceOfEmbeddings(of: type)
    }

    private func referenceOfEmbeddings<T: ReferenceScalar>(of type: T.Type) -> T {
        let (cells, width) = (batch.shape.rows, batch.shape.depth)
        let embeddings = batch.cellEmbeddings.map { T($0) }
        var classifier = Reference.NormalizedClassifier<T>(width: width, classes: HeadBatch.batchCount)
        for (name, array) in classifier.stateDict {
            classifier[keyPath: array] = parameters[discriminator.layout[name]!.range].map { T($0) }
        }
        let logits = Reference.AdversarialDiscriminator.value(
            parameters: classifier, cellEmbeddings: embeddings)
        var logitsGradient = logits
        let adversarial = Reference.CrossEntropy.valueAndGradient(
            logits: logits, labels: batch.batchLabels, rows: cells, classes: HeadBatch.batchCount,
            gradient: &logitsGradient)
        _ = Reference.AdversarialDiscriminator.gradients(
            logitsGradient: logitsGradient, parameters: classifier, cellEmbeddings: embeddings)
        var gradient = embeddings
        let similarity = Reference.ElasticCellSimilarity.valueAndGradient(
            embeddings: embeddings, rows: cells, columns: width, threshold: 0.8, gradient: &gradient)
        return T(Self.elasticWeight) * similarity + adversarial
    }
}
