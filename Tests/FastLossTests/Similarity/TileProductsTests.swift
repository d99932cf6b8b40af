// The products of tiles and blocks, whichever kernels they go through: exact on small integers, at every edge
// of the registers' blocks.

import FastLoss
import Testing

@Suite struct TileProductsTests {
    /// As a plan does: the baseline's products use it.
    init() { BLAS.prepare() }

    struct Shape: Sendable, CustomTestStringConvertible {
        let rows, depth, columns: Int
        var testDescription: String { "\(rows)×\(depth)×\(columns)" }
    }

    /// Around 6 and 8 rows and 16 and 32 columns, which registers hold, and 64 steps, which one sum takes.
    static let shapes: [Shape] = [1, 5, 6, 7, 8, 9, 13, 24].flatMap { rows in
        [0, 1, 63, 64, 65, 200].flatMap { depth in
            [1, 15, 16, 17, 31, 32, 33, 70].map { Shape(rows: rows, depth: depth, columns: $0) }
        }
    }

    /// A row-major matrix of small integers, whose products and their sums are exact, with `padding` behind
    /// each row.
    struct Matrix {
        let rows, columns, stride: Int
        var elements: [Float]

        init(_ rows: Int, _ columns: Int, stride: Int, padding: Float, seed: Int) {
            (self.rows, self.columns, self.stride) = (rows, columns, stride)
            elements = (0..<max(1, rows * stride)).map { index in
                index % stride < columns
                    ? Float((index / stride * 7 + index % stride * 3 + seed) % 9 - 4) : padding
            }
        }

        subscript(row: Int, column: Int) -> Float { elements[row * stride + column] }

        func withPointer(_ body: (MatrixPointer) -> Void) {
            elements.withUnsafeBufferPointer {
                body(MatrixPointer($0.baseAddress!, rows: rows, columns: columns, stride: stride))
            }
        }
    }

    private func expect(
        _ shape: Shape, accumulates: Bool, element: (_ row: Int, _ k: Int, _ column: Int) -> Float,
        product: (UnsafeMutablePointer<Float>, _ stride: Int) -> Void
    ) {
        let stride = shape.columns + 3
        var result = Matrix(shape.rows, shape.columns, stride: stride, padding: 77, seed: 5)
        let before = result
        result.elements.withUnsafeMutableBufferPointer { product($0.baseAddress!, stride) }
        var expected = before
        for row in 0..<shape.rows {
            for column in 0..<shape.columns {
                var sum = accumulates ? before[row, column] : 0
                for k in 0..<shape.depth { sum += element(row, k, column) }
                expected.elements[row * stride + column] = sum
            }
        }
        #expect(result.elements == expected.elements, "accumulates: \(accumulates)")
    }

    /// What stands behind the columns of B is read and must not matter, NaN least of all.
    private func right(_ shape: Shape) -> Matrix {
        let stride = max(TileProducts.stride(forColumns: shape.columns), shape.columns)
        return Matrix(shape.depth, shape.columns, stride: stride, padding: .nan, seed: 2)
    }

    /// With AMX, also around its groups of 32 rows and columns, its 128 steps and its 256 rows.
    static let blockShapes: [Shape] = [1, 17, 257].flatMap { rows in
        [31, 33, 128, 290].flatMap { depth in
            [1, 17, 32, 70].map { Shape(rows: rows, depth: depth, columns: $0) }
        }
    }
    static let cases =
        shapes.map { (shape: $0, scale: ProductScale.tiles) }
        + blockShapes.map { (shape: $0, scale: ProductScale.blocks) }

    @Test(arguments: cases, [false, true])
    func byRows(_ of: (shape: Shape, scale: ProductScale), accumulates: Bool) {
        let shape = of.shape
        let a = Matrix(shape.rows, shape.depth, stride: shape.depth + 2, padding: .nan, seed: 1)
        let b = right(shape)
        expect(shape, accumulates: accumulates, element: { a[$0, $1] * b[$1, $2] }) { c, stride in
            a.withPointer { a in
                b.withPointer { b in
                    TileProducts.multiply(
                        a, b, into: c, stride: stride, accumulates: accumulates, scale: of.scale)
                }
            }
        }
    }

