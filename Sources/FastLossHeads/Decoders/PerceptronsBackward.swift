// The backward pass of the two perceptrons of an expression decoder.

import CFastLossKernels
import FastLoss

/// The backward pass of ``Perceptrons``: first block by block, then the weights over a group of blocks.
struct PerceptronsBackward {
    private let perceptrons: Perceptrons
    private let gradients: InlineArray<2, PerceptronGradients?>
    private let writer: GradientWriter
    private let embeddings: ModelMatrix?
    private let embeddingsGradient: ModelMatrixGradient?
    /// W₁ₓ and W₂ as the right operands of the backward pass; W₁ₓ only if the states' gradient is wanted.
    private var firstWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var secondWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var embeddingWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    /// Σ dz₁ for each batch, Σ dz₂, dw₃ and Σ dy, over all rows so far.
    private let firstSums: ScratchArray<Double>
    private let secondSums: ScratchArray<Double>
    private let thirdSums: ScratchArray<Double>
    private let outputSums: ScratchArray<Double>
    private let batchSums: ScratchMatrix
    private let embeddingsCopy: ScratchMatrix
    private let columnProducts: ColumnProducts

    init(
        _ perceptrons: Perceptrons, gradients: InlineArray<2, PerceptronGradients?>,
        writer: GradientWriter, embeddings: ModelMatrix?, embeddingsGradient: GradientOutput?,
        wantsStates: Bool, in layout: inout ScratchLayout
    ) throws(LossError) {
        self.perceptrons = perceptrons
        self.gradients = gradients
        self.writer = writer
        self.embeddings = embeddings
        let width = perceptrons.width
        self.embeddingsGradient = try ModelMatrixGradient(
            embeddingsGradient, rows: perceptrons.batches, columns: width, in: &layout)
        for index in 0..<perceptrons.count {
            secondWeights[index] = try PackedOperand(
                perceptrons[index].second.weight, transposed: false, scale: perceptrons.scale, in: &layout)
            if wantsStates {
                firstWeights[index] = try PackedOperand(
                    Perceptrons.statesWeight(perceptrons[index], width), transposed: false,
                    scale: perceptrons.scale, in: &layout)
            }
            if embeddingsGradient != nil {
                embeddingWeights[index] = try PackedOperand(
                    Perceptrons.embeddingsWeight(perceptrons[index], width), transposed: false, in: &layout)
            }
        }
        firstSums = try layout.add(perceptrons.batches, by: perceptrons.hiddenWidth, of: Double.self)
        secondSums = try layout.add(perceptrons.hiddenWidth, of: Double.self)
        thirdSums = try layout.add(perceptrons.hiddenWidth, of: Double.self)
        outputSums = try layout.add(Perceptrons.most, of: Double.self)
        let embeddingRows = embeddings?.rows ?? 0
        batchSums = try ScratchMatrix(rows: embeddingRows, columns: perceptrons.hiddenWidth, in: &layout)
        embeddingsCopy = try ScratchMatrix(rows: embeddingRows, columns: width, in: &layout)
        columnProducts = try ColumnProducts(scale: perceptrons.scale, in: &layout)
    }

    /// Packs the weights and clears the sums. To run once before the first block.
    func prepare(on execution: Execution) {
        packAll(firstWeights, on: execution)
        packAll(secondWeights, on: execution)
        packAll(embeddingWeights, on: execution)
        execution.pointer(firstSums).update(
            repeating: 0, count: perceptrons.batches * perceptrons.hiddenWidth)
        execution.pointer(secondSums).update(repeating: 0, count: perceptrons.hiddenWidth)
        execution.pointer(thirdSums).update(repeating: 0, count: perceptrons.hiddenWidth)
        execution.pointer(outputSums).update(repeating: 0, count: Perceptrons.most)
    }

    /// Carries the gradients of a block's outputs back to its hidden layers and states.
    ///
    /// - Parameters:
    ///   - outputGradients: dy, `rows` for each perceptron.
    ///   - first: a₁; stays as it is.
    ///   - second: a₂; replaced by dz₂.
    ///   - firstGradient: receives dz₁.
    ///   - thirdGradient: receives the block's dw₃.
    ///   - states: receives dx with stride `statesStride`; nil if it is not wanted.
    func block(
        rows: Int, outputGradients: UnsafePointer<Float>, first: UnsafePointer<Float>,
        second: UnsafeMutablePointer<Float>, firstGradient: UnsafeMutablePointer<Float>, stride: Int,
        thirdGradient: UnsafeMutablePointer<Float>, states: UnsafeMutablePointer<Float>?, statesStride: Int,
        on execution: Execution
    ) {
        let width = perceptrons.width
        for index in 0..<perceptrons.count {
            let column = index * width
            kernels.output_row_gradient(
                second + column, rows, width, stride, perceptrons[index].third.weight.base,
                outputGradients + index * rows, FASTLOSS_LEAKY_RELU, thirdGradient + column)
            secondWeights[index]?.multiply(
                MatrixPointer(second + column, rows: rows, columns: width, stride: stride),
                into: firstGradient + column, stride: stride, on: execution)
            for row in 0..<rows {
                let place = row * stride + column
                kernels.activation_gradient(firstGradient + place, first + place, width, FASTLOSS_LEAKY_RELU)
            }
            guard let states else { continue }
            firstWeights[index]?.multiply(
                MatrixPointer(firstGradient + column, rows: rows, columns: width, stride: stride),
                into: states, stride: statesStride, accumulates: index > 0, on: execution)
        }
    }

