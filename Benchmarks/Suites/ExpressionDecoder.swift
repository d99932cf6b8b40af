// The expression decoder with its losses, against loops over every token and against upstream's schedule.

import FastLoss
import FastLossHeads
import FastLossReference

extension Suites {
    static var expressionDecoder: [Benchmark] {
        // scGPT's integration from scratch and pretrained, and a size at which the naive loops end.
        [ProblemShape(2, 101, 64), ProblemShape(64, 1201, 64), ProblemShape(64, 1201, 512)].map { shape in
            Benchmark(
                kernel: "ExpressionDecoder", mode: .valueAndGradient, shape: shape, tolerance: 1e-5,
                naiveTimedAt: shape.rows > 2 ? ProblemShape(2, 101, 64) : nil, isQuick: shape.depth < 512
            ) { context in
                let batch = HeadBatch(shape, context)
                let decoder = try ExpressionDecoder(
                    width: shape.depth, explicitZeros: true, batchEmbeddings: true)
                let parameters = HeadBatch.parameters(decoder.layout)
                var gradient = [Float](repeating: 0, count: decoder.layout.count)
                var statesGradient = [Float](repeating: 0, count: shape.count)
                var batchGradient = [Float](repeating: 0, count: batch.batchEmbeddings.count)
                let masked = batch.mask.count { $0 }
                // Two perceptrons of two square layers: forward, input gradient and weight gradient, each a
                // product and a sum for every weight and masked token. States are read and their gradient
                // written.
                let work = Work(
                    flops: 2 * 2 * 3 * 2 * masked * shape.depth * shape.depth,
                    bytes: 4 * (masked * shape.depth + shape.count + 2 * decoder.layout.count),
                    limitedBy: .arithmetic)
                let fastloss: (Workspace) throws -> Float = { workspace in
                    var gradients = ExpressionDecoderGradients(
                        parameters: gradient.mutableSpan, states: statesGradient.mutableSpan,
                        batchEmbeddings: batchGradient.mutableSpan)
                    let losses = try decoder.valueAndGradient(
                        ExpressionDecoderInputs(
                            shape: batch.tokenShape, states: batch.states.span, mask: batch.mask.span,
                            batches: BatchEmbeddings(
                                embeddings: batch.batchEmbeddings.span, labels: batch.batchLabels.span)),
                        targets: batch.targets.span, parameters: parameters.span, gradients: &gradients,
                        workspace: workspace)
                    return Float(losses.squaredError + (losses.nonzero ?? 0))
                }
                var upstream: UpstreamExpressionDecoder?
                func upstreamStep(_ workspace: Workspace) throws -> Float {
                    if upstream == nil {
                        upstream = UpstreamExpressionDecoder(
                            batch, layout: decoder.layout, parameters: parameters)
                    }
                    return try upstream!.step(workspace)
                }
                return Prepared(
                    work: work,
                    maxRelativeError: { workspace in
                        let value = try fastloss(workspace)
                        if shape.rows == 2 {
                            let truth = referenceDecoder(
                                batch, decoder.layout, parameters.map(Double.init), of: Double.self)
                            return max(
                                relativeError(of: value, to: truth.value),
                                normwiseRelativeError(of: gradient, to: truth.parameters),
                                normwiseRelativeError(of: statesGradient, to: truth.states),
                                normwiseRelativeError(of: batchGradient, to: truth.batches))
                        }
                        // The loops in Double would take hours: every result against sgemm, layer by layer.
                        let other = try upstreamStep(workspace)
                        let gradients = upstream!.inputGradients
                        return max(
                            relativeError(of: value, to: Double(other)),
                            normwiseRelativeError(of: gradient, to: upstream!.parameterGradient),
                            normwiseRelativeError(of: statesGradient, to: gradients.states),
                            normwiseRelativeError(of: batchGradient, to: gradients.batches))
                    },
                    fastloss: fastloss,
                    naive: shape.rows > 2
                        ? nil
                        : {
                            Float(referenceDecoder(batch, decoder.layout, parameters, of: Float.self).value)
                        },
                    rival: Rival(.upstream, call: upstreamStep))
            }
        }
    }
}

/// The decoder and its losses as plain loops over every token.
private func referenceDecoder<T: ReferenceScalar>(
    _ batch: HeadBatch, _ layout: ParameterLayout, _ parameters: [T], of type: T.Type
) -> (value: T, parameters: [T], states: [T], batches: [T]) {
    let (cells, tokens, width) = (batch.shape.rows, batch.shape.columns, batch.shape.depth)
    var reference = Reference.ExpressionDecoder.Parameters<T>(
        width: width, explicitZeros: true, batchLabels: true)
    for (name, array) in reference.stateDict {
        reference[keyPath: array] = Array(parameters[layout[name]!.range])
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
        layout.parameters.flatMap { parameter in
            let array = reference.stateDict.first { $0.name == parameter.name }!.array
            return gradients.parameters[keyPath: array]
        }, gradients.states, batches
    )
}
