// The training loop: one step after the other, in an order that the settings alone determine.

import BenchmarkData
import FastLoss

/// Everything that determines the bits of a run.
package struct TrainingSettings: Codable, Equatable, Sendable {
    package var seed: UInt64 = 1
    package var width = 64
    package var genes = 765
    package var batchSize = 64
    package var maskRatio = 0.4
    package var learningRate = 0.01
    /// γ, the factor of the learning rate after each epoch.
    package var decay = 0.95

    package init() {}
}

/// A run: parameters, optimiser, random numbers and learning curves.
package struct TrainingRun {
    let settings: TrainingSettings
    let data: RealCells
    let model: IntegrationModel
    let workspace: Workspace
    private let trainingCells: [Int]
    /// A tenth of the cells, as in scGPT, which training never sees; with the same mask in every epoch.
    let validation: TokenBatch

    // The state, all of which a checkpoint holds.
    package var parameters: [Float]
    package var adam: Adam
    package var generator: SeededGenerator
    /// The completed epochs, and the steps of the current one.
    package var (epoch, stepInEpoch) = (0, 0)
    /// The cells of the current epoch.
    var order: [Int] = []
    /// The terms of every step, and those of the validation cells before training and after every epoch.
    package var trainingCurve: [[Float]] = []
    package var validationCurve: [[Float]] = []

    package init(_ settings: TrainingSettings, data: RealCells, workspace: Workspace) throws {
        (self.settings, self.data, self.workspace) = (settings, data, workspace)
        model = try IntegrationModel(
            genes: settings.genes, bins: data.binCount, wells: data.gemWellCount, width: settings.width)
        generator = SeededGenerator(seed: settings.seed)
        parameters = model.initialValues(using: &generator)
        adam = Adam(count: parameters.count)
        let cells = (0..<data.count).shuffled(using: &generator)
        trainingCells = Array(cells.dropFirst(data.count / 10))
        validation = TokenBatch(
            data, cells: cells.prefix(data.count / 10), genes: settings.genes, maskRatio: settings.maskRatio,
            using: &generator)
        try validate()
    }

    package var stepsPerEpoch: Int { (trainingCells.count + settings.batchSize - 1) / settings.batchSize }

    /// Trains on the next cells; the last step of an epoch may have fewer.
    @discardableResult
    package mutating func step() throws -> TrainingStep {
        if stepInEpoch == 0 { order = trainingCells.shuffled(using: &generator) }
        let chosen = order.dropFirst(stepInEpoch * settings.batchSize).prefix(settings.batchSize)
        let batch = TokenBatch(
            data, cells: chosen, genes: settings.genes, maskRatio: settings.maskRatio, using: &generator)
        var clock = StepClock()
        let (terms, gradient) = try model.evaluate(batch, parameters, workspace, &clock)
        adam.update(
            &parameters, gradient: gradient,
            learningRate: settings.learningRate * power(settings.decay, epoch))
        clock.lap(.optimizer)
        trainingCurve.append(terms.values)
        stepInEpoch += 1
        if stepInEpoch == stepsPerEpoch {
            (epoch, stepInEpoch) = (epoch + 1, 0)
            try validate()
        }
        return TrainingStep(
            cells: Array(chosen), mask: batch.mask, terms: terms.values, seconds: clock.seconds)
    }

    private mutating func validate() throws {
        var unused = StepClock()
        validationCurve.append(
            try model.evaluate(validation, parameters, workspace, &unused).terms.values)
    }

    /// The embeddings of all cells with every value visible.
    package func cellEmbeddings() throws -> [Float] {
        var unused = generator
        let batch = TokenBatch(
            data, cells: 0..<data.count, genes: settings.genes, maskRatio: 0, using: &unused)
        return try model.encoder.forward(batch, parameters, workspace).cells
    }

    /// The mean squared error of predicting the training cells' mean: of all values, and of each gene.
    func baselines() -> (mean: Double, geneMean: Double) {
        let means = (0..<settings.genes).map { gene in
            trainingCells.reduce(0) { $0 + Double(data.values[$1 * data.geneCount + gene]) }
                / Double(trainingCells.count)
        }
        let mean = means.reduce(0, +) / Double(means.count)
        var (error, geneError, count) = (0.0, 0.0, 0.0)
        validation.forEachMasked { _, gene, token in
            let target = Double(validation.targets[token])
            error += (target - mean) * (target - mean)
            geneError += (target - means[gene - 1]) * (target - means[gene - 1])
            count += 1
        }
        return (error / count, geneError / count)
    }
}
