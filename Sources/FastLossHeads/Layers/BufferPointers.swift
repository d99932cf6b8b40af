// The addresses of buffers that may be empty.

/// The first element's address; of an empty buffer, an aligned address that is never read.
func pointer<Element>(_ buffer: UnsafeBufferPointer<Element>) -> UnsafePointer<Element> {
    buffer.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Element>.alignment)!
}

/// The first element's address; of an empty buffer, an aligned address that is never written.
func pointer<Element>(_ buffer: UnsafeMutableBufferPointer<Element>) -> UnsafeMutablePointer<Element> {
    buffer.baseAddress ?? UnsafeMutablePointer(bitPattern: MemoryLayout<Element>.alignment)!
}
