// 16-bit outputs of a model in computations across ranks, whose blocks travel as floats.

/// Two outputs of a model and their gradients as floats: in place, or, if they are 16-bit, in memory of the
/// workspace.
///
/// A gradient that several terms add to is rounded once, by ``finish()``.
struct FloatOperands {
    /// The outputs; nil for an absent one.
    let outputs: (first: ModelElements?, second: ModelElements?)
    /// The gradients; nil for absent ones.
    let gradients: (first: GradientMemory?, second: GradientMemory?)
    private let rounded: (first: GradientMemory?, second: GradientMemory?)

    /// Widens the outputs, and what their gradients are added to.
    init(
        _ outputs: (first: ModelElements?, second: ModelElements?),
        gradients: (first: GradientMemory?, second: GradientMemory?), update: GradientUpdate,
        in workspace: Workspace, for call: String
    ) throws(LossError) {
        var layout = workspace.layout
        func array(_ count: Int?, _ type: ElementType?) throws(LossError) -> ScratchArray<Float>? {
            guard let count, type != .float32 else { return nil }
            return try layout.add(count, of: Float.self)
        }
        let first = try array(outputs.first?.count, outputs.first?.type)
        let second = try array(outputs.second?.count, outputs.second?.type)
        let ofFirst = try array(gradients.first?.count, gradients.first?.type)
        let ofSecond = try array(gradients.second?.count, gradients.second?.type)
        let memory = try workspace.reserveFloats(layout, for: call)

        func widened(_ elements: ModelElements?, _ array: ScratchArray<Float>?) -> ModelElements? {
            guard let elements, let array else { return elements }
            let floats = memory.pointer(array)
            elements.copy(0..<elements.count, to: floats)
            return ModelElements(floats, count: elements.count)
        }
        func place(_ gradient: GradientMemory?, _ array: ScratchArray<Float>?) -> GradientMemory? {
            guard let gradient, let array else { return gradient }
            let floats = memory.pointer(array)
            if update == .accumulate { gradient.elements.copy(0..<gradient.count, to: floats) }
            return GradientMemory(floats, count: gradient.count, type: .float32)
        }
        self.outputs = (widened(outputs.first, first), widened(outputs.second, second))
        self.gradients = (place(gradients.first, ofFirst), place(gradients.second, ofSecond))
        rounded = (ofFirst == nil ? nil : gradients.first, ofSecond == nil ? nil : gradients.second)
    }

    /// Rounds the gradients that are not in place.
    func finish() {
        func finish(_ rounded: GradientMemory?, _ gradient: GradientMemory?) {
            guard let rounded, let floats = gradient?.address?.assumingMemoryBound(to: Float.self) else {
                return
            }
            GradientOutput(rounded, scale: 1, update: .overwrite)
                .overwrite(0..<rounded.count, with: floats)
        }
        finish(rounded.first, gradients.first)
        finish(rounded.second, gradients.second)
    }
}
