// From labels to normalised embeddings: of batches, or of genes.

import CFastLossKernels
import FastLoss

/// One embedding for each label: LayerNorm(embedding[label]) (scGPT: `BatchLabelEncoder`).
///
/// | parameter | shape |
/// |---|---|
/// | `embedding.weight` | labels × D |
/// | `enc_norm.weight`, `.bias` | D; D |
///
/// Give each distinct label once, and the result to ``BatchEmbeddings`` with the label of each cell. scGPT's
/// `GeneEncoder` is the same function of gene identifiers.
///
/// Source: scGPT's `BatchLabelEncoder` and `GeneEncoder`, without a padding index.
public struct BatchLabelEncoder: Sendable {
    /// The number of labels, the rows of the table.
    public let labels: Int
    /// D, the width of an embedding.
    public let width: Int
    /// The parameters, by scGPT's names.
    public let layout: ParameterLayout
    let table: Range<Int>
    let norm: LayerNormPlace

    /// An encoder of labels in 0..<`labels`.
    ///
    /// - Throws: `LossError`: a size that is negative or above 2²⁸.
    public init(labels: Int, width: Int) throws(LossError) {
        try checkSize("labels", labels)
        try checkSize("width", width)
        self.labels = labels
        self.width = width
        var layout = ParameterLayout()
        table = layout.add("embedding.weight", shape: [labels, width], initialValues: .normal)
        norm = layout.addLayerNorm("enc_norm", width: width)
        self.layout = layout
    }

    /// The embeddings.
    ///
    /// - Parameters:
    ///   - labels: R labels in 0..<``labels``.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - embeddings: receives R·D values.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; overlap.
    public func embed(
        labels: Span<Int32>, parameters: Span<Float>, embeddings: inout MutableSpan<Float>,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try LabelEncoderPlan(
            self, labels: labels, parameters: parameters, embeddings: embeddings.memory, in: &layout)
        try workspace.run(plan, layout)
    }

    /// Carries a gradient of the embeddings back to the parameters.
    ///
    /// - Parameters:
    ///   - labels: R labels in 0..<``labels``.
    ///   - embeddingsGradient: R·D values.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - parametersGradient: receives as many; the rows of labels that are not given receive 0.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the contents of its buffer or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; a factor that is not finite;
    ///   overlap.
    public func gradient(
        labels: Span<Int32>, embeddingsGradient: Span<Float>, parameters: Span<Float>,
        parametersGradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try LabelEncoderGradientPlan(
            self, labels: labels, embeddingsGradient: embeddingsGradient, parameters: parameters,
            into: parametersGradient.memory, scale: gradientScale, update: update, in: &layout)
        try workspace.run(plan, layout)
    }

    /// Throws unless the counts fit and all labels have a row.
    fileprivate func check(_ labels: Span<Int32>, _ parameters: Span<Float>) throws(LossError) {
        try checkCount("parameters", parameters.count, is: layout.count)
        try checkIndices("labels", labels.memory, below: self.labels)
    }
}

/// The embeddings of some labels.
private struct LabelEncoderPlan: Plan {
    var name: String { "BatchLabelEncoder" }

    let encoder: BatchLabelEncoder
    let labels: UnsafeBufferPointer<Int32>
    let parameters: UnsafePointer<Float>
    let embeddings: UnsafeMutablePointer<Float>
    /// n of one row for each worker.
    let normalised: ScratchArray<Float>

    init(
        _ encoder: BatchLabelEncoder, labels: Span<Int32>, parameters: Span<Float>,
        embeddings: UnsafeMutableBufferPointer<Float>, in layout: inout ScratchLayout
    ) throws(LossError) {
        try encoder.check(labels, parameters)
        try checkCount(
            "embeddings", embeddings.count,
            is: MatrixShape(rows: labels.count, columns: encoder.width).checkedCount())
        let inputs: InlineArray<_, NamedMemory?> = [
            NamedMemory("labels", labels.memory), NamedMemory("parameters", parameters.memory),
        ]
        let outputs: InlineArray<_, NamedMemory?> = [NamedMemory("embeddings", embeddings)]
        try checkNoOverlap(inputs: inputs.span, outputs: outputs.span)
        self.encoder = encoder
        self.labels = labels.memory
        self.parameters = parameters.pointer
        self.embeddings = pointer(embeddings)
        normalised = try layout.add(layout.workers, by: encoder.width, of: Float.self)
    }

