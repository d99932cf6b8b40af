// Messages that are made without allocating memory: one of them reports that there is none.

import CFastLossThreads

/// A text of at most ``capacity`` bytes in UTF-8, made from a literal with interpolations.
///
/// A longer text ends after the last whole character that fits.
package struct Message: ExpressibleByStringInterpolation {
    /// More than twice the length of the longest message.
    package static let capacity = 1023

    private var bytes = InlineArray<1023, UInt8>(repeating: 0)
    private var count = 0

    package init(stringLiteral text: String) {
        append(text)
    }

    package init(stringInterpolation: StringInterpolation) {
        self = stringInterpolation.message
    }

    /// Collects the parts of one message.
    package struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var message: Message = ""

        package init(literalCapacity: Int, interpolationCount: Int) {}

        package mutating func appendLiteral(_ text: String) { message.append(text) }

        package mutating func appendInterpolation(_ text: String) { message.append(text) }

        package mutating func appendInterpolation(_ other: Message) {
            for index in 0..<other.count { message.append(other.bytes[index]) }
        }

        package mutating func appendInterpolation(_ number: some FixedWidthInteger) {
            if number < 0 { message.append(UInt8(ascii: "-")) }
            message.append(UInt64(number.magnitude), radix: 10)
        }

        /// The digits of a number to the base `radix`.
        package mutating func appendInterpolation(_ number: UInt32, radix: UInt64) {
            message.append(UInt64(number), radix: radix)
        }

        /// The shortest decimal that rounds to the number.
        package mutating func appendInterpolation(_ number: Double) {
            append { fastloss_format_double(number, $0) }
        }

        /// The shortest decimal that rounds to the number.
        package mutating func appendInterpolation(_ number: Float) {
            append { fastloss_format_float(number, $0) }
        }

        private mutating func append(_ format: (UnsafeMutablePointer<CChar>) -> Int) {
            var text = InlineArray<32, CChar>(repeating: 0)
            let length = withUnsafeMutableBytes(of: &text) {
                format($0.baseAddress!.assumingMemoryBound(to: CChar.self))
            }
            for index in 0..<length { message.append(UInt8(bitPattern: text[index])) }
        }
    }

    private mutating func append(_ text: String) {
        for character in text.unicodeScalars {
            let encoded = UTF8.encode(character)!
            guard count + encoded.count <= Self.capacity else { return }
            for byte in encoded { append(byte) }
        }
    }

    private mutating func append(_ byte: UInt8) {
        guard count < Self.capacity else { return }
        bytes[count] = byte
        count += 1
    }

    private mutating func append(_ number: UInt64, radix: UInt64) {
        var power: UInt64 = 1
        while number / power >= radix { power *= radix }
        while power > 0 {
            append(UInt8(ascii: "0") + UInt8(number / power % radix))
            power /= radix
        }
    }
}

extension Message {
    /// Copies the text and a terminating 0 to memory of ``capacity`` + 1 bytes.
    package func write(to memory: UnsafeMutablePointer<CChar>) {
        for index in 0..<count { memory[index] = CChar(bitPattern: bytes[index]) }
        memory[count] = 0
    }
}

extension String {
    /// The text of a message.
    package init(_ message: Message) {
        self = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Message.capacity + 1) {
            message.write(to: $0.baseAddress!)
            return String(cString: $0.baseAddress!)
        }
    }
}
