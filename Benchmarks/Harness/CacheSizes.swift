// The data caches of a core, as Linux describes them.

import Foundation

/// One level of cache.
package struct CacheSize: Equatable, Sendable {
    package let level: Int
    package let bytes: Int
    /// Whether other processors use it too.
    package let isShared: Bool

    package init(level: Int, bytes: Int, isShared: Bool) {
        self.level = level
        self.bytes = bytes
        self.isShared = isShared
    }

    /// The caches of the first processor, from the smallest; empty where the system does not tell.
    ///
    /// - Parameter folder: one folder `index<n>` per cache, each with the files level, type, size and
    ///   shared_cpu_list.
    package static func all(in folder: String = "/sys/devices/system/cpu/cpu0/cache") -> [CacheSize] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.compactMap { name -> CacheSize? in
            func text(_ file: String) -> String? {
                (try? String(contentsOfFile: "\(folder)/\(name)/\(file)", encoding: .utf8))?
                    .trimmingCharacters(in: .whitespacesAndNewlines)
            }
            guard let level = text("level").flatMap(Int.init), let type = text("type"), type != "Instruction",
                let bytes = text("size").flatMap(bytes(in:))
            else { return nil }
            let processors = text("shared_cpu_list") ?? ""
            return CacheSize(
                level: level, bytes: bytes, isShared: processors.contains { $0 == "," || $0 == "-" })
        }.sorted { $0.level < $1.level }
    }

    /// "32K" is 32768, "8M" 8388608.
    private static func bytes(in size: String) -> Int? {
        let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30]
        guard let last = size.last else { return nil }
        guard let unit = units[last] else { return Int(size) }
        return Int(size.dropLast()).map { $0 * unit }
    }
}
