// Rows of length 1: norms of embeddings, and the backward pass of the normalisation.

import CFastLossKernels

/// The normalised rows N = E / max(‖E‖, floor) of B×D embeddings, in scratch memory.
///
/// Norms are accumulated in double, and each element is scaled in double and rounded once. So rows whose
/// squares would overflow or vanish in float keep their direction.
package struct NormalizedRows {
    /// The rule for short rows.
    package struct Floor {
        /// The gradient of a row whose norm is below the floor.
        package enum Gradient {
            /// The raised norm is a constant: dE = dN / floor (PyTorch's `normalize`).
            case constantNorm
            /// The direction is projected out as for any other row: dE = (dN − u(N·dN)) / floor with u =
            /// E/‖E‖ (PyTorch's `cosine_similarity`, whose gradient ignores the clamp of the norm).
            case unclampedDirection
        }

        /// Norms below it are raised to it.
        let norm: Double
        let gradient: Gradient

        /// max(norm, floor), NaN if the norm is NaN.
        fileprivate func raised(_ norm: Double) -> Double { norm < self.norm ? self.norm : norm }
    }

    let shape: MatrixShape
    let floor: Floor
    /// N, with ``stride`` elements between rows.
    let unit: UnsafeMutablePointer<Float>
    let norms: UnsafeMutablePointer<Double>

    /// Elements between the rows of N; see ``TileProducts/stride(forColumns:)``.
    private var stride: Int { TileProducts.stride(forColumns: shape.columns) }

    /// Normalises some rows of the embeddings.
    func normalize(_ rows: Range<Int>, of embeddings: ModelElements) {
        let (columns, stride) = (shape.columns, stride)
        let floats = embeddings.floatsInPlace
        for row in rows {
            let target = unit + row * stride
            let source =
                floats.map { $0 + row * columns }
                ?? embeddings.floats(row * columns..<(row + 1) * columns, widenedInto: target)
            let norm = kernels.sum_of_squares(source, columns).squareRoot()
            norms[row] = norm
            kernels.scale(source, columns, 1 / floor.raised(norm), target, FASTLOSS_OVERWRITE)
            // Zero the padding: the kernel loads it and discards the result.
            (target + columns).update(repeating: 0, count: stride - columns)
        }
    }

    /// Some rows of N as a matrix.
    func block(_ rows: Range<Int>) -> MatrixPointer {
        MatrixPointer(
            unit + rows.lowerBound * stride, rows: rows.count, columns: shape.columns, stride: stride)
    }

    /// Carries `factor`·dN, the gradient of some normalised rows, back to the embeddings:
    ///
    ///     dE_i = factor·(dN_i − N_i(N_i·dN_i)) / ‖E_i‖, and below the floor as `floor` says
    ///
    /// - Parameters:
    ///   - upstream: dN of the first of the rows. It may be the gradient's own memory.
    ///   - gradient: dE of the first of the rows.
    func backward(
        _ rows: Range<Int>, from upstream: UnsafePointer<Float>, factor: Double,
        into gradient: UnsafeMutablePointer<Float>, _ mode: fastloss_write_mode
    ) {
        let (columns, stride) = (shape.columns, stride)
        for row in rows {
            let direction = unit + row * stride
            let place = (row - rows.lowerBound) * columns
            let rowUpstream = upstream + place
            let norm = norms[row]
            var along = 0.0
            if !(norm < floor.norm) {
                along = kernels.dot(rowUpstream, direction, columns)
            } else if floor.gradient == .unclampedDirection, norm > 0 {
                // u(N·dN) with u = N·floor/‖E‖.
                along = kernels.dot(rowUpstream, direction, columns) * floor.norm / norm
            }
            kernels.project_out(
                rowUpstream, direction, columns, along, factor / floor.raised(norm),
                gradient + place, mode)
        }
    }
}
