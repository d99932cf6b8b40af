// The gradient of the cell embedding that two terms add to, if it is 16-bit.

/// The gradient of the cell embedding in floats, of ECS and CCE together, which is rounded once.
///
/// Floats need none: both terms write to the output itself. Nor does a single term, which rounds its own.
struct EmbeddingGradientSum {
    /// B·D elements, to which both terms write in place of the output.
    let floats: ScratchArray<Float>
    private let output: GradientOutput

    /// Elements of a task: 64 KiB of floats.
    private static let elementsPerTask = 16_384

    /// Nil if none is needed.
    init?(
        _ gradients: GradientTable, of objective: TotalObjective, in layout: inout ScratchLayout
    ) throws(LossError) {
        guard objective.weights.contrastive != nil, gradients[.cellEmbedding]?.type != .float32,
            let output = gradients.output(.cellEmbedding, weight: objective.weights.elastic)
        else { return nil }
        self.output = output
        floats = try layout.add(output.count, of: Float.self)
    }

    /// Widens what the output holds, if the terms are added to it.
    func start(on execution: Execution) {
        guard output.accumulates else { return }
        let (floats, contents) = (execution.pointer(floats), output.elements)
        forEachTask(on: execution) { contents.copy($0, to: floats + $0.lowerBound) }
    }

    /// Rounds the sum into the output.
    func finish(on execution: Execution) {
        let floats = execution.pointer(floats)
        forEachTask(on: execution) { output.overwrite($0, with: floats + $0.lowerBound) }
    }

    private func forEachTask(on execution: Execution, _ body: (Range<Int>) -> Void) {
        let (count, length) = (output.count, Self.elementsPerTask)
        // About ten elements a nanosecond.
        execution.forEachTask(
            (count + length - 1) / length, estimatedNanoseconds: Double(count) / 10
        ) { task, _ in
            body(task * length..<min(count, (task + 1) * length))
        }
    }
}
