// What the cell embeddings contribute to an inner-product decoder: u = Wᵀ[c; e], forward and backward.

import CFastLossKernels
import FastLoss

/// The vectors that queries are multiplied by, one for each cell and output.
///
/// scGPT multiplies W into each query and the result by the cell embedding: (W q)·c for every token. The same
/// number is q·(Wᵀc), with one product for each cell. With z outputs (predictions, and logits with explicit
/// zeros):
///
///     u_zb = W_zᵀ[c_b; e_b]        shift_zb = b_z·[c_b; e_b]        output_zbl = q_bl·u_zb + shift_zb
///     dW_z = Σ_b [c_b; e_b] du_zbᵀ        db_z = Σ_b dshift_zb [c_b; e_b]
///     d[c_b; e_b] = Σ_z W_z du_zb + dshift_zb b_z
struct CellAnswers {
    /// D.
    let width: Int
    let cells: Int
    /// The number of outputs, 1 or 2.
    let outputs: Int
    private let embeddings: WidenedMatrix
    private let batchEmbeddings: WidenedMatrix?
    private let labels: UnsafePointer<Int32>?
    private let layers: InlineArray<2, LinearParameters?>

    /// u, `outputs`·B rows.
    let vectors: ScratchMatrix
    /// The shift of each row of `vectors`.
    private let shifts: ScratchArray<Float>
    private var cellWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var batchWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    /// u of each batch's embedding, K rows.
    private let batchVectors: ScratchMatrix

    init(
        _ layers: InlineArray<2, LinearParameters?>, embeddings: ModelMatrix, batches: CheckedBatches?,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.layers = layers
        self.embeddings = try WidenedMatrix(embeddings, in: &layout)
        batchEmbeddings = try batches.map { (batches) throws(LossError) in
            try WidenedMatrix(batches.embeddings, in: &layout)
        }
        labels = batches?.labels
        width = embeddings.columns
        cells = embeddings.rows
        outputs = layers[1] == nil ? 1 : 2
        vectors = try ScratchMatrix(rows: outputs * cells, columns: width, in: &layout)
        shifts = try layout.add(outputs * cells, of: Float.self)
        batchVectors = try ScratchMatrix(rows: batches?.embeddings.rows ?? 0, columns: width, in: &layout)
        for index in 0..<outputs {
            cellWeights[index] = try PackedOperand(
                weight(index, ofBatch: false), transposed: false, in: &layout)
            guard batches != nil else { continue }
            batchWeights[index] = try PackedOperand(
                weight(index, ofBatch: true), transposed: false, in: &layout)
        }
    }

    /// The rows of W_z that belong to the cell or to the batch embedding.
    func weight(_ index: Int, ofBatch: Bool) -> MatrixPointer {
        guard let layer = layers[index] else { preconditionFailure("output \(index) has no layer") }
        return MatrixPointer(
            layer.weight.base + (ofBatch ? width * width : 0), rows: width, columns: width)
    }

    /// The elements of b_z that belong to the cell or to the batch embedding, if there is a bias.
    func bias(_ index: Int, ofBatch: Bool) -> UnsafePointer<Float>? {
        layers[index]?.bias.map { $0 + (ofBatch ? width : 0) }
    }

    /// The shift of a row of ``vectors``, after ``prepare(on:)``.
    func shifts(on execution: Execution) -> UnsafePointer<Float> { UnsafePointer(execution.pointer(shifts)) }

    /// The inputs of the layers: cells, or batches.
    func inputs(ofBatch: Bool, on execution: Execution) -> MatrixPointer {
        (ofBatch ? batchEmbeddings ?? embeddings : embeddings).matrix(on: execution)
    }

    /// The batch of a cell.
    func batch(of cell: Int) -> Int { labels.map { Int($0[cell]) } ?? 0 }

    var hasBatches: Bool { batchEmbeddings != nil }
    var batchCount: Int { batchEmbeddings?.rows ?? 0 }

    /// Computes ``vectors`` and the shifts.
    func prepare(on execution: Execution) {
        embeddings.prepare(on: execution)
        batchEmbeddings?.prepare(on: execution)
        let embeddings = inputs(ofBatch: false, on: execution)
        let batches = inputs(ofBatch: true, on: execution)
        let shifts = execution.pointer(shifts)
        for index in 0..<outputs {
            let target = vectors.row(index * cells, on: execution)
            cellWeights[index]?.multiplyOnce(
                embeddings, into: target, stride: vectors.stride, on: execution)
            for cell in 0..<cells {
                shifts[index * cells + cell] =
                    bias(index, ofBatch: false).map {
                        Float(kernels.dot(embeddings.base + cell * width, $0, width))
                    } ?? 0
            }
            guard let weight = batchWeights[index] else { continue }
            weight.multiplyOnce(
                batches, into: batchVectors.row(0, on: execution), stride: batchVectors.stride,
                on: execution)
            for cell in 0..<cells {
                let batch = batch(of: cell)
                kernels.scale(
                    batchVectors.row(batch, on: execution), width, 1, target + cell * vectors.stride,
                    FASTLOSS_ACCUMULATE)
                if let bias = bias(index, ofBatch: true) {
                    shifts[index * cells + cell] += Float(
                        kernels.dot(batches.base + batch * width, bias, width))
                }
            }
        }
    }
}

// MARK: - Backward

/// The backward pass of ``CellAnswers``.
struct CellAnswersBackward {
    private let answers: CellAnswers
    private let gradients: InlineArray<2, LinearGradients?>
    private let cellGradient: ModelMatrixGradient?
    private let batchGradient: ModelMatrixGradient?
    private let writer: GradientWriter

