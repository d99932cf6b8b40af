// Where a loss writes its gradient, once everything about it has been checked.

import CFastLossKernels

/// Where a loss writes its gradient.
package struct GradientOutput {
    package let memory: UnsafeMutableBufferPointer<Float>
    package let scale: Float
    package let mode: fastloss_gradient_mode

    package init(_ memory: UnsafeMutableBufferPointer<Float>, scale: Float, update: GradientUpdate) {
        self.memory = memory
        self.scale = scale
        mode = update == .overwrite ? FASTLOSS_GRADIENT_OVERWRITE : FASTLOSS_GRADIENT_ACCUMULATE
    }

    /// The gradient of a constant (0) or of 0/0 (NaN), for elements that have nothing selected beside them.
    func fill(_ range: Range<Int>, with value: Float) {
        for index in range {
            memory[index] = mode == FASTLOSS_GRADIENT_OVERWRITE ? value : memory[index] + value
        }
    }
}
