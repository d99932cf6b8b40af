// Memory whose neighbour cannot be touched: an access past the end of an operand ends the process.

import Foundation

/// `byteCount` bytes that begin directly behind an unreadable page, or end directly before one.
///
/// The rest of the bytes' pages holds NaN, for every type: an element read from there shows in the result, and
/// ``isIntact`` finds one written there.
final class GuardedMemory {
    enum End: CaseIterable, Sendable { case start, end }

    let bytes: UnsafeMutableRawBufferPointer
    private let mapping: UnsafeMutableRawBufferPointer
    private let pages: UnsafeMutableRawBufferPointer
    private static let filler: UInt8 = 0xFF

    init(byteCount: Int, end: End) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        // An operand of no bytes has an address, too.
        let size = max(1, (byteCount + page - 1) / page) * page
        let start = mmap(nil, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let start, start != MAP_FAILED, mprotect(start + page, size, PROT_READ | PROT_WRITE) == 0 else {
            preconditionFailure("the system has no pages: \(errno)")
        }
        mapping = UnsafeMutableRawBufferPointer(start: start, count: size + 2 * page)
        pages = UnsafeMutableRawBufferPointer(start: start + page, count: size)
        memset(pages.baseAddress!, Int32(Self.filler), size)
        let offset = end == .start ? 0 : size - byteCount
        bytes = UnsafeMutableRawBufferPointer(rebasing: pages[offset..<offset + byteCount])
    }

    deinit { munmap(mapping.baseAddress!, mapping.count) }

    func elements<Element: BitwiseCopyable>() -> UnsafeMutableBufferPointer<Element> {
        bytes.bindMemory(to: Element.self)
    }

    /// From now on a write ends the process.
    func makeReadOnly() {
        precondition(mprotect(pages.baseAddress!, pages.count, PROT_READ) == 0)
    }

    /// Whether nobody has written to the pages outside the operand.
    var isIntact: Bool {
        let start = bytes.baseAddress! - pages.baseAddress!
        return Self.isFiller(pages[..<start]) && Self.isFiller(pages[(start + bytes.count)...])
    }

    /// Compares the bytes with those one further. An unoptimised loop over them would take most of the tests' time.
    private static func isFiller(_ part: Slice<UnsafeMutableRawBufferPointer>) -> Bool {
        guard let first = part.first else { return true }
        let start = part.base.baseAddress! + part.startIndex
        return first == filler && memcmp(start, start + 1, part.count - 1) == 0
    }
}
