// The code in README.md and in the articles is compiled and run: each block is a marked region of an example.

import FastLoss
import Foundation
import Testing

@Suite struct DocumentationTests {
    /// README, the landing page and every article.
    static let pages = ["README.md"] + files(under: "Sources/FastLoss/FastLoss.docc", ending: ".md")

    /// The regions between `// example:begin NAME` and `// example:end` in the tests, without their common
    /// indentation. scripts/testing/test-c and test-mpi compile and run those of C.
    static let regions: Set<[String]> = {
        let sources =
            files(under: "Tests/FastLossTests", ending: ".swift")
            + ["Tests/FastLossCTests", "Tests/FastLossMPITests"].flatMap { files(under: $0, ending: ".c") }
        return Set(sources.flatMap { markedRegions(of: lines(of: $0)) })
    }()

    /// Tests/FastLossPythonTests/test_readme.py runs the blocks of Python.
    @Test(arguments: pages)
    func everyBlockIsARegionOfAnExample(page: String) {
        for block in Self.blocks(of: Self.lines(of: page)) where block.language != "python" {
            #expect(["swift", "c"].contains(block.language), "line \(block.line) of \(page)")
            // A manifest is not part of any target.
            guard block.lines.first != "// Package.swift" else { continue }
            let isCompiled = Self.regions.contains(block.lines)
            #expect(isCompiled, "line \(block.line) of \(page): no example has this code")
        }
    }

    @Test func thePagesHaveExamples() {
        let count = Self.pages.map { Self.blocks(of: Self.lines(of: $0)).count }.reduce(0, +)
        #expect(Self.pages.count > 5 && count > 5)
    }

    /// The last step of the tutorial is the compiled file; each earlier one has a part of its lines, in
    /// order.
    @Test func theTutorialEndsInTheCompiledModel() throws {
        let model = Self.lines(of: "Tests/FastLossTests/Documentation/LinearModel.swift")
        let steps = Self.files(under: "Sources/FastLoss/FastLoss.docc/Resources", ending: ".swift").sorted()
        let isCompiled = Self.lines(of: try #require(steps.last)) == model
        #expect(isCompiled, "the last step is not the compiled file")
        for step in steps {
            var rest = model[...]
            for line in Self.lines(of: step) {
                let place = rest.firstIndex(of: line)
                #expect(place != nil, "\(step): \(line)")
                rest = rest[(place ?? rest.startIndex)...].dropFirst()
            }
        }
    }
}

// MARK: - Measurements

extension DocumentationTests {
    /// The comments that refer to the article Tuning for a measurement find their file there.
    @Test func tuningNamesEveryFileThatRefersToIt() throws {
        let files = ["Sources", "Benchmarks"].flatMap { folder in
            [".swift", ".c", ".h"].flatMap { Self.files(under: folder, ending: $0) }
        }
        let referring = files.filter { file in
            // Comments wrap: compare words, without the marks of comments.
            let words = Self.lines(of: file).flatMap { $0.split(separator: " ") }.filter {
                !["//", "///"].contains($0)
            }
            return zip(words, words.dropFirst()).contains { $0 == "article" && $1.hasPrefix("Tuning") }
        }
        #expect(referring.count > 10)
        let tuning = Self.lines(of: "Sources/FastLoss/FastLoss.docc/Articles/Tuning.md").joined(
            separator: "\n")
        for file in referring {
            let name = URL(filePath: file).deletingPathExtension().lastPathComponent
            let isNamed = tuning.contains("`\(name)") || tuning.contains("/\(name).")
            #expect(isNamed, "Tuning has nothing about \(file)")
        }
    }
}

// MARK: - The examples, run

extension DocumentationTests {
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

    @Test func theLinearModelTrains() throws {
        let (cells, genes, width) = (12, 20, 4)
        var random = RandomInputs(seed: 3)
        let mask = random.mask(cells * genes)
        var model = LinearModel(
            cells: cells, genes: genes, width: width,
            embedding: random.embeddings(rows: cells, columns: width),
            decoder: random.embeddings(rows: width, columns: genes))
        // Values that a model of this kind can reach.
        let truth = LinearModel(
            cells: cells, genes: genes, width: width,
            embedding: random.embeddings(rows: cells, columns: width),
            decoder: random.embeddings(rows: width, columns: genes))
        let losses = try train(
            &model, targets: truth.predictions(), mask: mask, steps: 400, rate: 0.05)
        #expect(losses.count == 400)
        #expect(try #require(losses.last) < 0.75 * (try #require(losses.first)))
    }

    @Test func thePresetIsChanged() {
        let objective = integrationWithoutBatches()
        #expect(objective.weights.batch == nil && objective.weights.elastic == 10)
        #expect(objective.elasticCellSimilarity.threshold == 0.6 && objective.nonzeroForm == .logits)
    }
}

// MARK: - Reading pages and sources

extension DocumentationTests {
    /// A fenced block of a page.
    private struct Block {
        var language: String
        var line: Int
        var lines: [String]
    }

    private static let root = URL(filePath: #filePath).appending(path: "../../../..").standardized

    /// The files in a folder and its subfolders, as paths from the root.
    private static func files(under folder: String, ending suffix: String) -> [String] {
        let names = FileManager.default.enumerator(atPath: root.appending(path: folder).path)
        return (names?.allObjects as? [String] ?? []).filter { $0.hasSuffix(suffix) }.map {
            "\(folder)/\($0)"
        }
    }

    private static func lines(of file: String) -> [String] {
        let text = try? String(contentsOf: root.appending(path: file), encoding: .utf8)
        return text?.components(separatedBy: "\n") ?? []
    }

    private static func blocks(of page: [String]) -> [Block] {
        var blocks: [Block] = []
        var open: Block?
        for (index, line) in page.enumerated() {
            if let block = open {
                if line == "```" {
                    blocks.append(block)
                    open = nil
                } else {
                    open?.lines.append(line)
                }
            } else if line.hasPrefix("```") {
                open = Block(language: String(line.dropFirst(3)), line: index + 1, lines: [])
            }
        }
        return blocks
    }

    private static func begins(_ line: String) -> Bool {
        line.trimmingCharacters(in: .whitespaces).hasPrefix("// example:begin ")
    }

    private static func markedRegions(of source: [String]) -> [[String]] {
        source.indices.filter { begins(source[$0]) }.map { begin in
            let region = source[(begin + 1)...].prefix { !$0.hasSuffix("// example:end") }
            let indentation =
                region.filter { !$0.isEmpty }.map { $0.prefix { $0 == " " }.count }.min() ?? 0
            return region.map { String($0.dropFirst(indentation)) }
        }
    }
}