    @Test(arguments: cases, [false, true])
    func byColumns(_ of: (shape: Shape, scale: ProductScale), accumulates: Bool) {
        let shape = of.shape
        let a = Matrix(shape.depth, shape.rows, stride: shape.rows + 2, padding: .nan, seed: 1)
        let b = right(shape)
        expect(shape, accumulates: accumulates, element: { a[$1, $0] * b[$1, $2] }) { c, stride in
            a.withPointer { a in
                b.withPointer { b in
                    TileProducts.multiplyTransposedLeft(
                        a, b, into: c, stride: stride, accumulates: accumulates, scale: of.scale)
                }
            }
        }
    }

    @Test(arguments: cases)
    func rightByColumns(_ of: (shape: Shape, scale: ProductScale)) {
        let shape = of.shape
        let a = Matrix(shape.rows, shape.depth, stride: shape.depth + 2, padding: .nan, seed: 1)
        let b = Matrix(shape.columns, shape.depth, stride: shape.depth + 5, padding: .nan, seed: 3)
        expect(shape, accumulates: false, element: { a[$0, $1] * b[$2, $1] }) { c, stride in
            a.withPointer { a in
                b.withPointer { b in
                    TileProducts.multiplyTransposedRight(a, b, into: c, stride: stride, scale: of.scale)
                }
            }
        }
    }

    /// A right operand in packed panels, stored by rows of Bᵀ or by rows of B.
    private func withPanels<Result>(
        of b: MatrixPointer, transposed: Bool, scale: ProductScale,
        _ body: (_ format: Panels, _ panels: UnsafePointer<Float>) -> Result
    ) -> Result {
        let format = Panels(depth: transposed ? b.columns : b.rows, scale: scale)
        let columns = transposed ? b.rows : b.columns
        let count = try! format.checkedCount(columns: columns)
        return withUnsafeTemporaryAllocation(
            byteCount: max(1, count) * MemoryLayout<Float>.stride, alignment: ScratchLayout.alignment
        ) { memory in
            let panels = memory.bindMemory(to: Float.self)
            panels.initialize(repeating: .nan)
            for first in stride(from: 0, to: columns, by: TileProducts.panelColumns) {
                let range = first..<min(columns, first + TileProducts.panelColumns)
                let panel = panels.baseAddress! + format.offset(ofColumn: first)
                if transposed {
                    format.pack(rows: b.rows(range), into: panel)
                } else {
                    format.pack(columns: b.columns(range), into: panel)
                }
            }
            return body(format, UnsafePointer(panels.baseAddress!))
        }
    }

