// `Benchmarks ranks`: losses of a batch that is spread over ranks, against one process with as many threads.

import ArgumentParser
import BenchmarkData
import FastLoss
import Foundation

struct RanksCommand: ParsableCommand {
    enum Loss: String, ExpressibleByArgument, CaseIterable { case elastic, contrastive }

    static let configuration = CommandConfiguration(
        commandName: "ranks",
        abstract: "Time value and gradient across ranks against one process with as many threads.",
        discussion: """
            The ranks are threads of this process with one worker each. Samples alternate. The result is checked \
            first: value within 1e-7 and gradient within 1e-6 of one process.
            """)

    @Option(help: "The loss.") var loss = Loss.elastic
    @Option(help: "Rows of the whole batch.") var rows = 4096
    @Option(help: "Columns.") var columns = 512
    @Option(help: "Ranks, which share the rows.") var ranks = 2
    @Option(help: "Pairs of samples.") var pairs = 7
    @Option(
        help: "Speeds of each rank's link in each direction, in MB/s. Without any, links have memory's speed."
    )
    var link: [Double] = []

    func validate() throws {
        guard rows > 0, columns > 0, ranks > 0, pairs > 0, link.allSatisfy({ $0 > 0 }) else {
            throw ValidationError("sizes, pairs and speeds are above 0")
        }
    }

    func run() throws {
        try ReleaseBuild.handOverIfDebug()
        let batch = RankedCase(loss: loss, rows: rows, columns: columns, ranks: ranks)
        let whole = try batch.oneProcess()
        let across = try batch.acrossRanks(bytesPerSecond: nil)
        try batch.check(across, against: whole)
        print(
            """
            \(RuntimeDescription.current)
            \(loss) \(rows)×\(columns), value and gradient; \(ranks) ranks of 1 thread, 1 process of \(ranks)
            bytes sent by each rank: \(across.bytesSent.map(String.init).joined(separator: ", "))
            """)
        var times: (one: [Double], ranks: [Double]) = ([], [])
        for pair in 0..<pairs {
            func timeOne() throws { times.one.append(try batch.oneProcess().seconds) }
            func timeRanks() throws { times.ranks.append(try batch.acrossRanks(bytesPerSecond: nil).seconds) }
            if pair % 2 == 0 { try timeOne() }
            try timeRanks()
            if pair % 2 == 1 { try timeOne() }
        }
        let ratio = Interval(of: times.one, over: times.ranks)
        let seconds = quantile(0.5, of: times.ranks)
        print(
            """
            one process \(milliseconds(quantile(0.5, of: times.one))), ranks \(milliseconds(seconds)), \
            speed of the ranks \(decimals(ratio.median, 3)) of one process's\
            \(ratio.bounds.map { " (\(decimals($0.lowerBound, 3)) – \(decimals($0.upperBound, 3)))" } ?? "")
            """)
        for speed in link {
            let samples = try (0..<pairs).map { _ in
                try batch.acrossRanks(bytesPerSecond: speed * 1e6).seconds
            }
            print("link \(speed) MB/s: \(milliseconds(quantile(0.5, of: samples)))")
        }
    }

    private func milliseconds(_ seconds: Double) -> String { "\(decimals(seconds * 1e3, 1)) ms" }

    private func decimals(_ number: Double, _ count: Int) -> String {
        number.formatted(.number.precision(.fractionLength(count)).grouping(.never))
    }
}

/// A batch, and its loss in one process and across ranks.
private struct RankedCase {
    struct Outcome {
        var seconds = 0.0
        var value = 0.0
        var bytesSent: [Int] = []
    }

    struct Different: Error, CustomStringConvertible {
        let description: String
    }

    private let whole: RankedPart
    private let parts: [RankedPart]

    init(loss: RanksCommand.Loss, rows: Int, columns: Int, ranks: Int) {
        var random = SeededGenerator(seed: 31)
        let first = (0..<rows * columns).map { _ in random.normal() }
        let encodings = [first] + (loss == .elastic ? [] : [first.map { $0 + 2 * random.normal() }])
        whole = RankedPart(encodings, columns: columns, workers: ranks)
        parts = (0..<ranks).map { rank in
            let range = rows * rank / ranks * columns..<rows * (rank + 1) / ranks * columns
            return RankedPart(encodings.map { Array($0[range]) }, columns: columns, workers: 1)
        }
    }

