// The masked tokens of a masked-value decoder's call, the same for both kinds of answers.

import FastLoss

/// The masked tokens of one call in both orders, and what happens to their outputs.
struct MaskedValueTokens {
    let rows: SelectedRows
    let byGene: TokensByGene
    let outputs: TokenOutputs
    /// The losses if no token is masked.
    let emptyValue: Double

    init(
        _ arguments: MaskedValueArguments, in layout: inout ScratchLayout
    ) throws(LossError) {
        rows = try SelectedRows(
            mask: arguments.mask, total: arguments.cells * arguments.tokens, in: &layout)
        emptyValue =
            rows.count == 0
            ? try arguments.loss?.emptyValue(arguments.options.whenEmpty, decoder: "MaskedValueDecoder") ?? 0
            : 0
        byGene = try TokensByGene(rows, arguments.genes, in: &layout)
        outputs = TokenOutputs(
            arguments.loss, into: arguments.outputs, form: arguments.options.nonzeroForm,
            scale: arguments.gradientScale, selected: rows.count,
            wantsGradients: arguments.gradients != nil)
    }

    /// Lists the tokens, and sorts them by gene.
    func prepare(on execution: Execution) {
        rows.list(on: execution)
        byGene.sort(on: execution)
    }
}
