// Where a loss writes its gradient, once everything about it has been checked.

import CFastLossKernels

/// Where a loss writes its gradient.
package struct GradientOutput {
    package let memory: UnsafeMutableBufferPointer<Float>
    /// What the buffer is called in messages.
    package let name: String
    package let scale: Float
    package let mode: fastloss_gradient_mode

    package init(
        _ memory: UnsafeMutableBufferPointer<Float>, named name: String = "gradient", scale: Float, update: GradientUpdate
    ) {
        self.memory = memory
        self.name = name
        self.scale = scale
        mode = update == .overwrite ? FASTLOSS_GRADIENT_OVERWRITE : FASTLOSS_GRADIENT_ACCUMULATE
    }

    package var named: NamedMemory { NamedMemory(name, memory) }

    /// The gradient of a constant (0) or of 0/0 (NaN), for elements that have nothing selected beside them.
    func fill(_ range: Range<Int>, with value: Float) {
        for index in range {
            memory[index] = mode == FASTLOSS_GRADIENT_OVERWRITE ? value : memory[index] + value
        }
    }
}
