// The two perceptrons of an expression decoder, which read the same rows, forward and backward.
//
// Their hidden layers lie side by side in one matrix. So the first layers of both read each row of states
// once, and the gradient of the states is one product over the depth of both.

import CFastLossKernels
import FastLoss

/// The parameters of one perceptron in memory: Linear → LeakyReLU → Linear → LeakyReLU → Linear.
package struct PerceptronParameters {
    package let first: LinearParameters
    package let second: LinearParameters
    package let third: LinearParameters

    package init(first: LinearParameters, second: LinearParameters, third: LinearParameters) {
        self.first = first
        self.second = second
        self.third = third
    }
}

/// Where the gradients of one perceptron go.
package struct PerceptronGradients {
    package let first: LinearGradients
    package let second: LinearGradients
    package let third: LinearGradients

    package init(first: LinearGradients, second: LinearGradients, third: LinearGradients) {
        self.first = first
        self.second = second
        self.third = third
    }
}

/// One or two perceptrons over the same rows of D states, with D hidden units in each of two layers.
///
///     a₁ = f(W₁x + b₁)        a₂ = f(W₂a₁ + b₂)        y = w₃·a₂ + b₃        f(z) = z > 0 ? z : z/100
///     dz₂ = dy·w₃ ∘ f′        dz₁ = W₂ᵀdz₂ ∘ f′        dx = W₁ᵀdz₁
///     dW₃ = Σ dy·a₂           dW₂ = Σ dz₂·a₁ᵀ          dW₁ = Σ dz₁·xᵀ         db = Σ dz
///
/// With batch embeddings e, W₁ is [W₁ₓ W₁ₑ], and W₁ₑe + b₁ is the bias of all rows of a batch.
struct Perceptrons {
    /// The most perceptrons.
    static let most = 2

    /// D.
    let width: Int
    /// 1 or 2.
    let count: Int
    /// K, the number of different biases of the first layer.
    let batches: Int
    private let parameters: InlineArray<2, PerceptronParameters?>
    private let embeddings: MatrixPointer?
    private let biases: ScratchMatrix
    private var firstWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var secondWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var embeddingWeights = InlineArray<2, PackedOperand?>(repeating: nil)

    /// The width of both hidden layers of all perceptrons side by side.
    var hiddenWidth: Int { count * width }

    /// Lays out the packed weights of the forward pass.
    init(
        _ parameters: InlineArray<2, PerceptronParameters?>, width: Int, embeddings: MatrixPointer?,
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.parameters = parameters
        self.width = width
        self.embeddings = embeddings
        count = parameters[1] == nil ? 1 : 2
        batches = embeddings?.rows ?? 1
        biases = try ScratchMatrix(rows: batches, columns: count * width, in: &layout)
        for index in 0..<count {
            guard let perceptron = parameters[index] else { continue }
            firstWeights[index] = try PackedOperand(
                Self.statesWeight(perceptron, width), transposed: true, in: &layout)
            secondWeights[index] = try PackedOperand(perceptron.second.weight, transposed: true, in: &layout)
            if embeddings != nil {
                embeddingWeights[index] = try PackedOperand(
                    Self.embeddingsWeight(perceptron, width), transposed: true, in: &layout)
            }
        }
    }

    /// The columns of W₁ that the states are multiplied by.
    static func statesWeight(_ perceptron: PerceptronParameters, _ width: Int) -> MatrixPointer {
        let weight = perceptron.first.weight
        return MatrixPointer(weight.base, rows: weight.rows, columns: width, stride: weight.stride)
    }

    /// The columns of W₁ that the batch embedding is multiplied by.
    static func embeddingsWeight(_ perceptron: PerceptronParameters, _ width: Int) -> MatrixPointer {
        let weight = perceptron.first.weight
        return MatrixPointer(weight.base + width, rows: weight.rows, columns: width, stride: weight.stride)
    }

    /// The parameters of one perceptron.
    subscript(index: Int) -> PerceptronParameters {
        guard let perceptron = parameters[index] else {
            preconditionFailure("perceptron \(index) is missing")
        }
        return perceptron
    }
}

// MARK: - Forward

extension Perceptrons {
    /// Packs the weights, and computes the bias of every batch. To run once before ``forward``.
    func prepare(on execution: Execution) {
        packAll(firstWeights, on: execution)
        packAll(secondWeights, on: execution)
        packAll(embeddingWeights, on: execution)
        for index in 0..<count {
            let place = biases.row(0, on: execution) + index * width
            if let embeddings, let weight = embeddingWeights[index] {
                weight.multiply(embeddings, into: place, stride: biases.stride, on: execution)
            }
            for batch in 0..<batches {
                let row = place + batch * biases.stride
                if embeddings == nil { row.update(repeating: 0, count: width) }
                if let bias = self[index].first.bias {
                    kernels.scale(bias, width, 1, row, FASTLOSS_ACCUMULATE)
                }
            }
        }
    }

