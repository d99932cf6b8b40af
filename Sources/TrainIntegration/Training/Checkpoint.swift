// Checkpoints: the whole state of a run in one safetensors file, from which it goes on to the same bits.

import BenchmarkData
import FastLossCheckpoints
import FastLossHeads

/// A file that is not a checkpoint of a run with these settings.
package struct ResumeError: Error, CustomStringConvertible {
    package let description: String
}

extension TrainingRun {
    /// Parameters under their names, those of the optimiser behind a prefix, and the rest as metadata.
    package func checkpoint() -> SafeTensors {
        var tensors = model.layout.tensors(of: parameters)
        tensors.merge(means.tensors(of: adam.means)) { $1 }
        tensors.merge(squares.tensors(of: adam.squares)) { $1 }
        // Floats hold the numbers of cells exactly.
        tensors["order"] = .init(shape: [order.count, 1], values: order.map(Float.init))
        for (name, curve) in [("training", trainingCurve), ("validation", validationCurve)] {
            tensors["curve.\(name)"] = .init(
                shape: [curve.count, Terms.names.count], values: curve.flatMap { $0 })
        }
        return SafeTensors(
            tensors: tensors, metadata: ["settings": "\(settings)", "generator": "\(generator.state)"])
    }

    /// Goes on from a checkpoint of a run with the same settings.
    package mutating func resume(from path: String) throws {
        let file = try SafeTensors(contentsOf: path)
        let found = file.metadata["settings"] ?? "none"
        guard found == "\(settings)" else {
            throw ResumeError(description: "\(path) has the settings \(found), but this run has \(settings)")
        }
        func rows(_ name: String, width: Int) throws -> [[Float]] {
            guard let tensor = file.tensors[name] else { throw CheckpointError.missingTensor(name) }
            let shape = [tensor.shape.first ?? 0, width]
            guard tensor.shape == shape else {
                throw CheckpointError.shapeMismatch(tensor: name, expected: shape, actual: tensor.shape)
            }
            return (0..<shape[0]).map { Array(tensor.values[$0 * width..<($0 + 1) * width]) }
        }
        var run = self
        run.parameters = try model.layout.values(from: file)
        run.adam.means = try means.values(from: file)
        run.adam.squares = try squares.values(from: file)
        run.order = try rows("order", width: 1).map { Int(exactly: $0[0]) ?? -1 }
        run.trainingCurve = try rows("curve.training", width: Terms.names.count)
        run.validationCurve = try rows("curve.validation", width: Terms.names.count)
        run.adam.step = run.trainingCurve.count
        guard let state = file.metadata["generator"].flatMap({ UInt64($0) }),
            run.validationCurve.count == run.epoch + 1,
            run.stepInEpoch == 0 || run.order.sorted() == trainingCells.sorted()
        else {
            throw ResumeError(description: "\(path) is damaged: its curves, cells or generator do not fit")
        }
        run.generator = SeededGenerator(seed: state)
        self = run
    }

    private var means: ParameterLayout { model.layout.prefixed("optimizer.exp_avg.") }
    private var squares: ParameterLayout { model.layout.prefixed("optimizer.exp_avg_sq.") }
}
