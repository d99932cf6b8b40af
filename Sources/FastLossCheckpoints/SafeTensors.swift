// The file format of checkpoints: named tensors behind a JSON header (safetensors).
//
// A module of its own, because it needs Foundation: the heads and the C library link without it.

import FastLossHeads
import Foundation

/// The tensors of one safetensors file, as floats.
///
/// The format, by Hugging Face: eight bytes with the length of the header, little endian; the header, a JSON
/// object from each name to type, shape and byte range; then the elements, row-major and little endian.
/// PyTorch's side is `safetensors.torch.load_file` and `save_file`.
public struct SafeTensors: Equatable, Sendable {
    /// One tensor.
    public struct Tensor: Equatable, Sendable {
        /// The sides, outermost first.
        public var shape: [Int]
        /// The elements, row-major.
        public var values: [Float]

        /// A tensor of these elements.
        public init(shape: [Int], values: [Float]) {
            self.shape = shape
            self.values = values
        }

        /// A matrix of these rows.
        ///
        /// - Precondition: each row has as many elements as there are columns.
        public init(rows: [[Float]], columns: Int) {
            precondition(rows.allSatisfy { $0.count == columns }, "a row has not \(columns) elements")
            self.init(shape: [rows.count, columns], values: rows.flatMap { $0 })
        }
    }

    /// The tensors by name.
    public var tensors: [String: Tensor]
    /// Texts that belong to the file.
    public var metadata: [String: String]

    /// Tensors and metadata, none by default.
    public init(tensors: [String: Tensor] = [:], metadata: [String: String] = [:]) {
        self.tensors = tensors
        self.metadata = metadata
    }

    /// The rows of the matrix of this name.
    ///
    /// - Throws: ``CheckpointError`` if there is no such tensor, or if it is no matrix of so many columns.
    public func rows(of name: String, columns: Int) throws(CheckpointError) -> [[Float]] {
        guard let tensor = tensors[name] else { throw .missingTensor(name) }
        let shape = [tensor.shape.first ?? 0, columns]
        guard tensor.shape == shape, tensor.values.count == shape[0] * columns else {
            throw .shapeMismatch(tensor: name, expected: shape, actual: tensor.shape)
        }
        return (0..<shape[0]).map { Array(tensor.values[$0 * columns..<($0 + 1) * columns]) }
    }
}

/// Why a checkpoint cannot be read or does not fit.
public enum CheckpointError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The file is not a safetensors file, or it is cut short.
    case invalidFile(path: String, reason: String)
    /// A tensor has elements of a type that is not supported: F32, F64 and BF16 are.
    case unsupportedType(tensor: String, type: String)
    /// A parameter has no tensor of its name.
    case missingTensor(String)
    /// A tensor has another shape than the parameter.
    case shapeMismatch(tensor: String, expected: [Int], actual: [Int])

    /// The error in one sentence.
    public var description: String {
        switch self {
        case .invalidFile(let path, let reason): "\(path) is not a safetensors file: \(reason)"
        case .unsupportedType(let tensor, let type):
            "tensor \(tensor) has elements of type \(type), but F32, F64 and BF16 are supported"
        case .missingTensor(let name): "the checkpoint has no tensor \(name)"
        case .shapeMismatch(let tensor, let expected, let actual):
            "tensor \(tensor) has the shape \(actual), but \(expected) was expected"
        }
    }
}

// MARK: - Files

extension SafeTensors {
    /// One entry of the header.
    private struct Entry: Codable {
        var dtype: String
        var shape: [Int]
        var dataOffsets: [Int]

        enum CodingKeys: String, CodingKey {
            case dtype, shape
            case dataOffsets = "data_offsets"
        }
    }

    /// The key of the metadata in the header.
    private static let metadataKey = "__metadata__"

    /// Reads a file.
    ///
    /// - Throws: ``CheckpointError``, or the error of the system if the file cannot be read.
    public init(contentsOf path: String) throws {
        let data = try Data(contentsOf: URL(filePath: path), options: .mappedIfSafe)
        func invalid(_ reason: String) -> CheckpointError { .invalidFile(path: path, reason: reason) }
        guard data.count >= 8 else { throw invalid("it has \(data.count) bytes") }
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(data.count - 8) else { throw invalid("its header is cut short") }
        let elements = 8 + Int(length)
        guard
            let header = try? JSONSerialization.jsonObject(with: data[8..<elements]) as? [String: Any]
        else { throw invalid("its header is not a JSON object") }
        self.init(metadata: header[Self.metadataKey] as? [String: String] ?? [:])
        for (name, value) in header where name != Self.metadataKey {
            guard let entry = value as? [String: Any], let type = entry["dtype"] as? String,
                let shape = entry["shape"] as? [Int], let range = entry["data_offsets"] as? [Int],
                range.count == 2, range[0] >= 0, range[0] <= range[1], range[1] <= data.count - elements,
                shape.allSatisfy({ $0 >= 0 })
            else { throw invalid("the entry of tensor \(name) is damaged") }
            let values = try Self.floats(
                data[elements + range[0]..<elements + range[1]], type: type, tensor: name)
            guard values.count == shape.reduce(1, *) else {
                throw invalid("tensor \(name) has \(values.count) elements in the shape \(shape)")
            }
            tensors[name] = Tensor(shape: shape, values: values)
        }
    }

