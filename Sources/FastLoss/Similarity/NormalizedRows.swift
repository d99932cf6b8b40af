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
        fileprivate let unit: Workspace.Scratch<Float>
        fileprivate let norms: Workspace.Scratch<Double>
        fileprivate let panels: Workspace.Scratch<Float>?

        /// - Parameter keepsPanels: whether N is kept a second time, packed as the right operand of similarities: for
        ///   those who multiply each row more than some hundred times.
        init(_ shape: MatrixShape, keepsPanels: Bool, in layout: inout Workspace.Layout) throws(LossError) {
            let stride = TileProducts.stride(forColumns: shape.columns)
            unit = try layout.add(MatrixShape(rows: shape.rows, columns: stride).checkedCount(), of: Float.self)
            norms = try layout.add(shape.rows, of: Double.self)
            guard keepsPanels, tileProduct != nil else {
                panels = nil
                return
            }
            let rows = TileProducts.panels(forRows: shape.rows) * TileProducts.panelRows
            panels = try layout.add(
                MatrixShape(rows: rows, columns: shape.columns).checkedCount(), of: Float.self)
        }
    }

    /// Normalises the rows into reserved scratch memory.
    init(
        _ embeddings: UnsafePointer<Float>, shape: MatrixShape, floor: Double, scratch: Scratch, workspace: Workspace
    ) {
        self.shape = shape
        self.floor = floor
        stride = TileProducts.stride(forColumns: shape.columns)
        unit = workspace.pointer(scratch.unit)
        norms = workspace.pointer(scratch.norms)
        panels = scratch.panels.map { workspace.pointer($0) }
        forEachTask(workspace) { [self] rows in
            for row in rows { normalize(row, embeddings + row * shape.columns) }
            if let panels { TileProducts.pack(block(rows), into: panels + rows.lowerBound * shape.columns) }
        }
    }

    private func normalize(_ row: Int, _ source: UnsafePointer<Float>) {
        let columns = shape.columns
        let norm = kernels.sum_of_squares(source, columns).squareRoot()
        norms[row] = norm
        let target = unit + row * stride
        kernels.scale(source, columns, 1 / Self.floored(norm, floor), target, FASTLOSS_GRADIENT_OVERWRITE)
        // Read by the products, though nothing comes of it.
        (target + columns).update(repeating: 0, count: stride - columns)
    }

    /// The rows of `range` as a matrix.
    func block(_ range: Range<Int>) -> MatrixPointer {
        MatrixPointer(unit + range.lowerBound * stride, rows: range.count, columns: shape.columns, stride: stride)
    }

    private func forEachTask(_ workspace: Workspace, _ body: (Range<Int>) -> Void) {
        let tasks = (shape.rows + Self.rowsPerTask - 1) / Self.rowsPerTask
        // About a quarter of a nanosecond an element.
        workspace.forEachTask(tasks, estimatedNanoseconds: shape.rows * shape.columns / 4) { task, _ in
            body(task * Self.rowsPerTask..<min(shape.rows, (task + 1) * Self.rowsPerTask))
        }
    }

    /// max(norm, floor), NaN where the norm is NaN.
    private static func floored(_ norm: Double, _ floor: Double) -> Double { norm < floor ? floor : norm }
}

// MARK: - Similarities

extension NormalizedRows {
    /// Floats of scratch memory that similarities need for each worker, where the right operand keeps no panels.
    static func panelCount(_ shape: MatrixShape) throws(LossError) -> Int {
        try MatrixShape(rows: TileProducts.panelRows, columns: shape.columns).checkedCount()
    }

    /// S = N_left·M_rightᵀ, where M are the `other` rows.
    ///
    /// - Parameter scratch: memory for one panel, needed where `other` keeps none. A range of kept panels starts with one.
    func similarities(
        _ left: Range<Int>, _ other: NormalizedRows, _ right: Range<Int>, into tile: UnsafeMutablePointer<Float>,
        stride: Int, scratch: UnsafeMutablePointer<Float>? = nil
    ) {
        let a = block(left)
        guard tileProduct != nil else {
            return BLAS.multiplyTransposedRight(a, other.block(right), into: tile, stride: stride)
        }
        for start in Swift.stride(from: right.lowerBound, to: right.upperBound, by: TileProducts.panelRows) {
            let rows = start..<min(right.upperBound, start + TileProducts.panelRows)
            let panel: UnsafeMutablePointer<Float>
            if let panels = other.panels {
                panel = panels + start * shape.columns
            } else if let scratch {
                panel = scratch
                TileProducts.pack(other.block(rows), into: panel)
            } else {
                preconditionFailure("similarities with rows that keep no panels need scratch memory for one")
            }
            TileProducts.multiply(
                a, panel: panel, count: rows.count, into: tile + (start - right.lowerBound), stride: stride)
        }
    }
}

// MARK: - The way back

extension NormalizedRows {
    /// Carries `factor`·dN, the gradient of the normalised rows, back to the embeddings:
    ///
    ///     dE_i = factor·(dN_i − N_i(N_i·dN_i)) / ‖E_i‖, and below the floor as `belowFloor` says
    ///
    /// `upstream` may be the output's own memory; it is nil only for embeddings without elements.
    func backward(
        from upstream: UnsafeMutablePointer<Float>?, factor: Double, belowFloor: BelowFloor, into output: GradientOutput,
        workspace: Workspace
    ) {
        guard let upstream else { return }
        forEachTask(workspace) { rows in
            backward(
                rows, from: upstream + rows.lowerBound * shape.columns, factor: factor, belowFloor: belowFloor,
                into: output)
        }
    }

    /// The same for some rows, whose dN starts at `upstream`.
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
