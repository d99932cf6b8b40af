// The settings of a run: options of the command, and what a checkpoint must agree with.

import ArgumentParser

/// Everything that determines the bits of a run.
package struct TrainingSettings: ParsableArguments, CustomStringConvertible {
    @Option(help: "Determines first values, masks and the order of cells.") var seed: UInt64 = 1
    @Option(help: "The width of embeddings.") var width = 64
    @Option(help: "The genes of a cell, from the first on.") var genes = 765
    @Option(help: "The cells of a step.") var batchSize = 64
    @Option(help: "The share of a cell's genes that is masked.") var maskRatio = 0.4
    @Option(help: "Adam's step size in the first epoch.") var learningRate = 0.01
    @Option(help: "The factor of the learning rate after each epoch.") var decay = 0.95

    package init() {}

    package func validate() throws {
        guard width >= 1, batchSize >= 1, (1...765).contains(genes) else {
            throw ValidationError("Width and batch size are at least 1, genes 1 to 765.")
        }
        guard (0...1).contains(maskRatio), maskRatio * Double(genes) >= 1,
            learningRate > 0, learningRate.isFinite, decay > 0, decay.isFinite
        else {
            throw ValidationError("The mask ratio selects a gene; learning rate and decay are positive.")
        }
    }

    package var description: String {
        """
        seed \(seed), width \(width), genes \(genes), batch size \(batchSize), mask ratio \(maskRatio), \
        learning rate \(learningRate), decay \(decay)
        """
    }
}
