// The expression decoder with its losses, against loops over every token and against upstream's schedule.

import FastLoss
import FastLossHeads
import FastLossReference

extension Suites {
    static var expressionDecoder: [Benchmark] {
        // A size at which the naive loops end, and scGPT's integration from scratch and pretrained.
        [ProblemShape(2, 101, 64), ProblemShape(64, 1201, 64), ProblemShape(64, 1201, 512)].map { shape in
            Benchmark(
                kernel: "ExpressionDecoder", mode: .valueAndGradient, shape: shape, tolerance: 1e-5,
                naiveTimedAt: shape.rows > 2 ? ProblemShape(2, 101, 64) : nil, isQuick: shape.depth < 512
            ) { context in
                let step = try ExpressionDecoderStep(HeadBatch(shape, context))
                return Prepared(
                    work: step.work,
                    maxRelativeError: { workspace in
                        let value = try step.run(workspace)
                        return shape.rows == 2
                            ? step.errorAgainstReference(value)
                            : try step.errorAgainstUpstream(value, workspace)
                    },
                    fastloss: step.run,
                    naive: shape.rows > 2 ? nil : { Float(step.reference(of: Float.self).value) },
                    rival: Rival(.upstream, call: step.runUpstream))
            }
        }
    }
}

/// One step of the decoder, with its buffers.
final class ExpressionDecoderStep {
    let batch: HeadBatch
    let decoder: ExpressionDecoder
    private let inputs: ExpressionDecoderArrays
    private let parameters: [Float]
    private var gradients: ExpressionDecoderGradientArrays
    private var upstream: UpstreamExpressionDecoder?

    init(_ batch: HeadBatch) throws {
        self.batch = batch
        decoder = try ExpressionDecoder(
            width: batch.shape.depth, explicitZeros: true, batchEmbeddings: true)
        parameters = HeadBatch.parameters(decoder.layout)
        inputs = ExpressionDecoderArrays(
            shape: batch.tokenShape, states: batch.states, mask: batch.mask,
            batches: BatchEmbeddingArrays(embeddings: batch.batchEmbeddings, labels: batch.batchLabels))
        func zeros(_ count: Int) -> [Float] { [Float](repeating: 0, count: count) }
        gradients = ExpressionDecoderGradientArrays(
            parameters: zeros(decoder.layout.count), states: zeros(batch.states.count),
            batchEmbeddings: zeros(batch.batchEmbeddings.count))
    }

    var work: Work {
        let (masked, width) = (batch.mask.count { $0 }, batch.shape.depth)
        // Two perceptrons of two square layers: forward, input gradient and weight gradient, each a product
        // and a sum for every weight and masked token. Masked states are read, the gradient of all is written.
        return Work(
            flops: 2 * 2 * 3 * 2 * masked * width * width,
            bytes: 4 * (masked * width + batch.shape.count + 2 * decoder.layout.count),
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
            upstream = UpstreamExpressionDecoder(batch, layout: decoder.layout, parameters: parameters)
        }
        return try upstream!.step(workspace)
    }

    /// The largest error against upstream's order: the loops in Double would take hours.
    ///
    /// Both orders compute in single precision. A hidden unit within rounding of the rectifier's kink may get
    /// another slope in each, which changes the gradients of its token: at 64×1201×64, of 2 tokens of 30,720.
    /// Up to one token in a thousand may differ so. Then everything is compared once more without those tokens.
    func errorAgainstUpstream(_ value: Float, _ workspace: Workspace) throws -> Double {
        let other = try runUpstream(workspace)
        let expected = upstream!.inputGradients
        let kinked = tokens(differingFrom: expected.states)
        guard !kinked.isEmpty else {
            return error(value, Double(other), upstream!.parameterGradient, expected.states, expected.batches)
        }
        let isFinite = (gradients.states ?? []).allSatisfy(\.isFinite)
        guard isFinite, kinked.count * 1000 <= batch.mask.count(where: { $0 }) else { return .infinity }
        var others = batch
        for token in kinked { others.mask[token] = false }
        let rest = try ExpressionDecoderStep(others)
        let restValue = try rest.run(workspace)
        let restOther = try rest.runUpstream(workspace)
        let restExpected = rest.upstream!.inputGradients
        return max(
            relativeError(of: value, to: Double(other)),
            rest.error(
                restValue, Double(restOther), rest.upstream!.parameterGradient, restExpected.states,
                restExpected.batches))
    }

    /// The tokens whose gradients differ by more than rounding.
    private func tokens(differingFrom states: [Double]) -> [Int] {
        let width = batch.shape.depth
        let gradient = gradients.states ?? []
        return batch.mask.indices.filter { token in
            let row = token * width..<(token + 1) * width
            return !(normwiseRelativeError(of: Array(gradient[row]), to: Array(states[row])) <= 1e-5)
        }
    }

    /// The largest error against the loops in Double.
    func errorAgainstReference(_ value: Float) -> Double {
        let truth = reference(of: Double.self)
        return error(value, truth.value, truth.parameters, truth.states, truth.batches)
    }

    private func error(
        _ value: Float, _ expected: Double, _ parameters: [Double], _ states: [Double], _ batches: [Double]
    ) -> Double {
        max(
            relativeError(of: value, to: expected),
            normwiseRelativeError(of: gradients.parameters, to: parameters),
            normwiseRelativeError(of: gradients.states ?? [], to: states),
            normwiseRelativeError(of: gradients.batchEmbeddings ?? [], to: batches))
    }

    /// The decoder and its losses as plain loops over every token.
    func reference<T: ReferenceScalar>(
        of type: T.Type
    ) -> (value: T, parameters: [T], states: [T], batches: [T]) {
        let (cells, tokens, width) = (batch.shape.rows, batch.shape.columns, batch.shape.depth)
        var reference = Reference.ExpressionDecoder.Parameters<T>(
            width: width, explicitZeros: true, batchLabels: true)
        for (name, array) in reference.stateDict {
            reference[keyPath: array] = parameters[decoder.layout[name]!.range].map { T($0) }
        }
        let states = batch.states.map { T($0) }
        let targets = batch.targets.map { T($0) }
        let perCell = batch.batchLabels.flatMap { label in
            batch.batchEmbeddings[Int(label) * width..<(Int(label) + 1) * width].map { T($0) }
        }
        let outputs = Reference.ExpressionDecoder.value(
            parameters: reference, states: states, batchEmbeddings: perCell, cells: cells, tokens: tokens)
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
        let gradients = Reference.ExpressionDecoder.gradients(
            outputGradients: outputGradients, parameters: reference, states: states, batchEmbeddings: perCell,
            cells: cells, tokens: tokens)
        let batches = sumsOfRows(
            gradients.batchEmbeddings ?? [], by: batch.batchLabels, count: batch.batchEmbeddings.count,
            width: width)
        return (
            value,
            decoder.layout.parameters.flatMap { parameter in
                let array = reference.stateDict.first { $0.name == parameter.name }!.array
                return gradients.parameters[keyPath: array]
            }, gradients.states, batches
        )
    }
}
