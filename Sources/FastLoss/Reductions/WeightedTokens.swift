// The engine of both weighted poolings: one weighting is a kernel, several are a product.

import CFastLossKernels

/// The gradient of the embeddings on its way back to the sums: scaled, and through the normalisation if there
/// is one.
struct UpstreamGradient {
    let tokens: WeightedTokens
    private let memory: UnsafeBufferPointer<Float>
    private let scale: Double
    private let normalization: (embeddings: UnsafeBufferPointer<Float>, norms: UnsafeBufferPointer<Double>)?

    /// Of plain sums.
    init(_ gradient: Span<Float>, of tokens: WeightedTokens, into output: GradientOutput) throws(LossError) {
        self.tokens = tokens
        memory = gradient.memory
        scale = output.scale
        normalization = nil
        try check(tokens, output)
    }

    /// Of normalised sums.
    init(
        _ gradient: Span<Float>, through embeddings: Span<Float>, norms: Span<Double>,
        of tokens: WeightedTokens, into output: GradientOutput
    ) throws(LossError) {
        self.tokens = tokens
        memory = gradient.memory
        scale = output.scale
        normalization = (embeddings.memory, norms.memory)
        try check(tokens, output)
    }

    private func check(_ tokens: WeightedTokens, _ output: GradientOutput) throws(LossError) {
        try tokens.checkEmbeddings("embeddingGradient", memory.count)
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
            kernels.scale(gradient + start, width, scale, output, FASTLOSS_OVERWRITE)
            return
        }
        let isFloored = norm < NormalizedWeightedTokenPooling.normFloor
        kernels.project_out(
            gradient + start, embeddings + start, width,
            isFloored ? 0 : kernels.dot(gradient + start, embeddings + start, width),
            scale / NormalizedWeightedTokenPooling.denominator(norm), output, FASTLOSS_OVERWRITE)
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
package struct WeightedTokens {
    let shape: TokenShape
    let weightings: Int
    /// The pooling that this is about, in messages.
    let name: String

    /// Tokens per product where the states are an operand.
    ///
    /// With few tokens OpenBLAS's AVX-512 kernels multiply without packing their operands. Measured as above
    /// with 2, 4, 8 and 17 weightings, in ms: sums 20, 24, 25 and 28 by 64 tokens, 22, 30, 35 and 42 in one
    /// product; the weights' gradient 14, 17, 21 and 30 against 30, 24, 30 and 34. (The states' gradient,
    /// where the states are the result, is better off whole.) With OpenBLAS's AVX2 kernels it makes no
    /// difference.
    private static let tokensPerProduct = 64

    init(_ shape: TokenShape, _ weightings: Int, of name: String) throws(LossError) {
        self.shape = shape
        self.weightings = weightings
        self.name = name
        try BLAS.checkDimension("shape.tokens", shape.tokens)
        try BLAS.checkDimension("shape.width", shape.width)
        try BLAS.checkDimension("weightings", weightings)
    }
}

// MARK: - Counts

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

// MARK: - Sums

extension WeightedTokens {
    /// The K sums of every cell.
    struct Sums {
        let tokens: WeightedTokens
        let output: UnsafeMutablePointer<Float>
        private let isEmpty: Bool
        private let states: UnsafePointer<Float>
        private let weights: UnsafePointer<Float>

        init(
            _ tokens: WeightedTokens, states: Span<Float>, weights: Span<Float>,
            into embeddings: UnsafeMutableBufferPointer<Float>
        ) throws(LossError) {
            try tokens.checkCounts(states: ("states", states.count), weights: ("weights", weights.count))
            try tokens.checkEmbeddings("embeddings", embeddings.count)
            try checkNoOverlap(NamedMemory("embeddings", embeddings), NamedMemory("states", states.memory))
            try checkNoOverlap(NamedMemory("embeddings", embeddings), NamedMemory("weights", weights.memory))
            tokens.prepare()
            self.tokens = tokens
            self.states = states.pointer
            self.weights = weights.pointer
            isEmpty = embeddings.isEmpty
            output =
                embeddings.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Float>.alignment)!
        }

