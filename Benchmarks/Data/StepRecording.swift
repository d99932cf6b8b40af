// Recordings of training steps: what a training loop in another language needs to repeat them, and the times to
// compare.

import FastLossCheckpoints
import FastLossHeads

/// The steps of a training run and the time of their parts, from the parameters before the first of them.
package struct StepRecording {
    /// The heads include the losses of their outputs, which they are fused with. `losses` is ECS.
    package enum Part: Int, CaseIterable { case encoder, heads, losses, optimizer }

    /// The parameters under their names, and the tensors of each step behind its number.
    package private(set) var file: SafeTensors
    private var steps = 0
    private var seconds = [Float](repeating: 0, count: Part.allCases.count)
    private var start = ContinuousClock.now

    package init(of parameters: [Float], _ layout: ParameterLayout) {
        file = SafeTensors(tensors: layout.tensors(of: parameters))
    }

    /// Starts the clock of a step.
    package mutating func startStep() {
        seconds = seconds.map { _ in 0 }
        start = .now
    }

    /// Adds the time since the last call to a part.
    package mutating func lap(_ part: Part) {
        let now = ContinuousClock.now
        seconds[part.rawValue] += Float((now - start) / .seconds(1))
        start = now
    }

    /// Adds a step that ended.
    package mutating func append(_ batch: TrainingBatch, terms: [Float]) {
        let tensors = [
            "targets": batch.targets, "mask": batch.mask.map { $0 ? 1 : 0 },
            "wells": batch.gemWells.map(Float.init), "terms": terms, "seconds": seconds,
        ]
        for (name, values) in tensors {
            file.tensors["step.\(steps).\(name)"] = .init(shape: [values.count], values: values)
        }
        steps += 1
        file.metadata["steps"] = "\(steps)"
    }
}
