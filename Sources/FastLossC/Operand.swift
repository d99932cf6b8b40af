// One matrix or array of a call: where it lies, whether two of them share memory, and how the ones with gaps
// are packed and unpacked.

import FastLoss

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Rows of equal length in memory, in blocks: the cells of token states. A matrix is one block, an array one
/// row.
///
/// All lengths are in bytes. Rows that follow each other without gaps count as one.
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
        // Blocks of one row each are the rows of one block.
        self.blocks = 1
        self.blockStride = 0
        (self.rowsPerBlock, self.rowStride, self.rowBytes) = Self.joined(blocks, blockStride, self.rowBytes)
    }

    /// Rows as they are, or as one where nothing lies between them.
    private static func joined(_ rows: Int, _ stride: Int, _ bytes: Int) -> (Int, Int, Int) {
        rows == 1 || stride == bytes ? (1, rows * bytes, rows * bytes) : (rows, stride, bytes)
    }

    /// Nothing at all.
    static let empty = RowLayout(base: 0, rowsPerBlock: 1, rowStride: 0, rowBytes: 0)

    var rows: Int { blocks * rowsPerBlock }
    var byteCount: Int { rows * rowBytes }
    var isContiguous: Bool { rows == 1 }

    /// Where a row starts. Rows are numbered in the order of their addresses.
    func start(ofRow row: Int) -> UInt {
        let (block, rowInBlock) = row.quotientAndRemainder(dividingBy: rowsPerBlock)
        return base + UInt(block * blockStride + rowInBlock * rowStride)
    }

    /// The address behind the last row.
    private var end: UInt { start(ofRow: rows - 1) + UInt(rowBytes) }

    /// Whether any byte belongs to both. Rows may interleave without sharing one: two halves of the columns
    /// of one buffer.
    func sharesMemory(with other: RowLayout) -> Bool {
        guard byteCount > 0, other.byteCount > 0, base < other.end, other.base < end else { return false }
        if isContiguous && other.isContiguous { return true }
        // Both are sequences of intervals in ascending order: whichever ends first is done with.
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
        /// It is read.
        case input
        /// It is written, whatever it held.
        case output
        /// It is added to.
        case accumulator
        /// Only a part of it is read, which is an operand of its own: outputs may not share memory with the
        /// rest either.
        case surroundings

        var isWritten: Bool { self == .output || self == .accumulator }
    }

    let name: String
    let layout: RowLayout
    let role: Role
    /// Where its elements lie one after the other: at its own place, or where they are packed.
    var contiguous: UnsafeMutableRawPointer?
    /// The scratch memory that it is packed into.
    var scratch: ScratchArray<UInt8>?

    /// Whether its rows have gaps and its elements are needed one after the other.
    var isToBePacked: Bool { !layout.isContiguous && role != .surroundings }

    /// Copies the rows to, or from, where they lie packed.
    func copy(_ direction: Direction, workers: Int) {
        guard let packed = contiguous, layout.byteCount > 0 else { return }
        let rowsPerTask = max(1, Self.bytesPerTask / layout.rowBytes)
        let tasks = (layout.rows + rowsPerTask - 1) / rowsPerTask
        // 8 bytes a nanosecond, read and written.
        forEachTask(tasks, workers: workers, estimatedNanoseconds: Double(layout.byteCount) / 8) { task, _ in
            for row in task * rowsPerTask..<min(layout.rows, (task + 1) * rowsPerTask) {
                let place = UnsafeMutableRawPointer(bitPattern: layout.start(ofRow: row))!
                let packedRow = packed + row * layout.rowBytes
                switch direction {
                case .pack: memcpy(packedRow, place, layout.rowBytes)
                case .unpack: memcpy(place, packedRow, layout.rowBytes)
                }
            }
        }
    }

    enum Direction {
        case pack
        case unpack
    }

    private static let bytesPerTask = 64 << 10
}
