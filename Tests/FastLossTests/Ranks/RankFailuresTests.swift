// A rank that fails, stays away, or has other arguments: every rank throws an error that names it, in time.

import FastLoss
import Foundation
import RankThreads
import Testing

@Suite struct RankFailuresTests {
    private static let timeout = 2.0
    /// A time-out that no test waits for: an exchange alone may take a third of it.
    private static let longTimeout = 60.0

    /// The errors of the ranks of a group whose rank 1 does `different` instead of what all others do.
    private func errors(
        _ size: Int, timeout: Double = Self.timeout, within limit: Double = Self.timeout + 4,
        others: @escaping @Sendable (ThreadCommunicator) throws -> Void,
        different: @escaping @Sendable (ThreadCommunicator) throws -> Void
    ) -> [LossError?] {
        let start = ContinuousClock.now
        let results = onRanks(size, timeout: timeout) { rank in
            try rank.rank == 1 ? different(rank) : others(rank)
        }
        // Beyond the time-out it is for threads that wait for a processor.
        #expect(start.duration(to: .now) < .seconds(limit))
        return results.map {
            do {
                try $0.get()
                return nil
            } catch { return error as? LossError }
        }
    }

    private func elastic(
        _ rank: some Communicator, threshold: Float = 0.5, columns: Int = 8, elements: Int = 160
    ) throws {
        var random = RandomInputs(seed: UInt64(rank.rank))
        let embeddings = random.normals(elements)
        var gradient = [Float](repeating: 0, count: elements)
        var span = gradient.mutableSpan
        _ = try ElasticCellSimilarity(threshold: threshold).valueAndGradient(
            embeddings: embeddings.span, shape: MatrixShape(rows: 20, columns: columns), gradient: &span,
            across: rank, workspace: Workspace(workers: 1))
    }

    private func contrastive(_ rank: some Communicator, temperature: Float = 0.5) throws {
        var random = RandomInputs(seed: UInt64(rank.rank))
        let (first, second) = (random.normals(160), random.normals(160))
        var (firstGradient, secondGradient) = (first, second)
        var firstSpan = firstGradient.mutableSpan
        var secondSpan = secondGradient.mutableSpan
        _ = try ContrastiveCellEmbedding(temperature: temperature).valueAndGradient(
            first: first.span, second: second.span, shape: MatrixShape(rows: 20, columns: 8),
            firstGradient: &firstSpan, secondGradient: &secondSpan, across: rank,
            workspace: Workspace(workers: 1))
    }

    @Test(arguments: 2...5)
    func `arguments that differ`(size: Int) {
        let thresholds = errors(size, others: { try self.elastic($0) }) {
            try self.elastic($0, threshold: 0.25)
        }
        let threshold = LossError.ranksDisagree(
            argument: "threshold", value: 0.25, rank: 1, otherValue: 0.5, otherRank: 0)
        #expect(thresholds == Array(repeating: threshold, count: size))
        #expect("\(threshold)" == "rank 1 has 0.25 for threshold, but rank 0 has 0.5")

        let widths = errors(size, others: { try self.elastic($0) }) {
            try self.elastic($0, columns: 4, elements: 80)
        }
        let width = LossError.ranksDisagree(
            argument: "columns", value: 4, rank: 1, otherValue: 8, otherRank: 0)
        #expect(widths == Array(repeating: width, count: size))

        let temperatures = errors(size, others: { try self.contrastive($0) }) {
            try self.contrastive($0, temperature: 0.125)
        }
        let temperature = LossError.ranksDisagree(
            argument: "temperature", value: 0.125, rank: 1, otherValue: 0.5, otherRank: 0)
        #expect(temperatures == Array(repeating: temperature, count: size))
    }

