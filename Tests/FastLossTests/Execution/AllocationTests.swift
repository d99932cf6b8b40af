// No call allocates after the first with its shape: shown by counting what reaches malloc, whoever asks for it.
// With one worker: handing a closure to helpers costs Swift a box of a few dozen bytes for each stretch of shared work.

import CAllocationCounter
import FastLoss
import Testing

/// Only an optimised build keeps its closures on the stack, so only there is nothing to be counted.
private let canCount = allocation_counter_is_available() && !_isDebugAssertConfiguration()

/// Serialised, because the counter sees the whole process. Other suites may still run beside it, so the fewest allocations of
/// many tries count: an allocation that the call itself makes is in every one of them.
@Suite(.serialized, .enabled(if: canCount)) struct AllocationTests {
    private static let shape = MatrixShape(rows: 64, columns: 1201)
    private static let embeddings = MatrixShape(rows: 300, columns: 128)

    @Test func `the counter counts`() {
        var made: [UnsafeMutableRawPointer] = []
        made.reserveCapacity(3)
        allocation_counter_start()
        for _ in 0..<3 { made.append(.allocate(byteCount: 100, alignment: 8)) }
        let count = allocation_counter_stop()
        made.forEach { $0.deallocate() }
        #expect(count >= 3)
    }

    @Test func `masked losses allocate nothing`() throws {
        var random = RandomInputs(seed: 1)
        let n = Self.shape.rows * Self.shape.columns
        let targets = random.targets(n)
        let predictions = random.predictions(n)
        let probabilities = random.probabilities(n)
        let mask = random.mask(n, ratio: 0.4)
        let workspace = Workspace(workers: 1)
        var gradient = [Float](repeating: 0, count: n)
        var values = [Float](repeating: 0, count: Self.shape.rows)
        try expectNoAllocation("MaskedMSE") {
            var span = gradient.mutableSpan
            _ = try MaskedMSE().valueAndGradient(
                predictions: predictions.span, targets: targets.span, mask: mask.span, gradient: &span,
                workspace: workspace)
        }
        try expectNoAllocation("MaskedMSE per cell") {
            var span = gradient.mutableSpan
            var valuesSpan = values.mutableSpan
            try MaskedMSE().valueAndGradientPerCell(
                predictions: predictions.span, targets: targets.span, mask: mask.span, shape: Self.shape,
                values: &valuesSpan, gradient: &span, workspace: workspace)
        }
        for form in [BernoulliNLL.Form.probabilities, .logits] {
            try expectNoAllocation("BernoulliNLL from \(form)") {
                var span = gradient.mutableSpan
                _ = try BernoulliNLL(from: form).valueAndGradient(
                    predictions: probabilities.span, targets: targets.span, mask: mask.span, gradient: &span,
                    workspace: workspace)
            }
        }
        try expectNoAllocation("MaskedRelativeError") {
            _ = try MaskedRelativeError().value(
                predictions: predictions.span, targets: targets.span, mask: mask.span, workspace: workspace)
        }
    }

    @Test func `cross-entropy allocates nothing`() throws {
        var random = RandomInputs(seed: 2)
        let (rows, classes) = (700, 50)
        let logits = random.normals(rows * classes)
        let labels = random.labels(rows, classes: classes)
        let workspace = Workspace(workers: 1)
        var gradient = logits
        try expectNoAllocation("CrossEntropy") {
            var span = gradient.mutableSpan
            _ = try CrossEntropy().valueAndGradient(
                logits: logits.span, labels: labels.span, classes: classes, gradient: &span, workspace: workspace)
        }
    }

    @Test func `losses over pairs of cells allocate nothing`() throws {
        var random = RandomInputs(seed: 3)
        let (rows, columns) = (Self.embeddings.rows, Self.embeddings.columns)
        let first = random.embeddings(rows: rows, columns: columns)
        let second = random.embeddings(rows: rows, columns: columns)
        let workspace = Workspace(workers: 1)
        var firstGradient = first
        var secondGradient = second
        var similarities = [Float](repeating: 0, count: rows * rows)
        for update in [GradientUpdate.overwrite, .accumulate] {
            try expectNoAllocation("ElasticCellSimilarity, \(update)") {
                var span = firstGradient.mutableSpan
                _ = try ElasticCellSimilarity().valueAndGradient(
                    embeddings: first.span, shape: Self.embeddings, gradient: &span, update: update,
                    workspace: workspace)
            }
            try expectNoAllocation("ContrastiveCellEmbedding, \(update)") {
                var firstSpan = firstGradient.mutableSpan
                var secondSpan = secondGradient.mutableSpan
                _ = try ContrastiveCellEmbedding().valueAndGradient(
                    first: first.span, second: second.span, shape: Self.embeddings, firstGradient: &firstSpan,
                    secondGradient: &secondSpan, update: update, workspace: workspace)
            }
        }
        try expectNoAllocation("CosineSimilarity") {
            var span = similarities.mutableSpan
            try CosineSimilarity().matrix(
                embeddings: first.span, shape: Self.embeddings, similarities: &span, workspace: workspace)
        }
    }

    @Test func `reductions allocate nothing`() throws {
        var random = RandomInputs(seed: 4)
        let maskCount = 5
        let values = random.normals(Self.shape.rows * Self.shape.columns)
        let masks = random.mask(maskCount * Self.shape.columns, ratio: 0.5)
        let tokens = TokenShape(cells: 8, tokens: 301, width: 64)
        let states = random.normals(8 * 301 * 64)
        let workspace = Workspace(workers: 1)
        var outputs = [Float](repeating: 0, count: Self.shape.rows * maskCount)
        var embeddings = [Float](repeating: 0, count: 8 * 64)
        try expectNoAllocation("MaskedReductions") {
            var span = outputs.mutableSpan
            try MaskedReductions().value(
                values: values.span, masks: masks.span, shape: Self.shape, maskCount: maskCount, outputs: &span,
                workspace: workspace)
        }
        try expectNoAllocation("TokenPooling") {
            var span = embeddings.mutableSpan
            try TokenPooling.average.value(states: states.span, shape: tokens, embeddings: &span, workspace: workspace)
        }
    }

    @Test func `the objective allocates nothing`() throws {
        var random = RandomInputs(seed: 5)
        let n = Self.shape.rows * Self.shape.columns
        let targets = random.targets(n)
        let mask = random.mask(n, ratio: 0.4)
        let predictions = random.predictions(n)
        let probabilities = random.probabilities(n)
        let embedding = random.embeddings(rows: Self.shape.rows, columns: 128)
        let logits = random.normals(Self.shape.rows * 3)
        let labels = random.labels(Self.shape.rows, classes: 3)
        let workspace = Workspace(workers: 1)
        let objective = TotalObjective.integration()
        var geneGradient = predictions
        var nonzeroGradient = probabilities
        var embeddingGradient = embedding
        try expectNoAllocation("TotalObjective") {
            let inputs = ObjectiveInputs(
                shape: Self.shape, targets: targets.span, mask: mask.span, genePredictions: predictions.span,
                geneNonzero: probabilities.span, cellPredictions: predictions.span, cellNonzero: probabilities.span,
                width: 128, cellEmbedding: embedding.span,
                batches: Classification(logits: logits.span, labels: labels.span, classes: 3))
            var gradients = ObjectiveGradients(
                genePredictions: geneGradient.mutableSpan, geneNonzero: nonzeroGradient.mutableSpan,
                cellEmbedding: embeddingGradient.mutableSpan)
            _ = try objective.valueAndGradient(inputs, gradients: &gradients, workspace: workspace)
        }
    }

    private func expectNoAllocation(_ name: String, _ call: () throws -> Void) throws {
        for _ in 0..<3 { try call() }
        var fewest = Int.max
        for _ in 0..<20 {
            allocation_counter_start()
            try call()
            fewest = min(fewest, allocation_counter_stop())
        }
        #expect(fewest == 0, "\(name)")
    }
}
