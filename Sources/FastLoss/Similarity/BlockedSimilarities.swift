// The driver of blocked similarities: computes a similarity matrix block by block and forms the gradients of
// its operands.

import CFastLossKernels

/// A pass over S = N_left·N_rightᵀ, whose blocks an epilogue turns into its results and into factors G in
/// place.
///
/// The pass decides which blocks are computed, in which order and by which workers. For the sides that have a
/// gradient it forms
///
///     dN_left = G·N_right,   dN_right = Gᵀ·N_left
///
/// and carries dN back through the normalisation. Only the epilogue knows what the numbers mean. No result
/// depends on the number of workers: a task writes to its own memory, and each sum has one order.
///
/// The two sides may be parts of a larger batch, with any numbers of rows. A pass with one side computes half
/// of the symmetric matrix of that side with itself. G is symmetric then, and the gradient of the side is
/// G·N.
package struct BlockedSimilarities {
    /// Which blocks there are, and in which order.
    package enum Schedule {
        /// Strips of whole rows. The workers share the memory of one slab of them. Without gradients each
        /// worker has the memory of one strip instead: workers that write where others have written wait for
        /// each other's caches.
        case strips(RowStrips)
        /// The square tiles of a symmetric matrix. Each worker has the memory of one tile. With `inRounds`
        /// the tiles come in rounds that share no rows, which gradients need. Without, they come in any
        /// order.
        case tiles(TilePairs, inRounds: Bool)
    }

    private let schedule: Schedule
    private let shape: MatrixShape
    private let diagonal: Int
    private let left: WorkerOperands.Scratch
    private let right: WorkerOperands.Scratch?
    private let leftGradient: UnitGradient.Scratch?
    private let rightGradient: UnitGradient.Scratch?
    /// The slab, or a strip or tile for each worker.
    private let factors: ScratchArray<Float>

    /// Plans a pass over two sides of D columns each, D > 0.
    ///
    /// - Parameters:
    ///   - right: nil for the similarities of one side with itself, which need a schedule for symmetric
    ///     matrices.
    ///   - schedule: a schedule for the sides' numbers of rows.
    package init(
        _ left: SimilaritySide, _ right: SimilaritySide? = nil, schedule: Schedule,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        TileProducts.prepare(in: &layout)
        shape = left.shape
        diagonal = left.firstRow - (right ?? left).firstRow
        switch schedule {
        case .strips(var strips):
            let formsGradients = left.gradient != nil || right?.gradient != nil
            if !formsGradients { strips.slabRows = strips.rows }
            self.schedule = .strips(strips)
            let slabWorkers = min(layout.workers, strips.mostStrips)
            let workers = right == nil ? slabWorkers : min(layout.workers, strips.mostTasks)
            self.left = try WorkerOperands.Scratch(
                left, keepsPanels: right == nil, eachWorkerAsks: true, in: &layout)
            self.right = try right.map { side throws(LossError) in
                try WorkerOperands.Scratch(side, keepsPanels: true, eachWorkerAsks: true, in: &layout)
            }
            factors = try layout.add(
                formsGradients ? strips.slab(0).count : slabWorkers * strips.stripRows,
                by: TileProducts.stride(forColumns: strips.columns), of: Float.self)
            leftGradient = try UnitGradient.Scratch(
                left, rowsAtATime: strips.stripRows, workers: slabWorkers, in: &layout)
            rightGradient = try right.flatMap { side throws(LossError) in
                try UnitGradient.Scratch(side, rowsAtATime: nil, workers: workers, in: &layout)
            }
        case .tiles(let pairs, let inRounds):
            assert(right == nil, "tiles are those of a symmetric matrix")
            self.schedule = schedule
            let workers = min(layout.workers, inRounds ? pairs.mostPairsInARound : pairs.count)
            self.left = try WorkerOperands.Scratch(
                left, keepsPanels: false, eachWorkerAsks: false, in: &layout)
            self.right = nil
            factors = try layout.add(workers, by: pairs.blockRows * pairs.tileStride, of: Float.self)
            leftGradient = try UnitGradient.Scratch(left, rowsAtATime: nil, workers: workers, in: &layout)
            rightGradient = nil
        }
    }

    /// How many blocks the epilogue will visit; their numbers are below it.
    package var blocks: Int {
        switch schedule {
        case .strips(let strips): strips.count
        case .tiles(let pairs, _): pairs.count
        }
    }

    /// Whether the epilogue's factors are needed.
    package var formsGradients: Bool { leftGradient != nil || rightGradient != nil }

    /// Visits every block once, and writes the gradients.
    package func run(_ epilogue: some SimilarityEpilogue, on execution: Execution) {
        switch schedule {
        case .strips(let strips): run(strips, epilogue, on: execution)
        case .tiles(let pairs, let inRounds):
            let operands = WorkerOperands(left, on: execution)
            run(pairs, inRounds: inRounds, epilogue, of: operands[0], on: execution) { _, _ in nil }
        }
    }

    /// Visits every tile once, except those that another computation replaces, and writes the gradients. For
    /// tiles only.
    ///
    /// - Parameters:
    ///   - normalized: is called with each block of rows when it is normalised, by the worker that did it.
    ///   - replacing: says which tiles it replaces, nil if none. It receives the normalised rows and
    ///     the gradient, in which it forms its part of dN, for every row. The epilogue's factors are added. Rows
    ///     whose tiles are all replaced may be carried back already.
    func runTiles(
        _ epilogue: some SimilarityEpilogue, on execution: Execution,
        normalized: (_ block: Int, _ rows: NormalizedRows) -> Void,
        replacing: (_ rows: NormalizedRows, _ gradient: UnitGradient?) -> ReplacedTiles?
    ) {
        guard case .tiles(let pairs, let inRounds) = schedule else {
            preconditionFailure("strips are not replaced")
        }
        let operands = WorkerOperands(left, inBlocksOf: pairs, on: execution, normalized)
        run(pairs, inRounds: inRounds, epilogue, of: operands[0], on: execution, replacing: replacing)
    }
}

