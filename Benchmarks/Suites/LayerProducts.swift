// The products of a square layer at the size of a task head: forward, input gradient and weight gradient.

import BenchmarkData
import FastLoss

extension Suites {
    static var layerProducts: [Benchmark] {
        // The masked tokens of a batch of integration, and its cells.
        [ProblemShape(64, 512, 512), ProblemShape(30_720, 512, 512)].flatMap { shape in
            LayerProduct.allCases.map { layerProduct($0, shape) }
        }
    }

    private static func layerProduct(_ product: LayerProduct, _ shape: ProblemShape) -> Benchmark {
        Benchmark(
            kernel: "LayerProducts", variant: product.rawValue, mode: .value, shape: shape, tolerance: 1e-5,
            naiveTimedAt: shape.rows > 64 ? ProblemShape(64, 512, 512) : nil, isQuick: shape.rows == 64
        ) { _ in
            let operands = LayerOperands(product, shape)
            // A product and a sum for each weight and row; rows and weights are read, the result written.
            let work = Work(
                flops: 2 * shape.count,
                bytes: 4 * (operands.rows.count + operands.other.count + operands.result.count),
                limitedBy: .arithmetic)
            return Prepared(
                work: work,
                maxRelativeError: { workspace in
                    _ = try operands.run(workspace)
                    return operands.errorOfSample()
                },
                fastloss: operands.run,
                naive: shape.rows > 64 ? nil : { operands.naiveSum() },
                rival: Rival(.sgemm, call: operands.runSgemm))
        }
    }
}

/// A product of a layer's R rows x, W of D × D, and R rows dy.
enum LayerProduct: String, CaseIterable {
    /// x·Wᵀ.
    case forward
    /// dy·W.
    case inputGradient = "input-gradient"
    /// dyᵀ·x.
    case weightGradient = "weight-gradient"
}

/// The matrices of one product.
final class LayerOperands {
    private let product: LayerProduct
    private let shape: ProblemShape
    /// x or dy, and W or x.
    let rows: [Float]
    let other: [Float]
    private(set) var result: [Float]

    init(_ product: LayerProduct, _ shape: ProblemShape) {
        self.product = product
        self.shape = shape
        var generator = SeededGenerator(seed: 14)
        let count = product == .weightGradient ? shape.rows * shape.columns : shape.columns * shape.depth
        rows = (0..<shape.rows * shape.depth).map { _ in generator.normal() }
        other = (0..<count).map { _ in generator.normal() }
        result = [Float](
            repeating: 0,
            count: product == .weightGradient ? shape.depth * shape.columns : shape.rows * shape.columns)
    }

    /// The product as a head computes it.
    func run(_ workspace: Workspace) throws -> Float {
        try result.withUnsafeMutableBufferPointer { result in
            try rows.withUnsafeBufferPointer { rows in
                try other.withUnsafeBufferPointer { other in
                    guard let rows = rows.baseAddress, let other = other.baseAddress,
                        let result = result.baseAddress
                    else { return }
                    var layout = workspace.layout
                    let plan = try LayerProductPlan(
                        product, rows: MatrixPointer(rows, rows: shape.rows, columns: shape.depth),
                        other: MatrixPointer(
                            other, rows: product == .weightGradient ? shape.rows : shape.columns,
                            columns: product == .weightGradient ? shape.columns : shape.depth),
                        into: result, in: &layout)
                    try workspace.run(plan, layout)
                }
            }
        }
        return result[0]
    }

    /// The product by one sgemm for each worker.
    func runSgemm(_ workspace: Workspace) -> Float {
        BLAS.prepare()
        let workers = workspace.workers
        let (rows, other) = (rows, other)
        result.withUnsafeMutableBufferPointer { result in
            rows.withUnsafeBufferPointer { rows in
                other.withUnsafeBufferPointer { other in
                    guard let rows = rows.baseAddress, let other = other.baseAddress,
                        let result = result.baseAddress
                    else { return }
                    let items = product == .weightGradient ? shape.depth : shape.rows
                    let share = (items + workers - 1) / workers
                    forEachTask(workers, workers: workers, estimatedNanoseconds: .infinity) { task, _ in
                        let start = min(items, task * share)
                        multiply(rows, other, result, start..<min(items, start + share))
                    }
                }
            }
        }
        return result[0]
    }

    private func multiply(
        _ rows: UnsafePointer<Float>, _ other: UnsafePointer<Float>, _ result: UnsafeMutablePointer<Float>,
        _ range: Range<Int>
    ) {
        let (depth, columns) = (shape.depth, shape.columns)
        let target = result + range.lowerBound * columns
        guard product != .weightGradient else {
            return BLAS.multiplyTransposedLeft(
                MatrixPointer(rows + range.lowerBound, rows: shape.rows, columns: range.count, stride: depth),
                MatrixPointer(other, rows: shape.rows, columns: columns), into: target, stride: columns)
        }
        let part = MatrixPointer(rows + range.lowerBound * depth, rows: range.count, columns: depth)
        let weight = MatrixPointer(other, rows: columns, columns: depth)
        if product == .forward {
            BLAS.multiplyTransposedRight(part, weight, into: target, stride: columns)
        } else {
            BLAS.multiply(part, weight, into: target, stride: columns)
        }
    }

