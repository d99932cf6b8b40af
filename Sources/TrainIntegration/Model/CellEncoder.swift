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
    let width: Int
    package let layout: ParameterLayout
    /// scGPT's `GeneEncoder` and `CategoryValueEncoder`; label 0 is the mask, label k + 1 the value k.
    private let genes, values: BatchLabelEncoder
    /// The layers between p and e are those of a classifier.
    private let mixer: CellTypeDecoder
    private let scale: Float
    private let geneRange, valueRange, mixerRange: Range<Int>

    package init(tokens: Int, bins: Int, width: Int) throws {
        (self.width, scale) = (width, 1 / Float(tokens).squareRoot())
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
        let genes = try genes.embeddings(parameters.span.extracting(geneRange), workspace)
        let values = try values.embeddings(parameters.span.extracting(valueRange), workspace)
        var (sums, cells) = (zeros(batch.cells * width), zeros(batch.cells * width))
        batch.forEachExpressed { cell, gene, value in
            for d in 0..<width {
                let difference = values[(value + 1) * width + d] - values[width + d]
                sums[cell * width + d] += scale * genes[gene * width + d] * difference
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

    /// Writes the gradients of the parameters, from those of g, e and s.
    package func backward(
        _ batch: TrainingBatch, _ forward: Activations, genes: [Float], cells: [Float], states: [Float],
        _ parameters: [Float], to gradient: inout MutableSpan<Float>, _ workspace: Workspace
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
        var mixerGradients = ClassifierGradients(
            parameters: gradient._mutatingExtracting(mixerRange), cellEmbeddings: sums.mutableSpan)
        try mixer.gradient(
            cellEmbeddings: forward.sums.span, cells: batch.cells, logitsGradient: cells.span,
            parameters: parameters.span.extracting(mixerRange), gradients: &mixerGradients,
            workspace: workspace)
        batch.forEachExpressed { cell, gene, value in
            for d in 0..<width {
                let slope = scale * sums[cell * width + d]
                let label = (value + 1) * width + d
                genes[gene * width + d] += slope * (forward.values[label] - forward.values[width + d])
                values[label] += slope * forward.genes[gene * width + d]
                values[width + d] -= slope * forward.genes[gene * width + d]
            }
        }
        try self.genes.writeGradient(of: genes, geneRange, parameters, to: &gradient, workspace)
        try self.values.writeGradient(of: values, valueRange, parameters, to: &gradient, workspace)
    }
}

func zeros(_ count: Int) -> [Float] { [Float](repeating: 0, count: count) }

extension BatchLabelEncoder {
    /// The embeddings of all labels.
    func embeddings(_ parameters: Span<Float>, _ workspace: Workspace) throws -> [Float] {
        var embeddings = zeros(labels * width)
        var span = embeddings.mutableSpan
        try embed(parameters: parameters, embeddings: &span, workspace: workspace)
        return embeddings
    }

    /// Writes the gradient of the parameters in `range`, from that of the embeddings of all labels.
    func writeGradient(
        of embeddings: [Float], _ range: Range<Int>, _ parameters: [Float],
        to all: inout MutableSpan<Float>, _ workspace: Workspace
    ) throws {
        var part = all._mutatingExtracting(range)
        try gradient(
            embeddingsGradient: embeddings.span, parameters: parameters.span.extracting(range),
            parametersGradient: &part, workspace: workspace)
    }
}
