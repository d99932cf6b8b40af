// The addresses of buffers that may be empty, and of arrays.

import FastLoss

/// The first element's address; of an empty buffer, an aligned address that is never read.
func pointer<Element>(_ buffer: UnsafeBufferPointer<Element>) -> UnsafePointer<Element> {
    buffer.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Element>.alignment)!
}

/// The first element's address; of an empty buffer, an aligned address that is never written.
func pointer<Element>(_ buffer: UnsafeMutableBufferPointer<Element>) -> UnsafeMutablePointer<Element> {
    buffer.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Element>.alignment)!
}

extension [Float] {
    /// The memory of the elements under the rule of `Span.memory`, after a copy if another array shares them.
    var uniqueMemory: UnsafeMutableBufferPointer<Float> {
        mutating get {
            var span = mutableSpan
            return span.memory
        }
    }
}
