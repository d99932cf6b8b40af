// Weighted sums of token states, K per cell, with or without normalisation; one weighting is a kernel,
// several a product.

import CFastLossKernels

/// Pools token states h, B×L×D, into K weighted sums per cell.
///
///     u_bk = Σ_l v_bkl h_bl        dh_bl = Σ_k v_bkl g_bk        dv_bkl = h_bl · g_bk
///
/// Weights multiply, they do not select: a NaN or infinite state under a weight of 0 makes NaN. Without
/// tokens the sums are 0.
///
/// Time is one pass over the states for each verb (K = 1), or one product of 2·B·K·L·D flops; extra memory is
/// 4·K·D bytes per worker for the gradients. Results are bitwise the same for any number of workers. The sums
/// are carried in double for K = 1, in float for more.
public struct WeightedTokenPooling: Equatable, Sendable {
    public init() {}
}

/// Pools token states h, B×L×D, into K weighted sums per cell, each normalised to length 1 (scGPT: `w-pool`,
/// with K = 1).
///
///     u_bk = Σ_l v_bkl h_bl        e_bk = u_bk / max(‖u_bk‖₂, 1e-12)
///     du_bk = (g_bk − e_bk (e_bk · g_bk)) / ‖u_bk‖, and g_bk / 1e-12 where ‖u_bk‖ < 1e-12
///     dh_bl = Σ_k v_bkl du_bk      dv_bkl = h_bl · du_bk
///
/// The norms ‖u‖, which the gradients need, are an output of the value: so the states' gradient is computed
/// without reading the states again. They are accumulated in double, so that states scaled by 1e±18 work.
///
/// Weights multiply, they do not select: a NaN or infinite state under a weight of 0 makes NaN. A sum of 0,
/// as without tokens, gives the embedding 0.
///
/// Time and memory are those of ``WeightedTokenPooling``.
///
/// Source: scGPT's `_get_cell_emb_from_layer`, style `w-pool`, with PyTorch's `normalize`.
public struct NormalizedWeightedTokenPooling: Equatable, Sendable {
    public init() {}

    /// The least length that a sum is divided by; PyTorch's `normalize` has the same.
    public static let normFloor = 1e-12
}

// MARK: - Sums

extension WeightedTokenPooling {
    /// The weighted sums.
    ///
    /// - Parameters:
    ///   - states: B·L·D token states.
    ///   - weights: B·K·L weights, the K weightings of the first cell first.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K.
    ///   - embeddings: receives B·K·D numbers; may not overlap an input.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree; overlap; K, L or D beyond BLAS's 32 bits.
    public func value(
        states: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int = 1,
        embeddings: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) {
        let tokens = try WeightedTokens(shape, weightings)
        try tokens.checkCounts(states: ("states", states.count), weights: ("weights", weights.count))
        try tokens.checkEmbeddings("embeddings", embeddings.count)
        let output = embeddings.memory
        try checkNoOverlap(NamedMemory("embeddings", output), NamedMemory("states", states.memory))
        try checkNoOverlap(NamedMemory("embeddings", output), NamedMemory("weights", weights.memory))

        let states = states.pointer
        let weights = weights.pointer
        guard let output = output.baseAddress else { return }
        tokens.forEachCell(workspace) { cell, _ in tokens.sum(states, weights, cell: cell, into: output) }
    }

    /// Carries a gradient of the sums back to the states.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective by the sums.
    ///   - weights: B·K·L weights.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K.
    ///   - gradient: receives B·L·D derivatives by the states; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(states:weights:shape:weightings:embeddings:workspace:)``, and where the scale is
    ///   not finite.
    public func statesGradient(
        embeddingGradient: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int = 1,
        gradient: inout MutableSpan<Float>, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) {
        let tokens = try WeightedTokens(shape, weightings)
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        let upstream = try UpstreamGradient(embeddingGradient, of: tokens, into: output)
        try tokens.statesGradient(upstream, weights: weights, into: output, workspace)
    }

