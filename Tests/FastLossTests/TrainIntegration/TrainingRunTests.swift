// The training loop of the example: it learns, resumes to the same bits, and does not depend on workers.

import BenchmarkData
import FastLoss
import FastLossHeads
import Foundation
import Testing
import TrainIntegration

@Suite struct TrainingRunTests {
    private static let data = try! RealCells.bundled()

    /// A run of the whole model on few genes.
    private func newRun(seed: UInt64 = 1, workers: Int = 2) throws -> TrainingRun {
        var settings = TrainingSettings()
        (settings.seed, settings.width, settings.genes, settings.batchSize) = (seed, 12, 40, 70)
        return try TrainingRun(settings, data: Self.data, workspace: Workspace(workers: workers))
    }

    private func train(_ run: inout TrainingRun, steps: Int) throws {
        for _ in 0..<steps { try run.step() }
    }

    @Test func validationErrorFalls() throws {
        var run = try newRun()
        try train(&run, steps: 3 * run.stepsPerEpoch)
        #expect(run.epoch == 3)
        #expect(run.validationCurve.count == 4)
        for term in 0..<4 {
            let errors = run.validationCurve.map { $0[term] }
            #expect(errors[3] < errors[0], "\(Terms.names[term])")
        }
    }

    /// Stopping at the end of an epoch or within one, and going on from the file in another run.
    @Test(arguments: [9, 13])
    func resumingGivesTheSameBits(stop: Int) throws {
        var whole = try newRun()
        #expect(whole.stepsPerEpoch == 9)
        try train(&whole, steps: 18)

        var first = try newRun()
        try train(&first, steps: stop)
        let path = FileManager.default.temporaryDirectory.appending(
            path: "FastLossTests-\(ProcessInfo.processInfo.processIdentifier)-\(stop).safetensors"
        ).path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try first.checkpoint().write(to: path)
        var second = try newRun()
        try second.resume(from: path)
        try train(&second, steps: 18 - stop)

        expectSameBits(second.parameters, whole.parameters, "parameters")
        expectSameBits(second.adam.means, whole.adam.means, "means")
        expectSameBits(second.adam.squares, whole.adam.squares, "squares")
        #expect(second.generator.state == whole.generator.state)
        #expect(second.epoch == 2)
        expectSameBits(
            second.trainingCurve.flatMap { $0 }, whole.trainingCurve.flatMap { $0 }, "training curve")
        expectSameBits(
            second.validationCurve.flatMap { $0 }, whole.validationCurve.flatMap { $0 }, "validation curve")

        var other = try newRun(seed: 2)
        #expect(throws: ResumeError.self) { try other.resume(from: path) }
    }

    @Test func theSeedAloneDeterminesTheBits() throws {
        var runs = try [1, 3].map { try newRun(workers: $0) }
        for index in runs.indices { try train(&runs[index], steps: 3) }
        expectSameBits(runs[0].parameters, runs[1].parameters, "parameters")
        let other = try newRun(seed: 2)
        #expect(try other.parameters != newRun().parameters)
    }

    @Test func masksHaveTheExactCountAndSpareCLS() {
        var generator = SeededGenerator(seed: 3)
        let batch = TokenBatch(
            Self.data, cells: [3, 699, 5], genes: 33, maskRatio: 0.4, using: &generator)
        for cell in 0..<3 {
            let row = cell * 34..<(cell + 1) * 34
            #expect(batch.mask[row].count { $0 } == 13)
            #expect(!batch.mask[row.lowerBound] && batch.inputs[row.lowerBound] == 0)
            for token in row.dropFirst() {
                let value = Self.data.values[[3, 699, 5][cell] * 765 + token - row.lowerBound - 1]
                #expect(batch.targets[token] == value)
                #expect(batch.inputs[token] == (batch.mask[token] ? -1 : value))
            }
        }
    }

    @Test func reportIsOneSelfContainedPage() throws {
        var run = try newRun()
        let untrained = try run.cellEmbeddings()
        try train(&run, steps: run.stepsPerEpoch)
        let html = try TrainingReport(run, untrained: untrained).html()
        #expect(html.count(of: "<svg") == Terms.names.count + 6)
        #expect(!html.contains("{{") && !html.contains("http") && !html.contains("nan"))
    }
}

extension String {
    fileprivate func count(of part: String) -> Int { components(separatedBy: part).count - 1 }
}
