// The gradient of normalised rows, and its conversion to the gradient of their embeddings.

import CFastLossKernels

/// dN of one side of a similarity matrix: the memory in which it is formed, and its conversion to dE.
///
/// If an output of floats is overwritten, or a sum in their place, dN is formed there. If the output accumulates
/// or is 16-bit, dN is formed in scratch memory: of all rows, or, if a worker completes some rows before it turns to
/// others, of so many rows for each worker.
struct UnitGradient {
    /// The output and the scratch memory of dN.
    struct Scratch {
        fileprivate let output: GradientOutput
        fileprivate let sum: ScratchArray<Float>?
        fileprivate let factor: Double
        fileprivate let columns: Int
        fileprivate let rowsOfWorker: Int?
        fileprivate let aside: ScratchArray<Float>?

        /// Nil if the side has no gradient, or one without elements.
        ///
        /// - Parameter rowsAtATime: the most rows that a worker forms before it carries them back. Nil if all
        ///   rows are formed first.
        init?(
            _ side: SimilaritySide, rowsAtATime: Int?, workers: Int, in layout: inout ScratchLayout
        ) throws(LossError) {
            guard let gradient = side.gradient, gradient.output.address != nil else { return nil }
            output = gradient.output
            sum = side.sum
            factor = gradient.factor
            columns = side.shape.columns
            rowsOfWorker = rowsAtATime
            guard output.accumulates || output.type != .float32 && sum == nil else {
                aside = nil
                return
            }
            let rows = try rowsAtATime.map { rows throws(LossError) in
                try MatrixShape(rows: rows, columns: workers).checkedCount()
            }
            aside = try layout.add(rows ?? side.shape.rows, by: columns, of: Float.self)
        }
    }

    private let scratch: Scratch
    /// Where dE goes, if as floats.
    private let floats: UnsafeMutablePointer<Float>?
    private let base: UnsafeMutablePointer<Float>
    private let isAside: Bool

    init?(_ scratch: Scratch?, on execution: Execution) {
        guard let scratch else { return nil }
        self.scratch = scratch
        floats = scratch.sum.map { execution.pointer($0) } ?? scratch.output.floatsInPlace
        // Without memory aside, dN is formed where dE goes.
        base = scratch.aside.map { execution.pointer($0) } ?? floats!
        isAside = scratch.aside != nil
    }

    /// Where dN of the rows from `row` on is formed.
    func place(_ row: Int, worker: Int) -> UnsafeMutablePointer<Float> {
        let first = isAside ? scratch.rowsOfWorker.map { $0 * worker } ?? row : row
        return base + first * scratch.columns
    }

    /// Elements between the rows of dN.
    var stride: Int { scratch.columns }

    /// Carries dN of rows that are complete back to the output.
    func carryBack(_ rows: Range<Int>, through unit: NormalizedRows, worker: Int) {
        let upstream = place(rows.lowerBound, worker: worker)
        let elements = rows.lowerBound * scratch.columns..<rows.upperBound * scratch.columns
        guard let floats else {
            unit.backward(rows, from: upstream, factor: scratch.factor, into: upstream, FASTLOSS_OVERWRITE)
            scratch.output.write(upstream, to: elements)
            return
        }
        unit.backward(
            rows, from: upstream, factor: scratch.factor,
            into: floats + elements.lowerBound, scratch.output.mode)
    }
}
