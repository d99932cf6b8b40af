// The example of a single loss, as the documentation quotes it.

import FastLoss

func singleLoss() throws -> (loss: LossValue, gradient: [Float]) {
    // example:begin SingleLoss
    let predictions: [Float] = [1, 2, 4]
    let targets: [Float] = [1, 0, 2]
    let mask = [true, true, false]
    let (loss, gradient) = try MaskedMSE().valueAndGradient(
        predictions: predictions, targets: targets, mask: mask)
    // loss.value is 2, loss.selectedCount is 2, and gradient is [0, 2, 0].
    // example:end
    return (loss, gradient)
}