    /// Adds a block's dw₃ and dy to the sums over all rows. Blocks come in their order.
    func addBlock(
        rows: Int, outputGradients: UnsafePointer<Float>, thirdGradient: UnsafePointer<Float>,
        on execution: Execution
    ) {
        kernels.add_rows(
            thirdGradient, 1, perceptrons.hiddenWidth, perceptrons.hiddenWidth, execution.pointer(thirdSums))
        let sums = execution.pointer(outputSums)
        for index in 0..<perceptrons.count {
            for row in 0..<rows { sums[index] += Double(outputGradients[index * rows + row]) }
        }
    }
}

// MARK: - Weights

extension PerceptronsBackward {
    /// Adds the gradients of the weights of layers 1 and 2 over a group of rows.
    ///
    /// - Parameters:
    ///   - isFirst: whether this is the first group, which overwrites what is not accumulated.
    ///   - batch: the batch of the row with this number in the group.
    func addWeights(
        states: MatrixPointer, first: MatrixPointer, second: MatrixPointer, firstGradient: MatrixPointer,
        isFirst: Bool, batch: (Int) -> Int, on execution: Execution
    ) {
        let width = perceptrons.width
        let rows = states.rows
        let accumulates = writer.accumulates || !isFirst
        let shares = columnProducts.shares(columns: width)
        execution.forEachTask(
            2 * perceptrons.count * shares.tasks,
            estimatedNanoseconds: 2 * Double(perceptrons.count)
                * TileProducts.nanoseconds(rows: width, columns: width, depth: rows)
        ) { task, worker in
            let layer = task / shares.tasks
            let index = layer / 2
            let columns = shares[task % shares.tasks]
            let start = columns.lowerBound
            guard let gradient = gradients[index] else { return }
            let isFirstLayer = layer % 2 == 0
            let source = isFirstLayer ? firstGradient : second
            let dz = MatrixPointer(
                source.base + index * width + start, rows: rows, columns: columns.count, stride: source.stride
            )
            let inputs =
                isFirstLayer
                ? states
                : MatrixPointer(
                    first.base + index * width, rows: rows, columns: width, stride: first.stride)
            let stride = isFirstLayer ? perceptrons[index].first.weight.columns : width
            let target = isFirstLayer ? gradient.first.weight : gradient.second.weight
            if let target {
                columnProducts.multiply(
                    dz, inputs, into: target + start * stride, stride: stride, accumulates: accumulates,
                    worker: worker, on: execution)
            }
            let sums = execution.pointer(isFirstLayer ? firstSums : secondSums) + index * width + start
            guard isFirstLayer, embeddings != nil else {
                return kernels.add_rows(dz.base, rows, dz.columns, dz.stride, sums)
            }
            for row in 0..<rows {
                kernels.add_rows(
                    dz.base + row * dz.stride, 1, dz.columns, dz.stride,
                    sums + batch(row) * perceptrons.hiddenWidth)
            }
        }
    }

    /// Writes the gradients of the biases, of the third layer and of the batch embeddings.
    func finish(on execution: Execution) {
        let width = perceptrons.width
        let sums = execution.pointer(firstSums)
        if let embeddings {
            for batch in 0..<perceptrons.batches {
                let row = batchSums.row(batch, on: execution)
                for i in 0..<perceptrons.hiddenWidth {
                    row[i] = Float(sums[batch * perceptrons.hiddenWidth + i])
                    if batch > 0 { sums[i] += sums[batch * perceptrons.hiddenWidth + i] }
                }
                embeddings.copy(row: batch, to: embeddingsCopy.row(batch, on: execution))
            }
        }
        let rows = 0..<(embeddings?.rows ?? 0)
        let inputGradient = embeddingsGradient?.begin(rows: rows, on: execution)
        for index in 0..<perceptrons.count {
            guard let gradient = gradients[index] else { continue }
            let column = index * width
            gradient.first.bias.map { writer.write(sums + column, count: width, to: $0) }
            gradient.second.bias.map {
                writer.write(execution.pointer(secondSums) + column, count: width, to: $0)
            }
            writer.write(
                execution.pointer(thirdSums) + column, count: width, to: gradient.third.weight)
            gradient.third.bias.map {
                writer.write(execution.pointer(outputSums) + index, count: 1, to: $0)
            }
            guard embeddings != nil else { continue }
            let sumsOfBatches = batchSums.matrix(rows: rows, column: column, columns: width, on: execution)
            if let weight = gradient.first.weight {
                columnProducts.multiplyAll(
                    sumsOfBatches, embeddingsCopy.matrix(rows: rows, on: execution), into: weight + width,
                    stride: 2 * width, accumulates: writer.accumulates, on: execution)
            }
            if let inputGradient {
                embeddingWeights[index]?.multiply(
                    sumsOfBatches, into: inputGradient, stride: width,
                    accumulates: writer.accumulates || index > 0, on: execution)
            }
        }
        embeddingsGradient?.end(rows: rows, on: execution)
    }
}
