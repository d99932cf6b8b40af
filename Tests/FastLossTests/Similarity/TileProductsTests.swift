// The products of tiles, whichever kernels they go through: exact on small integers, at every edge of the
// registers' blocks.

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

    @Test(arguments: shapes, [false, true])
    func byRows(_ shape: Shape, accumulates: Bool) {
        let a = Matrix(shape.rows, shape.depth, stride: shape.depth + 2, padding: .nan, seed: 1)
        let b = right(shape)
        expect(shape, accumulates: accumulates, element: { a[$0, $1] * b[$1, $2] }) { c, stride in
            a.withPointer { a in
                b.withPointer { b in
                    TileProducts.multiply(a, b, into: c, stride: stride, accumulates: accumulates)
                }
            }
        }
    }

    @Test(arguments: shapes, [false, true])
    func byColumns(_ shape: Shape, accumulates: Bool) {
        let a = Matrix(shape.depth, shape.rows, stride: shape.rows + 2, padding: .nan, seed: 1)
        let b = right(shape)
        expect(shape, accumulates: accumulates, element: { a[$1, $0] * b[$1, $2] }) { c, stride in
            a.withPointer { a in
                b.withPointer { b in
                    TileProducts.multiplyTransposedLeft(
                        a, b, into: c, stride: stride, accumulates: accumulates)
                }
            }
        }
    }

    @Test(arguments: [1, 16, 31, 32], [0, 1, 15, 16, 65])
    func panels(rows: Int, depth: Int) {
        let a = Matrix(9, depth, stride: depth + 2, padding: .nan, seed: 1)
        let b = Matrix(rows, depth, stride: depth + 5, padding: .nan, seed: 3)
        var panel = [Float](repeating: .nan, count: max(1, depth * TileProducts.panelRows))
        b.withPointer { b in
            panel.withUnsafeMutableBufferPointer { TileProducts.pack(b, into: $0.baseAddress!) }
        }
        #expect(depth == 0 || panel.allSatisfy { !$0.isNaN })
        let shape = Shape(rows: 9, depth: depth, columns: rows)
        expect(shape, accumulates: false, element: { a[$0, $1] * b[$2, $1] }) { c, stride in
            a.withPointer { a in
                panel.withUnsafeBufferPointer {
                    TileProducts.multiply(a, panel: $0.baseAddress!, count: rows, into: c, stride: stride)
                }
            }
        }
    }

    /// What CCE across ranks relies on, with every instruction set.
    @Test(arguments: [9, 64, 65, 200])
    func `an element rounds alike in every block`(depth: Int) {
        var random = RandomInputs(seed: 31)
        let (left, right) = (random.normals(24 * depth), random.normals(32 * depth))
        func product(_ rows: Range<Int>, _ columns: Range<Int>) -> [Float] {
            var panel = [Float](repeating: .nan, count: depth * TileProducts.panelRows)
            var result = [Float](repeating: 0, count: rows.count * columns.count)
            left.withUnsafeBufferPointer { left in
                right.withUnsafeBufferPointer { right in
                    panel.withUnsafeMutableBufferPointer { panel in
                        TileProducts.pack(
                            MatrixPointer(
                                right.baseAddress! + columns.lowerBound * depth, rows: columns.count,
                                columns: depth), into: panel.baseAddress!)
                        result.withUnsafeMutableBufferPointer {
                            TileProducts.multiply(
                                MatrixPointer(
                                    left.baseAddress! + rows.lowerBound * depth, rows: rows.count,
                                    columns: depth), panel: panel.baseAddress!, count: columns.count,
                                into: $0.baseAddress!, stride: columns.count)
                        }
                    }
                }
            }
            return result
        }
        let whole = product(0..<24, 0..<32)
        for rows in [0..<24, 0..<1, 3..<20, 7..<8, 11..<24] {
            for columns in [0..<32, 0..<1, 5..<21, 15..<32, 30..<31] {
                let expected = rows.flatMap { row in columns.map { whole[row * 32 + $0] } }
                expectSameBits(product(rows, columns), expected, "\(rows) × \(columns)")
            }
        }
    }
}
