// The output of a gradient: its memory, its factor, and whether it accumulates.

import CFastLossKernels

/// The elements of a gradient in memory. Lives under the rule of `Span.memory`.
package struct GradientMemory {
    /// Nil only if there are no elements.
    package let address: UnsafeMutableRawPointer?
    package let count: Int
    /// The type of the elements, that of the input whose gradient this is.
    package let type: ElementType

    package init(_ address: UnsafeMutableRawPointer?, count: Int, type: ElementType) {
        self.address = address
        self.count = count
        self.type = type
    }

    package init<Element: ModelOutputElement>(_ memory: UnsafeMutableBufferPointer<Element>) {
        self.init(memory.baseAddress, count: memory.count, type: Element.elementType)
    }

    /// What the memory holds.
    var elements: ModelElements { ModelElements(address, count: count, type: type) }

    func named(_ name: String) -> NamedMemory {
        NamedMemory(name, UnsafeRawBufferPointer(start: address, count: count * type.byteCount))
    }

    /// Replaces every element by 0.
    func clear() {
        address?.initializeMemory(as: UInt8.self, repeating: 0, count: count * type.byteCount)
    }
}

/// The output of a gradient.
package struct GradientOutput {
    /// Where the gradient goes.
    let place: GradientMemory
    /// The name of the buffer in messages.
    package let name: String
    /// The factor of the gradient: the product of a term's weight, the caller's scale and −λ, those that
    /// apply. A product of finite floats is finite in double precision.
    package let scale: Double
    /// The name of the scale in messages.
    package let scaleName: String
    package let mode: fastloss_write_mode

    package init(
        _ address: UnsafeMutableRawPointer?, count: Int, type: ElementType, named name: String = "gradient",
        scale: Double, named scaleName: String = "gradientScale", update: GradientUpdate
    ) {
        self.init(
            GradientMemory(address, count: count, type: type), named: name, scale: scale, named: scaleName,
            update: update)
    }

    init(
        _ place: GradientMemory, named name: String = "gradient", scale: Double,
        named scaleName: String = "gradientScale", update: GradientUpdate
    ) {
        self.place = place
        self.name = name
        self.scale = scale
        self.scaleName = scaleName
        mode = update == .overwrite ? FASTLOSS_OVERWRITE : FASTLOSS_ACCUMULATE
    }

    package init<Element: ModelOutputElement>(
        _ memory: UnsafeMutableBufferPointer<Element>, named name: String = "gradient", scale: Double,
        named scaleName: String = "gradientScale", update: GradientUpdate
    ) {
        self.init(GradientMemory(memory), named: name, scale: scale, named: scaleName, update: update)
    }

    package init<Element: ModelOutputElement>(
        _ memory: UnsafeMutableBufferPointer<Element>, named name: String = "gradient", scale: Float,
        update: GradientUpdate
    ) {
        self.init(memory, named: name, scale: Double(scale), update: update)
    }

    /// The same gradient in other memory; nil without memory.
    func moved(to place: GradientMemory?) -> GradientOutput? {
        place.map {
            GradientOutput($0, named: name, scale: scale, named: scaleName, update: update)
        }
    }

    /// Nil only if there are no elements.
    package var address: UnsafeMutableRawPointer? { place.address }

    package var count: Int { place.count }

    /// The type of the elements, that of the input whose gradient this is.
    package var type: ElementType { place.type }

    /// The update of the buffer.
    var update: GradientUpdate { accumulates ? .accumulate : .overwrite }

    /// The elements of a gradient of floats.
    package var memory: UnsafeMutableBufferPointer<Float> {
        precondition(type == .float32, "the loss writes gradients of Float alone")
        return UnsafeMutableBufferPointer(
            start: address?.assumingMemoryBound(to: Float.self), count: count)
    }

    /// The elements, if they are floats and there are any.
    var floatsInPlace: UnsafeMutablePointer<Float>? {
        type == .float32 ? address?.assumingMemoryBound(to: Float.self) : nil
    }

    /// What the buffer holds.
    package var elements: ModelElements { place.elements }

    package var named: NamedMemory { place.named(name) }

    /// Throws unless the buffer has `count` elements and the scale is finite as a `Float`.
    package func check(count: Int) throws(LossError) {
        try checkCount(name, self.count, is: count)
        try checkFactor(scaleName, scale)
    }

    /// Writes some elements, or adds to them, and rounds each once.
    package func write(_ values: UnsafePointer<Float>, to range: Range<Int>) {
        guard let address, !range.isEmpty else { return }
        kernels.narrow(
            values, range.count, address + range.lowerBound * type.byteCount, mode, type.kernelElement)
    }

    /// Whether the gradient is added to the buffer's contents.
    package var accumulates: Bool { mode == FASTLOSS_ACCUMULATE }

    /// Replaces some elements, whatever the update.
    package func overwrite(_ range: Range<Int>, with values: UnsafePointer<Float>) {
        guard let address, !range.isEmpty else { return }
        kernels.narrow(
            values, range.count, address + range.lowerBound * type.byteCount, FASTLOSS_OVERWRITE,
            type.kernelElement)
    }

    /// Replaces some elements by 0, whatever the update.
    package func clear(_ range: Range<Int>) {
        guard let address else { return }
        (address + range.lowerBound * type.byteCount).initializeMemory(
            as: UInt8.self, repeating: 0, count: range.count * type.byteCount)
    }

    /// Writes the gradient of an empty selection: that of a constant (0) or of 0/0 (NaN).
    package func fill(_ range: Range<Int>, with value: Float) {
        guard let address, !range.isEmpty else { return }
        kernels.fill(
            value, range.count, address + range.lowerBound * type.byteCount, mode, type.kernelElement)
    }
}