/// The tiles that the pass leaves to another computation.
struct ReplacedTiles {
    /// Row blocks of the matrix.
    let blocks: Int
    /// One element for each pair of blocks (first ≤ second).
    let table: UnsafePointer<Bool>
    /// Of each block, whether the other computation also carries the gradient of its rows back.
    let finished: UnsafePointer<Bool>

    subscript(first: Int, second: Int) -> Bool { table[first * blocks + second] }
}

// MARK: - Strips

extension BlockedSimilarities {
    private func run(_ strips: RowStrips, _ epilogue: some SimilarityEpilogue, on execution: Execution) {
        let leftOperands = WorkerOperands(left, on: execution)
        let rightOperands = right.map { WorkerOperands($0, on: execution) } ?? leftOperands
        let leftGradient = UnitGradient(leftGradient, on: execution)
        let rightGradient = UnitGradient(rightGradient, on: execution)
        let memory = execution.pointer(factors)
        let stride = TileProducts.stride(forColumns: strips.columns)
        let isSymmetric = right == nil
        var visited = 0

        for index in 0..<strips.slabs {
            let slab = strips.slab(index)
            func factors(_ rows: Range<Int>) -> MatrixPointer {
                MatrixPointer(
                    memory + (rows.lowerBound - slab.lowerBound) * stride, rows: rows.count,
                    columns: strips.columns, stride: stride)
            }
            /// dN_left of the rows of a strip, which no other strip adds to.
            func formLeftGradient(_ rows: Range<Int>, worker: Int) {
                guard let leftGradient else { return }
                TileProducts.multiply(
                    factors(rows), rightOperands[worker].rows.block(0..<strips.columns),
                    into: leftGradient.place(rows.lowerBound, worker: worker), stride: leftGradient.stride)
                leftGradient.carryBack(rows, through: leftOperands[worker].rows, worker: worker)
            }

            // Of one product, even if a task forms two: workers that fetch each other's slabs gain less than
            // they compute. Measured: the article Tuning.
            let cost = strips.nanoseconds(slab, depth: shape.columns)
            let first = visited
            execution.forEachTask(strips.strips(of: slab), estimatedNanoseconds: cost) { task, worker in
                let rows = strips.strip(ofTask: task, of: slab)
                let columns = strips.columns(of: rows)
                let strip =
                    memory + stride
                    * (formsGradients ? rows.lowerBound - slab.lowerBound : worker * strips.stripRows)
                let mirrored = strips.mirroredColumns(of: rows)
                let block = SimilarityBlock(
                    number: first + task, rows: rows, columns: columns,
                    diagonal: rows.lowerBound + diagonal - columns.lowerBound, mirroredColumns: mirrored,
                    memory: strip + columns.lowerBound, stride: stride)
                leftOperands[worker].similarities(
                    rows, rightOperands[worker], columns, into: block.memory, stride: stride, scale: .tiles)
                epilogue.visit(block)
                if !isSymmetric {
                    formLeftGradient(rows, worker: worker)
                } else if leftGradient != nil {
                    let firstMirrored = strips.columns - mirrored
                    kernels.transpose(
                        block.memory + (firstMirrored - columns.lowerBound), rows.count, mirrored, stride,
                        memory + firstMirrored * stride + rows.lowerBound, stride)
                }
            }
            visited += strips.strips(of: slab)

            if isSymmetric, leftGradient != nil {
                // Each row's factors are complete only now: the transposed ones came from other tasks.
                execution.forEachTask(strips.strips(of: slab), estimatedNanoseconds: cost) { task, worker in
                    formLeftGradient(strips.strip(ofTask: task, of: slab), worker: worker)
                }
            }
            if let rightGradient {
                // Each task has its own columns of the slab. It adds up the slabs in their order.
                let all = 0..<strips.columns
                execution.forEachTask(strips.strips(of: all), estimatedNanoseconds: cost) { task, worker in
                    let columns = strips.strip(task, of: all)
                    let place = rightGradient.place(columns.lowerBound, worker: worker)
                    TileProducts.multiplyTransposedLeft(
                        MatrixPointer(
                            memory + columns.lowerBound, rows: slab.count, columns: columns.count,
                            stride: stride),
                        leftOperands[worker].rows.block(slab), into: place, stride: rightGradient.stride,
                        accumulates: index > 0)
                    if index == strips.slabs - 1 {
                        rightGradient.carryBack(columns, through: rightOperands[worker].rows, worker: worker)
                    }
                }
            }
        }
    }
}

