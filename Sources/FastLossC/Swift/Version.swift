// Which library this is and what it computes with.

import CFastLoss
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

/// The version as C has it, made once and never freed.
nonisolated(unsafe) private let version = UnsafePointer(strdup(FastLossVersion.current))

@c @implementation
public func fastloss_version() -> UnsafePointer<CChar>? { version }

@c @implementation
public func fastloss_describe(_ buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int) -> Int {
    let text = RuntimeDescription.current.json.utf8
    guard let buffer, capacity > 0 else { return text.count }
    var length = 0
    for byte in text.prefix(capacity - 1) {
        buffer[length] = CChar(bitPattern: byte)
        length += 1
    }
    buffer[length] = 0
    return text.count
}

extension RuntimeDescription {
    /// The description as one JSON object, with the keys that fastloss.h promises.
    var json: String {
        let members = [
            ("version", quoted(version)),
            ("abiVersion", "\(FASTLOSS_ABI_VERSION)"),
            ("instructionSet", quoted(instructionSet.rawValue)),
            ("requestedInstructionSet", requestedInstructionSet.map(quoted) ?? "null"),
            ("workers", "\(workers)"),
            ("blasConfiguration", quoted(blasConfiguration)),
            ("blasCore", quoted(blasCore)),
            ("blasThreads", "\(blasThreads)"),
            ("blasLibrary", quoted(blasLibrary)),
        ]
        return "{" + members.map { "\(quoted($0)): \($1)" }.joined(separator: ", ") + "}"
    }
}

/// A string in JSON's notation (RFC 8259, section 7).
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\u{0}"..<" ":
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
