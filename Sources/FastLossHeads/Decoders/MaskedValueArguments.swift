// The checked arguments of a masked-value decoder's call, the same for both kinds of answers.

import FastLoss

/// The arguments of one call, checked.
package struct MaskedValueArguments {
    let options: MaskedValueOptions
    let cells: Int
    let tokens: Int
    /// B × D.
    let cellEmbeddings: ModelMatrix
    let genes: CheckedGenes
    let batches: CheckedBatches?
    let mask: UnsafePointer<Bool>?
    let parameters: MaskedValueParameters
    let loss: DecoderLoss?
    let gradients: MaskedValueBuffers?
    let gradientScale: Float
    let outputs: DecoderOutputs?

    package init(
        _ decoder: MaskedValueOptions, _ inputs: MaskedValueInputBuffers, parameters: MaskedValueParameters,
        loss: DecoderLoss?, gradients: MaskedValueBuffers?, gradientScale: Float, outputs: DecoderOutputs?,
        arrays: ParameterArrays = ParameterArrays()
    ) throws(LossError) {
        options = decoder
        cells = inputs.shape.rows
        tokens = inputs.shape.columns
        let total = try inputs.shape.checkedCount()
        let width = decoder.width
        try checkCount(
            "cellEmbeddings", inputs.cellEmbeddings.count,
            is: MatrixShape(rows: cells, columns: width).checkedCount())
        if let mask = inputs.mask { try checkCount("mask", mask.count, is: total) }
        genes = try CheckedGenes(inputs.genes, cells: cells, tokens: tokens, width: width)
        batches = try CheckedBatches.check(
            inputs.batches, wanted: decoder.hasBatchEmbeddings, cells: cells, width: width)
        try loss?.check(
            total: total, explicitZeros: decoder.hasExplicitZeros, gradientScale: gradientScale)
        cellEmbeddings = ModelMatrix(inputs.cellEmbeddings, rows: cells, columns: width)
        mask = inputs.mask.map(pointer)
        self.parameters = parameters
        self.loss = loss
        self.gradients = gradients
        self.gradientScale = gradientScale
        self.outputs = outputs

        try checkGradient(gradients?.cellEmbeddings, of: inputs.cellEmbeddings)
        try checkGradient(gradients?.genes, of: inputs.genes.embeddings)
        try checkGradient(gradients?.batchEmbeddings, of: inputs.batches?.embeddings)
        try outputs?.check(total: total, explicitZeros: decoder.hasExplicitZeros)
        let read: InlineArray<_, NamedMemory?> = [
            arrays.parameters,
            inputs.cellEmbeddings.named("cellEmbeddings"),
            inputs.genes.embeddings.named("genes.embeddings"),
            NamedMemory("genes.indices", inputs.genes.indices),
            NamedMemory("mask", ifGiven: inputs.mask),
            inputs.batches?.embeddings.named("batches.embeddings"),
            NamedMemory("batches.labels", ifGiven: inputs.batches?.labels),
            loss?.inputs.0, loss?.inputs.1,
        ]
        let written: InlineArray<_, NamedMemory?> = [
            arrays.gradients,
            gradients?.cellEmbeddings?.named, gradients?.genes?.named, gradients?.batchEmbeddings?.named,
            NamedMemory("predictions", ifGiven: outputs?.predictions),
            NamedMemory("nonzero", ifGiven: outputs?.nonzero),
        ]
        try checkNoOverlap(inputs: read.span, outputs: written.span)
    }
}
