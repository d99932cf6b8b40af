// ECS of a batch whose similarity matrix fits in the caches: two passes, many independent tasks.

import CFastLossKernels

/// ECS by way of the whole B×B matrix G of factors (C_ij − β, where S_ij > 0 and i ≠ j).
///
/// First every strip of rows of the upper triangle of S is multiplied, turned into its part of the loss and of G, and
/// mirrored; then every strip of rows of the gradient is G·N, projected while it is at hand. That is 3·B²·D flops, as with
/// tiles, but in two stretches of independent tasks instead of a round of tiles after the other: at training's batch sizes
/// the workers would spend their time between rounds.
struct ElasticMatrix {
    /// Up to 4 MiB of G, which the last-level cache holds between the two stretches.
    static let mostRows = 1024

    /// Rows of a strip: few enough that two workers, or four, find equal shares, as many as B allows, for the reuse of N.
    private static func stripRows(forBatch rows: Int) -> Int {
        rows <= 128 ? 16 : rows <= 512 ? 32 : 64
    }

    private let embeddings: UnsafePointer<Float>
    private let shape: MatrixShape
    private let threshold: Float
    private let output: GradientOutput?

    private let unitRows: NormalizedRows.Scratch
    private let factors: ScratchArray<Float>
    private let sums: ScratchArray<Double>
    /// A strip of the gradient for each worker: what accumulates onto a gradient is first put together aside.
    private let aside: ScratchArray<Float>

    init(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, threshold: Float,
        into output: GradientOutput?,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.embeddings = embeddings
        self.shape = shape
        self.threshold = threshold
        self.output = output
        let strips = Self.strips(forBatch: shape.rows)
        let workers = min(layout.workers, strips)
        unitRows = try NormalizedRows.Scratch(
            shape, keepsPanels: true, copies: NormalizedRows.copies(shape, workers: workers), in: &layout)
        factors = try layout.add(shape.rows, by: TileProducts.stride(forColumns: shape.rows), of: Float.self)
        sums = try layout.add(strips, of: Double.self)
        let accumulates = output?.mode == FASTLOSS_ACCUMULATE
        aside = try layout.add(
            accumulates ? workers : 0, by: Self.stripRows(forBatch: shape.rows) * shape.columns,
            of: Float.self)
    }

    private static func strips(forBatch rows: Int) -> Int {
        (rows + stripRows(forBatch: rows) - 1) / stripRows(forBatch: rows)
    }

    /// Σ (C_ij − β)² over all i and j, and the gradient where there is an output for it.
    func run(on execution: Execution) -> Double {
        let (rows, columns) = (shape.rows, shape.columns)
        let stripRows = Self.stripRows(forBatch: rows)
        let strips = Self.strips(forBatch: rows)
        let copies = NormalizedRows.Copies(
            embeddings, shape: shape, floor: ElasticCellSimilarity.normFloor, scratch: unitRows, on: execution
        )
        let triangle = Triangle(
            threshold: threshold, factors: execution.pointer(factors), batch: rows,
            stride: TileProducts.stride(forColumns: rows), block: max(stripRows, TileProducts.panelRows),
            needsFactors: output != nil)
        let sums = execution.pointer(sums)

        // The first stretch's, and the second's too: a helper that comes to the second alone has its rows to normalise.
        let cost = TileProducts.nanoseconds(rows: rows, columns: rows, depth: columns) / 2
        execution.forEachTask(strips, estimatedNanoseconds: cost) { strip, worker in
            sums[strip] = triangle.visit(
                strip * stripRows..<min(rows, (strip + 1) * stripRows), of: copies[worker])
        }
        if let output, let gradient = output.memory.baseAddress {
            let factor = ElasticCellSimilarity.gradientFactor(output, rows: rows)
            let accumulates = output.mode == FASTLOSS_ACCUMULATE
            let aside = execution.pointer(aside)
            execution.forEachTask(strips, estimatedNanoseconds: cost) { strip, worker in
                let range = strip * stripRows..<min(rows, (strip + 1) * stripRows)
                let unit = copies[worker]
                let unitGradient =
                    accumulates
                    ? aside + worker * stripRows * columns : gradient + range.lowerBound * columns
                TileProducts.multiply(
                    triangle.factors(range), unit.block(0..<rows), into: unitGradient, stride: columns)
                unit.backward(
                    range, from: unitGradient, factor: factor, belowFloor: .constantNorm, into: output)
            }
        }
        return (0..<strips).reduce(0) { $0 + sums[$1] }
    }
}

/// The upper triangle of S, which becomes both triangles of G.
private struct Triangle {
    let threshold: Float
    let factors: UnsafeMutablePointer<Float>
    let batch: Int
    let stride: Int
    /// A strip starts where its diagonal block does, in whole panels; those blocks are computed in full.
    let block: Int
    let needsFactors: Bool

    /// The rows of G.
    func factors(_ rows: Range<Int>) -> MatrixPointer {
        MatrixPointer(factors + rows.lowerBound * stride, rows: rows.count, columns: batch, stride: stride)
    }

    /// One strip: its part of Σ (C − β)², counted twice beyond its diagonal block.
    func visit(_ rows: Range<Int>, of unit: NormalizedRows) -> Double {
        let start = rows.lowerBound / block * block
        let diagonalEnd = min(batch, start + block)
        let strip = factors + rows.lowerBound * stride
        unit.similarities(rows, unit, start..<batch, into: strip + start, stride: stride)
        for row in rows { factors[row * stride + row] = 0 }

        let mode = needsFactors ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT
        func sum(_ columns: Range<Int>) -> Double {
            kernels.elastic_cell_similarity(
                strip + columns.lowerBound, rows.count, columns.count, stride, threshold, mode)
        }
        let diagonal = sum(start..<diagonalEnd)
        let beyond = sum(diagonalEnd..<batch)
        if needsFactors {
            kernels.transpose(
                strip + diagonalEnd, rows.count, batch - diagonalEnd, stride,
                factors + diagonalEnd * stride + rows.lowerBound, stride)
        }
        return diagonal + 2 * beyond
    }
}
