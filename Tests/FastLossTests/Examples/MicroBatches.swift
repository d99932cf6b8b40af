// The example of a step over several micro-batches, as the documentation quotes it.

import FastLoss

// example:begin MicroBatches
/// The mean of the objective over micro-batches of the same outputs, and its gradients.
///
/// Micro-batches with outputs of their own overwrite the buffers each time; there, the backward pass
/// accumulates the gradients of the parameters. The scale is the same.
func accumulate(
    _ objective: TotalObjective, over microBatches: [CellBatch], _ output: ObjectiveArrays,
    into gradients: inout ObjectiveGradientArrays, workspace: Workspace
) throws -> Double {
    var inputs = output
    var total = 0.0
    var update = GradientUpdate.overwrite
    for batch in microBatches {
        inputs.targets = batch.targets
        inputs.mask = batch.mask
        let value = try objective.valueAndGradient(
            inputs, gradients: &gradients, gradientScale: 1 / Float(microBatches.count), update: update,
            workspace: workspace)
        total += value.total / Double(microBatches.count)
        update = .accumulate
    }
    return total
}
// example:end
