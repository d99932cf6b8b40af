// The weighted token pooling of the C interface, with and without normalization.

import CFastLoss
import FastLoss

/// The sides of a weighted pooling.
private struct WeightedShape {
    let tokens: TokenShape
    let weightings: Int
    /// B·K, the number of sums. The call that takes a matrix of them checks its size.
    let sums: Int64

    init(_ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64) throws(CallError) {
        self.tokens = TokenShape(cells, tokens, width)
        self.weightings = Int(clamping: weightings)
        let (sums, overflow) = cells.multipliedReportingOverflow(by: weightings)
        guard cells >= 0, weightings >= 0, !overflow else {
            throw .loss(.invalidShape(rows: Int(clamping: cells), columns: Int(clamping: weightings)))
        }
        self.sums = sums
    }
}

extension Call {
    /// B·K rows of D columns.
    fileprivate func sums(
        _ pointer: UnsafePointer<Float>?, _ shape: WeightedShape, _ stride: Int64, _ name: String
    ) throws(CallError) -> Taken<Float> {
        try input(
            pointer, Strides(rows: shape.sums, columns: Int64(shape.tokens.width), stride: stride, of: name))
    }

    /// B·K rows of L columns.
    fileprivate func weights(
        _ pointer: UnsafePointer<Float>?, _ shape: WeightedShape, _ stride: Int64
    ) throws(CallError) -> Taken<Float> {
        try input(
            pointer,
            Strides(rows: shape.sums, columns: Int64(shape.tokens.tokens), stride: stride, of: "weights"))
    }

    fileprivate func states(
        _ pointer: UnsafePointer<Float>?, _ shape: WeightedShape, _ tokenStride: Int64, _ cellStride: Int64
    ) throws(CallError) -> Taken<Float> {
        try input(
            pointer, Strides(shape.tokens, tokenStride: tokenStride, cellStride: cellStride, of: "states"))
    }

    /// The output of B·K rows of D columns.
    fileprivate func embeddings(
        _ pointer: UnsafeMutablePointer<Float>?, _ shape: WeightedShape, _ stride: Int64
    ) throws(CallError) -> Taken<Float> {
        try output(
            pointer,
            Strides(rows: shape.sums, columns: Int64(shape.tokens.width), stride: stride, of: "embeddings"))
    }

    /// The gradient of the weights.
    fileprivate func weightsGradient(
        _ pointer: UnsafePointer<fastloss_gradient>?, _ shape: WeightedShape
    ) throws(CallError) -> TakenGradient {
        try required(
            try gradient(pointer, rows: shape.sums, columns: Int64(shape.tokens.tokens)), "gradient")
    }
}

// MARK: - Sums

@c @implementation
public func fastloss_weighted_token_pooling(
    _ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64,
    _ states: UnsafePointer<Float>?, _ statesTokenStride: Int64, _ statesCellStride: Int64,
    _ weights: UnsafePointer<Float>?, _ weightsStride: Int64,
    _ embeddings: UnsafeMutablePointer<Float>?, _ embeddingsStride: Int64,
    _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let shape = try WeightedShape(cells, tokens, width, weightings)
        let states = try call.states(states, shape, statesTokenStride, statesCellStride)
        let weights = try call.weights(weights, shape, weightsStride)
        let embeddings = try call.embeddings(embeddings, shape, embeddingsStride)
        try call.run { (layout) throws(LossError) in
            try WeightedTokenPooling.ValuePlan(
                states: call.span(states), weights: call.span(weights), shape: shape.tokens,
                weightings: shape.weightings, embeddings: call.buffer(embeddings), in: &layout)
        }
    }
}

@c @implementation
public func fastloss_weighted_token_pooling_states_gradient(
    _ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64,
    _ embeddingGradient: UnsafePointer<Float>?, _ embeddingGradientStride: Int64,
    _ weights: UnsafePointer<Float>?, _ weightsStride: Int64,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let shape = try WeightedShape(cells, tokens, width, weightings)
        let upstream = try call.sums(embeddingGradient, shape, embeddingGradientStride, "embedding_gradient")
        let weights = try call.weights(weights, shape, weightsStride)
        let gradient = try call.gradient(gradient, shape.tokens)
        try call.run { (layout) throws(LossError) in
            try WeightedTokenPooling.statesGradientPlan(
                embeddingGradient: call.span(upstream),
                weights: call.span(weights), shape: shape.tokens,
                weightings: shape.weightings, into: call.output(gradient), in: &layout)
        }
    }
}

