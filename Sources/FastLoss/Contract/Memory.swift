// The memory behind spans, for kernels that take pointers; and arrays that there may be no memory for.

extension Span where Element: BitwiseCopyable {
    /// The elements' memory.
    ///
    /// The buffer leaves the closure that lends it, which is sound here and nowhere else: a span that is a parameter keeps its
    /// owner borrowed until the call returns, its memory does not move meanwhile, and every use of the buffer ends before.
    package var memory: UnsafeBufferPointer<Element> {
        withUnsafeBufferPointer { $0 }
    }

    /// The first element's address; for an empty span some aligned address that is never read.
    package var pointer: UnsafePointer<Element> {
        memory.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Element>.alignment)!
    }
}

extension MutableSpan where Element: BitwiseCopyable {
    /// The elements' memory, under the rule of `Span.memory`.
    package var memory: UnsafeMutableBufferPointer<Element> {
        mutating get { withUnsafeMutableBufferPointer { $0 } }
    }

    /// The first element's address; for an empty span some aligned address that is never written.
    package var pointer: UnsafeMutablePointer<Element> {
        mutating get {
            memory.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Element>.alignment)!
        }
    }
}

/// An array of zeros for a result whose size nothing bounds: B×B similarities of rows without columns.
///
/// Swift's allocator ends the process where there is no memory, so the C library is asked first, as for scratch memory.
func zeros(_ count: Int, for call: String) throws(LossError) -> [Float] {
    guard count <= (Int.max - ScratchLayout.alignment) / MemoryLayout<Float>.stride else {
        throw .outOfMemory(call: call, bytes: .max)
    }
    do {
        var layout = ScratchLayout(workers: 1)
        _ = try layout.add(count, of: Float.self)
        var probe = ScratchMemory()
        _ = try probe.reserve(layout, for: call)
    }
    return [Float](repeating: 0, count: count)
}