    @Test(arguments: 2...5)
    func `another loss`(size: Int) {
        for error in errors(size, others: { try self.elastic($0) }, different: { try self.contrastive($0) }) {
            guard case .ranksDisagree(_, _, rank: 1, _, _) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
    }

    @Test(arguments: 2...5)
    func `a rank whose arguments are wrong`(size: Int) {
        let errors = errors(size, others: { try self.elastic($0) }) { try self.elastic($0, elements: 159) }
        for (rank, error) in errors.enumerated() {
            #expect(
                error
                    == (rank == 1
                        ? .shapeMismatch(argument: "embeddings", expected: 160, actual: 159)
                        : .rankFailed(rank: 1)))
        }
    }

    @Test(arguments: 2...5)
    func `a rank that never calls`(size: Int) {
        let errors = errors(size, others: { try self.elastic($0) }) { _ in
            Thread.sleep(forTimeInterval: Self.timeout + 1)
        }
        for (rank, error) in errors.enumerated() {
            #expect(error == (rank == 1 ? nil : .rankFailed(rank: 1)))
        }
    }

    /// Its error outside a call ends its body, and nobody waits for the time-out.
    @Test(arguments: 2...5)
    func `a rank that leaves`(size: Int) {
        let own = LossError.emptySelection(loss: "its own", row: nil)
        let errors = errors(
            size, timeout: Self.longTimeout, within: Self.longTimeout / 4, others: { try self.elastic($0) },
            different: { _ in throw own })
        for (rank, error) in errors.enumerated() {
            #expect(error == (rank == 1 ? own : .rankFailed(rank: 1)))
        }
    }

    /// What a rank has sent arrives, though it has left.
    @Test func `a rank that leaves after its call`() throws {
        for _ in 0..<20 {
            for error in errors(
                3, timeout: Self.longTimeout, within: Self.longTimeout / 4, others: { try self.elastic($0) },
                different: { try self.elastic($0) })
            {
                #expect(error == nil)
            }
        }
    }

    /// A communicator that stops answering after some exchanges, as a process that ends.
    private final class Dying: Communicator {
        let base: ThreadCommunicator
        var verbsLeft: Int
        var rank: Int { base.rank }
        var size: Int { base.size }

        init(_ base: ThreadCommunicator, after verbs: Int) {
            self.base = base
            verbsLeft = verbs
        }

        private func live() throws(CommunicationError) {
            verbsLeft -= 1
            if verbsLeft < 0 { throw CommunicationError(rank: base.rank) }
        }

        func startExchange(
            sending bytes: UnsafeRawBufferPointer, to receiver: Int,
            receiving buffer: UnsafeMutableRawBufferPointer, from sender: Int
        ) throws(CommunicationError) {
            try live()
            try base.startExchange(sending: bytes, to: receiver, receiving: buffer, from: sender)
        }

        func finishExchange() throws(CommunicationError) {
            try live()
            try base.finishExchange()
        }

        func gather(
            _ bytes: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer
        ) throws(CommunicationError) {
            try live()
            try base.gather(bytes, into: all)
        }
    }

    /// However many verbs it lives for, the others throw an error that names it, or get a result that needs
    /// nothing more from it.
    @Test(arguments: 2...5, [false, true])
    func `a rank that ends in the middle of a call`(size: Int, leaves: Bool) {
        for verbs in 0...6 {
            for isElastic in [true, false] {
                let errors = errors(
                    size, timeout: leaves ? Self.longTimeout : Self.timeout,
                    within: leaves ? Self.longTimeout / 4 : Self.timeout + 4,
                    others: { try isElastic ? self.elastic($0) : self.contrastive($0) }
                ) { rank in
                    defer { if !leaves { Thread.sleep(forTimeInterval: Self.timeout) } }
                    let dying = Dying(rank, after: verbs)
                    try isElastic ? self.elastic(dying) : self.contrastive(dying)
                }
                for (rank, error) in errors.enumerated() where rank != 1 {
                    #expect(
                        error == .rankFailed(rank: 1), "\(size) ranks, \(verbs) verbs, elastic: \(isElastic)")
                }
            }
        }
    }
}