    func oneProcess() throws -> Outcome {
        let start = ContinuousClock.now
        let value = try whole.valueAndGradient(across: nil)
        return Outcome(seconds: start.duration(to: .now) / .seconds(1), value: value)
    }

    func acrossRanks(bytesPerSecond: Double?) throws -> Outcome {
        let parts = parts
        let start = ContinuousClock.now
        let results = try ThreadCommunicator.onThreads(parts.count, bytesPerSecond: bytesPerSecond) { rank in
            (try parts[rank.rank].valueAndGradient(across: rank), rank.bytesSent)
        }.map { try $0.get() }
        let seconds = start.duration(to: .now) / .seconds(1)
        return Outcome(seconds: seconds, value: results[0].0, bytesSent: results.map(\.1))
    }

    /// Compares the last results of both.
    func check(_ across: Outcome, against one: Outcome) throws {
        guard abs(across.value - one.value) <= 1e-7 * abs(one.value) else {
            throw Different(description: "the ranks' value is \(across.value), one process's \(one.value)")
        }
        for (index, gradient) in whole.gradients.enumerated() {
            let (distance, norm) = zip(parts.flatMap { $0.gradients[index] }, gradient)
                .reduce((0.0, 0.0)) { sums, pair in
                    let (ranks, one) = (Double(pair.0), Double(pair.1))
                    return (sums.0 + (ranks - one) * (ranks - one), sums.1 + one * one)
                }
            guard distance.squareRoot() <= 1e-6 * norm.squareRoot() else {
                throw Different(
                    description: "gradient \(index) differs by \((distance / norm).squareRoot()) norm-wise")
            }
        }
    }
}

/// Some rows, the memory of their gradients, and workers. One thread uses it at a time.
private final class RankedPart: @unchecked Sendable {
    private let encodings: [[Float]]
    private let shape: MatrixShape
    private let workspace: Workspace
    fileprivate private(set) var gradients: [[Float]]

    init(_ encodings: [[Float]], columns: Int, workers: Int) {
        self.encodings = encodings
        shape = MatrixShape(rows: encodings[0].count / columns, columns: columns)
        workspace = Workspace(workers: workers)
        gradients = encodings.map { [Float](repeating: 0, count: $0.count) }
    }

    /// ECS of one encoding, with every pair computed as across ranks, or CCE of two.
    func valueAndGradient(across rank: ThreadCommunicator?) throws -> Double {
        try encodings.count == 1 ? elastic(across: rank) : contrastive(across: rank)
    }

    private func elastic(across rank: ThreadCommunicator?) throws -> Double {
        let loss = ElasticCellSimilarity(certificate: .never)
        let embeddings = encodings[0]
        var gradient = gradients.removeLast()
        defer { gradients = [gradient] }
        var span = gradient.mutableSpan
        guard let rank else {
            return try loss.valueAndGradient(
                embeddings: embeddings.span, shape: shape, gradient: &span, workspace: workspace
            ).value
        }
        return try loss.valueAndGradient(
            embeddings: embeddings.span, shape: shape, gradient: &span, across: rank, workspace: workspace
        ).value
    }

    private func contrastive(across rank: ThreadCommunicator?) throws -> Double {
        let loss = ContrastiveCellEmbedding()
        let (first, second) = (encodings[0], encodings[1])
        var (firstGradient, secondGradient) = (gradients[0], gradients[1])
        gradients = []
        defer { gradients = [firstGradient, secondGradient] }
        var firstSpan = firstGradient.mutableSpan
        var secondSpan = secondGradient.mutableSpan
        guard let rank else {
            return try loss.valueAndGradient(
                first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
                secondGradient: &secondSpan, workspace: workspace
            ).value
        }
        return try loss.valueAndGradient(
            first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
            secondGradient: &secondSpan, across: rank, workspace: workspace
        ).value
    }
}
