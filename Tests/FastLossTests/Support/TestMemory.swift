// Memory in which spans may overlap: Swift's arrays could not be handed over like this, a C caller's can.

/// Zeroed memory from which spans are cut at will, overlapping ones too.
final class TestMemory {
    private let storage: UnsafeMutableBufferPointer<Float>

    init(floats count: Int) {
        storage = .allocate(capacity: count)
        storage.initialize(repeating: 0)
    }

    deinit { storage.deallocate() }

    /// Whether every element is still zero.
    var isUntouched: Bool { storage.allSatisfy { $0 == 0 } }

    /// Elements from `start` on, for reading.
    @_lifetime(borrow self)
    func floats(_ start: Int, count: Int) -> Span<Float> {
        let span = Span(_unsafeElements: UnsafeBufferPointer(rebasing: storage[start..<start + count]))
        return _overrideLifetime(span, borrowing: self)
    }

    /// Elements from `start` on, for writing.
    @_lifetime(borrow self)
    func mutable(_ start: Int, count: Int) -> MutableSpan<Float> {
        let span = MutableSpan(
            _unsafeElements: UnsafeMutableBufferPointer(rebasing: storage[start..<start + count]))
        return _overrideLifetime(span, borrowing: self)
    }

    /// `count` bytes from float number `start` on, as a mask or as labels.
    @_lifetime(borrow self)
    func bytes<Element: BitwiseCopyable>(
        _ start: Int, count: Int, as type: Element.Type
    ) -> Span<Element> {
        let base = UnsafeRawPointer(storage.baseAddress! + start).assumingMemoryBound(to: type)
        let span = Span(_unsafeStart: base, count: count)
        return _overrideLifetime(span, borrowing: self)
    }

    @_lifetime(borrow self)
    func bools(_ start: Int, count: Int) -> Span<Bool> { bytes(start, count: count, as: Bool.self) }

    @_lifetime(borrow self)
    func labels(_ start: Int, count: Int) -> Span<Int32> { bytes(start, count: count, as: Int32.self) }
}
