// The class of machine that a report was measured on. No host name: reports are meant to be shared.

import Foundation

/// The machine, its system and the compiler.
package struct MachineDescription: Codable, Equatable, Sendable {
    /// The processor's name.
    package var cpu: String
    /// Cores that this process may run on.
    package var cores: Int
    package var memoryBytes: UInt64
    /// "x86_64" or "aarch64".
    package var architecture: String
    package var operatingSystem: String
    /// The compiler's version, to the minor number: "6.2".
    package var swiftVersion: String

    enum CodingKeys: String, CodingKey {
        case cpu, cores, architecture
        case memoryBytes = "memory_bytes"
        case operatingSystem = "os"
        case swiftVersion = "swift_version"
    }

    /// The machine that this process runs on.
    package static func current() -> MachineDescription {
        let process = ProcessInfo.processInfo
        let cpuInfo = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
        return MachineDescription(
            cpu: cpuInfo.flatMap(cpuName(inCPUInfo:)) ?? "unknown",
            cores: process.activeProcessorCount,
            memoryBytes: process.physicalMemory,
            architecture: compiledArchitecture,
            operatingSystem: process.operatingSystemVersionString,
            swiftVersion: compilerVersion)
    }

    /// The name in the text of Linux's /proc/cpuinfo. x86 gives a name; aarch64 numbers of implementer and
    /// part.
    package static func cpuName(inCPUInfo text: String) -> String? {
        var fields: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let halves = line.split(separator: ":", maxSplits: 1)
            let sides = halves.map { $0.trimmingCharacters(in: .whitespaces) }
            if sides.count == 2, fields[sides[0]] == nil { fields[sides[0]] = sides[1] }
        }
        if let name = fields["model name"] { return name }
        guard let implementer = fields["CPU implementer"], let part = fields["CPU part"] else { return nil }
        return "implementer \(implementer) part \(part)"
    }

    private static var compiledArchitecture: String {
        #if arch(x86_64)
            "x86_64"
        #elseif arch(arm64)
            "aarch64"
        #else
            "unknown"
        #endif
    }

    /// Swift offers its version to conditional compilation only.
    private static var compilerVersion: String {
        #if compiler(>=6.5)
            "6.5 or later"
        #elseif compiler(>=6.4)
            "6.4"
        #elseif compiler(>=6.3)
            "6.3"
        #else
            "6.2"
        #endif
    }
}