    /// Carries a gradient of the sums back to the weights.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective by the sums.
    ///   - states: B·L·D token states.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K.
    ///   - gradient: receives B·K·L derivatives by the weights; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(states:weights:shape:weightings:embeddings:workspace:)``, and where the scale is
    ///   not finite.
    public func weightsGradient(
        embeddingGradient: Span<Float>, states: Span<Float>, shape: TokenShape, weightings: Int = 1,
        gradient: inout MutableSpan<Float>, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) {
        let tokens = try WeightedTokens(shape, weightings)
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        let upstream = try UpstreamGradient(embeddingGradient, of: tokens, into: output)
        try tokens.weightsGradient(upstream, states: states, into: output, workspace)
    }
}

// MARK: - Normalised sums

extension NormalizedWeightedTokenPooling {
    /// The normalised sums, and the norms that the gradients need.
    ///
    /// - Parameters:
    ///   - states: B·L·D token states.
    ///   - weights: B·K·L weights, the K weightings of the first cell first.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K.
    ///   - embeddings: receives B·K·D numbers; may not overlap an input.
    ///   - norms: receives the B·K norms of the sums, before the floor; may not overlap an input or
    ///     `embeddings`.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree; overlap; K, L or D beyond BLAS's 32 bits.
    public func value(
        states: Span<Float>, weights: Span<Float>, shape: TokenShape, weightings: Int = 1,
        embeddings: inout MutableSpan<Float>, norms: inout MutableSpan<Double>, workspace: Workspace
    ) throws(LossError) {
        let tokens = try WeightedTokens(shape, weightings)
        try tokens.checkCounts(states: ("states", states.count), weights: ("weights", weights.count))
        try tokens.checkEmbeddings("embeddings", embeddings.count)
        try tokens.checkNorms(norms.count)
        let output = NamedMemory("embeddings", embeddings.memory)
        let normOutput = NamedMemory("norms", norms.memory)
        try checkNoOverlap(output, NamedMemory("states", states.memory))
        try checkNoOverlap(output, NamedMemory("weights", weights.memory))
        try checkNoOverlap(normOutput, NamedMemory("states", states.memory))
        try checkNoOverlap(normOutput, NamedMemory("weights", weights.memory))
        try checkNoOverlap(normOutput, output)

        let states = states.pointer
        let weights = weights.pointer
        let sums = embeddings.pointer
        let norms = norms.pointer
        tokens.forEachCell(workspace) { cell, _ in
            tokens.sum(states, weights, cell: cell, into: sums)
            for row in tokens.rows(of: cell) {
                let sum = sums + row * shape.width
                let norm = kernels.sum_of_squares(sum, shape.width).squareRoot()
                kernels.scale(sum, shape.width, 1 / Self.denominator(norm), sum, FASTLOSS_GRADIENT_OVERWRITE)
                norms[row] = norm
            }
        }
    }

    /// Carries a gradient of the normalised sums back to the states.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective by the embeddings.
    ///   - embeddings: the B·K·D embeddings that the value gave.
    ///   - norms: the B·K norms that the value gave.
    ///   - weights: B·K·L weights.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K.
    ///   - gradient: receives B·L·D derivatives by the states; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(states:weights:shape:weightings:embeddings:norms:workspace:)``, and where the
    ///   scale is not finite.
    public func statesGradient(
        embeddingGradient: Span<Float>, embeddings: Span<Float>, norms: Span<Double>, weights: Span<Float>,
        shape: TokenShape, weightings: Int = 1, gradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        let tokens = try WeightedTokens(shape, weightings)
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        let upstream = try UpstreamGradient(
            embeddingGradient, through: embeddings, norms: norms, of: tokens, into: output)
        try tokens.statesGradient(upstream, weights: weights, into: output, workspace)
    }

