// One call from C: checks the matrices, packs those with gaps between their rows, and hands spans to the
// losses.

import CFastLoss
import FastLoss

/// A checked matrix or array of a call, by its index in the call's list. ``Call/span(_:)`` returns its
/// elements.
struct Taken<Element: BitwiseCopyable> {
    fileprivate let index: Int
    fileprivate let count: Int
}

/// A checked output of a model, or its gradient. ``Call/elements(_:)`` returns its elements.
struct TakenOutput {
    fileprivate let index: Int
    fileprivate let count: Int
    fileprivate let type: ElementType
}

/// The matrices of one call.
///
/// Take all inputs first, then all outputs: each output is checked for overlap with everything taken before.
/// Then ``run(_:)`` packs the matrices with gaps, computes, and unpacks the outputs with gaps. If the loss
/// fails, it does not unpack.
struct Call: ~Copyable {
    private let handle: WorkspaceHandle

    init(_ handle: WorkspaceHandle) {
        self.handle = handle
    }
}

// MARK: - Shapes in memory

/// The sides and strides of a matrix or of token states, from C and unchecked.
struct Strides {
    var blocks = 1
    var blockStride = 0
    var rows: Int
    var columns: Int
    var rowStride: Int
    /// The name of the matrix in messages.
    let name: String
    private let isTokenStates: Bool

    /// A matrix.
    init(rows: Int64, columns: Int64, stride: Int64, of name: String) {
        self.rows = Int(clamping: rows)
        self.columns = Int(clamping: columns)
        rowStride = Int(clamping: stride)
        self.name = name
        isTokenStates = false
    }

    /// A contiguous array.
    init(count: Int64, of name: String) {
        self.init(rows: count, columns: 1, stride: 1, of: name)
    }

    /// Token states.
    init(_ shape: TokenShape, tokenStride: Int64, cellStride: Int64, of name: String) {
        blocks = shape.cells
        blockStride = Int(clamping: cellStride)
        rows = shape.tokens
        columns = shape.width
        rowStride = Int(clamping: tokenStride)
        self.name = name
        isTokenStates = true
    }

    /// The first token of each cell.
    var firstTokens: Strides {
        var strides = self
        strides.rows = min(1, rows)
        return strides
    }
}

extension Strides {
    /// The size of the largest address space. Sums of smaller sizes cannot overflow.
    private static let mostBytes = 1 << 57

    /// The number of elements. Throws if the sides are invalid.
    fileprivate func checkedCount() throws(CallError) -> Int {
        let (allRows, overflow) = blocks.multipliedReportingOverflow(by: rows)
        let (count, pastEnd) = allRows.multipliedReportingOverflow(by: columns)
        guard blocks >= 0, rows >= 0, columns >= 0, !overflow, !pastEnd, count <= Self.mostBytes else {
            throw isTokenStates
                ? .invalidTokenShape(cells: blocks, tokens: rows, columns: columns)
                : .loss(.invalidShape(rows: rows, columns: columns))
        }
        return count
    }

    /// The layout of elements of `size` bytes. Throws if a stride is too small.
    fileprivate func layout(at base: UInt, count: Int, size: Int) throws(CallError) -> RowLayout {
        guard rowStride >= columns else {
            throw .invalidStride(
                isTokenStates ? .tokens : .rows, of: name, stride: rowStride, least: columns)
        }
        guard count > 0 else { return .empty }
        let block = try reach(rows, rowStride, columns)
        guard blocks == 1 || blockStride >= block else {
            throw .invalidStride(.cells, of: name, stride: blockStride, least: block)
        }
        let (bytes, overflow) = try reach(blocks, blocks == 1 ? block : blockStride, block)
            .multipliedReportingOverflow(by: size)
        guard !overflow, bytes <= Self.mostBytes, base <= UInt.max - UInt(bytes) else { throw tooLarge }
        return RowLayout(
            base: base, blocks: blocks, blockStride: blocks == 1 ? 0 : blockStride * size,
            rowsPerBlock: rows, rowStride: rows == 1 ? columns * size : rowStride * size,
            rowBytes: columns * size)
    }

