// The operands of similarities: normalised rows in the form in which each worker multiplies them.

import CFastLossKernels

/// One side of a similarity matrix: embeddings, how they are normalised, and where their gradient goes.
package struct SimilaritySide {
    let embeddings: UnsafePointer<Float>
    let shape: MatrixShape
    let floor: NormalizedRows.Floor
    /// The number of the side's first row in the whole batch.
    var firstRow = 0
    /// Where dE goes, and what dN, formed from the epilogue's factors, is multiplied by.
    var gradient: (output: GradientOutput, factor: Double)?
}

/// Normalised rows. The right operand of many products also has the same rows in packed panels.
struct SimilarityOperand {
    let rows: NormalizedRows
    fileprivate let panels: UnsafeMutablePointer<Float>?

    fileprivate func normalize(_ range: Range<Int>, of embeddings: UnsafePointer<Float>) {
        rows.normalize(range, of: embeddings)
        if let panels { TileProducts.pack(rows.block(range), from: range.lowerBound, into: panels) }
    }

    /// Writes S = N_left·N_rightᵀ, where N_right are rows of `other`. If `other` keeps panels, `right` starts
    /// with one.
    ///
    /// - Parameter scratch: memory for one panel, needed if `other` keeps none.
    func similarities(
        _ left: Range<Int>, _ other: SimilarityOperand, _ right: Range<Int>,
        into block: UnsafeMutablePointer<Float>, stride: Int, scratch: UnsafeMutablePointer<Float>?
    ) {
        TileProducts.multiplyTransposedRight(
            rows.block(left), other.rows.block(right),
            packed: other.panels.map { $0 + right.lowerBound * rows.shape.columns },
            scratch: scratch, into: block, stride: stride)
    }
}

/// The operand of one side for each worker. All workers make one operand together, or each makes a copy when
/// it first asks.
///
/// Copies are for small batches. Every worker needs all rows. A worker normalises 64 of them in less time
/// than it would wait for other workers and fetch the rows from their caches. Measured: the article Tuning.
struct WorkerOperands {
    /// Rows of one task: one panel, and some microseconds of work at D = 512.
    private static let rowsPerTask = TileProducts.panelRows

    /// A flag of a worker on a cache line of its own, so that workers do not wait for each other.
    fileprivate typealias CacheLine = SIMD16<UInt32>

    /// The scratch memory of the operands.
    struct Scratch {
        fileprivate let embeddings: UnsafePointer<Float>
        fileprivate let shape: MatrixShape
        fileprivate let floor: NormalizedRows.Floor
        fileprivate let copies: Int
        fileprivate let unitCount: Int
        fileprivate let panelCount: Int?
        fileprivate let unit: ScratchArray<Float>
        fileprivate let norms: ScratchArray<Double>
        fileprivate let panels: ScratchArray<Float>
        fileprivate let isMade: ScratchArray<CacheLine>

        /// - Parameters:
        ///   - keepsPanels: whether the rows are also kept packed. It pays for rows that are multiplied some
        ///     hundred times.
        ///   - workers: how many workers ask for the operand. Each has its own copy if the batch is small.
        init(
            _ side: SimilaritySide, keepsPanels: Bool, workers: Int, in layout: inout ScratchLayout
        ) throws(LossError) {
            embeddings = side.embeddings
            shape = side.shape
            floor = side.floor
            // A copy has to fit in a worker's second-level cache.
            copies = shape.rows <= 128 && shape.columns <= 1024 ? workers : 1
            let stride = TileProducts.stride(forColumns: shape.columns)
            unitCount = try MatrixShape(rows: shape.rows, columns: stride).checkedCount()
            panelCount =
                keepsPanels
                ? try TileProducts.packedCount(rows: shape.rows, columns: shape.columns) : nil
            unit = try layout.add(copies, by: unitCount, of: Float.self)
            norms = try layout.add(copies, by: shape.rows, of: Double.self)
            panels = try layout.add(copies, by: panelCount ?? 0, of: Float.self)
            isMade = try layout.add(copies > 1 ? copies : 0, of: CacheLine.self)
        }
    }

    private let scratch: Scratch
    private let unit: UnsafeMutablePointer<Float>
    private let norms: UnsafeMutablePointer<Double>
    private let panels: UnsafeMutablePointer<Float>
    private let isMade: UnsafeMutablePointer<CacheLine>?

    /// Makes the operand now if all workers share it.
    init(_ scratch: Scratch, on execution: Execution) {
        self.scratch = scratch
        unit = execution.pointer(scratch.unit)
        norms = execution.pointer(scratch.norms)
        panels = execution.pointer(scratch.panels)
        guard scratch.copies > 1 else {
            isMade = nil
            let (operand, embeddings) = (copy(0), scratch.embeddings)
            forEachTask(on: execution) { rows, _ in operand.normalize(rows, of: embeddings) }
            return
        }
        isMade = execution.pointer(scratch.isMade)
        isMade?.initialize(repeating: .zero, count: scratch.copies)
    }

    private func copy(_ index: Int) -> SimilarityOperand {
        let shape = scratch.shape
        return SimilarityOperand(
            rows: NormalizedRows(
                shape: shape, floor: scratch.floor, unit: unit + index * scratch.unitCount,
                norms: norms + index * shape.rows),
            panels: scratch.panelCount.map { panels + index * $0 })
    }

    /// The worker's operand. Only the worker itself may ask.
    subscript(worker: Int) -> SimilarityOperand {
        guard let isMade else { return copy(0) }
        let copy = copy(worker)
        if isMade[worker][0] == 0 {
            for task in 0..<tasks { copy.normalize(rows(ofTask: task), of: scratch.embeddings) }
            isMade[worker][0] = 1
        }
        return copy
    }

    private var tasks: Int { (scratch.shape.rows + Self.rowsPerTask - 1) / Self.rowsPerTask }

    private func rows(ofTask task: Int) -> Range<Int> {
        task * Self.rowsPerTask..<min(scratch.shape.rows, (task + 1) * Self.rowsPerTask)
    }

    /// Shares the rows among the workers, a panel of them in each task.
    func forEachTask(on execution: Execution, _ body: (_ rows: Range<Int>, _ worker: Int) -> Void) {
        let shape = scratch.shape
        // About a quarter of a nanosecond an element.
        let cost = Double(shape.rows) * Double(shape.columns) / 4
        execution.forEachTask(tasks, estimatedNanoseconds: cost) { task, worker in
            body(rows(ofTask: task), worker)
        }
    }
}
