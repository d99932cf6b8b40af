// Reads the goldens that scripts/generate/goldens has PyTorch make: one file per loss, a list of named cases.

import Foundation
import Testing

/// One golden case: inputs exact in `Float`, parameters, and PyTorch's results in both precisions.
struct Golden: Decodable, Sendable, CustomTestStringConvertible {
    /// What the case is about; unique in its file.
    let name: String
    private let parameters: [String: Number]
    private let inputs: [String: [Number]]
    private let float64: [String: [Number]]
    private let float32: [String: [Number]]

    var testDescription: String { name }

    /// All cases of a loss, by the loss's stem.
    static func cases(of stem: String) throws -> [Golden] {
        guard
            let url = Bundle.module.url(forResource: stem, withExtension: "json", subdirectory: "Goldens")
        else { throw Missing(what: "file \(stem).json", name: "Goldens") }
        return try JSONDecoder().decode(File.self, from: Data(contentsOf: url)).cases
    }

    /// An integer parameter, such as a size.
    func int(_ parameter: String) throws -> Int { Int(try number(parameter)) }

    /// A parameter as the `Double` that PyTorch was given.
    func double(_ parameter: String) throws -> Double { try number(parameter) }

    /// A parameter rounded to `Float`.
    func float(_ parameter: String) throws -> Float { Float(try number(parameter)) }

    /// The names of all parameters.
    var parameterNames: [String] { parameters.keys.sorted() }

    /// Whether the case has this input.
    func hasInput(_ input: String) -> Bool { inputs[input] != nil }

    /// An input as the fast kernels and the naive baseline see it.
    func floats(_ input: String) throws -> [Float] { try array(inputs, input).map { Float($0.value) } }

    /// The same input, the very same values, as the oracle sees it.
    ///
    /// The file holds the shortest text that identifies the `Float`; read as a `Double` it would be another
    /// number, hence the way through `Float`.
    func doubles(_ input: String) throws -> [Double] { try floats(input).map { Double($0) } }

    /// A mask.
    func bools(_ input: String) throws -> [Bool] { try array(inputs, input).map { $0.value != 0 } }

    /// Labels.
    func int32s(_ input: String) throws -> [Int32] { try array(inputs, input).map { Int32($0.value) } }

    /// The names of all results.
    var resultNames: [String] { float64.keys.sorted() }

    /// A result of PyTorch in float64.
    func truth(_ result: String) throws -> [Double] { try array(float64, result).map(\.value) }

    /// A result of PyTorch in float32.
    func single(_ result: String) throws -> [Float] { try array(float32, result).map { Float($0.value) } }

    private func number(_ name: String) throws -> Double {
        guard let number = parameters[name] else { throw Missing(what: "parameter \(name)", name: self.name) }
        return number.value
    }

    private func array(_ arrays: [String: [Number]], _ name: String) throws -> [Number] {
        guard let array = arrays[name] else { throw Missing(what: "array \(name)", name: self.name) }
        return array
    }

    private struct File: Decodable {
        let cases: [Golden]
    }

    /// A number, or one of the strings that stand for what JSON cannot say.
    private struct Number: Decodable, Sendable {
        let value: Double

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(Double.self) {
                value = number
                return
            }
            switch try container.decode(String.self) {
            case "NaN": value = .nan
            case "Infinity": value = .infinity
            case "-Infinity": value = -.infinity
            case let text:
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "no number: \(text)")
            }
        }
    }

    private struct Missing: Error, CustomStringConvertible {
        let what: String
        let name: String

        var description: String { "no \(what) in \(name)" }
    }
}
