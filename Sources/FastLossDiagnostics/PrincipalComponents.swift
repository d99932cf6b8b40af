// The principal components of embeddings or expression values, to draw cells or as a baseline for embeddings.

import CLAPACKE
import FastLoss

/// The scores of rows along their first principal components.
///
///     X = rows − mean of the rows = U Σ Vᵀ        scores = the first K columns of U Σ, B×K
///
/// Component 0 has the largest variance. The sign of a component is arbitrary.
///
/// The decomposition is dense and in double. It takes about 6·B·D·min(B, D) flops and 8·(B + D)·min(B, D) +
/// 8·B·D bytes of extra memory, plus LAPACK's own.
///
/// Source: singular vectors by LAPACK's `dgesdd`.
public struct PrincipalComponents: Equatable, Sendable {
    /// The number K of components: what was asked for, or min(B, D) if that is less.
    public let count: Int

    /// B·K numbers, row-major.
    public let scores: [Float]

    /// Computes the scores.
    ///
    /// - Parameters:
    ///   - rows: B·D finite numbers, row-major.
    ///   - shape: B rows of D columns.
    ///   - count: the number of components to compute, 0 or more.
    /// - Throws: `LossError` if the shape disagrees or exceeds LAPACK's 32 bits, if `count` is negative, if an
    ///   element is NaN or infinite, or if the decomposition does not converge.
    public init(of rows: [Float], shape: MatrixShape, count: Int) throws(LossError) {
        try checkFinite("rows", rows, shape)
        try BLAS.checkDimension("shape.rows", shape.rows)
        try BLAS.checkDimension("shape.columns", shape.columns)
        guard count >= 0 else {
            throw .invalidParameter(name: "count", value: Double(count), requirement: "at least 0")
        }
        let rank = min(shape.rows, shape.columns)
        self.count = min(count, rank)
        guard self.count > 0 else {
            scores = []
            return
        }
        var centred = Self.centred(rows, shape)
        let (values, vectors) = try Self.decompose(&centred, shape)
        var scores: [Float] = []
        scores.reserveCapacity(shape.rows * self.count)
        for row in 0..<shape.rows {
            for column in 0..<self.count {
                scores.append(Float(values[column] * vectors[row * rank + column]))
            }
        }
        self.scores = scores
    }
}

extension PrincipalComponents {
    private static func centred(_ rows: [Float], _ shape: MatrixShape) -> [Double] {
        var means = [Double](repeating: 0, count: shape.columns)
        for index in rows.indices { means[index % shape.columns] += Double(rows[index]) / Double(shape.rows) }
        return rows.indices.map { Double(rows[$0]) - means[$0 % shape.columns] }
    }

    /// The singular values, largest first, and the row-major left singular vectors.
    ///
    /// Row-major X is column-major Xᵀ = V Σ Uᵀ. LAPACK's right factor, the column-major Uᵀ, is the row-major U.
    private static func decompose(
        _ matrix: inout [Double], _ shape: MatrixShape
    ) throws(LossError) -> (values: [Double], vectors: [Double]) {
        // LAPACK uses the same BLAS as FastLoss.
        BLAS.prepare()
        let rank = min(shape.rows, shape.columns)
        var values = [Double](repeating: 0, count: rank)
        var directions = [Double](repeating: 0, count: shape.columns * rank)
        var vectors = [Double](repeating: 0, count: shape.rows * rank)
        let info = LAPACKE_dgesdd(
            LAPACK_COL_MAJOR, CChar(UInt8(ascii: "S")), Int32(shape.columns), Int32(shape.rows), &matrix,
            Int32(shape.columns), &values, &directions, Int32(shape.columns), &vectors, Int32(rank))
        guard info == 0 else { throw .factorizationFailed(routine: "dgesdd", info: Int(info)) }
        return (values, vectors)
    }
}

/// Throws unless the matrix has the elements of its shape, all of them finite.
func checkFinite(_ argument: String, _ elements: [Float], _ shape: MatrixShape) throws(LossError) {
    try checkCount(argument, elements.count, is: try shape.checkedCount())
    guard let index = elements.firstIndex(where: { !$0.isFinite }) else { return }
    throw .notFinite(argument: argument, value: elements[index], index: index)
}
