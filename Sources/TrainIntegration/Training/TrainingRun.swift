// The training loop: one step after the other, in an order that the settings alone determine.

import BenchmarkData
import FastLoss

/// A run: parameters, optimiser, random numbers and learning curves.
package struct TrainingRun {
    let settings: TrainingSettings
    let data: RealCells
    let model: IntegrationModel
    let trainingCells: [Int]
    /// A tenth of the cells, as in scGPT, which training never sees; with the same mask in every epoch.
    let validation: TrainingBatch
    private let workspace: Workspace
    let ranks: ThreadCommunicator
    /// Set by a caller that records the steps.
    var recording: StepRecording?

    // The state, all of which a checkpoint holds.
    package var parameters: [Float]
    package var adam: Adam
    package var generator: SeededGenerator
    /// The cells of the current epoch.
    var order: [Int] = []
    /// The terms of every step, and those of the validation cells before training and after every epoch.
    package var trainingCurve: [[Float]] = []
    package var validationCurve: [[Float]] = []

    package init(
        _ settings: TrainingSettings, data: RealCells, workspace: Workspace,
        on ranks: ThreadCommunicator = ThreadCommunicator.group(size: 1)[0]
    ) throws {
        (self.settings, self.data, self.workspace, self.ranks) = (settings, data, workspace, ranks)
        model = try IntegrationModel(
            genes: settings.genes, bins: data.binCount, wells: data.gemWellCount, width: settings.width)
        generator = SeededGenerator(seed: settings.seed)
        parameters = model.layout.initialValues(using: &generator)
        adam = Adam(count: parameters.count)
        let cells = (0..<data.count).shuffled(using: &generator)
        trainingCells = Array(cells.dropFirst(data.count / 10))
        validation = data.batch(
            of: cells.prefix(data.count / 10), genes: settings.genes, maskRatio: settings.maskRatio,
            using: &generator)
        guard ranks.size <= min(validation.cells, (trainingCells.count - 1) % settings.batchSize + 1) else {
            throw LossError.invalidParameter(
                name: "ranks", value: Double(ranks.size), requirement: "at most the cells of each step")
        }
        try validate()
    }

    package var stepsPerEpoch: Int { (trainingCells.count + settings.batchSize - 1) / settings.batchSize }
    /// The completed epochs, and the steps of the current one.
    package var epoch: Int { adam.step / stepsPerEpoch }
    package var stepInEpoch: Int { adam.step % stepsPerEpoch }

    /// Trains on the next cells; the last step of an epoch may have fewer.
    package mutating func step() throws {
        if stepInEpoch == 0 { order = trainingCells.shuffled(using: &generator) }
        let batch = data.batch(
            of: order.dropFirst(stepInEpoch * settings.batchSize).prefix(settings.batchSize),
            genes: settings.genes, maskRatio: settings.maskRatio, using: &generator)
        let rate = settings.learningRate * power(settings.decay, epoch)
        recording?.startStep()
        let (terms, gradient) = try model.evaluate(batch, parameters, workspace, on: ranks, &recording)
        adam.update(&parameters, gradient: gradient, learningRate: rate)
        recording?.lap(.optimizer)
        recording?.append(batch, terms: terms)
        trainingCurve.append(terms)
        if stepInEpoch == 0 { try validate() }
    }

    private mutating func validate() throws {
        validationCurve.append(
            try model.evaluate(validation, parameters, workspace, on: ranks, &recording).terms)
    }

    /// The embeddings of all cells with every value visible.
    package func cellEmbeddings() throws -> [Float] {
        var unused = generator
        let batch = data.batch(of: 0..<data.count, genes: settings.genes, maskRatio: 0, using: &unused)
        return try model.encoder.forward(batch, parameters, workspace).cells
    }
}