    /// du, `outputs`·B rows.
    let vectors: ScratchMatrix
    /// dshift of each row.
    private let shifts: ScratchArray<Double>
    private var cellWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var batchWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    /// Σ du and Σ dshift over the cells of each batch.
    private let batchVectors: ScratchMatrix
    private let batchShifts: ScratchArray<Double>
    private let biasSums: ScratchArray<Double>
    private let columnProducts: ColumnProducts

    init(
        _ answers: CellAnswers, gradients: InlineArray<2, LinearGradients?>,
        cells: GradientOutput?, batches: GradientOutput?, writer: GradientWriter,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.answers = answers
        self.gradients = gradients
        self.writer = writer
        cellGradient = try ModelMatrixGradient(
            cells, rows: answers.cells, columns: answers.width, in: &layout)
        batchGradient = try ModelMatrixGradient(
            batches, rows: answers.batchCount, columns: answers.width, in: &layout)
        vectors = try ScratchMatrix(
            rows: answers.outputs * answers.cells, columns: answers.width, in: &layout)
        shifts = try layout.add(answers.outputs * answers.cells, of: Double.self)
        batchVectors = try ScratchMatrix(rows: answers.batchCount, columns: answers.width, in: &layout)
        batchShifts = try layout.add(answers.batchCount, of: Double.self)
        biasSums = try layout.add(answers.width, of: Double.self)
        columnProducts = try ColumnProducts(in: &layout)
        for index in 0..<answers.outputs {
            if cells != nil {
                cellWeights[index] = try PackedOperand(
                    answers.weight(index, ofBatch: false), transposed: true, in: &layout)
            }
            if batches != nil {
                batchWeights[index] = try PackedOperand(
                    answers.weight(index, ofBatch: true), transposed: true, in: &layout)
            }
        }
    }

    /// The sums of dshift, to which the caller adds.
    func shifts(on execution: Execution) -> UnsafeMutablePointer<Double> { execution.pointer(shifts) }

    /// Clears the sums.
    func prepare(on execution: Execution) {
        execution.pointer(shifts).update(repeating: 0, count: answers.outputs * answers.cells)
    }

    /// Writes the gradients of the layers, of the cell embeddings and of the batch embeddings.
    func finish(on execution: Execution) {
        let (allCells, allBatches) = (0..<answers.cells, 0..<answers.batchCount)
        let ofCells = cellGradient?.begin(rows: allCells, on: execution)
        let ofBatches = batchGradient?.begin(rows: allBatches, on: execution)
        for index in 0..<answers.outputs {
            let rows = index * answers.cells..<(index + 1) * answers.cells
            let shifts = execution.pointer(shifts) + rows.lowerBound
            finish(
                index, ofBatch: false, vectors.matrix(rows: rows, on: execution), shifts, ofCells,
                cellWeights[index], on: execution)
            guard answers.hasBatches else { continue }
            let sums = batchVectors.matrix(rows: 0..<answers.batchCount, on: execution)
            let sumsOfShifts = execution.pointer(batchShifts)
            for batch in 0..<answers.batchCount {
                batchVectors.row(batch, on: execution).update(repeating: 0, count: answers.width)
                sumsOfShifts[batch] = 0
            }
            for cell in 0..<answers.cells {
                let batch = answers.batch(of: cell)
                kernels.scale(
                    vectors.row(rows.lowerBound + cell, on: execution), answers.width, 1,
                    batchVectors.row(batch, on: execution), FASTLOSS_ACCUMULATE)
                sumsOfShifts[batch] += shifts[cell]
            }
            finish(
                index, ofBatch: true, sums, sumsOfShifts, ofBatches, batchWeights[index], on: execution)
        }
        cellGradient?.end(rows: allCells, on: execution)
        batchGradient?.end(rows: allBatches, on: execution)
    }

    /// The gradients of one layer's rows for the cell or the batch embeddings.
    private func finish(
        _ index: Int, ofBatch: Bool, _ dVectors: MatrixPointer, _ dShifts: UnsafePointer<Double>,
        _ inputGradient: UnsafeMutablePointer<Float>?, _ weight: PackedOperand?, on execution: Execution
    ) {
        let width = answers.width
        let inputs = answers.inputs(ofBatch: ofBatch, on: execution)
        guard let gradient = gradients[index] else { return }
        if let weight = gradient.weight {
            columnProducts.multiplyAll(
                inputs, dVectors, into: weight + (ofBatch ? width * width : 0), stride: width,
                accumulates: writer.accumulates, on: execution)
        }
        if let bias = gradient.bias {
            let sums = execution.pointer(biasSums)
            for i in 0..<width { sums[i] = 0 }
            for row in 0..<inputs.rows {
                for i in 0..<width { sums[i] += dShifts[row] * Double(inputs.base[row * width + i]) }
            }
            writer.write(sums, count: width, to: bias + (ofBatch ? width : 0))
        }
        guard let inputGradient, let weight else { return }
        weight.multiplyOnce(
            dVectors, into: inputGradient, stride: width, accumulates: writer.accumulates || index > 0,
            on: execution)
        guard let bias = answers.bias(index, ofBatch: ofBatch) else { return }
        for row in 0..<inputs.rows {
            kernels.scale(bias, width, dShifts[row], inputGradient + row * width, FASTLOSS_ACCUMULATE)
        }
    }
}
