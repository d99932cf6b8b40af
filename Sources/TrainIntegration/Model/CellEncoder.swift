// The encoder: from tokens to the cell embedding and to the states of the masked tokens.

import BenchmarkData
import FastLoss
import FastLossHeads

/// A compact stand-in for scGPT's transformer.
///
///     g_l = LayerNorm(gene embedding)          v_k = LayerNorm(value embedding)
///     p_b = Σ_l g_l ⊙ (v(b, l) − v(0)) / √L    binds each value to its gene, and adds up
///     e_b = W₂ LayerNorm(relu(W₁ p_b))         the cell embedding, which is the state of <cls>
///     s_bl = g_l + v(mask) + e_b               the state of a masked token
///
/// Zeros and masked values add nothing to p, so cells start out far apart. Otherwise ECS, whose threshold of
/// 0.8 splits pairs into similar and dissimilar ones, would first push all cells into one point.
package struct CellEncoder: Sendable {
    let tokens: Int
    let width: Int
    package let layout: ParameterLayout
    /// scGPT's `GeneEncoder` and `CategoryValueEncoder`; label 0 of a value is the mask, label 1 the value 0.
    private let genes: BatchLabelEncoder
    private let values: BatchLabelEncoder
    /// The layers between p and e are those of a classifier.
    private let mixer: CellTypeDecoder
    private let geneRange: Range<Int>
    private let valueRange: Range<Int>
    private let mixerRange: Range<Int>

    package init(tokens: Int, bins: Int, width: Int) throws {
        (self.tokens, self.width) = (tokens, width)
        genes = try BatchLabelEncoder(labels: tokens, width: width)
        values = try BatchLabelEncoder(labels: bins + 1, width: width)
        mixer = try CellTypeDecoder(width: width, classes: width, blocks: 1)
        var layout = ParameterLayout()
        geneRange = layout.append(genes.layout.prefixed("encoder."))
        valueRange = layout.append(values.layout.prefixed("value_encoder."))
        mixerRange = layout.append(mixer.layout.prefixed("cell_encoder."))
        self.layout = layout
    }

    /// The results that the heads and the backward pass read.
    package struct Activations {
        /// g, v, p, e and s, row after row. States of tokens that are not masked are 0.
        package let genes, values, sums, cells, states: [Float]
    }

    package func forward(
        _ batch: TrainingBatch, _ parameters: [Float], _ workspace: Workspace
    ) throws -> Activations {
        let genes = try genes.embeddings(geneRange, parameters, workspace)
        let values = try values.embeddings(valueRange, parameters, workspace)
        var (sums, cells) = (zeros(batch.cells * width), zeros(batch.cells * width))
        let scale = 1 / Float(tokens).squareRoot()
        batch.forEachExpressed { cell, gene, label in
            for d in 0..<width {
                let value = values[label * width + d] - values[width + d]
                sums[cell * width + d] += scale * genes[gene * width + d] * value
            }
        }
        var cellSpan = cells.mutableSpan
        try mixer.predict(
            cellEmbeddings: sums.span, cells: batch.cells,
            parameters: parameters.span.extracting(mixerRange), logits: &cellSpan, workspace: workspace)
        var states = zeros(batch.mask.count * width)
        batch.forEachMasked { cell, gene, token in
            for d in 0..<width {
                states[token * width + d] = genes[gene * width + d] + values[d] + cells[cell * width + d]
            }
        }
        return Activations(genes: genes, values: values, sums: sums, cells: cells, states: states)
    }

    /// Adds the gradients of the parameters to `gradient`, from those of g, e and s.
    package func backward(
        _ batch: TrainingBatch, _ forward: Activations, genes: [Float], cells: [Float], states: [Float],
        _ parameters: [Float], to gradient: inout [Float], _ workspace: Workspace
    ) throws {
        var (genes, cells, values, sums) = (genes, cells, zeros(forward.values.count), zeros(cells.count))
        batch.forEachMasked { cell, gene, token in
            for d in 0..<width {
                let slope = states[token * width + d]
                genes[gene * width + d] += slope
                values[d] += slope
                cells[cell * width + d] += slope
            }
        }
        do {
            var all = gradient.mutableSpan
            var gradients = ClassifierGradients(
                parameters: all._mutatingExtracting(mixerRange), cellEmbeddings: sums.mutableSpan)
            try mixer.gradient(
                cellEmbeddings: forward.sums.span, cells: batch.cells, logitsGradient: cells.span,
                parameters: parameters.span.extracting(mixerRange), gradients: &gradients,
                workspace: workspace)
        }
        let scale = 1 / Float(tokens).squareRoot()
        batch.forEachExpressed { cell, gene, label in
            for d in 0..<width {
                let slope = scale * sums[cell * width + d]
                let value = forward.values[label * width + d] - forward.values[width + d]
                genes[gene * width + d] += slope * value
                values[label * width + d] += slope * forward.genes[gene * width + d]
                values[width + d] -= slope * forward.genes[gene * width + d]
            }
        }
        try self.genes.writeGradient(genes, geneRange, parameters, to: &gradient, workspace)
        try self.values.writeGradient(values, valueRange, parameters, to: &gradient, workspace)
    }
}

extension TrainingBatch {
    /// Calls `body` for the tokens whose value is visible and not 0; the label of a value is one more than it.
    fileprivate func forEachExpressed(_ body: (_ cell: Int, _ gene: Int, _ label: Int) -> Void) {
        for token in mask.indices where !mask[token] && targets[token] > 0 {
            body(token / tokens, token % tokens, Int(targets[token]) + 1)
        }
    }

    fileprivate func forEachMasked(_ body: (_ cell: Int, _ gene: Int, _ token: Int) -> Void) {
        for token in mask.indices where mask[token] { body(token / tokens, token % tokens, token) }
    }
}

func zeros(_ count: Int) -> [Float] { [Float](repeating: 0, count: count) }

extension BatchLabelEncoder {
    private var allLabels: [Int32] { Array(0..<Int32(labels)) }

    /// The embeddings of all labels.
    func embeddings(_ range: Range<Int>, _ parameters: [Float], _ workspace: Workspace) throws -> [Float] {
        var embeddings = zeros(labels * width)
        var span = embeddings.mutableSpan
        try embed(
            labels: allLabels.span, parameters: parameters.span.extracting(range), embeddings: &span,
            workspace: workspace)
        return embeddings
    }

    /// Writes the gradient of the parameters in `range`, from that of the embeddings of all labels.
    func writeGradient(
        _ embeddings: [Float], _ range: Range<Int>, _ parameters: [Float], to gradient: inout [Float],
        _ workspace: Workspace
    ) throws {
        var all = gradient.mutableSpan
        var part = all._mutatingExtracting(range)
        try self.gradient(
            labels: allLabels.span, embeddingsGradient: embeddings.span,
            parameters: parameters.span.extracting(range), parametersGradient: &part, workspace: workspace)
    }
}
