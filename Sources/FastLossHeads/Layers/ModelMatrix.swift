// Matrices of a model's outputs and of their gradients, which may be 16-bit, for layers that compute in floats.

import FastLoss

/// A matrix of a model's outputs: row-major, without gaps, of any element type.
struct ModelMatrix {
    let rows: Int
    let columns: Int
    fileprivate let elements: ModelElements

    /// `elements` has `rows`·`columns` elements.
    init(_ elements: ModelElements, rows: Int, columns: Int) {
        self.elements = elements
        self.rows = rows
        self.columns = columns
    }

    /// Copies a row, as floats.
    func copy(row: Int, to memory: UnsafeMutablePointer<Float>) {
        elements.copy(row * columns..<(row + 1) * columns, to: memory)
    }
}

/// A ``ModelMatrix`` as an operand: floats in place, or widened into scratch memory.
struct WidenedMatrix {
    let rows: Int
    let columns: Int
    private let elements: ModelElements
    /// Every element, if they are 16-bit.
    private let widened: ScratchArray<Float>

    init(_ matrix: ModelMatrix, in layout: inout ScratchLayout) throws(LossError) {
        rows = matrix.rows
        columns = matrix.columns
        elements = matrix.elements
        widened = try layout.add(
            elements.type == .float32 ? 0 : matrix.rows, by: matrix.columns, of: Float.self)
    }

    /// Widens the elements. To run once before ``matrix(on:)``.
    func prepare(on execution: Execution) {
        guard elements.type != .float32 else { return }
        elements.copy(0..<elements.count, to: execution.pointer(widened))
    }

    func matrix(on execution: Execution) -> MatrixPointer {
        let floats = elements.floatsInPlace ?? UnsafePointer(execution.pointer(widened))
        return MatrixPointer(floats, rows: rows, columns: columns)
    }
}

/// The gradient of a ``ModelMatrix``: products write it, or add to it, as floats.
///
/// A gradient of floats is formed in place, a 16-bit one aside: what it accumulates to is widened before the
/// products, and the result is rounded once.
struct ModelMatrixGradient {
    private let output: GradientOutput
    private let columns: Int
    /// Every element, if they are 16-bit.
    private let aside: ScratchArray<Float>

    /// Nil if the gradient is not wanted.
    init?(
        _ output: GradientOutput?, rows: Int, columns: Int, in layout: inout ScratchLayout
    ) throws(LossError) {
        guard let output else { return nil }
        self.output = output
        self.columns = columns
        aside = try layout.add(output.type == .float32 ? 0 : rows, by: columns, of: Float.self)
    }

    /// The memory of some rows, for products that overwrite it or add to it as the update says.
    func begin(rows: Range<Int>, on execution: Execution) -> UnsafeMutablePointer<Float> {
        let first = rows.lowerBound * columns
        guard output.type != .float32 else { return pointer(output.memory) + first }
        let place = execution.pointer(aside) + first
        if output.accumulates { output.elements.copy(first..<rows.upperBound * columns, to: place) }
        return place
    }

    /// Ends what ``begin(rows:on:)`` began.
    func end(rows: Range<Int>, on execution: Execution) {
        guard output.type != .float32 else { return }
        let first = rows.lowerBound * columns
        output.overwrite(first..<rows.upperBound * columns, with: execution.pointer(aside) + first)
    }

    /// Overwrites every element with 0.
    func clear() { output.clear(0..<output.count) }
}

extension GradientOutput {
    /// Writes the gradient of an empty selection to every element.
    func fill(with value: Float) { fill(0..<count, with: value) }

    /// A head's gradient in a span that is given. The loss's factors are in the gradients of the head's outputs;
    /// `scale` is another one, of a gradient reversal.
    @_lifetime(span: copy span)
    init?<Element: ModelOutputElement>(
        _ span: inout MutableSpan<Element>?, named name: String, scale: Double = 1, update: GradientUpdate
    ) {
        guard span != nil else { return nil }
        self.init(span!.memory, named: name, scale: scale, update: update)
    }

    /// The gradient in an array that is given, the only owner of its elements from now on.
    init?(_ array: inout [Float]?, named name: String, update: GradientUpdate) {
        guard let memory = array?.uniqueMemory else { return nil }
        self.init(memory, named: name, scale: 1.0 as Double, update: update)
    }
}