    /// Carries a gradient of the normalised sums back to the weights.
    ///
    /// - Parameters:
    ///   - embeddingGradient: B·K·D derivatives of the objective by the embeddings.
    ///   - embeddings: the B·K·D embeddings that the value gave.
    ///   - norms: the B·K norms that the value gave.
    ///   - states: B·L·D token states.
    ///   - shape: B cells of L tokens of D numbers.
    ///   - weightings: K.
    ///   - gradient: receives B·K·L derivatives by the weights; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(states:weights:shape:weightings:embeddings:norms:workspace:)``, and where the
    ///   scale is not finite.
    public func weightsGradient(
        embeddingGradient: Span<Float>, embeddings: Span<Float>, norms: Span<Double>, states: Span<Float>,
        shape: TokenShape, weightings: Int = 1, gradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        let tokens = try WeightedTokens(shape, weightings)
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        let upstream = try UpstreamGradient(
            embeddingGradient, through: embeddings, norms: norms, of: tokens, into: output)
        try tokens.weightsGradient(upstream, states: states, into: output, workspace)
    }

    /// What a sum of this norm is divided by. A NaN stays a NaN.
    static func denominator(_ norm: Double) -> Double { norm < normFloor ? normFloor : norm }
}

// MARK: - Arrays

extension WeightedTokenPooling {
    /// The weighted sums, from arrays; a thin wrapper that makes its own workspace.
    public func value(
        states: [Float], weights: [Float], shape: TokenShape, weightings: Int = 1
    ) throws(LossError) -> [Float] {
        let count = try WeightedTokens(shape, weightings).checkedEmbeddingCount()
        var embeddings = [Float](repeating: 0, count: count)
        var span = embeddings.mutableSpan
        try value(
            states: states.span, weights: weights.span, shape: shape, weightings: weightings,
            embeddings: &span, workspace: Workspace())
        return embeddings
    }

    /// Both gradients, from arrays; a thin wrapper that makes its own workspace.
    public func gradients(
        embeddingGradient: [Float], states: [Float], weights: [Float], shape: TokenShape, weightings: Int = 1,
        gradientScale: Float = 1
    ) throws(LossError) -> (states: [Float], weights: [Float]) {
        let workspace = Workspace()
        var statesGradient = [Float](repeating: 0, count: states.count)
        var statesSpan = statesGradient.mutableSpan
        try self.statesGradient(
            embeddingGradient: embeddingGradient.span, weights: weights.span, shape: shape,
            weightings: weightings, gradient: &statesSpan, gradientScale: gradientScale, workspace: workspace)
        var weightsGradient = [Float](repeating: 0, count: weights.count)
        var weightsSpan = weightsGradient.mutableSpan
        try self.weightsGradient(
            embeddingGradient: embeddingGradient.span, states: states.span, shape: shape,
            weightings: weightings, gradient: &weightsSpan, gradientScale: gradientScale, workspace: workspace
        )
        return (statesGradient, weightsGradient)
    }
}

extension NormalizedWeightedTokenPooling {
    /// The normalised sums and their norms, from arrays; a thin wrapper that makes its own workspace.
    public func value(
        states: [Float], weights: [Float], shape: TokenShape, weightings: Int = 1
    ) throws(LossError) -> (embeddings: [Float], norms: [Double]) {
        let tokens = try WeightedTokens(shape, weightings)
        var embeddings = [Float](repeating: 0, count: try tokens.checkedEmbeddingCount())
        var norms = [Double](repeating: 0, count: try tokens.checkedRowCount())
        var span = embeddings.mutableSpan
        var normSpan = norms.mutableSpan
        try value(
            states: states.span, weights: weights.span, shape: shape, weightings: weightings,
            embeddings: &span, norms: &normSpan, workspace: Workspace())
        return (embeddings, norms)
    }

    /// Both gradients, from arrays; a thin wrapper that makes its own workspace.
    public func gradients(
        embeddingGradient: [Float], embeddings: [Float], norms: [Double], states: [Float], weights: [Float],
        shape: TokenShape, weightings: Int = 1, gradientScale: Float = 1
    ) throws(LossError) -> (states: [Float], weights: [Float]) {
        let workspace = Workspace()
        var statesGradient = [Float](repeating: 0, count: states.count)
        var statesSpan = statesGradient.mutableSpan
        try self.statesGradient(
            embeddingGradient: embeddingGradient.span, embeddings: embeddings.span, norms: norms.span,
            weights: weights.span, shape: shape, weightings: weightings, gradient: &statesSpan,
            gradientScale: gradientScale, workspace: workspace)
        var weightsGradient = [Float](repeating: 0, count: weights.count)
        var weightsSpan = weightsGradient.mutableSpan
        try self.weightsGradient(
            embeddingGradient: embeddingGradient.span, embeddings: embeddings.span, norms: norms.span,
            states: states.span, shape: shape, weightings: weightings, gradient: &weightsSpan,
            gradientScale: gradientScale, workspace: workspace)
        return (statesGradient, weightsGradient)
    }
}

