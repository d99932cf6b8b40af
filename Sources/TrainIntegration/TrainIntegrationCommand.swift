// The command line: trains, shows progress, saves checkpoints and writes the report.

import ArgumentParser
import BenchmarkData
import FastLoss
import Foundation
import Synchronization

/// Whether Ctrl-C was pressed. A signal handler reaches globals alone.
private let isInterrupted = Atomic(false)

@main
struct TrainIntegrationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "TrainIntegration",
        abstract: "Train scGPT's integration objective on 700 real blood cells.",
        discussion: """
            Every epoch ends with a checkpoint in the output folder. Ctrl-C saves one, too. The same command with \
            --resume goes on from it, to the same bits as if it had not stopped. The same seed gives the same \
            bits for any number of workers.
            """)

    @Option(help: "Determines first values, masks and the order of cells.") var seed: UInt64 = 1
    @Option(help: "Passes over the training cells.") var epochs = 40
    @Option(help: "The width of embeddings.") var width = 64
    @Option(help: "The genes of a cell, from the first on.") var genes = 765
    @Option(help: "The cells of a step.") var batchSize = 64
    @Option(help: "The share of a cell's genes that is masked.") var maskRatio = 0.4
    @Option(help: "Adam's step size in the first epoch.") var learningRate = 0.01
    @Option(help: "The factor of the learning rate after each epoch.") var decay = 0.95
    @Option(help: "The largest number of workers.") var workers = Workspace.defaultWorkers
    @Option(help: "The folder of checkpoint.safetensors and report.html.") var output = ".build/training"
    @Option(help: "Write first values, cells, masks, terms and times of all steps to this file.")
    var record: String?
    @Flag(help: "Go on from the checkpoint in the output folder.") var resume = false

    func validate() throws {
        guard epochs >= 1, width >= 1, batchSize >= 1, (1...765).contains(genes), workers >= 1 else {
            throw ValidationError("Epochs, width, batch size and workers are at least 1, genes 1 to 765.")
        }
        guard (0...1).contains(maskRatio), maskRatio * Double(genes) >= 1,
            learningRate > 0, learningRate.isFinite, decay > 0, decay.isFinite
        else {
            throw ValidationError("The mask ratio selects a gene; learning rate and decay are positive.")
        }
    }

    func run() throws {
        var settings = TrainingSettings()
        (settings.seed, settings.width, settings.genes) = (seed, width, genes)
        (settings.batchSize, settings.maskRatio) = (batchSize, maskRatio)
        (settings.learningRate, settings.decay) = (learningRate, decay)
        var run = try TrainingRun(settings, data: .bundled(), workspace: Workspace(workers: workers))
        let untrained = try run.cellEmbeddings()
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        let checkpoint = "\(output)/checkpoint.safetensors"
        if resume { try run.resume(from: checkpoint) }

        // The first Ctrl-C sets the flag, a second one ends the process as usual.
        isInterrupted.store(false, ordering: .relaxed)
        signal(SIGINT) { _ in
            isInterrupted.store(true, ordering: .relaxed)
            signal(SIGINT, SIG_DFL)
        }
        let (start, firstStep) = (ContinuousClock.now, run.adam.step)
        var recording = record == nil ? nil : StepRecording(of: run)
        while run.epoch < epochs {
            let step = try run.step()
            recording?.append(step)
            let isStopping = isInterrupted.load(ordering: .relaxed)
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            show(run, secondsPerStep: seconds / Double(run.adam.step - firstStep))
            guard run.stepInEpoch == 0 || isStopping else { continue }
            try run.checkpoint().write(to: checkpoint)
            if isStopping {
                print("\nstopped after step \(run.adam.step); go on with --resume")
                throw ExitCode(130)
            }
        }
        if let record { try recording?.file().write(to: record) }
        let report = try TrainingReport(run, untrained: untrained)
        try report.html().write(toFile: "\(output)/report.html", atomically: true, encoding: .utf8)
        print("\(report.summary)\nreport: \(output)/report.html")
    }

    /// A bar with every term on standard error, if that is a terminal; a line for each epoch on standard output.
    private func show(_ run: TrainingRun, secondsPerStep: Double) {
        func list(_ terms: [Float]) -> String {
            zip(Terms.names, terms).map { "\($0) \(text($1))" }.joined(separator: "  ")
        }
        if isatty(STDERR_FILENO) == 1 {
            let (done, all) = (run.adam.step, epochs * run.stepsPerEpoch)
            let bar = String(repeating: "█", count: 20 * done / all).padding(
                toLength: 20, withPad: "░", startingAt: 0)
            let left = "\(Int(secondsPerStep * Double(all - done))) s left"
            let line =
                run.stepInEpoch == 0 ? "" : "\(bar) \(left)  \(list(run.trainingCurve.last ?? []))"
            FileHandle.standardError.write(Data("\r\u{1B}[K\(line)".utf8))
        }
        guard run.stepInEpoch == 0 else { return }
        print("epoch \(run.epoch)/\(epochs), validation: \(list(run.validationCurve.last ?? []))")
        // A pipe or a file shows each epoch at once, too.
        fflush(nil)
    }
}
