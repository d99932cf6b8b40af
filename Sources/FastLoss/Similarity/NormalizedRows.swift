// Rows scaled to unit length, and the way back: what ECS, CCE and the similarity matrix have in common.

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

    /// Rows of one task: some tens of microseconds of work at D = 512.
    private static let rowsPerTask = 32

    let shape: MatrixShape
    let floor: Double
    private let unit: UnsafeMutablePointer<Float>
    private let norms: UnsafeMutablePointer<Double>

    /// The scratch memory that the rows need.
    struct Scratch {
        fileprivate let unit: Workspace.Scratch<Float>
        fileprivate let norms: Workspace.Scratch<Double>

        init(_ shape: MatrixShape, in layout: inout Workspace.Layout) throws(LossError) {
            unit = try layout.add(shape.checkedCount(), of: Float.self)
            norms = try layout.add(shape.rows, of: Double.self)
        }
    }

    /// Normalises the rows into reserved scratch memory.
    init(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, floor: Double, scratch: Scratch, workspace: Workspace
    ) {
        self.shape = shape
        self.floor = floor
        unit = workspace.pointer(scratch.unit)
        norms = workspace.pointer(scratch.norms)
        forEachRow(workspace) { [unit, norms] row in
            let source = embeddings + row * shape.columns
            let norm = kernels.sum_of_squares(source, shape.columns).squareRoot()
            norms[row] = norm
            kernels.scale(
                source, shape.columns, 1 / Self.floored(norm, floor), unit + row * shape.columns,
                FASTLOSS_GRADIENT_OVERWRITE)
        }
    }

    /// The rows of `range` as a matrix.
    func block(_ range: Range<Int>) -> MatrixPointer {
        MatrixPointer(unit + range.lowerBound * shape.columns, rows: range.count, columns: shape.columns)
    }

    /// All rows.
    var all: MatrixPointer { block(0..<shape.rows) }

    /// Carries `factor`·dN, the gradient of the normalised rows, back to the embeddings:
    ///
    ///     dE_i = factor·(dN_i − N_i(N_i·dN_i)) / ‖E_i‖, and below the floor as `belowFloor` says
    ///
    /// `upstream` may be the output's own memory; it is nil only for embeddings without elements.
    func backward(
        from upstream: UnsafeMutablePointer<Float>?, factor: Double, belowFloor: BelowFloor, into output: GradientOutput,
        workspace: Workspace
    ) {
        guard let upstream, let gradient = output.memory.baseAddress else { return }
        forEachRow(workspace) { row in
            let offset = row * shape.columns
            let norm = norms[row]
            var along = 0.0
            if !(norm < floor) {
                along = kernels.dot(upstream + offset, unit + offset, shape.columns)
            } else if belowFloor == .unclampedDirection, norm > 0 {
                // u(N·dN) with u = N·floor/‖E‖.
                along = kernels.dot(upstream + offset, unit + offset, shape.columns) * floor / norm
            }
            kernels.project_out(
                upstream + offset, unit + offset, shape.columns, along, factor / Self.floored(norm, floor),
                gradient + offset, output.mode)
        }
    }

    private func forEachRow(_ workspace: Workspace, _ body: (Int) -> Void) {
        let tasks = (shape.rows + Self.rowsPerTask - 1) / Self.rowsPerTask
        // About a quarter of a nanosecond an element.
        workspace.forEachTask(tasks, estimatedNanoseconds: shape.rows * shape.columns / 4) { task, _ in
            for row in task * Self.rowsPerTask..<min(shape.rows, (task + 1) * Self.rowsPerTask) { body(row) }
        }
    }

    /// max(norm, floor), NaN where the norm is NaN.
    private static func floored(_ norm: Double, _ floor: Double) -> Double { norm < floor ? floor : norm }
}
