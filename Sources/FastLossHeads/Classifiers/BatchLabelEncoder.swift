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
    ///   - labels: R labels in 0..<``labels``; nil for all of them, once each, in order.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - embeddings: receives R·D values.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; overlap.
    public func embed(
        labels: Span<Int32>? = nil, parameters: Span<Float>, embeddings: inout MutableSpan<Float>,
        workspace: Workspace
    ) throws(LossError) {
        var layout = workspace.layout
        let plan = try LabelEncoderPlan(
            pointers(in: parameters), labels: labels?.memory, embeddings: embeddings.memory,
            arrays: ParameterArrays(parameters.memory, gradients: nil, count: self.layout.count), in: &layout)
        try workspace.run(plan, layout)
    }

    /// Carries a gradient of the embeddings back to the parameters.
    ///
    /// - Parameters:
    ///   - labels: R labels in 0..<``labels``; nil for all of them, once each, in order.
    ///   - embeddingsGradient: R·D values.
    ///   - parameters: as many elements as ``layout`` has.
    ///   - parametersGradient: receives as many; the rows of labels that are not given receive 0.
    ///   - gradientScale: a finite factor of the gradient.
    ///   - update: whether the gradient replaces the contents of its buffer or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: `LossError`: counts that disagree; a label out of range; a factor that is not finite;
    ///   overlap.
    public func gradient(
        labels: Span<Int32>? = nil, embeddingsGradient: Span<Float>, parameters: Span<Float>,
        parametersGradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) {
        let arrays = try ParameterArrays(
            parameters.memory, gradients: parametersGradient.memory, named: "parametersGradient",
            count: self.layout.count)
        var layout = workspace.layout
        let plan = try LabelEncoderGradientPlan(
            pointers(in: parameters), labels: labels?.memory, embeddingsGradient: embeddingsGradient.memory,
            into: places(in: parametersGradient.pointer), scale: gradientScale, update: update,
            arrays: arrays, in: &layout)
        try workspace.run(plan, layout)
    }

    /// The parameters in one array.
    private func pointers(in parameters: Span<Float>) -> LabelEncoderParameters {
        LabelEncoderParameters(
            labels: labels, width: width, table: parameters.pointer + table.lowerBound,
            norm: LayerNormParameters(norm, in: parameters.pointer))
    }

    /// Where the gradients of the parameters go in one array.
    private func places(in memory: UnsafeMutablePointer<Float>) -> LabelEncoderGradients {
        LabelEncoderGradients(table: memory + table.lowerBound, norm: LayerNormGradients(norm, in: memory))
    }
}

/// The sizes of an encoder, and its parameters in memory.
package struct LabelEncoderParameters {
    let labels: Int
    let width: Int
    let table: UnsafePointer<Float>
    let norm: LayerNormParameters

    /// - Parameters:
    ///   - table: `labels`·`width` elements; nil if there are none.
    package init(labels: Int, width: Int, table: UnsafePointer<Float>?, norm: LayerNormParameters) {
        self.labels = labels
        self.width = width
        self.table = pointer(UnsafeBufferPointer(start: table, count: 0))
        self.norm = norm
    }
}

/// Where the gradients of an encoder's parameters go; nil for those that are not wanted.
package struct LabelEncoderGradients {
    let table: UnsafeMutablePointer<Float>?
    let norm: LayerNormGradients

    package init(table: UnsafeMutablePointer<Float>?, norm: LayerNormGradients) {
        self.table = table
        self.norm = norm
    }
}

/// The labels of the rows: given, or all of an encoder in order.
private struct RowLabels {
    /// R.
    let count: Int
    private let given: UnsafePointer<Int32>?

    init(_ labels: UnsafeBufferPointer<Int32>?, of encoder: LabelEncoderParameters) throws(LossError) {
        if let labels { try checkIndices("labels", labels, below: encoder.labels) }
        count = labels?.count ?? encoder.labels
        given = labels.map(pointer)
    }

    subscript(row: Int) -> Int { given.map { Int($0[row]) } ?? row }
}

