// Cells as the tokens that scGPT trains on: <cls> first, then the genes, of which some are masked.

import BenchmarkData

/// B cells of L tokens. `targets`, `mask` and `inputs` have B·L elements.
package struct TokenBatch: Sendable {
    let cells: Int
    let tokens: Int
    /// The binned values; 0 at <cls>.
    package let targets: [Float]
    /// The tokens to predict; never <cls>.
    package let mask: [Bool]
    /// What the encoder sees: −1 at masked tokens, as in scGPT.
    package let inputs: [Float]
    /// The GEM well of each cell, in place of its batch.
    let wells: [Int32]

    /// Some cells with their first `genes` genes, of which exactly ⌊`maskRatio`·`genes`⌋ are masked.
    package init(
        _ data: RealCells, cells: some Collection<Int>, genes: Int, maskRatio: Double,
        using generator: inout SeededGenerator
    ) {
        (self.cells, tokens) = (cells.count, genes + 1)
        // Padding is neither masked nor counted: that is the rule for <cls>, too.
        let values = cells.flatMap { cell in
            [TrainingBatch.padValue] + data.values[cell * data.geneCount..<cell * data.geneCount + genes]
        }
        mask = RealCells.randomMask(
            of: values, rows: cells.count, columns: genes + 1, ratio: maskRatio, using: &generator)
        targets = values.map { max(0, $0) }
        inputs = zip(targets, mask).map { $1 ? -1 : $0 }
        wells = cells.map { data.gemWells[$0] }
    }

    /// Calls `body` for the tokens whose value is visible and not 0; the label of a value is one more than it.
    func forEachExpressed(_ body: (_ cell: Int, _ gene: Int, _ label: Int) -> Void) {
        for token in inputs.indices where inputs[token] > 0 {
            body(token / tokens, token % tokens, Int(inputs[token]) + 1)
        }
    }

    func forEachMasked(_ body: (_ cell: Int, _ gene: Int, _ token: Int) -> Void) {
        for token in mask.indices where mask[token] { body(token / tokens, token % tokens, token) }
    }
}
