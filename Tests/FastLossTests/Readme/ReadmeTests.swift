// The README's code is the code that is compiled and run here.

import FastLoss
import Foundation
import Testing

@Suite struct ReadmeTests {
    /// The blocks of the README that train are, but for indentation, the marked regions of the examples,
    /// which are compiled and run here, and by scripts/testing/test-c.
    @Test(arguments: [
        ("TrainingLoopExample.swift", "swift", 4), ("../../FastLossCTests/training_loop.c", "c", 0),
    ])
    func theExampleIsTheOneInTheReadme(example: String, language: String, indentation: Int) throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
        let source = try Self.lines(of: folder.appending(path: example).standardized)
        let readme = try Self.lines(of: folder.appending(path: "../../../README.md").standardized)

        let begin = try #require(source.firstIndex { $0.hasSuffix("// readme:begin") })
        let end = try #require(source.firstIndex { $0.hasSuffix("// readme:end") })
        let region = source[(begin + 1)..<end].map { String($0.dropFirst(indentation)) }

        let first = try #require(region.first)
        let firstLine = try #require(readme.firstIndex(of: first))
        let fence = try #require(readme[firstLine...].firstIndex(of: "```"))
        #expect(readme[firstLine - 1] == "```\(language)")
        #expect(Array(readme[firstLine..<fence]) == region)
    }

    @Test func theTrainingLoopTrains() throws {
        let shape = MatrixShape(rows: 8, columns: 30)
        var random = RandomInputs(seed: 11)
        let batch = ExampleBatch(
            shape: shape, targets: random.targets(240), mask: random.mask(240))
        var model = ExampleModel(
            width: 6,
            parameters: ExampleOutput(
                genes: random.predictions(240), embedding: random.embeddings(rows: 8, columns: 6)))
        var losses: [ObjectiveValue] = []
        try trainExample(&model, on: [ExampleBatch](repeating: batch, count: 50)) { losses.append($0) }
        #expect(losses.count == 50)
        #expect(zip(losses, losses.dropFirst()).allSatisfy { $0.total > $1.total })
    }

    private static func lines(of file: URL) throws -> [String] {
        try String(contentsOf: file, encoding: .utf8).components(separatedBy: "\n")
    }
}
