// Rows scaled to unit length, their products, and the way back: what ECS, CCE and the similarity matrix have in common.

import CFastLossKernels

/// The normalised rows N = E / max(‖E‖, floor) of B×D embeddings, in scratch memory.
///
/// Norms are accumulated in double and each element is scaled in double and rounded once, so rows whose squares would
/// overflow or vanish in float keep their direction.
struct NormalizedRows {
    /// How the gradient treats a row whose norm is below the floor.
    enum BelowFloor {
        /// The floored norm is a constant: dE = dN / floor (PyTorch's `normalize`).
        case constantNorm
        /// The direction is projected out as for any other row: dE = (dN − u(N·dN)) / floor with u = E/‖E‖
        /// (PyTorch's `cosine_similarity`, which clamps the norm without telling the gradient).
        case unclampedDirection
    }

    /// Rows of one task: some microseconds of work at D = 512, and one panel.
    private static let rowsPerTask = TileProducts.panelRows

    let shape: MatrixShape
    let floor: Double
    /// Elements between the rows of N; see ``TileProducts/stride(forColumns:)``.
    private let stride: Int
    private let unit: UnsafeMutablePointer<Float>
    private let norms: UnsafeMutablePointer<Double>
    /// N once more, in packed panels, where they were asked for.
    private let panels: UnsafeMutablePointer<Float>?

    /// The scratch memory that the rows need.
    struct Scratch {
        fileprivate let copies: Int
        fileprivate let sizes: Sizes
        fileprivate let unit: ScratchArray<Float>
        fileprivate let norms: ScratchArray<Double>
        fileprivate let panels: ScratchArray<Float>?
        fileprivate let isMade: ScratchArray<CacheLine>

        /// - Parameters:
        ///   - keepsPanels: whether N is kept a second time, packed as the right operand of similarities: for those who
        ///     multiply each row more than some hundred times.
        ///   - copies: of all this; see ``Copies``.
        init(
            _ shape: MatrixShape, keepsPanels: Bool, copies: Int = 1, in layout: inout ScratchLayout
        ) throws(LossError) {
            TileProducts.prepare()
            sizes = try Sizes(shape)
            self.copies = copies
            unit = try layout.add(copies, by: sizes.unit, of: Float.self)
            norms = try layout.add(copies, by: shape.rows, of: Double.self)
            panels = keepsPanels ? try layout.add(copies, by: sizes.panels, of: Float.self) : nil
            isMade = try layout.add(copies > 1 ? copies : 0, of: CacheLine.self)
        }
    }

    /// Elements of one copy.
    fileprivate struct Sizes {
        let unit: Int
        let panels: Int

        init(_ shape: MatrixShape) throws(LossError) {
            let stride = TileProducts.stride(forColumns: shape.columns)
            unit = try MatrixShape(rows: shape.rows, columns: stride).checkedCount()
            panels = try TileProducts.packedCount(rows: shape.rows, columns: shape.columns)
        }
    }

    /// Memory that no two workers write at the same time without waiting for each other.
    fileprivate typealias CacheLine = SIMD16<UInt32>

    /// Normalises the rows into reserved scratch memory, all workers together.
    init(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, floor: Double, scratch: Scratch,
        on execution: Execution
    ) {
        self.init(shape: shape, floor: floor, scratch: scratch, on: execution)
        forEachTask(execution) { [self] rows, _ in normalize(rows, embeddings) }
    }

    /// The place of the first copy, with nothing in it.
    private init(shape: MatrixShape, floor: Double, scratch: Scratch, on execution: Execution) {
        self.shape = shape
        self.floor = floor
        stride = TileProducts.stride(forColumns: shape.columns)
        unit = execution.pointer(scratch.unit)
        norms = execution.pointer(scratch.norms)
        panels = scratch.panels.map { execution.pointer($0) }
    }

    private func normalize(_ rows: Range<Int>, _ embeddings: UnsafePointer<Float>) {
        for row in rows { normalize(row, embeddings + row * shape.columns) }
        if let panels { TileProducts.pack(block(rows), from: rows.lowerBound, into: panels) }
    }

    private func normalize(_ row: Int, _ source: UnsafePointer<Float>) {
        let columns = shape.columns
        let norm = kernels.sum_of_squares(source, columns).squareRoot()
        norms[row] = norm
        let target = unit + row * stride
        kernels.scale(source, columns, 1 / Self.floored(norm, floor), target, FASTLOSS_OVERWRITE)
        // Zero the padding: the kernel loads it and discards the result.
        (target + columns).update(repeating: 0, count: stride - columns)
    }

    /// The rows of `range` as a matrix.
    func block(_ range: Range<Int>) -> MatrixPointer {
        MatrixPointer(
            unit + range.lowerBound * stride, rows: range.count, columns: shape.columns, stride: stride)
    }

    private var tasks: Int { (shape.rows + Self.rowsPerTask - 1) / Self.rowsPerTask }

    private func rows(ofTask task: Int) -> Range<Int> {
        task * Self.rowsPerTask..<min(shape.rows, (task + 1) * Self.rowsPerTask)
    }

    private func forEachTask(_ execution: Execution, _ body: (_ rows: Range<Int>, _ worker: Int) -> Void) {
        // About a quarter of a nanosecond an element.
        execution.forEachTask(tasks, estimatedNanoseconds: Double(shape.rows) * Double(shape.columns) / 4) {
            task, worker in
            body(rows(ofTask: task), worker)
        }
    }

    /// max(norm, floor), NaN where the norm is NaN.
    private static func floored(_ norm: Double, _ floor: Double) -> Double { norm < floor ? floor : norm }
}