/// The embeddings of some labels.
package struct LabelEncoderPlan: Plan {
    package var name: String { "BatchLabelEncoder" }

    private let encoder: LabelEncoderParameters
    private let labels: RowLabels
    private let embeddings: UnsafeMutablePointer<Float>
    /// n of one row for each worker.
    private let normalised: ScratchArray<Float>

    package init(
        _ encoder: LabelEncoderParameters, labels: UnsafeBufferPointer<Int32>?,
        embeddings: UnsafeMutableBufferPointer<Float>, arrays: ParameterArrays = ParameterArrays(),
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.labels = try RowLabels(labels, of: encoder)
        try checkCount(
            "embeddings", embeddings.count,
            is: MatrixShape(rows: self.labels.count, columns: encoder.width).checkedCount())
        let inputs: InlineArray<_, NamedMemory?> = [
            labels.map { NamedMemory("labels", $0) }, arrays.parameters,
        ]
        let outputs: InlineArray<_, NamedMemory?> = [NamedMemory("embeddings", embeddings)]
        try checkNoOverlap(inputs: inputs.span, outputs: outputs.span)
        self.encoder = encoder
        self.embeddings = pointer(embeddings)
        normalised = try layout.add(layout.workers, by: encoder.width, of: Float.self)
    }

    package func run(on execution: Execution) {
        let width = encoder.width
        guard width > 0 else { return }
        execution.forEachTask(
            labels.count, estimatedNanoseconds: Double(labels.count) * Double(width)
        ) { row, worker in
            _ = kernels.layer_norm(
                encoder.table + labels[row] * width, width, encoder.norm.weight, encoder.norm.bias,
                execution.pointer(normalised) + worker * width, embeddings + row * width)
        }
    }
}

/// The gradient of the parameters, label by label.
package struct LabelEncoderGradientPlan: Plan {
    package var name: String { "BatchLabelEncoder" }

    private let encoder: LabelEncoderParameters
    private let labels: RowLabels
    private let embeddingsGradient: UnsafePointer<Float>
    private let gradients: LabelEncoderGradients
    private let scale: Float
    private let writer: GradientWriter
    /// n, y, the scaled gradient and dx of one row.
    private let rows: ScratchArray<Float>
    private let sums: ScratchArray<Double>

    package init(
        _ encoder: LabelEncoderParameters, labels: UnsafeBufferPointer<Int32>?,
        embeddingsGradient: UnsafeBufferPointer<Float>, into gradients: LabelEncoderGradients, scale: Float,
        update: GradientUpdate, arrays: ParameterArrays = ParameterArrays(), in layout: inout ScratchLayout
    ) throws(LossError) {
        self.labels = try RowLabels(labels, of: encoder)
        try checkCount(
            "embeddingsGradient", embeddingsGradient.count,
            is: MatrixShape(rows: self.labels.count, columns: encoder.width).checkedCount())
        try checkParameter("gradientScale", scale, "finite") { $0.isFinite }
        let inputs: InlineArray<_, NamedMemory?> = [
            labels.map { NamedMemory("labels", $0) }, NamedMemory("embeddingsGradient", embeddingsGradient),
            arrays.parameters,
        ]
        let outputs: InlineArray<_, NamedMemory?> = [arrays.gradients]
        try checkNoOverlap(inputs: inputs.span, outputs: outputs.span)
        self.encoder = encoder
        self.embeddingsGradient = pointer(embeddingsGradient)
        self.gradients = gradients
        self.scale = scale
        writer = GradientWriter(update: update)
        rows = try layout.add(4, by: encoder.width, of: Float.self)
        sums = try layout.add(2, by: encoder.width, of: Double.self)
    }

    package func run(on execution: Execution) {
        let width = encoder.width
        guard width > 0 else { return }
        let normalised = execution.pointer(rows)
        let output = normalised + width
        let scaled = output + width
        let row = scaled + width
        let weightSums = execution.pointer(sums)
        let biasSums = weightSums + width
        weightSums.update(repeating: 0, count: 2 * width)
        if !writer.accumulates { gradients.table?.update(repeating: 0, count: encoder.labels * width) }
        for index in 0..<labels.count {
            let label = labels[index]
            let inverse = kernels.layer_norm(
                encoder.table + label * width, width, encoder.norm.weight, encoder.norm.bias, normalised,
                output)
            kernels.scale(
                embeddingsGradient + index * width, width, Double(scale), scaled, FASTLOSS_OVERWRITE)
            kernels.layer_norm_gradient(
                scaled, normalised, width, inverse, encoder.norm.weight, weightSums, biasSums, row)
            if let table = gradients.table {
                kernels.scale(row, width, 1, table + label * width, FASTLOSS_ACCUMULATE)
            }
        }
        writer.write(weightSums, count: width, to: gradients.norm.weight)
        writer.write(biasSums, count: width, to: gradients.norm.bias)
    }
}
