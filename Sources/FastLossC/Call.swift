// One call from C: its matrices are checked and, where they have gaps, packed; what the losses take are
// spans.

import CFastLoss
import FastLoss

/// A matrix or array that a call has taken, by its place in the call's list. ``Call/span(_:)`` gives its elements while
/// ``Call/run(_:)`` computes.
struct Taken<Element: BitwiseCopyable> {
    fileprivate let index: Int
    fileprivate let count: Int
}

/// The matrices of one call.
///
/// First all inputs are taken, then all outputs: each output is compared with everything before it. Then
/// `run` packs what has gaps, computes the loss, and unpacks the outputs that have gaps; nothing is written
/// to those where the loss fails.
struct Call: ~Copyable {
    private let handle: WorkspaceHandle

    init(_ handle: WorkspaceHandle) {
        self.handle = handle
    }
}

// MARK: - Shapes in memory

/// The sides and strides of a matrix, or of token states, as they came from C.
struct Strides {
    var blocks = 1
    var blockStride = 0
    var rows: Int
    var columns: Int
    var rowStride: Int
    /// Whose strides they are, in messages.
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

    /// An array without gaps.
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
    /// Addresses have at most 57 bits: what reaches further is no true size, and sums of smaller ones cannot
    /// overflow.
    private static let mostBytes = 1 << 57

    /// The number of elements, if the sides are possible.
    fileprivate func checkedCount() throws(CallError) -> Int {
        let (allRows, overflow) = blocks.multipliedReportingOverflow(by: rows)
        let (count, pastEnd) = allRows.multipliedReportingOverflow(by: columns)
        guard blocks >= 0, rows >= 0, columns >= 0, !overflow, !pastEnd, count <= Self.mostBytes else {
            // Token states are named as the Swift API does: with the tokens of all cells as rows.
            throw .loss(.invalidShape(rows: isTokenStates && !overflow ? allRows : rows, columns: columns))
        }
        return count
    }

    /// The layout of elements of `size` bytes, if the strides step over what they have to.
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
    /// Takes something that is read.
    func input<Element: BitwiseCopyable>(
        _ pointer: UnsafePointer<Element>?, _ strides: Strides
    ) throws(CallError) -> Taken<Element> {
        try take(UnsafeRawPointer(pointer), strides, role: .input)
    }

    /// Takes token states of which only the first token of each cell is read.
    func firstTokens(
        _ pointer: UnsafePointer<Float>?, _ strides: Strides
    ) throws(CallError) -> Taken<Float> {
        let _: Taken<Float> = try take(UnsafeRawPointer(pointer), strides, role: .surroundings)
        return try take(UnsafeRawPointer(pointer), strides.firstTokens, role: .input)
    }

    /// Takes something that is written, or added to: it may share memory with nothing that was taken before.
    func output<Element: BitwiseCopyable>(
        _ pointer: UnsafeMutablePointer<Element>?, _ strides: Strides, update: GradientUpdate = .overwrite
    ) throws(CallError) -> Taken<Element> {
        try take(UnsafeRawPointer(pointer), strides, role: update == .overwrite ? .output : .accumulator)
    }

    private func take<Element: BitwiseCopyable>(
        _ pointer: UnsafeRawPointer?, _ strides: Strides, role: Operand.Role
    ) throws(CallError) -> Taken<Element> {
        let name = strides.name
        let count = try strides.checkedCount()
        guard pointer != nil || count == 0 else { throw .nullPointer(argument: name, elements: count) }
        let address = UInt(bitPattern: pointer)
        let alignment = MemoryLayout<Element>.alignment
        guard address % UInt(alignment) == 0 else {
            throw .misalignedPointer(argument: name, address: address, alignment: alignment)
        }
        let layout = try strides.layout(at: address, count: count, size: MemoryLayout<Element>.stride)
        if role.isWritten {
            for index in 0..<handle.operandCount where layout.sharesMemory(with: handle[index].layout) {
                throw .loss(.overlappingBuffers(output: name, other: handle[index].name))
            }
        }
        let index = handle.append(
            Operand(
                name: name, layout: layout, role: role,
                contiguous: layout.isContiguous ? UnsafeMutableRawPointer(mutating: pointer) : nil))
        return Taken(index: index, count: count)
    }
}

// MARK: - Running

extension Call {
    /// Packs, plans, computes, unpacks.
    func run<P: Plan>(
        _ plan: (inout ScratchLayout) throws(LossError) -> P
    ) throws(CallError) -> P.Result {
        try lifting { () throws(LossError) in
            try handle.pack()
            var layout = handle.layout
            let plan = try plan(&layout)
            let result = try plan.run(on: handle.reserve(layout, for: plan.name))
            handle.unpack()
            return result
        }
    }
}

extension WorkspaceHandle {
    /// Gives every matrix with gaps a place in scratch memory and copies what is read there.
    fileprivate func pack() throws(LossError) {
        var layout = self.layout
        var isNeeded = false
        for index in 0..<operandCount where self[index].isToBePacked {
            self[index].scratch = try layout.add(self[index].layout.byteCount, of: UInt8.self)
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

    /// Copies the outputs with gaps to where they belong.
    fileprivate func unpack() {
        for index in 0..<operandCount where self[index].isToBePacked && self[index].role.isWritten {
            self[index].copy(.unpack, workers: workers)
        }
    }
}

// MARK: - Elements

extension Call {
    /// The elements, one after the other; valid until the call is over.
    func buffer<Element>(_ taken: Taken<Element>) -> UnsafeMutableBufferPointer<Element> {
        let memory = handle[taken.index].contiguous
        return UnsafeMutableBufferPointer(
            start: memory?.assumingMemoryBound(to: Element.self), count: taken.count)
    }

    /// The elements of something that is read.
    ///
    /// The span's lifetime is that of this value, whose workspace holds what is packed; the rest is C's to
    /// keep.
    @_lifetime(borrow self)
    func span<Element>(_ taken: Taken<Element>) -> Span<Element> {
        unsafe _overrideLifetime(Span(_unsafeElements: UnsafeBufferPointer(buffer(taken))), borrowing: self)
    }

    /// The elements of something that may be absent.
    @_lifetime(borrow self)
    func optionalSpan<Element>(_ taken: Taken<Element>?) -> Span<Element>? {
        guard let taken else { return nil }
        return span(taken)
    }

    /// The elements of something that is written.
    @_lifetime(borrow self)
    func mutableSpan<Element>(_ taken: Taken<Element>) -> MutableSpan<Element> {
        unsafe _overrideLifetime(MutableSpan(_unsafeElements: buffer(taken)), borrowing: self)
    }

    /// The elements of something that is written, if it is wanted.
    @_lifetime(borrow self)
    func optionalMutableSpan<Element>(_ taken: Taken<Element>?) -> MutableSpan<Element>? {
        guard let taken else { return nil }
        return mutableSpan(taken)
    }
}