@c @implementation
public func fastloss_weighted_token_pooling_weights_gradient(
    _ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64,
    _ embeddingGradient: UnsafePointer<Float>?, _ embeddingGradientStride: Int64,
    _ states: UnsafePointer<Float>?, _ statesTokenStride: Int64, _ statesCellStride: Int64,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let shape = try WeightedShape(cells, tokens, width, weightings)
        let upstream = try call.sums(embeddingGradient, shape, embeddingGradientStride, "embedding_gradient")
        let states = try call.states(states, shape, statesTokenStride, statesCellStride)
        let gradient = try call.weightsGradient(gradient, shape)
        try call.run { (layout) throws(LossError) in
            try WeightedTokenPooling.weightsGradientPlan(
                embeddingGradient: call.span(upstream),
                states: call.span(states), shape: shape.tokens,
                weightings: shape.weightings, into: call.output(gradient), in: &layout)
        }
    }
}

// MARK: - Normalized sums

@c @implementation
public func fastloss_normalized_weighted_token_pooling(
    _ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64,
    _ states: UnsafePointer<Float>?, _ statesTokenStride: Int64, _ statesCellStride: Int64,
    _ weights: UnsafePointer<Float>?, _ weightsStride: Int64,
    _ embeddings: UnsafeMutablePointer<Float>?, _ embeddingsStride: Int64,
    _ norms: UnsafeMutablePointer<Double>?,
    _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let shape = try WeightedShape(cells, tokens, width, weightings)
        let states = try call.states(states, shape, statesTokenStride, statesCellStride)
        let weights = try call.weights(weights, shape, weightsStride)
        let embeddings = try call.embeddings(embeddings, shape, embeddingsStride)
        let norms = try call.output(norms, Strides(count: shape.sums, of: "norms"))
        try call.run { (layout) throws(LossError) in
            try NormalizedWeightedTokenPooling.ValuePlan(
                states: call.span(states), weights: call.span(weights), shape: shape.tokens,
                weightings: shape.weightings, embeddings: call.buffer(embeddings), norms: call.buffer(norms),
                in: &layout)
        }
    }
}

@c @implementation
public func fastloss_normalized_weighted_token_pooling_states_gradient(
    _ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64,
    _ embeddingGradient: UnsafePointer<Float>?, _ embeddingGradientStride: Int64,
    _ embeddings: UnsafePointer<Float>?, _ embeddingsStride: Int64, _ norms: UnsafePointer<Double>?,
    _ weights: UnsafePointer<Float>?, _ weightsStride: Int64,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let shape = try WeightedShape(cells, tokens, width, weightings)
        let upstream = try call.sums(embeddingGradient, shape, embeddingGradientStride, "embedding_gradient")
        let embeddings = try call.sums(embeddings, shape, embeddingsStride, "embeddings")
        let norms = try call.input(norms, Strides(count: shape.sums, of: "norms"))
        let weights = try call.weights(weights, shape, weightsStride)
        let gradient = try call.gradient(gradient, shape.tokens)
        try call.run { (layout) throws(LossError) in
            try NormalizedWeightedTokenPooling.statesGradientPlan(
                embeddingGradient: call.span(upstream), embeddings: call.span(embeddings),
                norms: call.span(norms), weights: call.span(weights), shape: shape.tokens,
                weightings: shape.weightings, into: call.output(gradient), in: &layout)
        }
    }
}

@c @implementation
public func fastloss_normalized_weighted_token_pooling_weights_gradient(
    _ cells: Int64, _ tokens: Int64, _ width: Int64, _ weightings: Int64,
    _ embeddingGradient: UnsafePointer<Float>?, _ embeddingGradientStride: Int64,
    _ embeddings: UnsafePointer<Float>?, _ embeddingsStride: Int64, _ norms: UnsafePointer<Double>?,
    _ states: UnsafePointer<Float>?, _ statesTokenStride: Int64, _ statesCellStride: Int64,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let shape = try WeightedShape(cells, tokens, width, weightings)
        let upstream = try call.sums(embeddingGradient, shape, embeddingGradientStride, "embedding_gradient")
        let embeddings = try call.sums(embeddings, shape, embeddingsStride, "embeddings")
        let norms = try call.input(norms, Strides(count: shape.sums, of: "norms"))
        let states = try call.states(states, shape, statesTokenStride, statesCellStride)
        let gradient = try call.weightsGradient(gradient, shape)
        try call.run { (layout) throws(LossError) in
            try NormalizedWeightedTokenPooling.weightsGradientPlan(
                embeddingGradient: call.span(upstream), embeddings: call.span(embeddings),
                norms: call.span(norms), states: call.span(states), shape: shape.tokens,
                weightings: shape.weightings, into: call.output(gradient), in: &layout)
        }
    }
}