// MARK: - A copy for each worker

extension NormalizedRows {
    /// How many copies pay: one for each worker of a batch that its second-level cache holds.
    static func copies(_ shape: MatrixShape, workers: Int) -> Int {
        shape.rows <= 128 && shape.columns <= 1024 ? workers : 1
    }

    /// N once for each worker, made by the worker itself when it first asks; or, with scratch memory for one copy, once for
    /// all of them.
    ///
    /// For small batches: every worker needs all rows, and at 64 of them it has normalised the others' share in less time
    /// than it takes to wait for them and to fetch the rows from their caches. Measured on two processors at 64×64×512, ECS and
    /// CCE with gradients: 47 µs instead of 61 and 85 instead of 101 where they share no cache; the same where they do.
    struct Copies {
        private let embeddings: UnsafePointer<Float>
        private let first: NormalizedRows
        private let sizes: Sizes
        private let isMade: UnsafeMutablePointer<CacheLine>?

        init(
            _ embeddings: UnsafePointer<Float>, shape: MatrixShape, floor: Double, scratch: Scratch,
            on execution: Execution
        ) {
            self.embeddings = embeddings
            sizes = scratch.sizes
            guard scratch.copies > 1 else {
                first = NormalizedRows(
                    embeddings, shape: shape, floor: floor, scratch: scratch, on: execution)
                isMade = nil
                return
            }
            first = NormalizedRows(shape: shape, floor: floor, scratch: scratch, on: execution)
            isMade = execution.pointer(scratch.isMade)
            isMade?.initialize(repeating: .zero, count: scratch.copies)
        }

        /// The worker's copy. Only the worker itself may ask.
        subscript(worker: Int) -> NormalizedRows {
            guard let isMade else { return first }
            let copy = first.moved(by: worker, sizes)
            if isMade[worker][0] == 0 {
                for task in 0..<copy.tasks { copy.normalize(copy.rows(ofTask: task), embeddings) }
                isMade[worker][0] = 1
            }
            return copy
        }

        /// Carries `factor`·dN of all rows back to the embeddings, all workers together.
        ///
        /// `upstream` may be the output's own memory; it is nil only for embeddings without elements.
        func backward(
            from upstream: UnsafeMutablePointer<Float>?, factor: Double, belowFloor: BelowFloor,
            into output: GradientOutput, on execution: Execution
        ) {
            guard let upstream else { return }
            first.forEachTask(execution) { rows, worker in
                self[worker].backward(
                    rows, from: upstream + rows.lowerBound * first.shape.columns, factor: factor,
                    belowFloor: belowFloor, into: output)
            }
        }
    }

    private func moved(by copies: Int, _ sizes: Sizes) -> NormalizedRows {
        NormalizedRows(
            shape: shape, floor: floor, stride: stride, unit: unit + copies * sizes.unit,
            norms: norms + copies * shape.rows, panels: panels.map { $0 + copies * sizes.panels })
    }

    private init(
        shape: MatrixShape, floor: Double, stride: Int, unit: UnsafeMutablePointer<Float>,
        norms: UnsafeMutablePointer<Double>, panels: UnsafeMutablePointer<Float>?
    ) {
        self.shape = shape
        self.floor = floor
        self.stride = stride
        self.unit = unit
        self.norms = norms
        self.panels = panels
    }
}

// MARK: - Similarities

extension NormalizedRows {
    /// Floats of scratch memory that similarities need for each worker, where the right operand keeps no panels.
    static func panelCount(_ shape: MatrixShape) throws(LossError) -> Int {
        try TileProducts.packedCount(rows: TileProducts.panelRows, columns: shape.columns)
    }

    /// S = N_left·M_rightᵀ, where M are the `other` rows.
    ///
    /// - Parameter scratch: memory for one panel, needed where `other` keeps none. A range of kept panels starts with one.
    func similarities(
        _ left: Range<Int>, _ other: NormalizedRows, _ right: Range<Int>,
        into tile: UnsafeMutablePointer<Float>,
        stride: Int, scratch: UnsafeMutablePointer<Float>? = nil
    ) {
        TileProducts.multiplyTransposedRight(
            block(left), other.block(right),
            packed: other.panels.map { $0 + right.lowerBound * shape.columns },
            scratch: scratch, into: tile, stride: stride)
    }
}

// MARK: - The way back

extension NormalizedRows {
    /// Carries `factor`·dN, the gradient of some normalised rows, back to the embeddings:
    ///
    ///     dE_i = factor·(dN_i − N_i(N_i·dN_i)) / ‖E_i‖, and below the floor as `belowFloor` says
    ///
    /// `upstream` is the first row's dN, and may be the output's own memory.
    func backward(
        _ rows: Range<Int>, from upstream: UnsafePointer<Float>, factor: Double, belowFloor: BelowFloor,
        into output: GradientOutput
    ) {
        guard let gradient = output.memory.baseAddress else { return }
        let columns = shape.columns
        for row in rows {
            let direction = unit + row * stride
            let rowUpstream = upstream + (row - rows.lowerBound) * columns
            let norm = norms[row]
            var along = 0.0
            if !(norm < floor) {
                along = kernels.dot(rowUpstream, direction, columns)
            } else if belowFloor == .unclampedDirection, norm > 0 {
                // u(N·dN) with u = N·floor/‖E‖.
                along = kernels.dot(rowUpstream, direction, columns) * floor / norm
            }
            kernels.project_out(
                rowUpstream, direction, columns, along, factor / Self.floored(norm, floor),
                gradient + row * columns, output.mode)
        }
    }
}
