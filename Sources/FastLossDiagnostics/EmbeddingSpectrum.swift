// The singular values and the effective rank of the normalised embeddings, which reveal a collapse early.

import CLAPACKE
import FastLoss

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The spectrum of the row-normalised cell embeddings N, B×D.
///
///     N_i = E_i / max(‖E_i‖₂, 1e-12)        σ = singular values of N
///     effective rank = exp(−Σ p log p),  p = σ / Σσ
///
/// The rows are normalised as in ECS, because ECS and CCE depend on directions alone. In a healthy training
/// the effective rank stays well above 1. If all cells move to one direction (a collapse), it falls towards
/// 1, while the loss may still look good.
///
/// The decomposition is dense and in double. It takes about 4·B·D·min(B, D) flops and 8·B·D bytes of extra
/// memory, plus LAPACK's own. Compute it every few hundred steps, not in each.
///
/// Source: O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
/// Singular values by LAPACK's `dgesdd`.
public struct EmbeddingSpectrum: Equatable, Sendable {
    /// The min(B, D) singular values, largest first. The sum of their squares is the number of rows that are
    /// not zero.
    public let singularValues: [Double]

    /// The number of directions in use, between 1 and min(B, D). NaN if no singular value is above 0.
    public let effectiveRank: Double

    /// Computes the spectrum.
    ///
    /// - Parameters:
    ///   - embeddings: B·D finite numbers, one cell after the other. Rows may be of any length, 0 included.
    ///   - shape: B rows of D columns.
    ///   - workspace: scratch memory. The decomposition runs on one worker.
    /// - Throws: `LossError` if the shape disagrees or exceeds LAPACK's 32 bits, if an embedding is NaN or
    ///   infinite (the error says which and where), or if the decomposition does not converge.
    public init(embeddings: Span<Float>, shape: MatrixShape, workspace: Workspace) throws(LossError) {
        try checkCount("embeddings", embeddings.count, is: try shape.checkedCount())
        try BLAS.checkDimension("shape.rows", shape.rows)
        try BLAS.checkDimension("shape.columns", shape.columns)
        singularValues = try Self.decompose(embeddings, shape, workspace)
        effectiveRank = Self.effectiveRank(of: singularValues)
    }

    /// Computes the spectrum of an array, in a workspace of its own.
    public init(embeddings: [Float], shape: MatrixShape) throws(LossError) {
        try self.init(embeddings: embeddings.span, shape: shape, workspace: Workspace())
    }
}

extension EmbeddingSpectrum {
    /// The least length that a row is divided by, as in ECS.
    private static let normFloor = 1e-12

    private static func decompose(
        _ embeddings: Span<Float>, _ shape: MatrixShape, _ workspace: Workspace
    ) throws(LossError) -> [Double] {
        guard min(shape.rows, shape.columns) > 0 else { return [] }
        var layout = workspace.layout
        let plan = try Decomposition(embeddings, shape, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// Computes the singular values by LAPACK. Unlike other plans, its run may fail.
    private struct Decomposition: Plan {
        private let embeddings: UnsafeBufferPointer<Float>
        private let shape: MatrixShape
        private let workCount: Int32
        private let matrix: ScratchArray<Double>
        private let work: ScratchArray<Double>
        private let integers: ScratchArray<Int32>

        var name: String { "EmbeddingSpectrum" }

        init(
            _ embeddings: Span<Float>, _ shape: MatrixShape, in layout: inout ScratchLayout
        ) throws(LossError) {
            // LAPACK uses the same BLAS as FastLoss.
            BLAS.prepare(in: &layout)
            var (workSize, noMatrix, noValues, noIntegers) = (0.0, 0.0, 0.0, Int32(0))
            try Self.dgesdd(
                shape, &noMatrix, values: &noValues, work: &workSize, workCount: -1, integers: &noIntegers)
            workCount = Int32(workSize)
            self.embeddings = embeddings.memory
            self.shape = shape
            matrix = try layout.add(embeddings.count, of: Double.self)
            work = try layout.add(Int(workCount), of: Double.self)
            integers = try layout.add(8 * min(shape.rows, shape.columns), of: Int32.self)
        }

        func run(on execution: Execution) throws(LossError) -> [Double] {
            let matrix = execution.pointer(matrix)
            try normalize(embeddings, shape, into: matrix)
            var values = [Double](repeating: 0, count: min(shape.rows, shape.columns))
            try Self.dgesdd(
                shape, matrix, values: &values, work: execution.pointer(work), workCount: workCount,
                integers: execution.pointer(integers))
            return values
        }

        /// Row-major N is column-major Nᵀ, which has the same singular values, so nothing is transposed. A
        /// job of kind N does not compute singular vectors.
        private static func dgesdd(
            _ shape: MatrixShape, _ matrix: UnsafeMutablePointer<Double>,
            values: UnsafeMutablePointer<Double>,
            work: UnsafeMutablePointer<Double>, workCount: Int32, integers: UnsafeMutablePointer<Int32>
        ) throws(LossError) {
            let info = LAPACKE_dgesdd_work(
                LAPACK_COL_MAJOR, CChar(UInt8(ascii: "N")), Int32(shape.columns), Int32(shape.rows), matrix,
                Int32(shape.columns), values, nil, 1, nil, 1, work, workCount, integers)
            guard info == 0 else { throw .factorizationFailed(routine: "dgesdd", info: Int(info)) }
        }
    }

    /// Divides the rows by their lengths, in double. Finds elements that are not finite.
    private static func normalize(
        _ embeddings: UnsafeBufferPointer<Float>, _ shape: MatrixShape,
        into matrix: UnsafeMutablePointer<Double>
    ) throws(LossError) {
        guard let base = embeddings.baseAddress else { return }
        for row in 0..<shape.rows {
            let elements = row * shape.columns..<(row + 1) * shape.columns
            let squares = kernels.sum_of_squares(base + elements.lowerBound, shape.columns)
            // Squares of floats do not overflow a double, so their sum is finite exactly if every element is.
            guard squares.isFinite else {
                let index = elements.first { !embeddings[$0].isFinite } ?? elements.lowerBound
                throw .notFinite(argument: "embeddings", value: embeddings[index], index: index)
            }
            let norm = max(squares.squareRoot(), normFloor)
            for index in elements { matrix[index] = Double(embeddings[index]) / norm }
        }
    }

    /// exp of the entropy of the singular values' shares.
    private static func effectiveRank(of singularValues: [Double]) -> Double {
        let total = singularValues.reduce(0, +)
        guard total > 0 else { return .nan }
        var entropy = 0.0
        for value in singularValues where value > 0 {
            let share = value / total
            entropy -= share * log(share)
        }
        return exp(entropy)
    }
}
