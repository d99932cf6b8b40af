// The checks before every computation: element counts, ranges, overlap.

/// Throws unless the argument has the number of elements that the other arguments imply.
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

/// Throws unless a factor of a gradient, which may be a product of several, is finite as a `Float`.
package func checkFactor(_ name: String, _ factor: Double) throws(LossError) {
    guard abs(factor) <= Double(Float.greatestFiniteMagnitude) else {
        throw .invalidParameter(
            name: name, value: factor, requirement: factor.isFinite ? "at most 3.4e38 in magnitude" : "finite"
        )
    }
}

/// The bytes of an argument and its name, for the overlap check.
package struct NamedMemory {
    package let name: String
    package let bytes: Range<UInt>

    package init(_ name: String, _ buffer: UnsafeRawBufferPointer) {
        let start = UInt(bitPattern: buffer.baseAddress)
        self.name = name
        bytes = start..<start + UInt(buffer.count)
    }

    package init<Element>(_ name: String, _ buffer: UnsafeBufferPointer<Element>) {
        self.init(name, UnsafeRawBufferPointer(buffer))
    }

    package init<Element>(_ name: String, _ buffer: UnsafeMutableBufferPointer<Element>) {
        self.init(name, UnsafeBufferPointer(buffer))
    }

    /// Nil for an argument that is not given.
    package init?<Element>(_ name: String, ifGiven buffer: UnsafeBufferPointer<Element>?) {
        guard let buffer else { return nil }
        self.init(name, buffer)
    }

    /// Nil for an argument that is not given.
    package init?<Element>(_ name: String, ifGiven buffer: UnsafeMutableBufferPointer<Element>?) {
        guard let buffer else { return nil }
        self.init(name, buffer)
    }
}

/// Throws if `output` shares memory with `other`. Empty buffers share none.
package func checkNoOverlap(_ output: NamedMemory, _ other: NamedMemory?) throws(LossError) {
    guard let other, output.bytes.overlaps(other.bytes) else { return }
    throw .overlappingBuffers(output: output.name, other: other.name)
}

/// Throws if an output shares memory with an input or with another output; nil is an argument that is not
/// given.
package func checkNoOverlap(inputs: Span<NamedMemory?>, outputs: Span<NamedMemory?>) throws(LossError) {
    for index in outputs.indices {
        guard let output = outputs[index] else { continue }
        for input in inputs.indices { try checkNoOverlap(output, inputs[input]) }
        for earlier in 0..<index { try checkNoOverlap(output, outputs[earlier]) }
    }
}
