// The article "Bad input" has a table of misuses of Swift with the error that each gets. Here every row is run.

import FastLoss
import FastLossHeads
import Foundation
import Testing

/// A wrong call. Its name is the first two cells of its row: the call and the misuse.
private struct Misuse: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var run: @Sendable () throws(LossError) -> Void

    init(_ call: String, _ misuse: String, _ run: @escaping @Sendable () throws(LossError) -> Void) {
        testDescription = "\(call): \(misuse)"
        self.run = run
    }
}

@Suite struct MisuseTests {
    /// The rows of the article's table for Swift: what is wrong, and the message.
    private static let rows: [String: String] = {
        let file = URL(filePath: #filePath)
            .deletingLastPathComponent()
            .appending(path: "../../../Sources/FastLoss/FastLoss.docc/Articles/BadInput.md")
        let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        var rows: [String: String] = [:]
        for line in text.split(separator: "\n") where line.hasPrefix("| `") && !line.hasPrefix("| `fastloss")
        {
            let cells = line.split(separator: "|").map { cell in
                cell.trimmingCharacters(in: .whitespaces).replacing("`", with: "")
            }
            rows["\(cells[0]): \(cells[1])"] = cells[2]
        }
        return rows
    }()

    @Test(arguments: misuses)
    private func `a misuse gets the error of its row`(_ misuse: Misuse) {
        let row = Self.rows[misuse.testDescription]
        var message = "no error"
        do throws(LossError) { try misuse.run() } catch { message = error.description }
        #expect(message == row ?? "a row in BadInput.md")
    }

    @Test func `every row is run`() {
        let names = Self.misuses.map(\.testDescription)
        #expect(Set(names).count == names.count)
        #expect(Self.rows.keys.filter { !names.contains($0) } == [])
    }

    private static let large = Int(Int32.max) + 1

    private static let misuses: [Misuse] = losses + classification + pairs + reductions + objective + heads

    // MARK: - Value losses

    private static func masked(
        _ loss: some MaskedLoss = MaskedMSE(), predictions: [Float] = [0.5, 0.5, 0.5, 0.5], targets: Int = 4,
        mask: [Bool]? = nil, gradient: Int = 4, scale: Float = 1
    ) throws(LossError) {
        let targets = [Float](repeating: 1, count: targets)
        var gradient = [Float](repeating: 0, count: gradient)
        var span = gradient.mutableSpan
        _ = try loss.valueAndGradient(
            predictions: predictions.span, targets: targets.span, mask: mask?.span, gradient: &span,
            gradientScale: scale, workspace: Workspace(workers: 1))
    }

    private static func perCell(
        rows: Int, columns: Int, values: Int = 2, mask: [Bool]? = nil
    ) throws(LossError) {
        let elements = [Float](repeating: 1, count: 4)
        var values = [Float](repeating: 0, count: values)
        var span = values.mutableSpan
        _ = try MaskedMSE().valuePerCell(
            predictions: elements.span, targets: elements.span, mask: mask?.span,
            shape: MatrixShape(rows: rows, columns: columns), values: &span, workspace: Workspace(workers: 1))
    }

    private static let losses = [
        Misuse("MaskedMSE", "3 targets for 4 predictions") { () throws(LossError) in try masked(targets: 3) },
        Misuse("MaskedMSE", "a mask of 5 elements for 4 predictions") { () throws(LossError) in
            try masked(mask: [true, true, true, true, true])
        },
        Misuse("MaskedMSE", "a gradient of 3 elements for 4 predictions") { () throws(LossError) in
            try masked(gradient: 3)
        },
        Misuse("MaskedMSE", "an infinite gradientScale") { () throws(LossError) in
            try masked(scale: .infinity)
        },
        Misuse("MaskedMSE", "a mask that selects nothing") { () throws(LossError) in
            try masked(mask: [false, false, false, false])
        },
        Misuse("MaskedMSE", "no elements") { () throws(LossError) in
            try masked(predictions: [], targets: 0, gradient: 0)
        },
        Misuse("MaskedMSE", "the gradient in the memory of the predictions") { () throws(LossError) in
            let memory = TestMemory(floats: 8)
            var gradient = memory.mutable(3, count: 4)
            _ = try MaskedMSE().valueAndGradient(
                predictions: memory.floats(0, count: 4), targets: memory.floats(0, count: 4), mask: nil,
                gradient: &gradient, workspace: Workspace(workers: 1))
        },
        Misuse("MaskedMSE", "a shape of 3×2 for 4 elements") { () throws(LossError) in
            try perCell(rows: 3, columns: 2)
        },
        Misuse("MaskedMSE", "a shape of −1 rows") { () throws(LossError) in
            try perCell(rows: -1, columns: 2)
        },
        Misuse("MaskedMSE", "a shape whose count exceeds Int") { () throws(LossError) in
            try perCell(rows: .max, columns: 2)
        },
        Misuse("MaskedMSE", "1 value for 2 cells") { () throws(LossError) in
            try perCell(rows: 2, columns: 2, values: 1)
        },
        Misuse("MaskedMSE", "a cell without a selected element") { () throws(LossError) in
            try perCell(rows: 2, columns: 2, mask: [true, true, false, false])
        },
        Misuse("BernoulliNLL", "a probability of 1.5") { () throws(LossError) in
            try masked(BernoulliNLL(), predictions: [0.5, 0.5, 1.5, 0.5])
        },
        Misuse("BernoulliNLL", "a probability that is NaN") { () throws(LossError) in
            try masked(BernoulliNLL(), predictions: [.nan, 0.5, 0.5, 0.5])
        },
    ]

    // MARK: - Labels

    private static func crossEntropy(
        labels: [Int32], classes: Int = 3, logits: Int = 6, gradient: Int = 6
    ) throws(LossError) {
        let logits = [Float](repeating: 1, count: logits)
        var gradient = [Float](repeating: 0, count: gradient)
        var span = gradient.mutableSpan
        _ = try CrossEntropy().valueAndGradient(
            logits: logits.span, labels: labels.span, classes: classes, gradient: &span,
            workspace: Workspace(workers: 1))
    }

    private static let classification = [
        Misuse("CrossEntropy", "5 logits for 2 rows of 3 classes") { () throws(LossError) in
            try crossEntropy(labels: [0, 1], logits: 5)
        },
        Misuse("CrossEntropy", "a gradient of 7 elements for 6 logits") { () throws(LossError) in
            try crossEntropy(labels: [0, 1], gradient: 7)
        },
        Misuse("CrossEntropy", "label 3 of 3 classes") { () throws(LossError) in
            try crossEntropy(labels: [0, 3])
        },
        Misuse("CrossEntropy", "label −1") { () throws(LossError) in try crossEntropy(labels: [-1, 0]) },
        Misuse("CrossEntropy", "only ignored labels") { () throws(LossError) in
            try crossEntropy(labels: [-100, -100])
        },
        Misuse("CrossEntropy", "a negative number of classes") { () throws(LossError) in
            try crossEntropy(labels: [0, 1], classes: -3)
        },
        Misuse("GradientReversal", "a λ that is NaN") { () throws(LossError) in
            _ = try GradientReversal(lambda: .nan).backward(gradient: [1])
        },
    ]

    // MARK: - Pairs of cells

    private static func elastic(
        rows: Int = 2, columns: Int = 2, threshold: Float = 0.3, count: Int = 4
    ) throws(LossError) {
        let embeddings = [Float](repeating: 1, count: count)
        _ = try ElasticCellSimilarity(threshold: threshold).value(
            embeddings: embeddings.span, shape: MatrixShape(rows: rows, columns: columns),
            workspace: Workspace(workers: 1))
    }

    private static func contrastive(temperature: Float = 0.5, second: Int = 4) throws(LossError) {
        let first = [Float](repeating: 1, count: 4)
        let second = [Float](repeating: 1, count: second)
        _ = try ContrastiveCellEmbedding(temperature: temperature).value(
            first: first.span, second: second.span, shape: MatrixShape(rows: 2, columns: 2),
            workspace: Workspace(workers: 1))
    }

    private static let pairs = [
        Misuse("ElasticCellSimilarity", "3 elements for 2×2") { () throws(LossError) in
            try elastic(count: 3)
        },
        Misuse("ElasticCellSimilarity", "a threshold of 1.5") { () throws(LossError) in
            try elastic(threshold: 1.5)
        },
        Misuse("ElasticCellSimilarity", "a threshold that is NaN") { () throws(LossError) in
            try elastic(threshold: .nan)
        },
        Misuse("ElasticCellSimilarity", "2³¹ rows of no columns") { () throws(LossError) in
            try elastic(rows: large, columns: 0, count: 0)
        },
        Misuse("ElasticCellSimilarity", "no rows") { () throws(LossError) in try elastic(rows: 0, count: 0) },
        Misuse("ContrastiveCellEmbedding", "a temperature of 0") { () throws(LossError) in
            try contrastive(temperature: 0)
        },
        Misuse("ContrastiveCellEmbedding", "3 elements in the second encoding") { () throws(LossError) in
            try contrastive(second: 3)
        },
        Misuse("ContrastiveCellEmbedding", "both gradients in one memory") { () throws(LossError) in
            let memory = TestMemory(floats: 16)
            var first = memory.mutable(8, count: 4)
            var second = memory.mutable(10, count: 4)
            _ = try ContrastiveCellEmbedding().valueAndGradient(
                first: memory.floats(0, count: 4), second: memory.floats(4, count: 4),
                shape: MatrixShape(rows: 2, columns: 2), firstGradient: &first, secondGradient: &second,
                workspace: Workspace(workers: 1))
        },
        Misuse("CosineSimilarity", "3 similarities for 2 rows") { () throws(LossError) in
            let memory = TestMemory(floats: 16)
            var similarities = memory.mutable(8, count: 3)
            try CosineSimilarity().matrix(
                embeddings: memory.floats(0, count: 4), shape: MatrixShape(rows: 2, columns: 2),
                similarities: &similarities, workspace: Workspace(workers: 1))
        },
    ]

    // MARK: - Reductions

    private static func reductions(masks: Int, selections: [Bool], outputs: Int) throws(LossError) {
        let values = [Float](repeating: 1, count: 4)
        var outputs = [Float](repeating: 0, count: outputs)
        var span = outputs.mutableSpan
        try MaskedReductions().value(
            values: values.span, masks: selections.span, shape: MatrixShape(rows: 2, columns: 2),
            maskCount: masks, outputs: &span, workspace: Workspace(workers: 1))
    }

    private static let reductions = [
        Misuse("MaskedReductions", "3 elements for 2 masks of 2 columns") { () throws(LossError) in
            try reductions(masks: 2, selections: [true, true, true], outputs: 4)
        },
        Misuse("MaskedReductions", "3 outputs for 2 rows and 2 masks") { () throws(LossError) in
            try reductions(masks: 2, selections: [true, true, true, true], outputs: 3)
        },
        Misuse("MaskedReductions", "an empty mask") { () throws(LossError) in
            try reductions(masks: 2, selections: [true, true, false, false], outputs: 4)
        },
        Misuse("TokenPooling", "no tokens") { () throws(LossError) in
            let memory = TestMemory(floats: 4)
            var embeddings = memory.mutable(0, count: 4)
            try TokenPooling.average.value(
                states: memory.floats(0, count: 0), shape: TokenShape(cells: 2, tokens: 0, width: 2),
                embeddings: &embeddings, workspace: Workspace(workers: 1))
        },
        Misuse("WeightedTokenPooling", "5 weights for 2 cells of 3 tokens") { () throws(LossError) in
            let memory = TestMemory(floats: 32)
            var embeddings = memory.mutable(20, count: 4)
            try WeightedTokenPooling().value(
                states: memory.floats(0, count: 12), weights: memory.floats(12, count: 5),
                shape: TokenShape(cells: 2, tokens: 3, width: 2), weightings: 1, embeddings: &embeddings,
                workspace: Workspace(workers: 1))
        },
    ]

    // MARK: - The objective

    private static func objective(
        _ weights: TermValues<Float>, missing: [ObjectiveSlot] = [], gradients: Bool = false
    ) throws(LossError) {
        var batch = ObjectiveBatch.random(cells: 2, tokens: 3, width: 4)
        let all = batch.untouchedGradients
        for slot in missing { batch.inputs[slot] = nil }
        let memory = ObjectiveMemory(batch, gradients: gradients ? all : [:])
        _ = try memory.valueAndGradient(
            of: TotalObjective(weights: weights), workspace: Workspace(workers: 1))
    }

    private static let objective = [
        Misuse("TotalObjective", "a term without its input") { () throws(LossError) in
            try objective(TermValues(cellGene: 1), missing: [.cellPredictions])
        },
        Misuse("TotalObjective", "a gradient without its input") { () throws(LossError) in
            try objective(TermValues(maskedGene: 1), missing: [.batchLogits], gradients: true)
        },
        Misuse("TotalObjective", "a weight that is NaN") { () throws(LossError) in
            try objective(TermValues(maskedGene: .nan))
        },
    ]

    // MARK: - Heads

    private static func decode(
        scale: Float = 1, _ change: (inout DecoderBatch) -> Void
    ) throws(LossError) {
        var batch: DecoderBatch
        do { batch = try DecoderBatch(DecoderShape(cells: 2, tokens: 3, width: 4, batches: 2)) } catch {
            preconditionFailure("the shape is valid")
        }
        change(&batch)
        var gradients = ExpressionDecoderGradientArrays(batch, value: 0)
        _ = try batch.valueAndGradients(workers: 1, scale: scale, into: &gradients)
    }

    private static func maskedValue(_ change: (inout MaskedValueBatch) -> Void) throws(LossError) {
        var batch: MaskedValueBatch
        do { batch = try MaskedValueBatch(MaskedValueShape(cells: 2, tokens: 3, width: 4, genes: 5)) } catch {
            preconditionFailure("the shape is valid")
        }
        change(&batch)
        _ = try batch.value()
    }

    private static let heads = [
        Misuse("ExpressionDecoder", "a width of −1") { () throws(LossError) in
            _ = try ExpressionDecoder(width: -1)
        },
        Misuse("ExpressionDecoder", "a parameter too few") { () throws(LossError) in
            try decode { $0.parameters.removeLast() }
        },
        Misuse("ExpressionDecoder", "a state too many") { () throws(LossError) in
            try decode { $0.states.append(0) }
        },
        Misuse("ExpressionDecoder", "no batches where its layers ask for them") { () throws(LossError) in
            try decode { $0.embeddings = [] }
        },
        Misuse("ExpressionDecoder", "a batch label that has no embedding") { () throws(LossError) in
            try decode { $0.labels[1] = 2 }
        },
        Misuse("ExpressionDecoder", "a product of a loss's weight and scale of 10⁶⁰") {
            () throws(LossError) in
            try decode(scale: 1e30) { $0.weights.squaredError = 1e30 }
        },
        Misuse("MaskedValueDecoder", "a gene that has no embedding") { () throws(LossError) in
            try maskedValue { $0.genes[4] = 5 }
        },
        Misuse("MaskedValueDecoder", "a mask that selects nothing") { () throws(LossError) in
            try maskedValue { $0.mask = $0.mask.map { _ in false } }
        },
        Misuse("CellTypeDecoder", "−1 classes") { () throws(LossError) in
            _ = try CellTypeDecoder(width: 4, classes: -1)
        },
        Misuse("BatchLabelEncoder", "a width of −1") { () throws(LossError) in
            _ = try BatchLabelEncoder(labels: 2, width: -1)
        },
    ]
}