    /// Computes the outputs of a block of rows, and keeps both hidden layers.
    ///
    /// - Parameters:
    ///   - rows: the states, one row each.
    ///   - batch: the batch of the row with this number in the block.
    ///   - first: receives a₁ of all perceptrons side by side.
    ///   - second: receives a₂.
    ///   - outputs: receives y, `rows.rows` for each perceptron.
    func forward(
        _ rows: MatrixPointer, batch: (Int) -> Int, first: UnsafeMutablePointer<Float>,
        second: UnsafeMutablePointer<Float>, stride: Int, outputs: UnsafeMutablePointer<Float>,
        on execution: Execution
    ) {
        for index in 0..<count {
            firstWeights[index]?.multiply(rows, into: first + index * width, stride: stride, on: execution)
        }
        for row in 0..<rows.rows {
            kernels.activate(
                first + row * stride, biases.row(batch(row), on: execution), hiddenWidth, FASTLOSS_LEAKY_RELU)
        }
        for index in 0..<count {
            let place = second + index * width
            secondWeights[index]?.multiply(
                MatrixPointer(first + index * width, rows: rows.rows, columns: width, stride: stride),
                into: place, stride: stride, on: execution)
            let third = self[index].third
            let bias = third.bias?.pointee ?? 0
            for row in 0..<rows.rows {
                kernels.activate(place + row * stride, self[index].second.bias, width, FASTLOSS_LEAKY_RELU)
                outputs[index * rows.rows + row] =
                    Float(kernels.dot(place + row * stride, third.weight.base, width) + Double(bias))
            }
        }
    }
}

// MARK: - Backward

/// The backward pass of ``Perceptrons``: first block by block, then the weights over a group of blocks.
struct PerceptronsBackward {
    private let perceptrons: Perceptrons
    private let gradients: InlineArray<2, PerceptronGradients?>
    private let writer: GradientWriter
    private let embeddings: MatrixPointer?
    private let embeddingsGradient: UnsafeMutablePointer<Float>?
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
        writer: GradientWriter, embeddings: MatrixPointer?,
        embeddingsGradient: UnsafeMutablePointer<Float>?, wantsStates: Bool, in layout: inout ScratchLayout
    ) throws(LossError) {
        self.perceptrons = perceptrons
        self.gradients = gradients
        self.writer = writer
        self.embeddings = embeddings
        self.embeddingsGradient = embeddingsGradient
        let width = perceptrons.width
        for index in 0..<perceptrons.count {
            secondWeights[index] = try PackedOperand(
                perceptrons[index].second.weight, transposed: false, in: &layout)
            if wantsStates {
                firstWeights[index] = try PackedOperand(
                    Perceptrons.statesWeight(perceptrons[index], width), transposed: false, in: &layout)
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
        columnProducts = try ColumnProducts(in: &layout)
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
    private var tasksPerLayer: Int { ColumnProducts.tasks(columns: perceptrons.width) }

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
        execution.forEachTask(
            2 * perceptrons.count * tasksPerLayer,
            estimatedNanoseconds: 2 * Double(perceptrons.count)
                * TileProducts.nanoseconds(rows: width, columns: width, depth: rows)
        ) { task, worker in
            let layer = task / tasksPerLayer
            let index = layer / 2
            let start = task % tasksPerLayer * ColumnProducts.columnsPerTask
            let columns = min(ColumnProducts.columnsPerTask, width - start)
            guard let gradient = gradients[index] else { return }
            let isFirstLayer = layer % 2 == 0
            let source = isFirstLayer ? firstGradient : second
            let dz = MatrixPointer(
                source.base + index * width + start, rows: rows, columns: columns, stride: source.stride)
            let inputs =
                isFirstLayer
                ? states
                : MatrixPointer(
                    first.base + index * width, rows: rows, columns: width, stride: first.stride)
            let stride = isFirstLayer ? perceptrons[index].first.weight.columns : width
            let target = isFirstLayer ? gradient.first.weight : gradient.second.weight
            columnProducts.multiply(
                dz, inputs, into: target + start * stride, stride: stride, accumulates: accumulates,
                worker: worker, on: execution)
            let sums = execution.pointer(isFirstLayer ? firstSums : secondSums) + index * width + start
            guard isFirstLayer, embeddings != nil else {
                return kernels.add_rows(dz.base, rows, columns, dz.stride, sums)
            }
            for row in 0..<rows {
                kernels.add_rows(
                    dz.base + row * dz.stride, 1, columns, dz.stride,
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
                embeddingsCopy.row(batch, on: execution).update(
                    from: embeddings.base + batch * embeddings.stride, count: width)
            }
        }
        let rows = 0..<(embeddings?.rows ?? 0)
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
            columnProducts.multiplyAll(
                sumsOfBatches, embeddingsCopy.matrix(rows: rows, on: execution),
                into: gradient.first.weight + width, stride: 2 * width, accumulates: writer.accumulates,
                on: execution)
            if let embeddingsGradient {
                embeddingWeights[index]?.multiply(
                    sumsOfBatches, into: embeddingsGradient, stride: width,
                    accumulates: writer.accumulates || index > 0, on: execution)
            }
        }
    }
}
