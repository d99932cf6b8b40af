// Where a loss writes its gradient, and with which factor.

import CFastLossKernels

/// Where a loss writes its gradient.
package struct GradientOutput {
    package let memory: UnsafeMutableBufferPointer<Float>
    /// What the buffer is called in messages.
    package let name: String
    /// What the gradient is multiplied by: the product of a term's weight, the caller's scale and −λ, as far as they apply.
    /// Formed in double, where finite floats have a finite product.
    package let scale: Double
    /// What the scale is called in messages.
    package let scaleName: String
    package let mode: fastloss_write_mode

    package init(
        _ memory: UnsafeMutableBufferPointer<Float>, named name: String = "gradient", scale: Double,
        named scaleName: String = "gradientScale", update: GradientUpdate
    ) {
        self.memory = memory
        self.name = name
        self.scale = scale
        self.scaleName = scaleName
        mode = update == .overwrite ? FASTLOSS_OVERWRITE : FASTLOSS_ACCUMULATE
    }

    package init(
        _ memory: UnsafeMutableBufferPointer<Float>, named name: String = "gradient", scale: Float,
        update: GradientUpdate
    ) {
        self.init(memory, named: name, scale: Double(scale), update: update)
    }

    package var named: NamedMemory { NamedMemory(name, memory) }

    /// Throws unless the buffer has `count` elements and the scale is a finite number in a float's range.
    package func check(count: Int) throws(LossError) {
        try checkCount(name, memory.count, is: count)
        guard abs(scale) <= Double(Float.greatestFiniteMagnitude) else {
            throw .invalidParameter(
                name: scaleName, value: scale,
                requirement: scale.isFinite ? "at most 3.4e38 in magnitude" : "finite")
        }
    }

    /// The gradient of a constant (0) or of 0/0 (NaN), for elements that have nothing selected beside them.
    func fill(_ range: Range<Int>, with value: Float) {
        for index in range {
            memory[index] = mode == FASTLOSS_OVERWRITE ? value : memory[index] + value
        }
    }
}