    func run(on execution: Execution) {
        let width = encoder.width
        guard width > 0 else { return }
        execution.forEachTask(
            labels.count, estimatedNanoseconds: Double(labels.count) * Double(width)
        ) { row, worker in
            _ = kernels.layer_norm(
                parameters + encoder.table.lowerBound + Int(labels[row]) * width, width,
                parameters + encoder.norm.weight.lowerBound, parameters + encoder.norm.bias.lowerBound,
                execution.pointer(normalised) + worker * width, embeddings + row * width)
        }
    }
}

/// The gradient of the parameters, label by label.
private struct LabelEncoderGradientPlan: Plan {
    var name: String { "BatchLabelEncoder" }

    let encoder: BatchLabelEncoder
    let labels: UnsafeBufferPointer<Int32>
    let parameters: UnsafePointer<Float>
    let embeddingsGradient: UnsafePointer<Float>
    let gradient: UnsafeMutableBufferPointer<Float>
    let scale: Float
    let writer: GradientWriter
    /// n, y, the scaled gradient and dx of one row.
    let rows: ScratchArray<Float>
    let sums: ScratchArray<Double>

    init(
        _ encoder: BatchLabelEncoder, labels: Span<Int32>, embeddingsGradient: Span<Float>,
        parameters: Span<Float>, into gradient: UnsafeMutableBufferPointer<Float>, scale: Float,
        update: GradientUpdate, in layout: inout ScratchLayout
    ) throws(LossError) {
        try encoder.check(labels, parameters)
        try checkCount(
            "embeddingsGradient", embeddingsGradient.count,
            is: MatrixShape(rows: labels.count, columns: encoder.width).checkedCount())
        try checkGradient("parametersGradient", gradient, of: parameters.memory)
        try checkParameter("gradientScale", scale, "finite") { $0.isFinite }
        let inputs: InlineArray<_, NamedMemory?> = [
            NamedMemory("labels", labels.memory),
            NamedMemory("embeddingsGradient", embeddingsGradient.memory),
            NamedMemory("parameters", parameters.memory),
        ]
        let outputs: InlineArray<_, NamedMemory?> = [NamedMemory("parametersGradient", gradient)]
        try checkNoOverlap(inputs: inputs.span, outputs: outputs.span)
        self.encoder = encoder
        self.labels = labels.memory
        self.parameters = parameters.pointer
        self.embeddingsGradient = embeddingsGradient.pointer
        self.gradient = gradient
        self.scale = scale
        writer = GradientWriter(update: update)
        rows = try layout.add(4, by: encoder.width, of: Float.self)
        sums = try layout.add(2, by: encoder.width, of: Double.self)
    }

    func run(on execution: Execution) {
        let width = encoder.width
        guard width > 0, let gradient = gradient.baseAddress else { return }
        let weight = parameters + encoder.norm.weight.lowerBound
        let normalised = execution.pointer(rows)
        let output = normalised + width
        let scaled = output + width
        let row = scaled + width
        let weightSums = execution.pointer(sums)
        let biasSums = weightSums + width
        weightSums.update(repeating: 0, count: 2 * width)
        let table = gradient + encoder.table.lowerBound
        if !writer.accumulates { table.update(repeating: 0, count: encoder.table.count) }
        for index in labels.indices {
            let label = Int(labels[index])
            let inverse = kernels.layer_norm(
                parameters + encoder.table.lowerBound + label * width, width, weight,
                parameters + encoder.norm.bias.lowerBound, normalised, output)
            kernels.scale(
                embeddingsGradient + index * width, width, Double(scale), scaled, FASTLOSS_OVERWRITE)
            kernels.layer_norm_gradient(
                scaled, normalised, width, inverse, weight, weightSums, biasSums, row)
            kernels.scale(row, width, 1, table + label * width, FASTLOSS_ACCUMULATE)
        }
        writer.write(weightSums, count: width, to: gradient + encoder.norm.weight.lowerBound)
        writer.write(biasSums, count: width, to: gradient + encoder.norm.bias.lowerBound)
    }
}
