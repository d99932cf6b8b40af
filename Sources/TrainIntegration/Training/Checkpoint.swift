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
        tensors["order"] = .init(rows: order.map { [Float($0)] }, columns: 1)
        tensors["curve.training"] = .init(rows: trainingCurve, columns: Terms.names.count)
        tensors["curve.validation"] = .init(rows: validationCurve, columns: Terms.names.count)
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
        var run = self
        run.parameters = try model.layout.values(from: file)
        run.adam.means = try means.values(from: file)
        run.adam.squares = try squares.values(from: file)
        run.order = try file.rows(of: "order", columns: 1).map { Int(exactly: $0[0]) ?? -1 }
        run.trainingCurve = try file.rows(of: "curve.training", columns: Terms.names.count)
        run.validationCurve = try file.rows(of: "curve.validation", columns: Terms.names.count)
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
