// What a training loop in another language needs to repeat a run, and the times to compare.

import BenchmarkData
import FastLossCheckpoints
import FastLossHeads

/// Measures how long the parts of a step take, forward and backward.
struct StepClock {
    /// The heads include the losses of their outputs, which they are fused with. `losses` is ECS.
    enum Part: Int, CaseIterable { case encoder, heads, losses, optimizer }

    /// In the order of ``Part``.
    private(set) var seconds = zeros(Part.allCases.count)
    private var start = ContinuousClock.now

    /// Adds the time since the last call to a part.
    mutating func lap(_ part: Part) {
        let now = ContinuousClock.now
        seconds[part.rawValue] += Float((now - start) / .seconds(1))
        start = now
    }
}

/// The steps of a run, from its parameters before the first of them.
struct StepRecording {
    /// The parameters under their names, and the tensors of each step behind its number.
    private(set) var file: SafeTensors
    private var steps = 0

    init(of run: TrainingRun) {
        file = SafeTensors(tensors: run.model.layout.tensors(of: run.parameters))
    }

    mutating func append(_ batch: TrainingBatch, terms: [Float], _ clock: StepClock) {
        let tensors = [
            "targets": batch.targets, "mask": batch.mask.map { $0 ? 1 : 0 },
            "wells": batch.gemWells.map(Float.init), "terms": terms, "seconds": clock.seconds,
        ]
        for (name, values) in tensors {
            file.tensors["step.\(steps).\(name)"] = .init(shape: [values.count], values: values)
        }
        steps += 1
        file.metadata["steps"] = "\(steps)"
    }
}
