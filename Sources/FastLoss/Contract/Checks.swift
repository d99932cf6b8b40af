// The checks that stand before every computation: element counts, ranges, overlap.

/// Throws unless `actual` elements are what the other arguments ask for.
package func checkCount(_ argument: String, _ actual: Int, is expected: Int) throws(LossError) {
    guard actual == expected else {
        throw .shapeMismatch(argument: argument, expected: expected, actual: actual)
    }
}

/// Throws unless `value` satisfies `isValid`; the message names the `requirement`.
package func checkParameter(
    _ name: String, _ value: Float, _ requirement: String, _ isValid: (Float) -> Bool
) throws(LossError) {
    guard isValid(value) else {
        throw .invalidParameter(name: name, value: Double(value), requirement: requirement)
    }
}

/// A named piece of memory, for telling whether an output shares bytes with anything else.
package struct NamedMemory {
    package let name: String
    package let bytes: Range<UInt>

    package init<Element>(_ name: String, _ buffer: UnsafeBufferPointer<Element>) {
        let start = UInt(bitPattern: buffer.baseAddress)
        self.name = name
        bytes = start..<start + UInt(buffer.count * MemoryLayout<Element>.stride)
    }

    package init<Element>(_ name: String, _ buffer: UnsafeMutableBufferPointer<Element>) {
        self.init(name, UnsafeBufferPointer(buffer))
    }
}

/// Throws where `output` shares memory with `other`. Empty buffers share nothing.
package func checkNoOverlap(_ output: NamedMemory, _ other: NamedMemory?) throws(LossError) {
    guard let other, output.bytes.overlaps(other.bytes) else { return }
    throw .overlappingBuffers(output: output.name, other: other.name)
}
