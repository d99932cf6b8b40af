// The two perceptrons of an expression decoder, which read the same rows: parameters and forward pass.
//
// Their hidden layers lie side by side in one matrix, so the first layers of both read a block of states while
// it is in cache.

import CFastLossKernels
import FastLoss

/// The parameters of one perceptron in memory: Linear → LeakyReLU → Linear → LeakyReLU → Linear.
package struct PerceptronParameters {
    let first: LinearParameters
    let second: LinearParameters
    let third: LinearParameters

    package init(first: LinearParameters, second: LinearParameters, third: LinearParameters) {
        self.first = first
        self.second = second
        self.third = third
    }
}

/// Where the gradients of one perceptron go.
package struct PerceptronGradients {
    let first: LinearGradients
    let second: LinearGradients
    let third: LinearGradients

    package init(first: LinearGradients, second: LinearGradients, third: LinearGradients) {
        self.first = first
        self.second = second
        self.third = third
    }

    /// Writes the gradients of an empty selection, for the perceptron with these parameters.
    func fill(_ value: Float, like parameters: PerceptronParameters, _ writer: GradientWriter) {
        first.fill(value, like: parameters.first, writer)
        second.fill(value, like: parameters.second, writer)
        third.fill(value, like: parameters.third, writer)
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
    /// The scale of the products with blocks of rows.
    let scale: ProductScale
    private let embeddings: WidenedMatrix?
    private let biases: ScratchMatrix
    private var firstWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var secondWeights = InlineArray<2, PackedOperand?>(repeating: nil)
    private var embeddingWeights = InlineArray<2, PackedOperand?>(repeating: nil)

    /// The width of both hidden layers of all perceptrons side by side.
    var hiddenWidth: Int { count * width }

    /// Lays out the packed weights of the forward pass.
    init(
        _ parameters: InlineArray<2, PerceptronParameters?>, width: Int, embeddings: ModelMatrix?,
        scale: ProductScale, in layout: inout ScratchLayout
    ) throws(LossError) {
        self.parameters = parameters
        self.width = width
        self.scale = scale
        self.embeddings = try embeddings.map { (matrix) throws(LossError) in
            try WidenedMatrix(matrix, in: &layout)
        }
        count = parameters[1] == nil ? 1 : 2
        batches = embeddings?.rows ?? 1
        biases = try ScratchMatrix(rows: batches, columns: count * width, in: &layout)
        for index in 0..<count {
            guard let perceptron = parameters[index] else { continue }
            firstWeights[index] = try PackedOperand(
                Self.statesWeight(perceptron, width), transposed: true, scale: scale, in: &layout)
            secondWeights[index] = try PackedOperand(
                perceptron.second.weight, transposed: true, scale: scale, in: &layout)
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
        embeddings?.prepare(on: execution)
        for index in 0..<count {
            let place = biases.row(0, on: execution) + index * width
            if let embeddings, let weight = embeddingWeights[index] {
                weight.multiply(
                    embeddings.matrix(on: execution), into: place, stride: biases.stride, on: execution)
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

/// Packs one or two operands.
func packAll(_ operands: InlineArray<2, PackedOperand?>, on execution: Execution) {
    for index in operands.indices { operands[index]?.pack(on: execution) }
}
