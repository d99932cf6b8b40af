// The computation of both weighted poolings: one weighting uses kernels, several use products.

import CFastLossKernels

/// The gradient of the sums from that of the embeddings: scaled, and propagated through a normalisation.
struct UpstreamGradient {
    let tokens: WeightedTokens
    private let memory: UnsafeBufferPointer<Float>
    private let scale: Double
    private let normalization: (embeddings: UnsafeBufferPointer<Float>, norms: UnsafeBufferPointer<Double>)?

    /// The gradient of plain sums.
    init(_ gradient: Span<Float>, of tokens: WeightedTokens, into output: GradientOutput) throws(LossError) {
        self.tokens = tokens
        memory = gradient.memory
        scale = output.scale
        normalization = nil
        try check(tokens, output)
    }

    /// The gradient of normalised sums.
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

    /// Writes the gradient of the sum at index `row`, of `width` elements.
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
/// One weighting is bound by memory. Its kernels read or write the states once, in about half the time of a
/// product, which packs all states first. Several weightings use one product for each cell.
/// ``TokenPooling/average`` is one weighting. Measured: the article Tuning.
package struct WeightedTokens {
    let shape: TokenShape
    let weightings: Int
    /// The name of the pooling in messages.
    let name: String

    /// Tokens per product in which the states are an operand.
    ///
    /// OpenBLAS's AVX-512 kernels multiply so few tokens without packing their operands. The gradient of the
    /// states, in which the states are the result, is one product. Measured: the article Tuning.
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
            into embeddings: UnsafeMutableBufferPointer<Float>, in layout: inout ScratchLayout
        ) throws(LossError) {
            try tokens.checkCounts(states: ("states", states.count), weights: ("weights", weights.count))
            try tokens.checkEmbeddings("embeddings", embeddings.count)
            try checkNoOverlap(NamedMemory("embeddings", embeddings), NamedMemory("states", states.memory))
            try checkNoOverlap(NamedMemory("embeddings", embeddings), NamedMemory("weights", weights.memory))
            tokens.prepare(in: &layout)
            self.tokens = tokens
            self.states = states.pointer
            self.weights = weights.pointer
            isEmpty = embeddings.isEmpty
            output =
                embeddings.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Float>.alignment)!
        }

        /// Does nothing if the sums have no elements, whose number has no bound.
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
                // Without tokens the kernel reads nothing and writes 0.
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
    /// The gradient of the K sums of one cell, in scratch memory of the worker.
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
            upstream.tokens.prepare(in: &layout)
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
            upstream.tokens.prepare(in: &layout)
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
    /// The factor β of a product that writes the gradient.
    fileprivate var beta: Float { mode == FASTLOSS_ACCUMULATE ? 1 : 0 }
}

// MARK: - Cells, blocks, matrices

extension WeightedTokens {
    /// A plan calls this before it shares work, because several weightings use products.
    fileprivate func prepare(in layout: inout ScratchLayout) {
        if weightings > 1 { BLAS.prepare(in: &layout) }
    }

    /// B·K. Requires a checked shape.
    var rowCount: Int { shape.cells * weightings }

    /// The indices of the sums of one cell.
    func rows(of cell: Int) -> Range<Int> { cell * weightings..<(cell + 1) * weightings }

    fileprivate func forEachCell(on execution: Execution, _ body: (_ cell: Int, _ worker: Int) -> Void) {
        // A product costs at least two passes of a kernel.
        let passes = weightings == 1 ? 1.0 : 2.0
        execution.forEachTask(shape.cells, estimatedNanoseconds: passes * shape.nanosecondsPerPass, body)
    }

    fileprivate func forEachBlockOfTokens(_ body: (Range<Int>) -> Void) {
        for start in stride(from: 0, to: shape.tokens, by: Self.tokensPerProduct) {
            body(start..<min(shape.tokens, start + Self.tokensPerProduct))
        }
    }

    /// The columns of some tokens in the K×L weights of one cell.
    fileprivate func weightMatrix(_ weights: UnsafePointer<Float>, _ tokens: Range<Int>) -> MatrixPointer {
        MatrixPointer(
            weights + tokens.lowerBound, rows: weightings, columns: tokens.count, stride: shape.tokens)
    }

    /// The rows of some tokens in the L×D states of one cell.
    fileprivate func stateMatrix(_ states: UnsafePointer<Float>, _ tokens: Range<Int>) -> MatrixPointer {
        MatrixPointer(states + tokens.lowerBound * shape.width, rows: tokens.count, columns: shape.width)
    }

    /// The K×D sums of one cell.
    fileprivate func sumMatrix(_ sums: UnsafePointer<Float>) -> MatrixPointer {
        MatrixPointer(sums, rows: weightings, columns: shape.width)
    }
}