    private static func floats(_ bytes: Data, type: String, tensor: String) throws(CheckpointError) -> [Float]
    {
        func elements<Bits: FixedWidthInteger>(_ bits: Bits.Type, _ value: (Bits) -> Float) -> [Float] {
            bytes.withUnsafeBytes { memory in
                (0..<bytes.count / MemoryLayout<Bits>.size).map { index in
                    value(
                        Bits(
                            littleEndian: memory.loadUnaligned(
                                fromByteOffset: index * MemoryLayout<Bits>.size, as: Bits.self)))
                }
            }
        }
        switch type {
        case "F32": return elements(UInt32.self) { Float(bitPattern: $0) }
        case "F64": return elements(UInt64.self) { Float(Double(bitPattern: $0)) }
        // The upper half of a Float.
        case "BF16": return elements(UInt16.self) { Float(bitPattern: UInt32($0) << 16) }
        default: throw .unsupportedType(tensor: tensor, type: type)
        }
    }

    /// Writes a file, whole or not at all: it appears under its name when it is complete.
    ///
    /// - Throws: the error of the system if the file cannot be written; an existing file then stays as it is.
    public func write(to path: String) throws {
        var header: [String: Entry] = [:]
        var data = Data()
        let names = tensors.keys.sorted()
        var offset = 0
        for name in names {
            guard let tensor = tensors[name] else { continue }
            let end = offset + tensor.values.count * MemoryLayout<Float>.size
            header[name] = Entry(dtype: "F32", shape: tensor.shape, dataOffsets: [offset, end])
            offset = end
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var json = String(decoding: try encoder.encode(header), as: UTF8.self)
        if !metadata.isEmpty {
            let texts = String(decoding: try encoder.encode(metadata), as: UTF8.self)
            json = "{\"\(Self.metadataKey)\":\(texts)" + (header.isEmpty ? "}" : "," + json.dropFirst())
        }
        // Spaces align the elements for readers that map the file.
        json += String(repeating: " ", count: (8 - json.utf8.count % 8) % 8)
        data.reserveCapacity(8 + json.utf8.count + offset)
        withUnsafeBytes(of: UInt64(json.utf8.count).littleEndian) { data.append(contentsOf: $0) }
        data.append(contentsOf: json.utf8)
        for name in names {
            guard let tensor = tensors[name] else { continue }
            // Every processor that this package supports is little endian.
            tensor.values.withUnsafeBytes { data.append(contentsOf: $0) }
        }
        try data.write(to: URL(filePath: path), options: .atomic)
    }
}

// MARK: - Parameters

extension ParameterLayout {
    /// The values of all parameters, from the tensors of their names.
    ///
    /// - Throws: `CheckpointError` if a tensor is missing or has another shape. Tensors of other names are
    ///   ignored.
    public func values(from checkpoint: SafeTensors) throws(CheckpointError) -> [Float] {
        var values: [Float] = []
        values.reserveCapacity(count)
        for parameter in parameters {
            guard let tensor = checkpoint.tensors[parameter.name] else {
                throw .missingTensor(parameter.name)
            }
            guard tensor.shape == parameter.shape, tensor.values.count == parameter.range.count else {
                throw .shapeMismatch(
                    tensor: parameter.name, expected: parameter.shape, actual: tensor.shape)
            }
            values += tensor.values
        }
        return values
    }

    /// The tensors of all parameters, under their names.
    ///
    /// - Precondition: `values` has as many elements as the layout.
    public func tensors(of values: [Float]) -> [String: SafeTensors.Tensor] {
        precondition(values.count == count, "\(values.count) values for \(count) parameters")
        return Dictionary(
            uniqueKeysWithValues: parameters.map {
                ($0.name, SafeTensors.Tensor(shape: $0.shape, values: Array(values[$0.range])))
            })
    }
}