    @Test(arguments: [1, 16, 31, 32, 70], [0, 1, 15, 16, 65, 200])
    func panels(columns: Int, depth: Int) {
        let a = Matrix(49, depth, stride: depth + 2, padding: .nan, seed: 1)
        for scale in [ProductScale.tiles, .blocks] {
            for transposed in [false, true] {
                let b =
                    transposed
                    ? Matrix(columns, depth, stride: depth + 5, padding: .nan, seed: 3)
                    : Matrix(depth, columns, stride: columns + 5, padding: .nan, seed: 3)
                for accumulates in [false, true] {
                    expect(
                        Shape(rows: 49, depth: depth, columns: columns), accumulates: accumulates,
                        element: { a[$0, $1] * (transposed ? b[$2, $1] : b[$1, $2]) }
                    ) { c, stride in
                        a.withPointer { a in
                            b.withPointer { b in
                                withPanels(of: b, transposed: transposed, scale: scale) { format, panels in
                                    format.multiply(
                                        a, panels, columns: columns, into: c, stride: stride,
                                        accumulates: accumulates)
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// C = A·B with packed panels of Bᵀ's rows.
    private func product(
        _ a: [Float], rows: Range<Int>, _ b: [Float], columns: Range<Int>, depth: Int, scale: ProductScale
    ) -> [Float] {
        var result = [Float](repeating: 0, count: rows.count * columns.count)
        a.withUnsafeBufferPointer { a in
            b.withUnsafeBufferPointer { b in
                let left = MatrixPointer(
                    a.baseAddress! + rows.lowerBound * depth, rows: rows.count, columns: depth)
                let right = MatrixPointer(
                    b.baseAddress! + columns.lowerBound * depth, rows: columns.count, columns: depth)
                withPanels(of: right, transposed: true, scale: scale) { format, panels in
                    result.withUnsafeMutableBufferPointer {
                        format.multiply(
                            left, panels, columns: columns.count, into: $0.baseAddress!, stride: columns.count
                        )
                    }
                }
            }
        }
        return result
    }

    /// What CCE across ranks relies on, with every instruction set.
    @Test(arguments: [9, 64, 65, 200], [ProductScale.tiles, .blocks])
    func `an element rounds alike in every block`(depth: Int, scale: ProductScale) {
        var random = RandomInputs(seed: 31)
        let (left, right) = (random.normals(24 * depth), random.normals(32 * depth))
        let whole = product(left, rows: 0..<24, right, columns: 0..<32, depth: depth, scale: scale)
        for rows in [0..<24, 0..<1, 3..<20, 7..<8, 11..<24] {
            for columns in [0..<32, 0..<1, 5..<21, 15..<32, 30..<31] {
                let expected = rows.flatMap { row in columns.map { whole[row * 32 + $0] } }
                expectSameBits(
                    product(left, rows: rows, right, columns: columns, depth: depth, scale: scale), expected,
                    "\(rows) × \(columns)")
            }
        }
    }

    /// No less accurate than float32 multiply-adds: norm-wise, of operands with all 24 bits and many magnitudes,
    /// subnormal ones included.
    @Test(arguments: [33, 128, 512, 3000])
    func blocksAreAccurate(depth: Int) {
        var random = RandomInputs(seed: 7)
        let (rows, columns) = (40, 33)
        func operand(_ count: Int) -> [Float] {
            random.normals(count).enumerated().map { index, x in
                index % 5 == 0 ? x * 0x1p-20 : index % 7 == 0 ? x * 0x1p-140 : x
            }
        }
        let (left, right) = (operand(rows * depth), operand(columns * depth))
        func error(_ scale: ProductScale) -> Double {
            let result = product(
                left, rows: 0..<rows, right, columns: 0..<columns, depth: depth, scale: scale)
            var (difference, norm) = (0.0, 0.0)
            for i in 0..<rows {
                for j in 0..<columns {
                    var sum = 0.0
                    for k in 0..<depth { sum += Double(left[i * depth + k]) * Double(right[j * depth + k]) }
                    difference +=
                        (Double(result[i * columns + j]) - sum) * (Double(result[i * columns + j]) - sum)
                    norm += sum * sum
                }
            }
            return (difference / norm).squareRoot()
        }
        #expect(error(.blocks) <= 1.1 * error(.tiles))
    }

    /// Values that AMX cannot split: their rows and columns get what the tiles give, and no others.
    @Test(
        arguments: [
            Float.nan, .infinity, .greatestFiniteMagnitude, 0x1p70, 0x1p-60, .leastNonzeroMagnitude, 0,
        ],
        [40, 128])
    func blocksOfExtremeValues(_ value: Float, depth: Int) {
        var random = RandomInputs(seed: 9)
        let (rows, columns) = (37, 35)
        var (left, right) = (random.normals(rows * depth), random.normals(columns * depth))
        let (badRows, badColumns) = ([3, 17, 36], [0, 33])
        for row in badRows { for k in 0..<depth { left[row * depth + k] = value } }
        for column in badColumns { right[column * depth + 1] = value }
        let results = [ProductScale.tiles, .blocks].map {
            product(left, rows: 0..<rows, right, columns: 0..<columns, depth: depth, scale: $0)
        }
        for row in 0..<rows {
            for column in 0..<columns {
                let (tiles, blocks) = (results[0][row * columns + column], results[1][row * columns + column])
                if badRows.contains(row) {
                    #expect(tiles.bitPattern == blocks.bitPattern || tiles.isNaN && blocks.isNaN)
                } else if badColumns.contains(column), !tiles.isFinite {
                    #expect(tiles.bitPattern == blocks.bitPattern || tiles.isNaN && blocks.isNaN)
                } else {
                    #expect(abs(tiles - blocks) <= 1e-5 * (abs(tiles) + 10))
                }
            }
        }
    }
}
