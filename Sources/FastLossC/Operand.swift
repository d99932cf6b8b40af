// One matrix or array of a call: its layout in memory, overlap with others, packing and unpacking.

import FastLoss

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Blocks of rows of equal length. A cell of token states is a block; a matrix has one block, an array one
/// row.
///
/// All lengths are in bytes. Contiguous rows are merged into one.
struct RowLayout: Equatable {
    private(set) var base: UInt
    private(set) var blocks: Int
    private(set) var blockStride: Int
    private(set) var rowsPerBlock: Int
    private(set) var rowStride: Int
    private(set) var rowBytes: Int

    init(
        base: UInt, blocks: Int = 1, blockStride: Int = 0, rowsPerBlock: Int, rowStride: Int, rowBytes: Int
    ) {
        self.base = base
        self.blocks = blocks
        self.blockStride = blockStride
        (self.rowsPerBlock, self.rowStride, self.rowBytes) = Self.joined(rowsPerBlock, rowStride, rowBytes)
        guard self.rowsPerBlock == 1 else { return }
        // Merge blocks of one row each into one block.
        self.blocks = 1
        self.blockStride = 0
        (self.rowsPerBlock, self.rowStride, self.rowBytes) = Self.joined(blocks, blockStride, self.rowBytes)
    }

    /// The rows, merged into one if they are contiguous.
    private static func joined(_ rows: Int, _ stride: Int, _ bytes: Int) -> (Int, Int, Int) {
        rows == 1 || stride == bytes ? (1, rows * bytes, rows * bytes) : (rows, stride, bytes)
    }

    /// No elements.
    static let empty = RowLayout(base: 0, rowsPerBlock: 1, rowStride: 0, rowBytes: 0)

    var rows: Int { blocks * rowsPerBlock }
    var byteCount: Int { rows * rowBytes }
    var isContiguous: Bool { rows == 1 }

    /// The address of a row. Rows are in the order of their addresses.
    func start(ofRow row: Int) -> UInt {
        let (block, rowInBlock) = row.quotientAndRemainder(dividingBy: rowsPerBlock)
        return base + UInt(block * blockStride + rowInBlock * rowStride)
    }

    /// The address after the last row.
    private var end: UInt { start(ofRow: rows - 1) + UInt(rowBytes) }

    /// Whether the two have a byte in common. Rows may interleave without: two column ranges of one buffer.
    func sharesMemory(with other: RowLayout) -> Bool {
        guard byteCount > 0, other.byteCount > 0, base < other.end, other.base < end else { return false }
        if isContiguous && other.isContiguous { return true }
        // Merge two ascending sequences of intervals: advance the one that ends first.
        var (row, otherRow) = (0, 0)
        while row < rows, otherRow < other.rows {
            let (start, otherStart) = (start(ofRow: row), other.start(ofRow: otherRow))
            let (end, otherEnd) = (start + UInt(rowBytes), otherStart + UInt(other.rowBytes))
            if start < otherEnd && otherStart < end { return true }
            if end <= otherEnd { row += 1 } else { otherRow += 1 }
        }
        return false
    }
}

/// A matrix or array of a call.
struct Operand {
    enum Role {
        /// Read.
        case input
        /// Written.
        case output
        /// Read and written.
        case accumulator
        /// Not read, except for a part that is another operand. Outputs must not overlap it.
        case surroundings

        var isWritten: Bool { self == .output || self == .accumulator }
    }

    let name: String
    let layout: RowLayout
    let role: Role
    /// The contiguous elements: in place, or packed.
    var contiguous: UnsafeMutableRawPointer?
    /// The scratch memory for the packed elements.
    var scratch: ScratchArray<UInt8>?

    /// Whether the elements must be packed: the rows have gaps.
    var needsPacking: Bool { !layout.isContiguous && role != .surroundings }

    /// Packs or unpacks the rows, in pieces of at most ``bytesPerTask``.
    func copy(_ direction: Direction, workers: Int) {
        guard let packed = contiguous, layout.byteCount > 0 else { return }
        let pieceBytes = min(layout.rowBytes, Self.bytesPerTask)
        let piecesPerRow = (layout.rowBytes + pieceBytes - 1) / pieceBytes
        let pieces = layout.rows * piecesPerRow
        let piecesPerTask = Self.bytesPerTask / pieceBytes
        let tasks = (pieces + piecesPerTask - 1) / piecesPerTask
        // About 8 bytes per nanosecond, read and written.
        forEachTask(tasks, workers: workers, estimatedNanoseconds: Double(layout.byteCount) / 8) { task, _ in
            for piece in task * piecesPerTask..<min(pieces, (task + 1) * piecesPerTask) {
                let (row, number) = piece.quotientAndRemainder(dividingBy: piecesPerRow)
                let start = number * pieceBytes
                copy(
                    direction, UnsafeMutableRawPointer(bitPattern: layout.start(ofRow: row))! + start,
                    packed + row * layout.rowBytes + start,
                    bytes: min(pieceBytes, layout.rowBytes - start))
            }
        }
    }

    private func copy(
        _ direction: Direction, _ place: UnsafeMutableRawPointer, _ packed: UnsafeMutableRawPointer,
        bytes: Int
    ) {
        switch direction {
        case .pack: memcpy(packed, place, bytes)
        case .unpack: memcpy(place, packed, bytes)
        }
    }

    enum Direction {
        case pack
        case unpack
    }

    private static let bytesPerTask = 64 << 10
}
