// The memory behind spans, for kernels that take pointers; and arrays whose allocation may fail.

extension Span where Element: BitwiseCopyable {
    /// The elements' memory.
    ///
    /// The buffer leaves the closure that lends it. That is sound for the span of a public call's parameter
    /// alone: the parameter stays borrowed until the call returns, its memory does not move meanwhile, and
    /// every use of the buffer ends before.
    package var memory: UnsafeBufferPointer<Element> {
        withUnsafeBufferPointer { $0 }
    }

    /// The first element's address; of an empty span, an aligned address that is never read.
    package var pointer: UnsafePointer<Element> {
        memory.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Element>.alignment)!
    }
}

extension MutableSpan where Element: BitwiseCopyable {
    /// The elements' memory, under the rule of `Span.memory`.
    package var memory: UnsafeMutableBufferPointer<Element> {
        mutating get { withUnsafeMutableBufferPointer { $0 } }
    }

    /// The first element's address; of an empty span, an aligned address that is never written.
    package var pointer: UnsafeMutablePointer<Element> {
        mutating get {
            memory.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Element>.alignment)!
        }
    }
}

/// An array of zeros for a result of unbounded size, such as the B×B similarities of rows without columns.
///
/// Swift's allocator ends the process if it has no memory. So this function first allocates the size from the
/// C library, and throws if that fails.
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