// MARK: - Tiles

extension BlockedSimilarities {
    private func run(
        _ pairs: TilePairs, inRounds: Bool, _ epilogue: some SimilarityEpilogue,
        of operand: SimilarityOperand, on execution: Execution,
        replacing: (_ rows: NormalizedRows, _ gradient: UnitGradient?) -> ReplacedTiles?
    ) {
        let gradient = UnitGradient(leftGradient, on: execution)
        let tiles = execution.pointer(factors)
        let stride = pairs.tileStride
        let tileCount = pairs.blockRows * stride

        func visit(_ rows: Range<Int>, _ columns: Range<Int>, number: Int, isFirst: Bool, worker: Int) {
            let isDiagonal = rows == columns
            let tile = SimilarityBlock(
                number: number, rows: rows, columns: columns,
                diagonal: rows.lowerBound - columns.lowerBound,
                mirroredColumns: isDiagonal ? 0 : columns.count, memory: tiles + worker * tileCount,
                stride: stride)
            operand.similarities(
                rows, operand, columns, into: tile.memory, stride: stride, scale: pairs.scale)
            epilogue.visit(tile)
            guard let gradient else { return }
            TileProducts.multiply(
                tile.matrix, operand.rows.block(columns),
                into: gradient.place(rows.lowerBound, worker: worker), stride: gradient.stride,
                accumulates: !isFirst, scale: pairs.scale)
            guard !isDiagonal else { return }
            TileProducts.multiplyTransposedLeft(
                tile.matrix, operand.rows.block(rows),
                into: gradient.place(columns.lowerBound, worker: worker), stride: gradient.stride,
                accumulates: !isFirst, scale: pairs.scale)
        }

        let replaced = replacing(operand.rows, gradient)
        let products = gradient == nil ? 1 : 3
        let cost = TileProducts.nanoseconds(
            rows: products * pairs.blockRows, columns: pairs.blockRows, depth: shape.columns)
        var visited = 0
        for round in 0..<(inRounds ? pairs.rounds : 1) {
            let count = inRounds ? pairs.pairs(inRound: round) : pairs.count
            let first = visited
            execution.forEachTask(count, estimatedNanoseconds: Double(count) * cost) { index, worker in
                let pair = inRounds ? pairs.pair(index, inRound: round) : pairs.pair(index)
                if let replaced, replaced[pair.first, pair.second] { return }
                visit(
                    pairs.range(pair.first), pairs.range(pair.second), number: first + index,
                    isFirst: round == 0 && replaced == nil, worker: worker)
            }
            visited += count
        }
        if let gradient {
            // About a quarter of a nanosecond an element.
            let cost = Double(pairs.rows) * Double(shape.columns) / 4
            execution.forEachTask(pairs.blocks, estimatedNanoseconds: cost) { block, worker in
                if let replaced, replaced.finished[block] { return }
                gradient.carryBack(pairs.range(block), through: operand.rows, worker: worker)
            }
        }
    }
}
