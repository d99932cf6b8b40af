// The embedding of each token's gene, given once for each distinct gene.

import FastLoss

/// Embeddings and indices as spans.
public typealias GeneEmbeddings = GeneEmbeddingFields<Span<Float>, Span<Int32>>

/// Embeddings and indices as arrays, which may be stored anywhere.
public typealias GeneEmbeddingArrays = GeneEmbeddingFields<[Float], [Int32]>

/// One embedding for each of G genes, and the gene of each token.
///
/// scGPT gives every token its own copy of its gene's embedding, B·L·D numbers, and computes its query from
/// that. Here each gene is given once, so its query is computed once, however many cells have it. The
/// gradient, too, is that of each gene: the sum over its tokens, which is what the gene's embedding receives.
/// Its forms are ``GeneEmbeddings`` and ``GeneEmbeddingArrays``.
public struct GeneEmbeddingFields<Floats: ~Escapable, Indices: ~Escapable>: ~Escapable {
    /// G·D values.
    public var embeddings: Floats
    /// B·L genes in 0..<G, or L if all cells have the same genes in the same order.
    public var indices: Indices

    /// Embeddings and indices. The call that uses them checks their counts.
    @_lifetime(copy embeddings, copy indices)
    public init(embeddings: consuming Floats, indices: consuming Indices) {
        self.embeddings = embeddings
        self.indices = indices
    }
}

extension GeneEmbeddingFields: Escapable where Floats: Escapable, Indices: Escapable {}
extension GeneEmbeddingFields: Sendable
where Floats: Sendable & ~Escapable, Indices: Sendable & ~Escapable {}

/// The memory of gene embeddings.
package typealias GeneEmbeddingBuffers = GeneEmbeddingFields<
    ModelElements, UnsafeBufferPointer<Int32>
>

extension GeneEmbeddingFields where Floats: ~Escapable, Indices == Span<Int32> {
    /// The memory of the spans, under the rule of `Span.memory`.
    func buffers<Element: ModelOutputElement>() -> GeneEmbeddingBuffers where Floats == Span<Element> {
        GeneEmbeddingBuffers(embeddings: ModelElements(embeddings), indices: indices.memory)
    }
}

extension GeneEmbeddingFields<[Float], [Int32]> {
    /// The memory of the arrays.
    func buffers() -> GeneEmbeddingBuffers {
        GeneEmbeddingBuffers(embeddings: ModelElements(embeddings.span), indices: indices.span.memory)
    }
}

/// The memory of gene embeddings, checked.
struct CheckedGenes {
    /// G × D.
    let embeddings: ModelMatrix
    private let indices: UnsafePointer<Int32>
    /// L if all cells share one list of genes, else B·L.
    private let period: Int

    /// Throws unless there are G·`width` elements, and an index in 0..<G for each token.
    init(
        _ genes: GeneEmbeddingBuffers, cells: Int, tokens: Int, width: Int
    ) throws(LossError) {
        let count = width == 0 ? 0 : genes.embeddings.count / width
        try checkCount("genes.embeddings", genes.embeddings.count, is: count * width)
        period = genes.indices.count == tokens ? tokens : cells * tokens
        try checkCount("genes.indices", genes.indices.count, is: period)
        try checkIndices("genes.indices", genes.indices, below: count)
        embeddings = ModelMatrix(genes.embeddings, rows: count, columns: width)
        indices = pointer(genes.indices)
    }

    /// The gene of a token, numbered over all cells.
    func gene(of row: Int) -> Int { Int(indices[row % period]) }

    /// Calls `body` with the gene of each row and the row, for rows in ascending order. It divides nothing.
    func forEachGene(ofRows rows: UnsafeBufferPointer<Int>, _ body: (_ gene: Int, _ row: Int) -> Void) {
        var start = 0
        for row in rows {
            while row - start >= period { start += period }
            body(Int(indices[row - start]), row)
        }
    }
}

/// The masked tokens, gene by gene.
struct TokensByGene {
    /// The scale of the products of a decoder's genes.
    let scale: ProductScale
    private let rows: SelectedRows
    private let genes: CheckedGenes
    private let sorted: ScratchArray<Int>
    /// The first token of each gene in `sorted`, and the end of the last one's.
    private let starts: ScratchArray<Int>

    init(_ rows: SelectedRows, _ genes: CheckedGenes, in layout: inout ScratchLayout) throws(LossError) {
        self.rows = rows
        self.genes = genes
        scale = .of(rows: genes.embeddings.rows, depth: genes.embeddings.columns)
        sorted = try layout.add(rows.count, of: Int.self)
        starts = try layout.add(genes.embeddings.rows + 2, of: Int.self)
    }

    /// Sorts the listed rows by gene, and by their order within a gene (counting sort).
    func sort(on execution: Execution) {
        let rows = UnsafeBufferPointer(start: rows.indices(on: execution), count: rows.count)
        // Two places further on: the counts become the ends of the genes before, and then their starts.
        let starts = execution.pointer(starts)
        starts.update(repeating: 0, count: genes.embeddings.rows + 2)
        genes.forEachGene(ofRows: rows) { gene, _ in starts[gene + 2] += 1 }
        for gene in 0..<genes.embeddings.rows { starts[gene + 2] += starts[gene + 1] }
        let sorted = execution.pointer(sorted)
        genes.forEachGene(ofRows: rows) { gene, row in
            sorted[starts[gene + 1]] = row
            starts[gene + 1] += 1
        }
    }

    /// The most genes of a block, the work of one task: whole tiles with every instruction set.
    var mostGenesPerBlock: Int { scale == .blocks ? 160 : 48 }

    /// The genes in blocks.
    var blocks: EvenShares { EvenShares(of: genes.embeddings.rows, most: mostGenesPerBlock) }

    /// The masked tokens of some genes, in the order of the genes.
    func rows(ofGenes range: Range<Int>, on execution: Execution) -> UnsafeBufferPointer<Int> {
        let starts = execution.pointer(starts)
        let first = starts[range.lowerBound]
        return UnsafeBufferPointer(
            start: execution.pointer(sorted) + first, count: starts[range.upperBound] - first)
    }
}
