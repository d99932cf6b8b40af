// Losses of a batch that is spread over ranks: they are those of one process, and the same run after run.

import FastLoss
import RankThreads
import Testing

@Suite struct RankedLossesTests {
    static let sizes = 1...5

    /// The ranks' losses and gradients of ECS.
    private func elastic(
        _ loss: ElasticCellSimilarity, _ batch: RankBatch, _ embeddings: [Float], scale: Float = 1,
        initial: [Float]? = nil
    ) throws -> (RankResult, bytesSent: [Int]) {
        let results = try onRanks(batch.counts.count) { rank in
            let own = batch.part(rank.rank, of: embeddings)
            var gradient =
                initial.map { batch.part(rank.rank, of: $0) } ?? [Float](repeating: .nan, count: own.count)
            var span = gradient.mutableSpan
            let value = try loss.valueAndGradient(
                embeddings: own.span, shape: batch.shape(of: rank.rank), gradient: &span,
                gradientScale: scale, update: initial == nil ? .overwrite : .accumulate, across: rank,
                workspace: Workspace(workers: 2))
            #expect(value.selectedCount == batch.rows)
            return (value.value, gradient, rank.bytesSent)
        }.map { try $0.get() }
        return (
            RankResult(values: results.map(\.0), gradient: results.flatMap(\.1)),
            results.map(\.2)
        )
    }

    private func contrastive(
        _ loss: ContrastiveCellEmbedding, _ batch: RankBatch, _ first: [Float], _ second: [Float],
        scale: Float = 1, initial: [Float]? = nil
    ) throws -> (RankResult, bytesSent: [Int]) {
        let results = try onRanks(batch.counts.count) { rank in
            let ownFirst = batch.part(rank.rank, of: first)
            let ownSecond = batch.part(rank.rank, of: second)
            var gradient =
                initial.map { batch.part(rank.rank, of: $0) }
                ?? [Float](repeating: .nan, count: ownFirst.count)
            var secondGradient = gradient
            var span = gradient.mutableSpan
            var secondSpan = secondGradient.mutableSpan
            let value = try loss.valueAndGradient(
                first: ownFirst.span, second: ownSecond.span, shape: batch.shape(of: rank.rank),
                firstGradient: &span, secondGradient: &secondSpan, gradientScale: scale,
                update: initial == nil ? .overwrite : .accumulate, across: rank,
                workspace: Workspace(workers: 2))
            #expect(value.selectedCount == batch.rows)
            return (value.value, gradient, secondGradient, rank.bytesSent)
        }.map { try $0.get() }
        return (
            RankResult(
                values: results.map(\.0), gradient: results.flatMap(\.1), second: results.flatMap(\.2)),
            results.map(\.3)
        )
    }