    /// Elements from the start of the first of `count` pieces to the end of the last.
    private func reach(_ count: Int, _ stride: Int, _ length: Int) throws(CallError) -> Int {
        let (start, overflow) = (count - 1).multipliedReportingOverflow(by: stride)
        let (end, pastEnd) = start.addingReportingOverflow(length)
        guard !overflow, !pastEnd else { throw tooLarge }
        return end
    }

    private var tooLarge: CallError { .loss(.invalidShape(rows: rows, columns: columns)) }
}

// MARK: - Taking matrices and arrays

extension Call {
    /// Takes an input.
    func input<Element: BitwiseCopyable>(
        _ pointer: UnsafePointer<Element>?, _ strides: Strides
    ) throws(CallError) -> Taken<Element> {
        try take(UnsafeRawPointer(pointer), strides, role: .input)
    }

    /// Takes an output of the model, an input of the loss. `pointer` has the type of the header.
    func input(
        _ pointer: UnsafePointer<Float>?, _ strides: Strides, _ type: ElementType
    ) throws(CallError) -> TakenOutput {
        try take(UnsafeRawPointer(pointer), strides, type, role: .input)
    }

    /// Takes token states and reads only the first token of each cell.
    func firstTokens(
        _ pointer: UnsafePointer<Float>?, _ strides: Strides
    ) throws(CallError) -> Taken<Float> {
        let _: Taken<Float> = try take(UnsafeRawPointer(pointer), strides, role: .surroundings)
        return try take(UnsafeRawPointer(pointer), strides.firstTokens, role: .input)
    }

    /// Takes an output. Throws if it shares memory with anything taken before.
    func output<Element: BitwiseCopyable>(
        _ pointer: UnsafeMutablePointer<Element>?, _ strides: Strides, update: GradientUpdate = .overwrite
    ) throws(CallError) -> Taken<Element> {
        try take(UnsafeRawPointer(pointer), strides, role: update == .overwrite ? .output : .accumulator)
    }

    /// Takes the gradient of an output of the model.
    func output(
        _ pointer: UnsafeMutablePointer<Float>?, _ strides: Strides, _ type: ElementType,
        update: GradientUpdate
    ) throws(CallError) -> TakenOutput {
        try take(
            UnsafeRawPointer(pointer), strides, type, role: update == .overwrite ? .output : .accumulator)
    }

    private func take<Element: BitwiseCopyable>(
        _ pointer: UnsafeRawPointer?, _ strides: Strides, role: Operand.Role
    ) throws(CallError) -> Taken<Element> {
        let taken = try take(pointer, strides, size: MemoryLayout<Element>.stride, role: role)
        return Taken(index: taken.index, count: taken.count)
    }

    private func take(
        _ pointer: UnsafeRawPointer?, _ strides: Strides, _ type: ElementType, role: Operand.Role
    ) throws(CallError) -> TakenOutput {
        let taken = try take(pointer, strides, size: type.byteCount, role: role)
        return TakenOutput(index: taken.index, count: taken.count, type: type)
    }

    /// Takes elements that are aligned to their size.
    private func take(
        _ pointer: UnsafeRawPointer?, _ strides: Strides, size: Int, role: Operand.Role
    ) throws(CallError) -> (index: Int, count: Int) {
        let name = strides.name
        let count = try strides.checkedCount()
        guard pointer != nil || count == 0 else { throw .nullPointer(argument: name, elements: count) }
        let address = UInt(bitPattern: pointer)
        guard address % UInt(size) == 0 else {
            throw .misalignedPointer(argument: name, address: address, alignment: size)
        }
        let layout = try strides.layout(at: address, count: count, size: size)
        if role.isWritten {
            for index in 0..<handle.operandCount where layout.sharesMemory(with: handle[index].layout) {
                throw .loss(.overlappingBuffers(output: name, other: handle[index].name))
            }
        }
        let index = handle.append(
            Operand(
                name: name, layout: layout, role: role,
                contiguous: layout.isContiguous ? UnsafeMutableRawPointer(mutating: pointer) : nil))
        return (index, count)
    }
}

// MARK: - Running

extension Call {
    /// Packs, plans, computes and unpacks.
    func run<P: Plan>(
        _ plan: (inout ScratchLayout) throws(LossError) -> P
    ) throws(CallError) -> P.Result {
        do throws(LossError) {
            return try compute(plan)
        } catch {
            throw .loss(error)
        }
    }

