// Checkpoints: the whole state of a run in one safetensors file, from which it goes on to the same bits.

import BenchmarkData
import FastLossHeads
import Foundation

/// A file that is not a checkpoint of a run with these settings.
package struct ResumeError: Error, CustomStringConvertible {
    package let description: String
}

extension TrainingRun {
    /// Parameters under their names, those of the optimiser behind a prefix, and the rest as metadata.
    package func checkpoint() throws -> SafeTensors {
        var tensors = model.layout.tensors(of: parameters)
        tensors.merge(means.tensors(of: adam.means)) { $1 }
        tensors.merge(squares.tensors(of: adam.squares)) { $1 }
        // Floats hold the numbers of cells exactly.
        tensors["order"] = .init(shape: [order.count], values: order.map(Float.init))
        for (name, curve) in [("training", trainingCurve), ("validation", validationCurve)] {
            tensors["curve.\(name)"] = .init(
                shape: [curve.count, Terms.names.count], values: curve.flatMap { $0 })
        }
        let metadata = [
            "settings": try settings.json, "generator": "\(generator.state)", "step": "\(adam.step)",
            "epoch": "\(epoch)", "stepInEpoch": "\(stepInEpoch)",
        ]
        return SafeTensors(tensors: tensors, metadata: metadata)
    }

    /// Goes on from a checkpoint of a run with the same settings.
    package mutating func resume(from path: String) throws {
        let file = try SafeTensors(contentsOf: path)
        let (wanted, found) = (try settings.json, file.metadata["settings"] ?? "none")
        guard found == wanted else {
            throw ResumeError(description: "\(path) has the settings \(found), but this run has \(wanted)")
        }
        func number<Number: FixedWidthInteger>(_ key: String) throws -> Number {
            guard let number = file.metadata[key].flatMap({ Number($0) }), number >= 0 else {
                throw ResumeError(description: "\(path) has no valid metadata \"\(key)\"")
            }
            return number
        }
        func rows(_ name: String, _ width: Int) throws -> [[Float]] {
            guard let tensor = file.tensors[name] else { throw CheckpointError.missingTensor(name) }
            guard tensor.values.count % width == 0 else {
                throw CheckpointError.shapeMismatch(
                    tensor: name, expected: [tensor.values.count / width, width], actual: tensor.shape)
            }
            return stride(from: 0, to: tensor.values.count, by: width).map {
                Array(tensor.values[$0..<$0 + width])
            }
        }
        var state = self
        state.parameters = try model.layout.values(from: file)
        state.adam.means = try means.values(from: file)
        state.adam.squares = try squares.values(from: file)
        state.generator = SeededGenerator(seed: try number("generator"))
        (state.adam.step, state.epoch) = (try number("step"), try number("epoch"))
        state.stepInEpoch = try number("stepInEpoch")
        state.order = try rows("order", 1).map { Int(exactly: $0[0]) ?? -1 }
        guard state.order.allSatisfy(data.cellTypes.indices.contains) else {
            throw ResumeError(description: "\(path) lists cells that the data does not have")
        }
        state.trainingCurve = try rows("curve.training", Terms.names.count)
        state.validationCurve = try rows("curve.validation", Terms.names.count)
        self = state
    }

    private var means: ParameterLayout { model.layout.prefixed("optimizer.exp_avg.") }
    private var squares: ParameterLayout { model.layout.prefixed("optimizer.exp_avg_sq.") }
}

extension TrainingSettings {
    /// One line, the same for the same settings.
    fileprivate var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = .sortedKeys
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }
}