    @Test(arguments: sizes)
    func `elastic cell similarity is that of one process`(ranks: Int) throws {
        for batch in RankBatch.all(ranks: ranks) {
            var random = RandomInputs(seed: 17)
            let embeddings = random.cells(EmbeddingShape(rows: batch.rows, columns: batch.columns))
            let loss = ElasticCellSimilarity(threshold: 0.6)
            let whole = try loss.valueAndGradient(
                embeddings: embeddings, shape: batch.shape, gradientScale: 3)
            let (result, _) = try elastic(loss, batch, embeddings, scale: 3)
            expectOneProcess(
                result, value: whole.loss.value, gradient: whole.gradient, "\(batch.counts)")

            let start = random.normals(embeddings.count, scale: 0.01)
            let (sum, _) = try elastic(loss, batch, embeddings, scale: 3, initial: start)
            #expect(
                relativeDistance(sum.gradient, zip(start, whole.gradient).map { $0 + $1 })
                    <= Tolerances.acrossRanksGradient)

            let values = onRanks(ranks) { rank in
                let own = batch.part(rank.rank, of: embeddings)
                return try loss.value(
                    embeddings: own.span, shape: batch.shape(of: rank.rank), across: rank,
                    workspace: Workspace(workers: 1)
                ).value
            }
            for value in values {
                expectClose(try value.get(), whole.loss.value, Tolerances.acrossRanksValue, "value alone")
            }
        }
    }

    /// One process has rows enough for the products of the scale of blocks, the ranks have not.
    @Test func `a batch of blocks is that of its ranks`() throws {
        let batch = RankBatch(counts: [1_030, 1_070], columns: 40)
        var random = RandomInputs(seed: 23)
        let embeddings = random.normals(batch.rows * batch.columns)
        let loss = ElasticCellSimilarity(threshold: 0.3)
        let whole = try loss.valueAndGradient(embeddings: embeddings, shape: batch.shape)
        let (result, _) = try elastic(loss, batch, embeddings)
        expectOneProcess(result, value: whole.loss.value, gradient: whole.gradient, "\(batch.counts)")
    }

    @Test(arguments: sizes, [Float(0.5), 0.05, 0.01])
    func `contrastive cell embedding is that of one process`(ranks: Int, temperature: Float) throws {
        for batch in RankBatch.all(ranks: ranks) {
            var random = RandomInputs(seed: 18)
            // Cells that are told apart with difficulty at every temperature, so that no gradient is the small
            // difference of large parts.
            let first = random.normals(batch.rows * batch.columns)
            let second = random.normals(batch.rows * batch.columns)
            let loss = ContrastiveCellEmbedding(temperature: temperature)
            let whole = try loss.valueAndGradient(
                first: first, second: second, shape: batch.shape, gradientScale: 2)
            let (result, _) = try contrastive(loss, batch, first, second, scale: 2)
            expectOneProcess(
                result, value: whole.loss.value, gradient: whole.firstGradient, second: whole.secondGradient,
                "\(batch.counts)")

            let start = random.normals(first.count, scale: 0.01)
            let (sum, _) = try contrastive(loss, batch, first, second, scale: 2, initial: start)
            for (gradient, alone) in [
                (sum.gradient, whole.firstGradient), (sum.second, whole.secondGradient),
            ] {
                #expect(
                    relativeDistance(gradient, zip(start, alone).map { $0 + $1 })
                        <= Tolerances.acrossRanksGradient)
            }

            let values = onRanks(ranks) { rank in
                let own = (batch.part(rank.rank, of: first), batch.part(rank.rank, of: second))
                return try loss.value(
                    first: own.0.span, second: own.1.span, shape: batch.shape(of: rank.rank), across: rank,
                    workspace: Workspace(workers: 1)
                ).value
            }
            for value in values {
                expectClose(try value.get(), whole.loss.value, Tolerances.acrossRanksValue, "value alone")
            }
        }
    }

    /// Cells that are recognised with near certainty: losses and gradients far below 1.
    ///
    /// The gradient consists of exponentials of similarities / τ, so it has the similarities' rounding 20 times.
    /// The promise holds because a similarity rounds alike in every block.
    @Test(arguments: sizes)
    func `confident cells are those of one process`(ranks: Int) throws {
        for batch in RankBatch.all(ranks: ranks) {
            var random = RandomInputs(seed: 19)
            let first = random.normals(batch.rows * batch.columns)
            let second = random.secondEncoding(of: first, noise: 0.05)
            let loss = ContrastiveCellEmbedding(temperature: 0.05)
            let whole = try loss.valueAndGradient(first: first, second: second, shape: batch.shape)
            let (result, _) = try contrastive(loss, batch, first, second)
            if batch.columns == 64 { #expect(whole.loss.value < 1e-3) }
            expectOneProcess(
                result, value: whole.loss.value, gradient: whole.firstGradient,
                second: whole.secondGradient, "confident, \(batch.counts)")
        }
    }

    /// Beyond 1,024 rows a rank's own pairs come in tiles.
    @Test func `many rows on each rank`() throws {
        let batch = RankBatch(counts: [1_100, 300], columns: 8)
        var random = RandomInputs(seed: 20)
        let embeddings = random.normals(batch.rows * batch.columns)
        let loss = ElasticCellSimilarity(threshold: 0.3, certificate: .never)
        let whole = try loss.valueAndGradient(embeddings: embeddings, shape: batch.shape)
        let (result, _) = try elastic(loss, batch, embeddings)
        expectOneProcess(result, value: whole.loss.value, gradient: whole.gradient, "many rows")
    }

    @Test(arguments: sizes)
    func `runs give the same bits`(ranks: Int) throws {
        for batch in RankBatch.all(ranks: ranks).prefix(3) {
            var random = RandomInputs(seed: 21)
            let first = random.normals(batch.rows * batch.columns)
            let second = random.normals(batch.rows * batch.columns)
            let elastic = try self.elastic(ElasticCellSimilarity(), batch, first).0
            let contrastive = try self.contrastive(ContrastiveCellEmbedding(), batch, first, second).0
            for _ in 0..<5 {
                #expect(try self.elastic(ElasticCellSimilarity(), batch, first).0 == elastic)
                #expect(
                    try self.contrastive(ContrastiveCellEmbedding(), batch, first, second).0 == contrastive)
            }
        }
    }

    /// The formulas of the article Across ranks, for b even rows on each rank.
    @Test(arguments: sizes)
    func `bytes are as many as the formulas say`(ranks: Int) throws {
        let batch = RankBatch(counts: Array(repeating: 6, count: ranks), columns: 10)
        var random = RandomInputs(seed: 22)
        let first = random.normals(batch.rows * batch.columns)
        let second = random.normals(batch.rows * batch.columns)
        let row = 4 * batch.columns

        let elastic = try self.elastic(ElasticCellSimilarity(), batch, first).bytesSent
        let rowsOfElastic = ranks == 1 ? 0 : ranks % 2 == 1 ? 6 * (ranks - 1) : 6 * ranks - 3
        #expect(elastic == Array(repeating: rowsOfElastic * row, count: ranks))

        let contrastive = try self.contrastive(ContrastiveCellEmbedding(), batch, first, second).bytesSent
        let bytesOfContrastive = ranks == 1 ? 0 : 6 * ((ranks - 1) * 2 * row + (ranks - 2) * 8)
        #expect(contrastive == Array(repeating: bytesOfContrastive, count: ranks))
    }

    /// A communicator that notes where messages arrive.
    private final class Watching: Communicator {
        let base: ThreadCommunicator
        private var places: [Range<UInt>] = []
        var rank: Int { base.rank }
        var size: Int { base.size }

        init(_ base: ThreadCommunicator) { self.base = base }

        /// The bytes of memory that messages have arrived in, each counted once.
        var bytesReceivedInto: Int {
            var (bytes, end) = (0, UInt(0))
            for place in places.sorted(by: { $0.lowerBound < $1.lowerBound }) where place.upperBound > end {
                bytes += Int(place.upperBound - max(end, place.lowerBound))
                end = place.upperBound
            }
            return bytes
        }

        func startExchange(
            sending bytes: UnsafeRawBufferPointer, to receiver: Int,
            receiving buffer: UnsafeMutableRawBufferPointer, from sender: Int
        ) throws(CommunicationError) {
            if let start = buffer.baseAddress {
                let address = UInt(bitPattern: start)
                places.append(address..<address + UInt(buffer.count))
            }
            try base.startExchange(sending: bytes, to: receiver, receiving: buffer, from: sender)
        }

        func finishExchange() throws(CommunicationError) { try base.finishExchange() }

        func gather(
            _ bytes: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer
        ) throws(CommunicationError) {
            try base.gather(bytes, into: all)
        }
    }

    /// Rows of two others, or of three for CCE, and the part of its own gradient that another rank has formed.
    @Test(arguments: 1...8)
    func `a rank holds the rows of at most three others`(ranks: Int) throws {
        let batch = RankBatch(counts: Array(repeating: 24, count: ranks), columns: 16)
        var random = RandomInputs(seed: 25)
        let first = random.normals(batch.rows * batch.columns)
        let second = random.normals(batch.rows * batch.columns)
        let block = 24 * 16 * MemoryLayout<Float>.size
        let found = try onRanks(ranks) { rank in
            let own = (batch.part(rank.rank, of: first), batch.part(rank.rank, of: second))
            var (firstGradient, secondGradient) = own
            var firstSpan = firstGradient.mutableSpan
            let elastic = Watching(rank)
            _ = try ElasticCellSimilarity().valueAndGradient(
                embeddings: own.0.span, shape: batch.shape(of: rank.rank), gradient: &firstSpan,
                across: elastic, workspace: Workspace(workers: 1))
            var secondSpan = secondGradient.mutableSpan
            let contrastive = Watching(rank)
            _ = try ContrastiveCellEmbedding().valueAndGradient(
                first: own.0.span, second: own.1.span, shape: batch.shape(of: rank.rank),
                firstGradient: &firstSpan, secondGradient: &secondSpan, across: contrastive,
                workspace: Workspace(workers: 1))
            return (elastic.bytesReceivedInto, contrastive.bytesReceivedInto)
        }.map { try $0.get() }
        for (elastic, contrastive) in found {
            #expect(elastic <= (2 + 1) * block)
            // log Z of one block's rows, in double.
            #expect(contrastive <= (3 + 1) * block + 24 * 8)
            if ranks >= 5 { #expect(elastic == 3 * block && contrastive == 4 * block + 24 * 8) }
        }
    }

    /// The formulas of the article Across ranks, for b even rows of D floats on each rank.
    @Test(arguments: 2...3)
    func `scratch memory is what the formulas say`(ranks: Int) throws {
        // So many that a rank's own pairs come in tiles.
        let (own, columns) = (1_280, 256)
        // Rows in scratch memory have 16 floats more.
        let padding = 1.05
        let batch = RankBatch(counts: Array(repeating: own, count: ranks), columns: columns)
        var random = RandomInputs(seed: 26)
        let rows = random.normals(own * columns)
        let found = try onRanks(ranks) { rank in
            var (first, second) = (rows, rows)
            var firstSpan = first.mutableSpan
            var secondSpan = second.mutableSpan
            let (elastic, contrastive) = (Workspace(workers: 1), Workspace(workers: 1))
            _ = try ElasticCellSimilarity().valueAndGradient(
                embeddings: rows.span, shape: batch.shape(of: rank.rank), gradient: &firstSpan, across: rank,
                workspace: elastic)
            _ = try ContrastiveCellEmbedding().valueAndGradient(
                first: rows.span, second: rows.span, shape: batch.shape(of: rank.rank),
                firstGradient: &firstSpan, secondGradient: &secondSpan, across: rank, workspace: contrastive)
            return (elastic.byteCount, contrastive.byteCount)
        }.map { try $0.get() }
        for (elastic, contrastive) in found {
            let (ofElastic, ofContrastive) = (
                8 * own * columns + 256 * own, (ranks > 2 ? 13 : 10) * own * columns + 512 * own
            )
            #expect(Double(elastic) <= padding * Double(4 * ofElastic))
            #expect(Double(contrastive) <= padding * Double(4 * ofContrastive))
        }
    }

    @Test(arguments: sizes)
    func `sums over ranks are the same bits on all`(ranks: Int) throws {
        var random = RandomInputs(seed: 24)
        let parts = (0..<ranks).map { _ in random.normals(101) }
        let sums = try onRanks(ranks) { rank in
            var numbers = parts[rank.rank]
            try rank.sum(&numbers)
            return (numbers, rank.bytesSent)
        }.map { try $0.get() }
        let expected = (0..<101).map { index in Float(parts.reduce(0.0) { $0 + Double($1[index]) }) }
        for (sum, bytes) in sums {
            expectSameBits(sum, expected, "sum")
            #expect(bytes == 4 * 101 * (ranks - 1))
        }
    }

    @Test func `sums of different lengths`() throws {
        for result in onRanks(
            2,
            { rank in
                var numbers = [Float](repeating: 1, count: 3 + rank.rank)
                try rank.sum(&numbers)
            })
        {
            #expect(
                throws: LossError.ranksDisagree(
                    argument: "the number of numbers", value: 4, rank: 1, otherValue: 3, otherRank: 0)
            ) { try result.get() }
        }
    }

    @Test func `the example of the documentation`() throws {
        let batch = RankBatch(counts: [2, 3], columns: 4)
        var random = RandomInputs(seed: 23)
        let rows = random.normals(batch.rows * batch.columns)
        let whole = try ElasticCellSimilarity(threshold: 0.3).valueAndGradient(
            embeddings: rows, shape: batch.shape)
        let results = try onRanks(2) { rank in
            try lossAcrossRanks(
                batch.part(rank.rank, of: rows), batch.shape(of: rank.rank), across: rank,
                workspace: Workspace(workers: 1))
        }.map { try $0.get() }
        expectOneProcess(
            RankResult(values: results.map(\.0.value), gradient: results.flatMap(\.1)),
            value: whole.loss.value, gradient: whole.gradient, "the example")
    }

    @Test func `no rank has rows`() throws {
        let batch = RankBatch(counts: [0, 0, 0], columns: 4)
        for result in onRanks(
            3,
            { rank in
                try ElasticCellSimilarity(whenEmpty: .zero).value(
                    embeddings: [Float]().span, shape: batch.shape(of: 0), across: rank,
                    workspace: Workspace()
                ).value
            })
        {
            #expect(try result.get() == 0)
        }
        for result in onRanks(
            3,
            { rank in
                try ContrastiveCellEmbedding().value(
                    first: [Float]().span, second: [Float]().span, shape: batch.shape(of: 0), across: rank,
                    workspace: Workspace()
                ).value
            })
        {
            #expect(throws: LossError.emptySelection(loss: "ContrastiveCellEmbedding", row: nil)) {
                try result.get()
            }
        }
    }

    @Test func `rows without columns`() throws {
        for result in onRanks(
            2,
            { rank in
                try ElasticCellSimilarity(threshold: 0.5).value(
                    embeddings: [Float]().span, shape: MatrixShape(rows: 2, columns: 0), across: rank,
                    workspace: Workspace()
                ).value
            })
        {
            #expect(try result.get() == 0.75)
        }
    }
}
