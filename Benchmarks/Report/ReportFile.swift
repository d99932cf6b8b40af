// Reads and writes report files.

import Foundation

extension Report {
    /// The report as JSON, one record a line: a changed row changes one line.
    package func encoded() throws -> Data {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        func json(_ value: some Encodable) throws -> String {
            String(decoding: try encoder.encode(value), as: UTF8.self)
        }
        func lines(_ elements: [some Encodable]) throws -> String {
            elements.isEmpty ? "[]" : "[\n\(try elements.map(json).joined(separator: ",\n"))\n]"
        }
        func members(_ members: some Sequence<(key: String, value: String)>) throws -> String {
            "{\n\(try members.map { "\(try json($0)): \($1)" }.joined(separator: ",\n"))\n}"
        }
        let text = try members([
            ("schema", json(Self.schema)), ("date", json(date)), ("quick", json(quick)),
            ("machine", json(machine)), ("runtime", json(runtime)), ("ceilings", json(ceilings)),
            ("fields", members(Record.meaning.map { ($0, try json($1)) })),
            ("measurements", lines(measurements)), ("failures", lines(failures)),
        ])
        return Data("\(text)\n".utf8)
    }

    /// Reads what ``encoded()`` wrote.
    package init(json: Data) throws(ReportFormatError) {
        struct Version: Decodable {
            var schema: Int
        }
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        do {
            // The schema first: another format need not have the fields of this one.
            let version = try decoder.decode(Version.self, from: json)
            guard version.schema == Self.schema else {
                throw ReportFormatError.schema(found: version.schema, expected: Self.schema)
            }
            self = try decoder.decode(Report.self, from: json)
        } catch let error as ReportFormatError {
            throw error
        } catch let error as DecodingError {
            throw .malformed(reason: error.sentence)
        } catch {
            throw .malformed(reason: "\(error)")
        }
    }

    /// Reads the file at `path`.
    package init(reading path: String) throws(ReportFileError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            throw .unreadable(path: path, reason: exists ? error.localizedDescription : "no such file")
        }
        do {
            try self.init(json: data)
        } catch {
            throw .unreadable(path: path, reason: "it \(error)")
        }
    }
}

/// An output file: a report, or a page or chart made from one.
package struct ReportFile: Sendable {
    package let url: URL

    /// Checks that the file can be written, before minutes are spent on measuring.
    package init(path: String) throws(ReportFileError) {
        url = URL(filePath: path)
        let files = FileManager.default
        var isFolder: ObjCBool = false
        if files.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue {
            throw .unwritable(path: path, reason: "it is a folder")
        }
        // An atomic write creates a temporary file in the folder, so the folder must be writable.
        let folder = url.deletingLastPathComponent()
        guard files.fileExists(atPath: folder.path, isDirectory: &isFolder), isFolder.boolValue else {
            throw .unwritable(path: path, reason: "there is no folder \(folder.path)")
        }
        guard files.isWritableFile(atPath: folder.path) else {
            throw .unwritable(path: path, reason: "the folder \(folder.path) is not writable")
        }
    }

    /// Writes the report atomically.
    package func write(_ report: Report) throws {
        try report.encoded().write(to: url, options: .atomic)
    }

    /// Writes the text atomically.
    package func write(_ text: String) throws {
        try Data(text.utf8).write(to: url, options: .atomic)
    }
}

/// Why a report cannot be written or read.
package enum ReportFileError: Error, Equatable, CustomStringConvertible {
    case unwritable(path: String, reason: String)
    case unreadable(path: String, reason: String)

    package var description: String {
        switch self {
        case .unwritable(let path, let reason): "cannot write \(path): \(reason)"
        case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
        }
    }
}

/// Why a file is not a report.
package enum ReportFormatError: Error, Equatable, CustomStringConvertible {
    case schema(found: Int, expected: Int)
    case malformed(reason: String)

    package var description: String {
        switch self {
        case .schema(let found, let expected):
            "has schema \(found), but this program reads schema \(expected); run the benchmarks again with --json"
        case .malformed(let reason):
            "is not a report of the benchmarks: \(reason)"
        }
    }
}

extension DecodingError {
    /// The problem and its place.
    fileprivate var sentence: String {
        func place(_ path: [any CodingKey]) -> String {
            path.isEmpty ? "it" : path.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        }
        return switch self {
        case .keyNotFound(let key, let context): "\(place(context.codingPath + [key])) is missing"
        case .typeMismatch(let type, let context): "\(place(context.codingPath)) is not of type \(type)"
        case .valueNotFound(_, let context): "\(place(context.codingPath)) is null"
        case .dataCorrupted(let context) where context.codingPath.isEmpty: "it is not JSON"
        case .dataCorrupted(let context): "\(place(context.codingPath)): \(context.debugDescription)"
        @unknown default: "\(self)"
        }
    }
}
