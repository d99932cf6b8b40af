// The checked arguments of a masked-value decoder's call, the same for both kinds of answers.

import FastLoss

/// The arguments of one call, checked.
struct MaskedValueArguments {
    let cells: Int
    let tokens: Int
    /// B × D.
    let cellEmbeddings: MatrixPointer
    let genes: CheckedGenes
    let batches: CheckedBatches?
    let mask: UnsafePointer<Bool>?
    let parameters: UnsafePointer<Float>
    let loss: DecoderLoss?
    let gradients: MaskedValueBuffers?
    let gradientScale: Float
    let outputs: DecoderOutputs?

    init(
        _ decoder: MaskedValueDecoder, _ inputs: MaskedValueInputBuffers,
        parameters: UnsafeBufferPointer<Float>,
        loss: DecoderLoss?, gradients: MaskedValueBuffers?, gradientScale: Float, outputs: DecoderOutputs?
    ) throws(LossError) {
        cells = inputs.shape.rows
        tokens = inputs.shape.columns
        let total = try inputs.shape.checkedCount()
        let width = decoder.width
        try checkCount(
            "cellEmbeddings", inputs.cellEmbeddings.count,
            is: MatrixShape(rows: cells, columns: width).checkedCount())
        try checkCount("parameters", parameters.count, is: decoder.layout.count)
        if let mask = inputs.mask { try checkCount("mask", mask.count, is: total) }
        genes = try CheckedGenes(inputs.genes, cells: cells, tokens: tokens, width: width)
        batches = try CheckedBatches.check(
            inputs.batches, wanted: decoder.hasBatchEmbeddings, cells: cells, width: width)
        try loss?.check(total: total, explicitZeros: decoder.hasExplicitZeros)
        try checkParameter("gradientScale", gradientScale, "finite") { $0.isFinite }
        cellEmbeddings = MatrixPointer(pointer(inputs.cellEmbeddings), rows: cells, columns: width)
        mask = inputs.mask.map(pointer)
        self.parameters = pointer(parameters)
        self.loss = loss
        self.gradients = gradients
        self.gradientScale = gradientScale
        self.outputs = outputs

        var overlap = OverlapCheck()
        overlap.add(input: "parameters", parameters)
        overlap.add(input: "cellEmbeddings", inputs.cellEmbeddings)
        overlap.add(input: "genes.embeddings", inputs.genes.embeddings)
        overlap.add(input: "genes.indices", inputs.genes.indices)
        if let mask = inputs.mask { overlap.add(input: "mask", mask) }
        if let batches = inputs.batches {
            overlap.add(input: "batches.embeddings", batches.embeddings)
            overlap.add(input: "batches.labels", batches.labels)
        }
        loss?.addInputs(to: &overlap)
        try Self.check(gradients, decoder, inputs, &overlap)
        try outputs?.check(total: total, explicitZeros: decoder.hasExplicitZeros, &overlap)
    }

    private static func check(
        _ gradients: MaskedValueBuffers?, _ decoder: MaskedValueDecoder,
        _ inputs: MaskedValueInputBuffers, _ overlap: inout OverlapCheck
    ) throws(LossError) {
        guard let gradients else { return }
        try checkCount("gradients.parameters", gradients.parameters.count, is: decoder.layout.count)
        try overlap.add(output: "gradients.parameters", gradients.parameters)
        if let cells = gradients.cellEmbeddings {
            try checkCount("gradients.cellEmbeddings", cells.count, is: inputs.cellEmbeddings.count)
            try overlap.add(output: "gradients.cellEmbeddings", cells)
        }
        if let genes = gradients.genes {
            try checkCount("gradients.genes", genes.count, is: inputs.genes.embeddings.count)
            try overlap.add(output: "gradients.genes", genes)
        }
        if let embeddings = gradients.batchEmbeddings {
            guard let batches = inputs.batches else {
                throw .gradientWithoutInput(gradient: "gradients.batchEmbeddings")
            }
            try checkCount("gradients.batchEmbeddings", embeddings.count, is: batches.embeddings.count)
            try overlap.add(output: "gradients.batchEmbeddings", embeddings)
        }
    }
}
