// One batch through a classifier: forward, through the cross-entropy, and back.

import CFastLossKernels
import FastLoss

/// What a classifier's logits are for.
package enum ClassifierLoss {
    /// Cross-entropy against B labels.
    case labels(UnsafeBufferPointer<Int32>, CrossEntropy)
    /// A loss of the caller's, by the B·C gradients of the logits.
    case given(UnsafeBufferPointer<Float>)
}

/// Where a classifier's gradients go.
package struct ClassifierBuffers {
    let parameters: ClassifierParameterGradients
    /// Its scale is −λ behind a gradient reversal, else 1.
    let cellEmbeddings: GradientOutput?
    let update: GradientUpdate

    package init(
        parameters: ClassifierParameterGradients, cellEmbeddings: GradientOutput?, update: GradientUpdate
    ) {
        self.parameters = parameters
        self.cellEmbeddings = cellEmbeddings
        self.update = update
    }
}

/// Where a classifier's gradients go, with one array for those of all parameters.
struct ClassifierMemory {
    let parameters: UnsafeMutableBufferPointer<Float>
    let cellEmbeddings: GradientOutput?
    let update: GradientUpdate
}

extension NormalizedClassifier {
    /// Plans one call, reserves its scratch memory, and runs it.
    ///
    /// - Parameters:
    ///   - loss: nil if the logits alone are wanted.
    ///   - logits: receives the logits.
    func run(
        cellEmbeddings: ModelElements, cells: Int, parameters: Span<Float>, loss: ClassifierLoss? = nil,
        logits: UnsafeMutableBufferPointer<Float>? = nil, gradients: ClassifierMemory? = nil,
        gradientScale: Float = 1, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let arrays = try ParameterArrays(
            parameters.memory, gradients: gradients?.parameters, count: self.layout.count)
        let buffers = gradients.map {
            ClassifierBuffers(
                parameters: ClassifierParameterGradients(self, in: pointer($0.parameters)),
                cellEmbeddings: $0.cellEmbeddings, update: $0.update)
        }
        var layout = workspace.layout
        let plan = try ClassifierPlan(
            ClassifierOptions(name: name, width: width, classes: classes, activation: activation),
            cellEmbeddings: cellEmbeddings, cells: cells,
            parameters: ClassifierParameters(self, in: parameters.pointer), loss: loss, logits: logits,
            gradients: buffers, gradientScale: gradientScale, arrays: arrays, in: &layout)
        return try workspace.run(plan, layout)
    }
}

