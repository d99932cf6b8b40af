// The operands of similarities: normalised rows in the form in which each worker multiplies them.

import CFastLossKernels

/// One side of a similarity matrix: embeddings, how they are normalised, and where their gradient goes.
package struct SimilaritySide {
    let embeddings: ModelElements
    let shape: MatrixShape
    let floor: NormalizedRows.Floor
    /// The number of the side's first row in the whole batch.
    var firstRow = 0
    /// Whether a similarity with one of these rows, as the right side, has the same bits in every block. The
    /// baseline computes it in more time then: sgemm rounds by position.
    var roundsAlike = false
    /// Where dE goes, and what dN, formed from the epilogue's factors, is multiplied by.
    var gradient: (output: GradientOutput, factor: Double)?
    /// Floats that take dE in place of a 16-bit output, to which several terms add.
    var sum: ScratchArray<Float>?
}

/// Normalised rows. The right operand of many products also has the same rows in packed panels.
struct SimilarityOperand {
    let rows: NormalizedRows
    fileprivate let panels: UnsafeMutablePointer<Float>?

    fileprivate func normalize(_ range: Range<Int>, of embeddings: ModelElements) {
        rows.normalize(range, of: embeddings)
        guard let panels else { return }
        let format = Panels(depth: rows.shape.columns)
        format.pack(rows: rows.block(range), into: panels + format.offset(ofColumn: range.lowerBound))
    }

    /// Writes S = N_left·N_rightᵀ, where N_right are rows of `other`. If `other` keeps panels, `right` starts
    /// with one, and each similarity rounds alike in every block. They are of the scale of tiles.
    func similarities(
        _ left: Range<Int>, _ other: SimilarityOperand, _ right: Range<Int>,
        into block: UnsafeMutablePointer<Float>, stride: Int, scale: ProductScale
    ) {
        guard let panels = other.panels else {
            return TileProducts.multiplyTransposedRight(
                rows.block(left), other.rows.block(right), into: block, stride: stride, scale: scale)
        }
        let format = Panels(depth: rows.shape.columns)
        format.multiply(
            rows.block(left), panels + format.offset(ofColumn: right.lowerBound), columns: right.count,
            into: block, stride: stride)
    }
}

/// The operand of one side for each worker. All workers make one operand together, or, of a small batch, each
/// makes a copy when it first asks.
struct WorkerOperands {
    /// Rows of one task: one panel, and some microseconds of work at D = 512.
    private static let rowsPerTask = TileProducts.panelColumns

    /// The scratch memory of the operands.
    struct Scratch {
        fileprivate let embeddings: ModelElements
        fileprivate let shape: MatrixShape
        fileprivate let floor: NormalizedRows.Floor
        fileprivate let copies: WorkerCopies
        fileprivate let memory: ScratchCopies<Arrays>

        /// The arrays of one copy.
        fileprivate struct Arrays {
            let norms: ScratchArray<Double>
            let unit: ScratchArray<Float>
            let panels: ScratchArray<Float>?
        }

        /// - Parameters:
        ///   - keepsPanels: whether the rows are also kept packed. It pays for rows that are multiplied some
        ///     hundred times.
        ///   - eachWorkerAsks: whether all workers ask for the operand. Each has its own copy if the batch is small.
        init(
            _ side: SimilaritySide, keepsPanels: Bool, eachWorkerAsks: Bool, in layout: inout ScratchLayout
        ) throws(LossError) {
            embeddings = side.embeddings
            shape = side.shape
            floor = side.floor
            // A copy has to fit in a worker's second-level cache.
            copies = try WorkerCopies(
                oneForEachWorker: eachWorkerAsks && shape.rows <= 128 && shape.columns <= 1024, in: &layout)
            let shape = side.shape
            let hasPanels = keepsPanels && (TileProducts.packs || side.roundsAlike)
            memory = try layout.addCopies(copies.count) { layout throws(LossError) in
                Arrays(
                    norms: try layout.add(shape.rows, of: Double.self),
                    unit: try layout.add(
                        shape.rows, by: TileProducts.stride(forColumns: shape.columns), of: Float.self),
                    panels: hasPanels
                        ? try layout.add(
                            Panels(depth: shape.columns).checkedCount(columns: shape.rows), of: Float.self)
                        : nil)
            }
        }
    }

    private let scratch: Scratch
    private let execution: Execution

    /// Makes the operand now if all workers share it.
    init(_ scratch: Scratch, on execution: Execution) {
        self.init(memoryOf: scratch, on: execution)
        guard scratch.copies.areShared else { return }
        let (operand, embeddings) = (copy(0), scratch.embeddings)
        forEachTask(on: execution) { rows, _ in operand.normalize(rows, of: embeddings) }
    }

    /// Makes the operand of tiles, which all workers share, block by block.
    ///
    /// - Parameter body: is called with each block while its rows are in the worker's cache.
    init(
        _ scratch: Scratch, inBlocksOf pairs: TilePairs, on execution: Execution,
        _ body: (_ block: Int, _ rows: NormalizedRows) -> Void
    ) {
        assert(
            scratch.copies.areShared && scratch.memory.arrays.panels == nil,
            "tiles share an operand without panels")
        self.init(memoryOf: scratch, on: execution)
        let (rows, embeddings) = (copy(0).rows, scratch.embeddings)
        execution.forEachTask(pairs.blocks, estimatedNanoseconds: nanoseconds) { block, _ in
            rows.normalize(pairs.range(block), of: embeddings)
            body(block, rows)
        }
    }

    private init(memoryOf scratch: Scratch, on execution: Execution) {
        self.scratch = scratch
        self.execution = execution
        scratch.copies.forget(on: execution)
    }

    private func copy(_ index: Int) -> SimilarityOperand {
        let (memory, execution) = (scratch.memory, execution)
        let arrays = memory.arrays
        return SimilarityOperand(
            rows: NormalizedRows(
                shape: scratch.shape, floor: scratch.floor,
                unit: execution.pointer(arrays.unit, ofCopy: index, in: memory),
                norms: execution.pointer(arrays.norms, ofCopy: index, in: memory)),
            panels: arrays.panels.map { execution.pointer($0, ofCopy: index, in: memory) })
    }

    /// The worker's operand. Only the worker itself may ask.
    subscript(worker: Int) -> SimilarityOperand {
        copy(
            scratch.copies.copy(of: worker, on: execution) { index in
                let copy = copy(index)
                for task in 0..<tasks { copy.normalize(rows(ofTask: task), of: scratch.embeddings) }
            })
    }

    private var tasks: Int { (scratch.shape.rows + Self.rowsPerTask - 1) / Self.rowsPerTask }

    private func rows(ofTask task: Int) -> Range<Int> {
        task * Self.rowsPerTask..<min(scratch.shape.rows, (task + 1) * Self.rowsPerTask)
    }

    /// Shares the rows among the workers, a panel of them in each task.
    private func forEachTask(on execution: Execution, _ body: (_ rows: Range<Int>, _ worker: Int) -> Void) {
        execution.forEachTask(tasks, estimatedNanoseconds: nanoseconds) { task, worker in
            body(rows(ofTask: task), worker)
        }
    }

    /// The estimated time on one worker: about a quarter of a nanosecond an element.
    private var nanoseconds: Double { Double(scratch.shape.rows) * Double(scratch.shape.columns) / 4 }
}