// MARK: - What both share

/// The gradient of the embeddings on its way back to the sums: scaled, and through the normalisation if there
/// is one.
private struct UpstreamGradient {
    private let memory: UnsafeBufferPointer<Float>
    private let scale: Double
    private let normalization: (embeddings: UnsafeBufferPointer<Float>, norms: UnsafeBufferPointer<Double>)?

    /// Of plain sums.
    init(_ gradient: Span<Float>, of tokens: WeightedTokens, into output: GradientOutput) throws(LossError) {
        memory = gradient.memory
        scale = Double(output.scale)
        normalization = nil
        try check(tokens, output)
    }

    /// Of normalised sums.
    init(
        _ gradient: Span<Float>, through embeddings: Span<Float>, norms: Span<Double>,
        of tokens: WeightedTokens, into output: GradientOutput
    ) throws(LossError) {
        memory = gradient.memory
        scale = Double(output.scale)
        normalization = (embeddings.memory, norms.memory)
        try check(tokens, output)
    }

    private func check(_ tokens: WeightedTokens, _ output: GradientOutput) throws(LossError) {
        try tokens.checkEmbeddings("embeddingGradient", memory.count)
        try checkGradientScale(output.scale)
        try checkNoOverlap(output.named, NamedMemory("embeddingGradient", memory))
        guard let normalization else { return }
        try tokens.checkEmbeddings("embeddings", normalization.embeddings.count)
        try tokens.checkNorms(normalization.norms.count)
        try checkNoOverlap(output.named, NamedMemory("embeddings", normalization.embeddings))
        try checkNoOverlap(output.named, NamedMemory("norms", normalization.norms))
    }

    /// Writes the `width` elements of the gradient of sum number `row`.
    func write(row: Int, width: Int, to output: UnsafeMutablePointer<Float>) {
        guard let gradient = memory.baseAddress else { return }
        let start = row * width
        guard let embeddings = normalization?.embeddings.baseAddress, let norm = normalization?.norms[row]
        else {
            kernels.scale(gradient + start, width, scale, output, FASTLOSS_GRADIENT_OVERWRITE)
            return
        }
        let isFloored = norm < NormalizedWeightedTokenPooling.normFloor
        kernels.project_out(
            gradient + start, embeddings + start, width,
            isFloored ? 0 : kernels.dot(gradient + start, embeddings + start, width),
            scale / NormalizedWeightedTokenPooling.denominator(norm), output, FASTLOSS_GRADIENT_OVERWRITE)
    }
}

/// Token states under K weightings per cell.
///
/// One weighting is bound by memory and takes kernels that read, or write, the states once; a product of one
/// row would first copy all states into the order that BLAS wants. Several weightings are products, one per
/// cell. Measured on Zen 4 with AVX-512, B = 64, L = 1201, D = 512 (157 MB of states), one weighting, kernel
/// against `cblas_sgemm` in ms: sums 8 to 10 against 17 to 20, the states' gradient 6 to 7 against 15 to 23,
/// the weights' gradient 5 to 6 against 23 to 26; on two cores 4.5 against 10.9, 5.7 against 8.7 and 4.4
/// against 12.5. ``TokenPooling/average`` is one weighting, too.
private struct WeightedTokens {
    let shape: TokenShape
    let weightings: Int