/// One batch through a classifier.
///
///     z = W x + b        a = f(z)        y = LayerNorm(a)        logits = W_out y + b_out
package struct ClassifierPlan: Plan {
    package var name: String { classifier.name }

    private let classifier: ClassifierOptions
    private let parameters: ClassifierParameters
    private let cellEmbeddings: ModelMatrix
    private let cellGradient: ModelMatrixGradient?
    private let loss: ClassifierLoss?
    private let logits: UnsafeMutablePointer<Float>?
    private let gradients: ClassifierBuffers?
    private let scale: Float
    /// The number of cells whose label is not ignored.
    private var selectedCount = 0
    /// The loss if all labels are ignored.
    private var emptyValue = 0.0

    /// Of each block: its input (of the first one, a copy of the embeddings), a, and n of its LayerNorm; and
    /// the inputs of the last layer.
    private let inputs: ScratchMatrix
    private let activated: ScratchMatrix
    private let normalised: ScratchMatrix
    private let inverses: ScratchArray<Float>
    private let outputs: ScratchMatrix
    private let outputGradient: ScratchMatrix
    /// The gradients of a layer's output and input, by turns.
    private let upper: ScratchMatrix
    private let lower: ScratchMatrix
    private let weightSums: ScratchArray<Double>
    private let biasSums: ScratchArray<Double>
    private let columnProducts: ColumnProducts
    /// Memory for one packed weight of each kind, used by one block after the other.
    private let forwardWeight: PackedOperand
    private let backwardWeight: PackedOperand
    private let forwardOutput: PackedOperand
    private let backwardOutput: PackedOperand

    package init(
        _ classifier: ClassifierOptions, cellEmbeddings: ModelElements, cells: Int,
        parameters: ClassifierParameters, loss: ClassifierLoss?, logits: UnsafeMutableBufferPointer<Float>?,
        gradients: ClassifierBuffers?, gradientScale: Float, arrays: ParameterArrays = ParameterArrays(),
        in layout: inout ScratchLayout
    ) throws(LossError) {
        self.classifier = classifier
        self.loss = loss
        self.gradients = gradients
        scale = gradientScale
        let width = classifier.width
        let count = try MatrixShape(rows: cells, columns: width).checkedCount()
        let logitCount = try MatrixShape(rows: cells, columns: classifier.classes).checkedCount()
        try checkCount("cellEmbeddings", cellEmbeddings.count, is: count)
        try checkParameter("gradientScale", gradientScale, "finite") { $0.isFinite }
        if let logits { try checkCount("logits", logits.count, is: logitCount) }
        try checkGradient(gradients?.cellEmbeddings, of: cellEmbeddings)
        self.parameters = parameters
        self.cellEmbeddings = ModelMatrix(cellEmbeddings, rows: cells, columns: width)
        self.logits = logits.map(pointer)

        let lossInput: NamedMemory?
        switch loss {
        case .labels(let labels, let crossEntropy):
            lossInput = NamedMemory("labels", labels)
            selectedCount = try crossEntropy.countLabels(
                labels.span, named: "labels", classes: classifier.classes)
            if selectedCount == 0 {
                emptyValue = try crossEntropy.whenEmpty.value(loss: classifier.name, row: nil)
            }
        case .given(let gradient):
            try checkCount("logitsGradient", gradient.count, is: logitCount)
            lossInput = NamedMemory("logitsGradient", gradient)
        case nil: lossInput = nil
        }
        let inputs: InlineArray<_, NamedMemory?> = [
            arrays.parameters, cellEmbeddings.named("cellEmbeddings"), lossInput,
        ]
        let outputs: InlineArray<_, NamedMemory?> = [
            NamedMemory("logits", ifGiven: logits),
            arrays.gradients,
            gradients?.cellEmbeddings?.named,
        ]
        try checkNoOverlap(inputs: inputs.span, outputs: outputs.span)

        TileProducts.prepare(in: &layout)
        let blocks = parameters.count
        cellGradient = try ModelMatrixGradient(
            gradients?.cellEmbeddings, rows: cells, columns: width, in: &layout)
        self.inputs = try ScratchMatrix(rows: (blocks + 1) * cells, columns: width, in: &layout)
        activated = try ScratchMatrix(rows: blocks * cells, columns: width, in: &layout)
        normalised = try ScratchMatrix(rows: blocks * cells, columns: width, in: &layout)
        inverses = try layout.add(blocks * cells, of: Float.self)
        self.outputs = try ScratchMatrix(rows: cells, columns: classifier.classes, in: &layout)
        outputGradient = try ScratchMatrix(rows: cells, columns: classifier.classes, in: &layout)
        upper = try ScratchMatrix(rows: cells, columns: width, in: &layout)
        lower = try ScratchMatrix(rows: cells, columns: width, in: &layout)
        weightSums = try layout.add(max(width, classifier.classes), of: Double.self)
        biasSums = try layout.add(width, of: Double.self)
        columnProducts = try ColumnProducts(in: &layout)
        let output = parameters.output.weight
        let block = blocks == 0 ? nil : parameters.block(0, width: width).linear.weight
        forwardWeight = try PackedOperand(block ?? output, transposed: true, in: &layout)
        backwardWeight = try PackedOperand(block ?? output, transposed: false, in: &layout)
        forwardOutput = try PackedOperand(output, transposed: true, in: &layout)
        backwardOutput = try PackedOperand(output, transposed: false, in: &layout)
    }

    package func run(on execution: Execution) -> LossValue {
        forward(on: execution)
        guard let loss else { return LossValue(value: 0, selectedCount: 0) }
        let value: LossValue
        switch loss {
        case .given(let gradient):
            for cell in 0..<cellEmbeddings.rows {
                for index in 0..<classifier.classes {
                    outputGradient.row(cell, on: execution)[index] =
                        scale * gradient[cell * classifier.classes + index]
                }
            }
            value = LossValue(value: 0, selectedCount: 0)
        case .labels(let labels, let crossEntropy):
            let divisor = crossEntropy.reduction == .mean ? Double(selectedCount) : 1
            var sum = 0.0
            for cell in 0..<cellEmbeddings.rows {
                sum += kernels.softmax_cross_entropy_rows(
                    outputs.row(cell, on: execution), pointer(labels) + cell, 1, classifier.classes,
                    crossEntropy.ignoredLabel, selectedCount == 0 ? 0 : Float(Double(scale) / divisor),
                    outputGradient.row(cell, on: execution), FASTLOSS_OVERWRITE)
            }
            value = LossValue(
                value: selectedCount == 0 ? emptyValue : sum / divisor, selectedCount: selectedCount)
        }
        if let gradients { backward(gradients, on: execution) }
        return value
    }
}

// MARK: - Forward

extension ClassifierPlan {
    private var cells: Int { cellEmbeddings.rows }
    private var width: Int { classifier.width }

    /// The rows of one block in a matrix of all blocks.
    private func rows(ofBlock block: Int) -> Range<Int> { block * cells..<(block + 1) * cells }

