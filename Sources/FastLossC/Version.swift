// The version of the library, and the description of the process.

import CFastLoss
import CFastLossThreads
import FastLoss

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

@c @implementation
public func fastloss_abi_version() -> Int32 { FASTLOSS_ABI_VERSION }

@c @implementation
public func fastloss_version() -> UnsafePointer<CChar>? { staticText(FastLossVersion.text) }

@c @implementation
public func fastloss_describe(_ buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int) -> Int {
    ProcessState.prepare()
    BLAS.prepare()
    var json = JSONObject(buffer, capacity: capacity)
    json.add("version", staticText(FastLossVersion.text))
    json.add("abiVersion", Int(FASTLOSS_ABI_VERSION))
    json.add("instructionSet", InstructionSet.active.text)
    json.add("requestedInstructionSet", InstructionSet.requestedText)
    json.add("workers", Workspace.defaultWorkers)
    json.add("threads", staticText(fastloss_has_pool() ? "pool" : "helpers"))
    json.add("blasConfiguration", BLAS.configurationText)
    json.add("blasCore", BLAS.coreNameText)
    json.add("blasThreads", BLAS.threads)
    json.add("blasLibrary", BLAS.libraryPathText ?? staticText("unknown (linked statically)"))
    return json.end()
}

extension InstructionSet {
    /// The name in FASTLOSS_ISA.
    fileprivate var text: UnsafePointer<CChar> {
        switch self {
        case .baseline: staticText("baseline")
        case .avx2: staticText("avx2")
        case .avx512: staticText("avx512")
        case .amx: staticText("amx")
        }
    }

    /// The value of FASTLOSS_ISA, if it is set.
    fileprivate static var requestedText: UnsafePointer<CChar>? { UnsafePointer(getenv("FASTLOSS_ISA")) }
}

/// Writes a JSON object (RFC 8259) to a buffer as snprintf does: counts all bytes and drops those that do not
/// fit. Allocates no memory.
private struct JSONObject {
    private let buffer: UnsafeMutablePointer<CChar>?
    private let capacity: Int
    private var length = 0

    init(_ buffer: UnsafeMutablePointer<CChar>?, capacity: Int) {
        self.buffer = capacity > 0 ? buffer : nil
        self.capacity = capacity
    }

    /// A string, or null.
    mutating func add(_ key: StaticString, _ value: UnsafePointer<CChar>?) {
        add(key)
        if let value { append(quoted: value) } else { append("null") }
    }

    /// A number that is not negative.
    mutating func add(_ key: StaticString, _ value: Int) {
        add(key)
        var power = 1
        while value / power >= 10 { power *= 10 }
        while power > 0 {
            append(UInt8(ascii: "0") + UInt8(value / power % 10))
            power /= 10
        }
    }

    /// Ends the object and returns the length of the text.
    mutating func end() -> Int {
        append("}")
        if let buffer { buffer[min(length, capacity - 1)] = 0 }
        return length
    }

    private mutating func add(_ key: StaticString) {
        append(length == 0 ? "{" : ", ")
        append(quoted: staticText(key))
        append(": ")
    }

    /// A string in JSON's notation (section 7).
    private mutating func append(quoted text: UnsafePointer<CChar>) {
        append("\"")
        var next = text
        while next.pointee != 0 {
            let byte = UInt8(bitPattern: next.pointee)
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                append("\\")
                append(byte)
            case 0..<0x20:
                append("\\u00")
                append(UInt8(ascii: byte < 0x10 ? "0" : "1"))
                append(hexadecimalDigit(byte & 0xf))
            default:
                append(byte)
            }
            next += 1
        }
        append("\"")
    }

    private func hexadecimalDigit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + (value - 10)
    }

    private mutating func append(_ text: StaticString) {
        for index in 0..<text.utf8CodeUnitCount { append(text.utf8Start[index]) }
    }

    private mutating func append(_ byte: UInt8) {
        if let buffer, length < capacity - 1 { buffer[length] = CChar(bitPattern: byte) }
        length += 1
    }
}