    /// Tokens per product where the states are an operand.
    ///
    /// With few tokens OpenBLAS's AVX-512 kernels multiply without packing their operands. Measured as above
    /// with 2, 4, 8 and 17 weightings, in ms: sums 20, 24, 25 and 28 by 64 tokens, 22, 30, 35 and 42 in one
    /// product; the weights' gradient 14, 17, 21 and 30 against 30, 24, 30 and 34. (The states' gradient,
    /// where the states are the result, is better off whole.) With OpenBLAS's AVX2 kernels it makes no
    /// difference.
    private static let tokensPerProduct = 64

    init(_ shape: TokenShape, _ weightings: Int) throws(LossError) {
        self.shape = shape
        self.weightings = weightings
        try BLAS.checkDimension("shape.tokens", shape.tokens)
        try BLAS.checkDimension("shape.width", shape.width)
        try BLAS.checkDimension("weightings", weightings)
    }
}

// MARK: Counts

extension WeightedTokens {
    /// B·K, the number of sums.
    func checkedRowCount() throws(LossError) -> Int {
        try MatrixShape(rows: shape.cells, columns: weightings).checkedCount()
    }

    /// B·K·D.
    func checkedEmbeddingCount() throws(LossError) -> Int {
        try MatrixShape(rows: try checkedRowCount(), columns: shape.width).checkedCount()
    }

    func checkCounts(
        states: (name: String, count: Int), weights: (name: String, count: Int)
    ) throws(LossError) {
        try checkCount(states.name, states.count, is: try shape.checkedCount())
        let weightCount = try MatrixShape(rows: try checkedRowCount(), columns: shape.tokens).checkedCount()
        try checkCount(weights.name, weights.count, is: weightCount)
    }

    func checkEmbeddings(_ argument: String, _ count: Int) throws(LossError) {
        try checkCount(argument, count, is: try checkedEmbeddingCount())
    }

    func checkNorms(_ count: Int) throws(LossError) {
        try checkCount("norms", count, is: try checkedRowCount())
    }
}

// MARK: Computation

extension WeightedTokens {
    /// The sums of one cell among those of all cells.
    func rows(of cell: Int) -> Range<Int> { cell * weightings..<(cell + 1) * weightings }

    func forEachCell(_ workspace: Workspace, _ body: (_ cell: Int, _ worker: Int) -> Void) {
        // A product costs at least what two kernel passes cost.
        let passes = weightings == 1 ? 1 : 2
        workspace.forEachTask(shape.cells, estimatedNanoseconds: passes * shape.nanosecondsPerPass, body)
    }

    /// The K sums of one cell, into the place of that cell in `sums`.
    func sum(
        _ states: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, cell: Int,
        into sums: UnsafeMutablePointer<Float>
    ) {
        let states = states + cell * shape.statesPerCell
        let weights = weights + cell * weightings * shape.tokens
        let sums = sums + cell * weightings * shape.width
        guard weightings > 1, shape.tokens > 0 else {
            // Without tokens the kernel, too, has nothing to read, and its sums are 0.
            for row in 0..<weightings {
                kernels.weighted_row_sum(
                    states, shape.tokens, shape.width, weights, 1, sums + row * shape.width)
            }
            return
        }
        forEachBlockOfTokens { tokens in
            BLAS.multiply(
                weightMatrix(weights, tokens), stateMatrix(states, tokens),
                beta: tokens.lowerBound == 0 ? 0 : 1, into: sums, stride: shape.width)
        }
    }

    /// dh_l = Σ_k v_kl du_k, cell by cell.
    func statesGradient(
        _ upstream: UpstreamGradient, weights: Span<Float>, into output: GradientOutput,
        _ workspace: Workspace
    ) throws(LossError) {
        try checkCounts(states: (output.name, output.memory.count), weights: ("weights", weights.count))
        try checkNoOverlap(output.named, NamedMemory("weights", weights.memory))
        let scratch = try reserveSums(workspace)

        let weights = weights.pointer
        guard let gradient = output.memory.baseAddress else { return }
        let writer = StatesGradientWriter(shape, mode: output.mode)
        forEachCell(workspace) { cell, worker in
            let sums = self.gradientOfSums(upstream, cell: cell, in: scratch, worker: worker)
            let weights = weights + cell * weightings * shape.tokens
            let gradient = gradient + cell * shape.statesPerCell
            guard weightings != 1 else { return writer.write(sums, weights: weights, to: gradient) }
            BLAS.multiplyTransposedLeft(
                weightMatrix(weights, 0..<shape.tokens), sumMatrix(sums), beta: beta(output.mode),
                into: gradient, stride: shape.width)
        }
    }

