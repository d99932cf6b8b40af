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

    @OptionGroup var settings: TrainingSettings
    @Option(help: "Passes over the training cells.") var epochs = 40
    @Option(help: "The largest number of workers.") var workers = Workspace.defaultWorkers
    @Option(help: "Ranks on threads, which share the cells of each step and the workers.") var ranks = 1
    @Option(help: "The folder of checkpoint.safetensors and report.html.") var output = ".build/training"
    @Option(help: "Write parameters, tokens, terms and times of all steps here.") var record: String?
    @Flag(help: "Go on from the checkpoint in the output folder.") var resume = false

    func validate() throws {
        guard min(epochs, workers, ranks) >= 1 else {
            throw ValidationError("Epochs, workers and ranks are at least 1.")
        }
    }

    func run() throws {
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        for result in ThreadCommunicator.onThreads(ranks, { try train(on: $0) }) { try result.get() }
    }

    /// Every rank has the whole state; the first one shows and writes it.
    private func train(on rank: ThreadCommunicator) throws {
        let workspace = Workspace(workers: max(1, workers / ranks))
        var run = try TrainingRun(settings, data: .bundled(), workspace: workspace, on: rank)
        let untrained = try run.cellEmbeddings()
        let checkpoint = "\(output)/checkpoint.safetensors"
        if resume { try run.resume(from: checkpoint) }

        // The first Ctrl-C sets the flag, a second one ends the process as usual.
        signal(SIGINT) { _ in
            isInterrupted.store(true, ordering: .relaxed)
            signal(SIGINT, SIG_DFL)
        }
        let (start, firstStep) = (ContinuousClock.now, run.adam.step)
        if record != nil { run.recording = StepRecording(of: run.parameters, run.model.layout) }
        while run.epoch < epochs {
            try run.step()
            var interrupted: [Float] = [isInterrupted.load(ordering: .relaxed) ? 1 : 0]
            try rank.sum(&interrupted)
            let isStopping = interrupted[0] > 0
            if rank.rank > 0, isStopping { return }
            guard rank.rank == 0 else { continue }
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            show(run, secondsPerStep: seconds / Double(run.adam.step - firstStep))
            guard run.stepInEpoch == 0 || isStopping else { continue }
            try run.checkpoint().write(to: checkpoint)
            if isStopping {
                print("\nstopped after step \(run.adam.step); go on with --resume")
                throw ExitCode(130)
            }
        }
        guard rank.rank == 0 else { return }
        if let record { try run.recording?.file.write(to: record) }
        let report = try TrainingReport(run, untrained: untrained)
        try report.html().write(toFile: "\(output)/report.html", atomically: true, encoding: .utf8)
        print("\(report.summary)\nreport: \(output)/report.html")
    }

    /// A bar with every term on standard error, if that is a terminal; a line for each epoch on standard output.
    private func show(_ run: TrainingRun, secondsPerStep: Double) {
        func list(_ terms: [Float]?) -> String {
            zip(Terms.names, terms ?? []).map { "\($0) \(text($1))" }.joined(separator: "  ")
        }
        if isatty(STDERR_FILENO) == 1 {
            let (done, all) = (run.adam.step, epochs * run.stepsPerEpoch)
            let bar = (0..<20).map { $0 * all < 20 * done ? "█" : "░" }.joined()
            let left = "\(Int(secondsPerStep * Double(all - done))) s left"
            let line = run.stepInEpoch == 0 ? "" : "\(bar) \(left)  \(list(run.trainingCurve.last))"
            // Clears the line; a narrow terminal cuts the new one off instead of wrapping it.
            FileHandle.standardError.write(Data("\r\u{1B}[K\u{1B}[?7l\(line)\u{1B}[?7h".utf8))
        }
        if run.stepInEpoch == 0 {
            print("epoch \(run.epoch)/\(epochs), validation: \(list(run.validationCurve.last))")
            // A pipe or a file shows each epoch at once, too.
            fflush(nil)
        }
    }
}