        /// Does nothing where the sums have no elements: there may be any number of them then.
        func forEachCell(on execution: Execution, _ body: (_ cell: Int) -> Void) {
            guard !isEmpty else { return }
            tokens.forEachCell(on: execution) { cell, _ in body(cell) }
        }

        /// The K sums of one cell.
        func write(cell: Int) {
            let shape = tokens.shape
            let weightings = tokens.weightings
            let states = states + cell * shape.statesPerCell
            let weights = weights + cell * weightings * shape.tokens
            let sums = output + cell * weightings * shape.width
            guard weightings > 1, shape.tokens > 0 else {
                // Without tokens the kernel, too, has nothing to read, and its sums are 0.
                for row in 0..<weightings {
                    kernels.weighted_row_sum(
                        states, shape.tokens, shape.width, weights, 1, sums + row * shape.width)
                }
                return
            }
            tokens.forEachBlockOfTokens { range in
                BLAS.multiply(
                    tokens.weightMatrix(weights, range), tokens.stateMatrix(states, range),
                    beta: range.lowerBound == 0 ? 0 : 1, into: sums, stride: shape.width)
            }
        }
    }
}

// MARK: - Gradients

extension WeightedTokens {
    /// The gradient of one cell's K sums, in a part of the scratch memory for each worker.
    private struct GradientOfSums {
        let upstream: UpstreamGradient
        private let scratch: ScratchArray<Float>

        init(_ upstream: UpstreamGradient, in layout: inout ScratchLayout) throws(LossError) {
            self.upstream = upstream
            let tokens = upstream.tokens
            scratch = try layout.add(
                min(layout.workers, tokens.shape.cells),
                by: MatrixShape(rows: tokens.weightings, columns: tokens.shape.width).checkedCount(),
                of: Float.self)
        }

        func write(cell: Int, worker: Int, on execution: Execution) -> UnsafePointer<Float> {
            let (weightings, width) = (upstream.tokens.weightings, upstream.tokens.shape.width)
            let sums = execution.pointer(scratch) + worker * weightings * width
            for k in 0..<weightings {
                upstream.write(row: cell * weightings + k, width: width, to: sums + k * width)
            }
            return UnsafePointer(sums)
        }
    }

    /// dh_l = Σ_k v_kl du_k, cell by cell.
    package struct StatesGradient: Plan {
        private let sums: GradientOfSums
        private let weights: UnsafePointer<Float>
        private let output: GradientOutput

        package var name: String { sums.upstream.tokens.name }

        init(
            _ upstream: UpstreamGradient, weights: Span<Float>, into output: GradientOutput,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            try upstream.tokens.checkCounts(
                states: (output.name, output.memory.count), weights: ("weights", weights.count))
            try output.check(count: output.memory.count)
            try checkNoOverlap(output.named, NamedMemory("weights", weights.memory))
            upstream.tokens.prepare()
            sums = try GradientOfSums(upstream, in: &layout)
            self.weights = weights.pointer
            self.output = output
        }

        package func run(on execution: Execution) {
            guard output.memory.count > 0, let gradient = output.memory.baseAddress else { return }
            let tokens = sums.upstream.tokens
            let shape = tokens.shape
            let writer = StatesGradientWriter(shape, mode: output.mode)
            tokens.forEachCell(on: execution) { cell, worker in
                let sums = sums.write(cell: cell, worker: worker, on: execution)
                let weights = weights + cell * tokens.weightings * shape.tokens
                let gradient = gradient + cell * shape.statesPerCell
                guard tokens.weightings != 1 else {
                    return writer.write(sums, weights: weights, to: gradient)
                }
                BLAS.multiplyTransposedLeft(
                    tokens.weightMatrix(weights, 0..<shape.tokens), tokens.sumMatrix(sums), beta: output.beta,
                    into: gradient, stride: shape.width)
            }
        }
    }