    private func forward(on execution: Execution) {
        for cell in 0..<cells {
            cellEmbeddings.copy(row: cell, to: inputs.row(cell, on: execution))
        }
        for index in 0..<parameters.count {
            let block = parameters.block(index, width: width)
            let linear = block.linear
            let weight = forwardWeight.replaced(by: linear.weight)
            let rows = rows(ofBlock: index)
            weight.multiplyOnce(
                inputs.matrix(rows: rows, on: execution),
                into: activated.row(rows.lowerBound, on: execution), stride: activated.stride, on: execution)
            for row in rows {
                let output = activated.row(row, on: execution)
                kernels.activate(output, linear.bias, width, classifier.activation.kernelValue)
                guard width > 0 else { continue }
                execution.pointer(inverses)[row] = kernels.layer_norm(
                    output, width, block.norm.weight, block.norm.bias, normalised.row(row, on: execution),
                    inputs.row(row + cells, on: execution))
            }
        }
        let output = parameters.output
        forwardOutput.multiplyOnce(
            inputs.matrix(rows: rows(ofBlock: parameters.count), on: execution),
            into: outputs.row(0, on: execution), stride: outputs.stride, on: execution)
        for cell in 0..<cells {
            let row = outputs.row(cell, on: execution)
            kernels.activate(row, output.bias, classifier.classes, FASTLOSS_IDENTITY)
            (logits.map { $0 + cell * classifier.classes })?.update(from: row, count: classifier.classes)
        }
    }
}

// MARK: - Backward

extension ClassifierPlan {
    private func backward(_ gradients: ClassifierBuffers, on execution: Execution) {
        let writer = GradientWriter(update: gradients.update)
        writeLayer(
            gradients.parameters.output,
            outputGradient.matrix(rows: 0..<cells, on: execution),
            inputs.matrix(rows: rows(ofBlock: parameters.count), on: execution), writer, on: execution)
        backwardOutput.multiplyOnce(
            outputGradient.matrix(rows: 0..<cells, on: execution),
            into: upper.row(0, on: execution), stride: upper.stride, on: execution)
        for index in (0..<parameters.count).reversed() {
            let block = parameters.block(index, width: width)
            let targets = gradients.parameters.block(index)
            let rows = rows(ofBlock: index)
            let weights = execution.pointer(weightSums)
            let biases = execution.pointer(biasSums)
            weights.update(repeating: 0, count: width)
            biases.update(repeating: 0, count: width)
            for row in 0..<cells {
                let gradient = lower.row(row, on: execution)
                guard width > 0 else { continue }
                kernels.layer_norm_gradient(
                    upper.row(row, on: execution), normalised.row(rows.lowerBound + row, on: execution),
                    width, execution.pointer(inverses)[rows.lowerBound + row],
                    block.norm.weight, weights, biases, gradient)
                kernels.activation_gradient(
                    gradient, activated.row(rows.lowerBound + row, on: execution), width,
                    classifier.activation.kernelValue)
            }
            writer.write(weights, count: width, to: targets.norm.weight)
            writer.write(biases, count: width, to: targets.norm.bias)
            writeLayer(
                targets.linear, lower.matrix(rows: 0..<cells, on: execution),
                inputs.matrix(rows: rows, on: execution), writer, on: execution)
            guard index > 0 || gradients.cellEmbeddings != nil else { continue }
            let weight = backwardWeight.replaced(by: block.linear.weight)
            weight.multiplyOnce(
                lower.matrix(rows: 0..<cells, on: execution), into: upper.row(0, on: execution),
                stride: upper.stride, on: execution)
        }
        guard let cellGradient, let output = gradients.cellEmbeddings else { return }
        let target = cellGradient.begin(rows: 0..<cells, on: execution)
        for cell in 0..<cells {
            kernels.scale(
                upper.row(cell, on: execution), width, output.scale, target + cell * width, output.mode)
        }
        cellGradient.end(rows: 0..<cells, on: execution)
    }

    /// The gradients of one linear layer, from those of its outputs.
    private func writeLayer(
        _ gradients: LinearGradients, _ outputs: MatrixPointer, _ inputs: MatrixPointer,
        _ writer: GradientWriter, on execution: Execution
    ) {
        if let weight = gradients.weight {
            columnProducts.multiplyAll(
                outputs, inputs, into: weight, stride: width, accumulates: writer.accumulates, on: execution)
        }
        guard let bias = gradients.bias else { return }
        let sums = execution.pointer(weightSums)
        sums.update(repeating: 0, count: outputs.columns)
        kernels.add_rows(outputs.base, outputs.rows, outputs.columns, outputs.stride, sums)
        writer.write(sums, count: outputs.columns, to: bias)
    }
}
