// The output of a gradient: its memory, its factor, and whether it accumulates.

import CFastLossKernels

/// The output of a gradient.
package struct GradientOutput {
    package let memory: UnsafeMutableBufferPointer<Float>
    /// The name of the buffer in messages.
    package let name: String
    /// The factor of the gradient: the product of a term's weight, the caller's scale and −λ, those that
    /// apply. A product of finite floats is finite in double precision.
    package let scale: Double
    /// The name of the scale in messages.
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

    /// Throws unless the buffer has `count` elements and the scale is finite as a `Float`.
    package func check(count: Int) throws(LossError) {
        try checkCount(name, memory.count, is: count)
        try checkFactor(scaleName, scale)
    }

    /// Writes the gradient of an empty selection: that of a constant (0) or of 0/0 (NaN).
    func fill(_ range: Range<Int>, with value: Float) {
        for index in range {
            memory[index] = mode == FASTLOSS_OVERWRITE ? value : memory[index] + value
        }
    }
}