    /// Element (i, j) in double precision.
    private func element(_ i: Int, _ j: Int) -> Double {
        let (depth, columns) = (shape.depth, shape.columns)
        var sum = 0.0
        switch product {
        case .forward:
            for k in 0..<depth { sum += Double(rows[i * depth + k]) * Double(other[j * depth + k]) }
        case .inputGradient:
            for k in 0..<depth { sum += Double(rows[i * depth + k]) * Double(other[k * columns + j]) }
        case .weightGradient:
            for k in 0..<shape.rows { sum += Double(rows[k * depth + i]) * Double(other[k * columns + j]) }
        }
        return sum
    }

    /// The error of a few rows of the result, norm-wise.
    func errorOfSample() -> Double {
        let count = result.count / shape.columns
        let sample = stride(from: 0, to: count, by: max(1, count / 7)).map { $0 } + [count - 1]
        return normwiseRelativeError(
            of: sample.flatMap { result[$0 * shape.columns..<($0 + 1) * shape.columns] },
            to: sample.flatMap { i in (0..<shape.columns).map { element(i, $0) } })
    }

    /// The sum of all elements by three loops, in single precision.
    func naiveSum() -> Float {
        let (depth, columns) = (shape.depth, shape.columns)
        var total: Float = 0
        for i in 0..<result.count / columns {
            for j in 0..<columns {
                var sum: Float = 0
                switch product {
                case .forward: for k in 0..<depth { sum += rows[i * depth + k] * other[j * depth + k] }
                case .inputGradient:
                    for k in 0..<depth { sum += rows[i * depth + k] * other[k * columns + j] }
                case .weightGradient:
                    for k in 0..<shape.rows { sum += rows[k * depth + i] * other[k * columns + j] }
                }
                total += sum
            }
        }
        return total
    }
}

/// The product by FastLoss's own tiles, packing included.
private struct LayerProductPlan: Plan {
    /// The rows of one task and of one group, as in the decoders.
    private var rowsPerTask: Int { scale == .blocks ? 192 : 48 }
    private static let rowsPerGroup = 1536

    var name: String { "LayerProducts" }

    private let rows: MatrixPointer
    private let other: MatrixPointer
    private let result: UnsafeMutablePointer<Float>
    /// W; nil for the gradient of the weight.
    private let weight: PackedOperand?
    private let columnProducts: ColumnProducts
    private let scale: ProductScale
    /// A copy of x with a stride that suits the product.
    private let copy: ScratchMatrix

    init(
        _ product: LayerProduct, rows: MatrixPointer, other: MatrixPointer,
        into result: UnsafeMutablePointer<Float>, in layout: inout ScratchLayout
    ) throws(LossError) {
        TileProducts.prepare(in: &layout)
        self.rows = rows
        self.other = other
        self.result = result
        scale = .of(rows: rows.rows, depth: rows.columns)
        weight =
            product == .weightGradient
            ? nil : try PackedOperand(other, transposed: product == .forward, scale: scale, in: &layout)
        columnProducts = try ColumnProducts(scale: scale, in: &layout)
        copy = try ScratchMatrix(
            rows: product == .weightGradient ? Self.rowsPerGroup : 0, columns: other.columns, in: &layout)
    }

    func run(on execution: Execution) {
        let estimate = TileProducts.nanoseconds(rows: rows.rows, columns: other.columns, depth: rows.columns)
        guard let weight else { return sumGroups(on: execution) }
        guard rows.rows > Self.rowsPerGroup else {
            return weight.multiplyOnce(rows, into: result, stride: weight.columns, on: execution)
        }
        weight.pack(on: execution)
        execution.forEachTask(
            (rows.rows + rowsPerTask - 1) / rowsPerTask, estimatedNanoseconds: estimate
        ) { task, _ in
            let start = task * rowsPerTask
            let part = MatrixPointer(
                rows.base + start * rows.stride, rows: min(rowsPerTask, rows.rows - start),
                columns: rows.columns, stride: rows.stride)
            weight.multiply(
                part, into: result + start * weight.columns, stride: weight.columns, on: execution)
        }
    }

    /// The gradient of the weight, group by group.
    private func sumGroups(on execution: Execution) {
        for start in stride(from: 0, to: rows.rows, by: Self.rowsPerGroup) {
            let count = min(Self.rowsPerGroup, rows.rows - start)
            let rowsPerTask = 64
            execution.forEachTask(
                (count + rowsPerTask - 1) / rowsPerTask,
                estimatedNanoseconds: Double(count) * Double(other.columns) / 4
            ) { task, _ in
                for row in task * rowsPerTask..<min(count, (task + 1) * rowsPerTask) {
                    copy.row(row, on: execution).update(
                        from: other.base + (start + row) * other.stride, count: other.columns)
                }
            }
            columnProducts.multiplyAll(
                MatrixPointer(
                    rows.base + start * rows.stride, rows: count, columns: rows.columns, stride: rows.stride),
                copy.matrix(rows: 0..<count, on: execution), into: result, stride: other.columns,
                accumulates: start > 0, on: execution)
        }
    }
}