    /// dv_kl = h_l · du_k, cell by cell.
    package struct WeightsGradient: Plan {
        private let sums: GradientOfSums
        private let states: UnsafePointer<Float>
        private let output: GradientOutput

        package var name: String { sums.upstream.tokens.name }

        init(
            _ upstream: UpstreamGradient, states: Span<Float>, into output: GradientOutput,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            try upstream.tokens.checkCounts(
                states: ("states", states.count), weights: (output.name, output.memory.count))
            try output.check(count: output.memory.count)
            try checkNoOverlap(output.named, NamedMemory("states", states.memory))
            upstream.tokens.prepare()
            sums = try GradientOfSums(upstream, in: &layout)
            self.states = states.pointer
            self.output = output
        }

        package func run(on execution: Execution) {
            guard output.memory.count > 0, let gradient = output.memory.baseAddress else { return }
            let tokens = sums.upstream.tokens
            let shape = tokens.shape
            tokens.forEachCell(on: execution) { cell, worker in
                let sums = sums.write(cell: cell, worker: worker, on: execution)
                let states = states + cell * shape.statesPerCell
                let gradient = gradient + cell * tokens.weightings * shape.tokens
                guard tokens.weightings != 1 else {
                    for token in 0..<shape.tokens {
                        let dot = Float(kernels.dot(states + token * shape.width, sums, shape.width))
                        gradient[token] =
                            output.mode == FASTLOSS_OVERWRITE ? dot : gradient[token] + dot
                    }
                    return
                }
                tokens.forEachBlockOfTokens { range in
                    BLAS.multiplyTransposedRight(
                        tokens.sumMatrix(sums), tokens.stateMatrix(states, range), beta: output.beta,
                        into: gradient + range.lowerBound, stride: shape.tokens)
                }
            }
        }
    }
}

extension GradientOutput {
    /// What a product leaves of the gradient that it writes to.
    fileprivate var beta: Float { mode == FASTLOSS_ACCUMULATE ? 1 : 0 }
}

// MARK: - Cells, blocks, matrices

extension WeightedTokens {
    /// Called by a plan, before any work is shared: several weightings are products.
    fileprivate func prepare() {
        if weightings > 1 { BLAS.prepare() }
    }

    /// B·K, of a possible shape.
    var rowCount: Int { shape.cells * weightings }

    /// The sums of one cell among those of all cells.
    func rows(of cell: Int) -> Range<Int> { cell * weightings..<(cell + 1) * weightings }

    fileprivate func forEachCell(on execution: Execution, _ body: (_ cell: Int, _ worker: Int) -> Void) {
        // A product costs at least what two kernel passes cost.
        let passes = weightings == 1 ? 1.0 : 2.0
        execution.forEachTask(shape.cells, estimatedNanoseconds: passes * shape.nanosecondsPerPass, body)
    }

    fileprivate func forEachBlockOfTokens(_ body: (Range<Int>) -> Void) {
        for start in stride(from: 0, to: shape.tokens, by: Self.tokensPerProduct) {
            body(start..<min(shape.tokens, start + Self.tokensPerProduct))
        }
    }

    /// Some tokens' columns of one cell's K×L weights.
    fileprivate func weightMatrix(_ weights: UnsafePointer<Float>, _ tokens: Range<Int>) -> MatrixPointer {
        MatrixPointer(
            weights + tokens.lowerBound, rows: weightings, columns: tokens.count, stride: shape.tokens)
    }

    /// Some tokens' rows of one cell's L×D states.
    fileprivate func stateMatrix(_ states: UnsafePointer<Float>, _ tokens: Range<Int>) -> MatrixPointer {
        MatrixPointer(states + tokens.lowerBound * shape.width, rows: tokens.count, columns: shape.width)
    }

    /// One cell's K×D sums.
    fileprivate func sumMatrix(_ sums: UnsafePointer<Float>) -> MatrixPointer {
        MatrixPointer(sums, rows: weightings, columns: shape.width)
    }
}