    /// Packs, plans, computes and unpacks; errors belong to the total objective.
    func runObjective<P: Plan>(
        _ plan: (inout ScratchLayout) throws(LossError) -> P
    ) throws(CallError) -> P.Result {
        do throws(LossError) {
            return try compute(plan)
        } catch {
            throw .objective(error)
        }
    }

    /// Packs, plans, computes and unpacks; errors belong to a task head.
    func runHead<P: Plan>(
        _ plan: (inout ScratchLayout) throws(LossError) -> P
    ) throws(CallError) -> P.Result {
        do throws(LossError) {
            return try compute(plan)
        } catch {
            throw .head(error)
        }
    }

    /// Packs, computes across ranks, and unpacks. If packing fails, no other rank waits.
    func runAcrossRanks<Value>(
        _ body: (Workspace) throws(LossError) -> Value
    ) throws(LossError) -> Value {
        try handle.pack()
        let result = try body(handle.ranks)
        handle.unpack()
        return result
    }

    private func compute<P: Plan>(
        _ plan: (inout ScratchLayout) throws(LossError) -> P
    ) throws(LossError) -> P.Result {
        try handle.pack()
        var layout = handle.layout
        let plan = try plan(&layout)
        let result = try plan.run(on: handle.reserve(layout, for: plan.name))
        handle.unpack()
        return result
    }
}

extension WorkspaceHandle {
    /// Reserves scratch memory for every matrix with gaps, and copies the inputs into it.
    fileprivate func pack() throws(LossError) {
        var layout = self.layout
        var isNeeded = false
        for index in 0..<operandCount where self[index].needsPacking {
            self[index].scratch = try layout.add(
                self[index].layout.byteCount, of: UInt8.self)
            isNeeded = true
        }
        guard isNeeded else { return }
        let memory = try reservePacking(layout)
        for index in 0..<operandCount {
            guard let scratch = self[index].scratch else { continue }
            self[index].contiguous = UnsafeMutableRawPointer(memory.pointer(scratch))
            if self[index].role != .output { self[index].copy(.pack, workers: workers) }
        }
    }

    /// Copies the outputs with gaps from scratch memory to their rows.
    fileprivate func unpack() {
        for index in 0..<operandCount where self[index].needsPacking && self[index].role.isWritten {
            self[index].copy(.unpack, workers: workers)
        }
    }
}

// MARK: - Elements

extension Call {
    /// The elements, contiguous. Valid until the end of the call.
    func buffer<Element>(_ taken: Taken<Element>) -> UnsafeMutableBufferPointer<Element> {
        let memory = handle[taken.index].contiguous
        return UnsafeMutableBufferPointer(
            start: memory?.assumingMemoryBound(to: Element.self), count: taken.count)
    }

    /// The elements of an output of the model, contiguous. Valid until the end of the call.
    func elements(_ taken: TakenOutput) -> ModelElements {
        ModelElements(handle[taken.index].contiguous, count: taken.count, type: taken.type)
    }

    /// The elements of an optional output of the model.
    func optionalElements(_ taken: TakenOutput?) -> ModelElements? { taken.map { elements($0) } }

    /// The elements of an optional gradient.
    func optionalMemory(_ taken: TakenOutput?) -> GradientMemory? {
        taken.map { GradientMemory(handle[$0.index].contiguous, count: $0.count, type: $0.type) }
    }

    /// The elements of an optional input.
    func optionalBuffer<Element>(_ taken: Taken<Element>?) -> UnsafeBufferPointer<Element>? {
        taken.map { UnsafeBufferPointer(buffer($0)) }
    }

    /// The elements of an input.
    ///
    /// The span lives as long as this call: the workspace holds packed matrices, and the caller holds the
    /// others.
    @_lifetime(borrow self)
    func span<Element>(_ taken: Taken<Element>) -> Span<Element> {
        unsafe _overrideLifetime(Span(_unsafeElements: UnsafeBufferPointer(buffer(taken))), borrowing: self)
    }

    /// The elements of an optional input.
    @_lifetime(borrow self)
    func optionalSpan<Element>(_ taken: Taken<Element>?) -> Span<Element>? {
        guard let taken else { return nil }
        return span(taken)
    }
}
