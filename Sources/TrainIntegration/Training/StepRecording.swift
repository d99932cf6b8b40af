// What a training loop in another language needs to repeat a run, and the times to compare.

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

/// One step: its cells and their masked tokens, its terms, and the time of its parts.
package struct TrainingStep: Sendable {
    package let cells: [Int]
    package let mask: [Bool]
    package let terms: [Float]
    package let seconds: [Float]
}

/// The steps of a run, from its parameters before the first of them.
struct StepRecording {
    private var tensors: [String: SafeTensors.Tensor]
    private var steps = 0

    init(of run: TrainingRun) { tensors = run.model.layout.tensors(of: run.parameters) }

    mutating func append(_ step: TrainingStep) {
        let mask = step.mask.map { $0 ? Float(1) : 0 }
        let parts = [
            // Floats hold the numbers of cells exactly.
            "cells": step.cells.map(Float.init), "mask": mask, "terms": step.terms, "seconds": step.seconds,
        ]
        for (name, values) in parts {
            tensors["step.\(steps).\(name)"] = SafeTensors.Tensor(shape: [values.count], values: values)
        }
        steps += 1
    }

    /// The parameters under their names, and four tensors of each step.
    func file() -> SafeTensors { SafeTensors(tensors: tensors, metadata: ["steps": "\(steps)"]) }
}
