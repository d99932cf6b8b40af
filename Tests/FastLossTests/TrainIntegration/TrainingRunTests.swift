// The training loop of the example: it learns, resumes to the same bits, and does not depend on workers.

import BenchmarkData
import FastLoss
import FastLossHeads
import Foundation
import RankThreads
import Testing
import TrainIntegration

@Suite struct TrainingRunTests {
    private static let data = try! RealCells.bundled()

    /// A run of the whole model on few genes.
    private func newRun(
        seed: UInt64 = 1, workers: Int = 2,
        on ranks: ThreadCommunicator = ThreadCommunicator.group(size: 1)[0]
    ) throws -> TrainingRun {
        let settings = try TrainingSettings.parse([
            "--seed", "\(seed)", "--width", "12", "--genes", "40", "--batch-size", "70",
        ])
        return try TrainingRun(settings, data: Self.data, workspace: Workspace(workers: workers), on: ranks)
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

    /// A rank without cells would fail in the middle of a step, and keep the others waiting.
    @Test func ranksHaveCells() throws {
        #expect(throws: LossError.self) { try newRun(on: ThreadCommunicator.group(size: 71)[0]) }
    }

    /// Ranks that share the cells of each step, unequal numbers of them, give one process's learning curve.
    @Test(arguments: [2, 3])
    func ranksGiveTheCurveOfOneProcess(ranks: Int) throws {
        var one = try newRun()
        try train(&one, steps: one.stepsPerEpoch)
        let results = try onRanks(ranks) { rank in
            var run = try newRun(workers: 1, on: rank)
            try train(&run, steps: run.stepsPerEpoch)
            return (run.parameters, run.trainingCurve + run.validationCurve)
        }.map { try $0.get() }
        for (parameters, curve) in results {
            expectSameBits(parameters, results[0].0, "parameters")
            expectSameBits(curve.flatMap { $0 }, results[0].1.flatMap { $0 }, "curve")
        }
        for (across, alone) in zip(results[0].1, one.trainingCurve + one.validationCurve) {
            for (term, name) in Terms.names.enumerated() {
                expectClose(Double(across[term]), Double(alone[term]), Tolerances.curveAcrossRanks, name)
            }
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

    @Test func reportIsOneSelfContainedPage() throws {
        var run = try newRun()
        let untrained = try run.cellEmbeddings()
        try train(&run, steps: run.stepsPerEpoch)
        let html = try TrainingReport(run, untrained: untrained).html()
        #expect(!html.contains("{{") && !html.contains("http"))
        let line = try #require(html.split(separator: "\n").first { $0.hasPrefix("const report = ") })
        let json = Data(line.dropFirst("const report = ".count).dropLast().utf8)
        let page = try JSONDecoder().decode(Page.self, from: json)
        #expect(page.training.count == 9 && page.validation.count == 2)
        #expect((page.training + page.validation).allSatisfy { $0.count == page.terms.count })
        #expect(page.types.count == 700 && page.wells.count == 700)
        #expect(page.embeddings.count == 3)
        for embedding in page.embeddings {
            #expect(embedding.plane.count == 2 * 700)
            #expect((0...1).contains(embedding.purity) && embedding.mixing > 0)
        }
        // The mean of each gene fits better than the mean of all values.
        #expect(page.predictions.count == 4)
        #expect(page.predictions[2].error < page.predictions[3].error)
        #expect(page.predictions[0].error == Double(page.validation[1][0]))
        #expect(page.predictions[0].relativeError == Double(page.validation[1][6]))
    }

    /// The numbers that the page draws.
    private struct Page: Decodable {
        struct Embedding: Decodable {
            let purity, mixing: Double
            let plane: [Float]
        }
        struct Prediction: Decodable {
            let error: Double
            let relativeError: Double?
        }
        let terms: [String]
        let training, validation: [[Float]]
        let types, wells: [Int32]
        let embeddings: [Embedding]
        let predictions: [Prediction]
    }
}