    /// dv_kl = h_l · du_k, cell by cell.
    func weightsGradient(
        _ upstream: UpstreamGradient, states: Span<Float>, into output: GradientOutput, _ workspace: Workspace
    ) throws(LossError) {
        try checkCounts(states: ("states", states.count), weights: (output.name, output.memory.count))
        try checkNoOverlap(output.named, NamedMemory("states", states.memory))
        let scratch = try reserveSums(workspace)

        let states = states.pointer
        guard let gradient = output.memory.baseAddress else { return }
        forEachCell(workspace) { cell, worker in
            let sums = self.gradientOfSums(upstream, cell: cell, in: scratch, worker: worker)
            let states = states + cell * shape.statesPerCell
            let gradient = gradient + cell * weightings * shape.tokens
            guard weightings != 1 else {
                for token in 0..<shape.tokens {
                    let dot = Float(kernels.dot(states + token * shape.width, sums, shape.width))
                    gradient[token] = output.mode == FASTLOSS_GRADIENT_OVERWRITE ? dot : gradient[token] + dot
                }
                return
            }
            forEachBlockOfTokens { tokens in
                BLAS.multiplyTransposedRight(
                    sumMatrix(sums), stateMatrix(states, tokens), beta: beta(output.mode),
                    into: gradient + tokens.lowerBound, stride: shape.tokens)
            }
        }
    }

    /// Scratch memory for the gradient of one cell's sums, for each worker.
    private func reserveSums(_ workspace: Workspace) throws(LossError) -> UnsafeMutablePointer<Float> {
        let rows = try MatrixShape(rows: workspace.workers, columns: weightings).checkedCount()
        var layout = Workspace.Layout()
        let scratch = try layout.add(
            MatrixShape(rows: rows, columns: shape.width).checkedCount(), of: Float.self)
        try workspace.reserve(layout)
        return workspace.pointer(scratch)
    }

    /// The gradient of one cell's K sums, in the worker's part of the scratch memory.
    private func gradientOfSums(
        _ upstream: UpstreamGradient, cell: Int, in scratch: UnsafeMutablePointer<Float>, worker: Int
    ) -> UnsafePointer<Float> {
        let sums = scratch + worker * weightings * shape.width
        for k in 0..<weightings {
            upstream.write(row: cell * weightings + k, width: shape.width, to: sums + k * shape.width)
        }
        return UnsafePointer(sums)
    }

    /// What a product leaves of the gradient that it writes to.
    private func beta(_ mode: fastloss_gradient_mode) -> Float {
        mode == FASTLOSS_GRADIENT_ACCUMULATE ? 1 : 0
    }

    private func forEachBlockOfTokens(_ body: (Range<Int>) -> Void) {
        for start in stride(from: 0, to: shape.tokens, by: Self.tokensPerProduct) {
            body(start..<min(shape.tokens, start + Self.tokensPerProduct))
        }
    }

    /// Some tokens' columns of one cell's K×L weights.
    private func weightMatrix(_ weights: UnsafePointer<Float>, _ tokens: Range<Int>) -> MatrixPointer {
        MatrixPointer(
            weights + tokens.lowerBound, rows: weightings, columns: tokens.count, stride: shape.tokens)
    }

    /// Some tokens' rows of one cell's L×D states.
    private func stateMatrix(_ states: UnsafePointer<Float>, _ tokens: Range<Int>) -> MatrixPointer {
        MatrixPointer(states + tokens.lowerBound * shape.width, rows: tokens.count, columns: shape.width)
    }

    /// One cell's K×D sums.
    private func sumMatrix(_ sums: UnsafePointer<Float>) -> MatrixPointer {
        MatrixPointer(sums, rows: weightings, columns: shape.width)
    }
}
