// Checkpoints: the format byte by byte, round trips, and files that are damaged.

import FastLossCheckpoints
import FastLossHeads
import Foundation
import Testing

@Suite struct SafeTensorsTests {
    /// A file as PyTorch's safetensors 0.5.3 writes it: `save_file({"w": [[1, −2], [0.5, 3]] as float32,
    /// "b": [1.5, −0.25] as bfloat16}, metadata={"format": "pt"})`.
    static let written: Data = {
        let header =
            #"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#
            + #""b":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]}}     "#
        var data = Data()
        withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { data.append(contentsOf: $0) }
        data.append(contentsOf: header.utf8)
        for value: Float in [1, -2, 0.5, 3] {
            withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
        }
        data.append(contentsOf: [0xC0, 0x3F, 0x80, 0xBE])
        return data
    }()

    @Test func readsWhatPyTorchWrites() throws {
        try withFile(Self.written) { path in
            let file = try SafeTensors(contentsOf: path)
            #expect(file.metadata == ["format": "pt"])
            #expect(file.tensors["w"] == .init(shape: [2, 2], values: [1, -2, 0.5, 3]))
            #expect(file.tensors["b"] == .init(shape: [2], values: [1.5, -0.25]))
        }
    }

    @Test func whatIsWrittenIsReadBack() throws {
        let encoder = try BatchLabelEncoder(labels: 3, width: 5)
        var generator = SplitMix64(seed: 1)
        let layout = encoder.layout.prefixed("batch_encoder.")
        var values = layout.initialValues(using: &generator)
        values[0] = -0.0
        values[1] = .leastNonzeroMagnitude
        let checkpoint = SafeTensors(
            tensors: layout.tensors(of: values), metadata: ["step": "7", "text": "\"quoted\" / é"])
        try withFile(Data()) { path in
            try checkpoint.write(to: path)
            let read = try SafeTensors(contentsOf: path)
            #expect(read.metadata == checkpoint.metadata)
            expectSameBits(try layout.values(from: read), values)
            // The elements begin at a multiple of eight bytes.
            let length = try Data(contentsOf: URL(filePath: path)).prefix(8).enumerated().reduce(0) {
                $0 + Int($1.element) << (8 * $1.offset)
            }
            #expect(length % 8 == 0)
            try SafeTensors().write(to: path)
            #expect(try SafeTensors(contentsOf: path) == SafeTensors())
        }
    }

    @Test func damagedFilesAreNamed() throws {
        func expectInvalid(_ reason: String, _ data: Data) throws {
            try withFile(data) { path in
                #expect(throws: CheckpointError.invalidFile(path: path, reason: reason)) {
                    try SafeTensors(contentsOf: path)
                }
            }
        }
        try expectInvalid("it has 3 bytes", Self.written.prefix(3))
        try expectInvalid("its header is cut short", Self.written.prefix(40))
        try expectInvalid("the entry of tensor b is damaged", Self.written.dropLast())
        try expectInvalid("its header is not a JSON object", Data([2, 0, 0, 0, 0, 0, 0, 0, 0x5B, 0x5D]))
        let integer = Self.written.replacing(Data("BF16".utf8), with: Data("I16 ".utf8))
        try withFile(integer) { path in
            #expect(throws: CheckpointError.unsupportedType(tensor: "b", type: "I16 ")) {
                try SafeTensors(contentsOf: path)
            }
        }
    }

    @Test func parametersMustFit() throws {
        let layout = try BatchLabelEncoder(labels: 2, width: 2).layout
        var checkpoint = SafeTensors(tensors: layout.tensors(of: [1, 2, 3, 4, 5, 6, 7, 8]))
        #expect(try layout.values(from: checkpoint) == [1, 2, 3, 4, 5, 6, 7, 8])
        checkpoint.tensors["embedding.weight"]?.shape = [4, 1]
        #expect(
            throws: CheckpointError.shapeMismatch(
                tensor: "embedding.weight", expected: [2, 2], actual: [4, 1])
        ) { try layout.values(from: checkpoint) }
        checkpoint.tensors["enc_norm.bias"] = nil
        checkpoint.tensors["embedding.weight"]?.shape = [2, 2]
        #expect(throws: CheckpointError.missingTensor("enc_norm.bias")) {
            try layout.values(from: checkpoint)
        }
    }

    @Test func rowsOfAMatrix() throws {
        let rows: [[Float]] = [[1, 2], [3, 4], [5, 6]]
        let file = SafeTensors(tensors: [
            "a": .init(rows: rows, columns: 2), "b": .init(rows: [], columns: 3),
        ])
        #expect(file.tensors["a"] == .init(shape: [3, 2], values: [1, 2, 3, 4, 5, 6]))
        #expect(try file.rows(of: "a", columns: 2) == rows)
        #expect(try file.rows(of: "b", columns: 3).isEmpty)
        #expect(throws: CheckpointError.shapeMismatch(tensor: "a", expected: [3, 3], actual: [3, 2])) {
            try file.rows(of: "a", columns: 3)
        }
        #expect(throws: CheckpointError.missingTensor("c")) { try file.rows(of: "c", columns: 1) }
    }

    /// A path that cannot be written leaves what was there.
    @Test func aFailedWriteLeavesTheFile() throws {
        try withFile(Self.written) { path throws in
            #expect(throws: (any Error).self) { try SafeTensors().write(to: path + "/below") }
            #expect(try Data(contentsOf: URL(filePath: path)) == Self.written)
        }
    }

    private func withFile(_ data: Data, _ body: (String) throws -> Void) throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).safetensors")
        try data.write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        try body(url.path())
    }
}
