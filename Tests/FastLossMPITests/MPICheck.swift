// One process of an MPI program that compares losses across ranks with those of one process. scripts/testing/test-mpi
// runs it with one to five processes. Prints what is wrong, and ends with 1.

import FastLoss
import FastLossMPI

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@main struct MPICheck {
    static let timeout = 6.0

    /// Numbers in [−1, 1), the same on all ranks.
    static func numbers(_ count: Int, seed: UInt64) -> [Float] {
        var state = seed
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Float(state >> 40) * 0x1p-23 - 1
        }
    }

    static func expect(_ condition: Bool, _ text: @autoclosure () -> String) {
        guard !condition else { return }
        print("failed: \(text())")
        exit(1)
    }

    static func distance(_ a: [Float], _ b: ArraySlice<Float>) -> (error: Double, norm: Double) {
        var (error, norm) = (0.0, 0.0)
        for (x, y) in zip(a, b) {
            error += (Double(x) - Double(y)) * (Double(x) - Double(y))
            norm += Double(y) * Double(y)
        }
        return (error, norm)
    }

    static func main() throws {
        let mode = CommandLine.arguments.dropFirst().first
        // A measurement may be larger than a check.
        let isCheck = mode.map { !$0.hasPrefix("memory") && $0 != "time" } ?? true
        let ranks = try MPICommunicator(timeout: isCheck ? timeout : 600)
        switch mode {
        case "disagree": try disagree(ranks)
        case "away": try stayAway(ranks)
        case "leave": try leave(ranks)
        case "time": try measureTime(ranks, rows: rowsArgument)
        case "memory-elastic": try measureMemory(ranks, contrastive: false, rows: rowsArgument)
        case "memory-contrastive": try measureMemory(ranks, contrastive: true, rows: rowsArgument)
        default: try compare(ranks)
        }
        MPICommunicator.finalize()
    }

    static func compare(_ ranks: MPICommunicator) throws {
        let workspace = Workspace(workers: 1)
        for (columns, counts) in [
            (64, (0..<ranks.size).map { _ in 96 }), (33, (0..<ranks.size).map { 7 + 30 * $0 }),
            (16, (0..<ranks.size).map { $0 % 2 == 0 ? 41 : 0 }),
        ] {
            let rows = counts.reduce(0, +)
            let start = counts[..<ranks.rank].reduce(0, +) * columns
            let place = start..<start + counts[ranks.rank] * columns
            let (first, second) = (numbers(rows * columns, seed: 1), numbers(rows * columns, seed: 2))
            let shape = MatrixShape(rows: rows, columns: columns)
            let part = MatrixShape(rows: counts[ranks.rank], columns: columns)
            let (ownFirst, ownSecond) = (Array(first[place]), Array(second[place]))

            let elastic = ElasticCellSimilarity(threshold: 0.1, certificate: .never)
            let whole = try elastic.valueAndGradient(embeddings: first, shape: shape)
            var runs: [[Float]] = []
            for _ in 0..<3 {
                var gradient = [Float](repeating: .nan, count: place.count)
                var span = gradient.mutableSpan
                let loss = try elastic.valueAndGradient(
                    embeddings: ownFirst.span, shape: part, gradient: &span, across: ranks,
                    workspace: workspace)
                expect(abs(loss.value - whole.loss.value) <= 1e-7, "ECS \(loss.value) \(whole.loss.value)")
                let (error, norm) = distance(gradient, whole.gradient[place])
                expect(error <= 1e-12 * norm, "ECS gradient of \(counts)")
                runs.append(gradient)
            }
            expect(runs[1] == runs[0] && runs[2] == runs[0], "ECS runs differ")

            let contrastive = ContrastiveCellEmbedding(temperature: 0.2)
            let both = try contrastive.valueAndGradient(first: first, second: second, shape: shape)
            var pairs: [[[Float]]] = []
            for _ in 0..<3 {
                var firstGradient = [Float](repeating: .nan, count: place.count)
                var secondGradient = firstGradient
                var firstSpan = firstGradient.mutableSpan
                var secondSpan = secondGradient.mutableSpan
                let loss = try contrastive.valueAndGradient(
                    first: ownFirst.span, second: ownSecond.span, shape: part, firstGradient: &firstSpan,
                    secondGradient: &secondSpan, across: ranks, workspace: workspace)
                expect(abs(loss.value - both.loss.value) <= 1e-7 * both.loss.value, "CCE \(loss.value)")
                for (own, all) in [
                    (firstGradient, both.firstGradient), (secondGradient, both.secondGradient),
                ] {
                    let (error, norm) = distance(own, all[place])
                    expect(error <= 1e-12 * norm, "CCE gradient of \(counts)")
                }
                pairs.append([firstGradient, secondGradient])
            }
            expect(pairs[1] == pairs[0] && pairs[2] == pairs[0], "CCE runs differ")
        }
    }

    /// The most memory that the process has held so far, in bytes.
    static var peakMemory: Int {
        var usage = rusage()
        // RUSAGE_SELF, whose type differs between C libraries.
        getrusage(0, &usage)
        #if canImport(Darwin)
            return Int(usage.ru_maxrss)
        #else
            return Int(usage.ru_maxrss) * 1024
        #endif
    }

    static var rowsArgument: Int { CommandLine.arguments.dropFirst(2).first.flatMap(Int.init) ?? 4096 }

    /// What value and gradient add to a process's memory, against the formulas of the article AcrossRanks, for
    /// `rows` rows of 512 columns on all ranks.
    static func measureMemory(_ ranks: MPICommunicator, contrastive: Bool, rows: Int) throws {
        let columns = 512
        let own = rows / ranks.size
        let shape = MatrixShape(rows: own, columns: columns)
        let (first, second) = (
            numbers(shape.rows * columns, seed: UInt64(ranks.rank)),
            numbers(shape.rows * columns, seed: UInt64(ranks.rank + 100))
        )
        var firstGradient = [Float](repeating: 1, count: first.count)
        var secondGradient = firstGradient
        secondGradient[0] = 2
        var firstSpan = firstGradient.mutableSpan
        var secondSpan = secondGradient.mutableSpan
        let (start, workspace) = (peakMemory, Workspace(workers: 1))
        let floats: Int
        if contrastive {
            floats = (ranks.size > 2 ? 13 : 10) * own * columns + 512 * own
            _ = try ContrastiveCellEmbedding(temperature: 0.2).valueAndGradient(
                first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
                secondGradient: &secondSpan, across: ranks, workspace: workspace)
        } else {
            floats = 8 * own * columns + 256 * own
            _ = try ElasticCellSimilarity(threshold: 0.1).valueAndGradient(
                embeddings: first.span, shape: shape, gradient: &firstSpan, across: ranks,
                workspace: workspace)
        }
        let (grown, formula) = (peakMemory - start, 4 * floats)
        print(
            "\(contrastive ? "CCE" : "ECS") \(rows)×\(columns), rank \(ranks.rank) of \(ranks.size):",
            "\(grown >> 20) MiB, formula \(formula >> 20) MiB")
        // MPI's own memory and its copies of messages on their way come on top.
        expect(grown < formula + 3 * 4 * own * columns + (48 << 20), "memory")
    }

    /// Prints the median time of value and gradient of `rows` rows of 512 columns on all ranks, with one worker each.
    static func measureTime(_ ranks: MPICommunicator, rows: Int) throws {
        let columns = 512
        let shape = MatrixShape(rows: rows / ranks.size, columns: columns)
        let first = numbers(shape.rows * columns, seed: UInt64(ranks.rank))
        let second = numbers(shape.rows * columns, seed: UInt64(ranks.rank + 100))
        var (firstGradient, secondGradient) = (first, second)
        let workspace = Workspace(workers: 1)
        var times: [String: [Duration]] = [:]
        for run in 0..<6 {
            for loss in ["ECS", "CCE"] {
                var firstSpan = firstGradient.mutableSpan
                var secondSpan = secondGradient.mutableSpan
                // All ranks start together.
                var nothing: [Float] = [0]
                try ranks.sum(&nothing)
                let begin = ContinuousClock.now
                if loss == "ECS" {
                    _ = try ElasticCellSimilarity(threshold: 0.1).valueAndGradient(
                        embeddings: first.span, shape: shape, gradient: &firstSpan, across: ranks,
                        workspace: workspace)
                } else {
                    _ = try ContrastiveCellEmbedding(temperature: 0.2).valueAndGradient(
                        first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
                        secondGradient: &secondSpan, across: ranks, workspace: workspace)
                }
                // The first run reserves memory.
                if run > 0 { times[loss, default: []].append(begin.duration(to: .now)) }
            }
        }
        guard ranks.rank == 0 else { return }
        for (loss, times) in times.sorted(by: { $0.key > $1.key }) {
            let median = times.sorted()[times.count / 2]
            print("\(loss) \(rows)×\(columns), \(ranks.size) ranks: \(Int(median / .milliseconds(1))) ms")
        }
    }

    static func elastic(_ ranks: MPICommunicator, threshold: Float = 0.5) -> LossError? {
        let embeddings = numbers(400 * 64, seed: UInt64(ranks.rank))
        var gradient = embeddings
        var span = gradient.mutableSpan
        do throws(LossError) {
            _ = try ElasticCellSimilarity(threshold: threshold).valueAndGradient(
                embeddings: embeddings.span, shape: MatrixShape(rows: 400, columns: 64), gradient: &span,
                across: ranks, workspace: Workspace(workers: 1))
            return nil
        } catch {
            return error
        }
    }

    static func disagree(_ ranks: MPICommunicator) throws {
        let error = elastic(ranks, threshold: ranks.rank == 1 ? 0.25 : 0.5)
        expect(
            error
                == .ranksDisagree(
                    argument: "threshold", value: 0.25, rank: 1, otherValue: 0.5, otherRank: 0),
            "\(String(describing: error))")
        expect(elastic(ranks) == nil, "the group is usable after ranks have disagreed")
    }

    /// Rank 1 fails outside a call and says so: the others fail long before the time-out, and MPI ends in order.
    static func leave(_ ranks: MPICommunicator) throws {
        expect(elastic(ranks) == nil, "the first call")
        if ranks.rank == 1 {
            ranks.leave()
            expect(elastic(ranks) == .rankFailed(rank: 1), "a call after leaving")
            return
        }
        let begin = ContinuousClock.now
        let error = elastic(ranks)
        expect(error == .rankFailed(rank: 1), "\(String(describing: error))")
        expect(
            begin.duration(to: .now) < .seconds(timeout / 4), "\(begin.duration(to: .now)) after rank 1 left")
    }

    static func stayAway(_ ranks: MPICommunicator) throws {
        expect(elastic(ranks) == nil, "the first call")
        if ranks.rank == 1 {
            sleep(UInt32(2 * timeout))
            _exit(0)
        }
        let begin = ContinuousClock.now
        let error = elastic(ranks)
        expect(error == .rankFailed(rank: 1), "\(String(describing: error))")
        expect(begin.duration(to: .now) < .seconds(timeout + 2), "in time")
        print("rank \(ranks.rank) names rank 1")
        fflush(nil)
        // mpirun ends all others as soon as one ends without a word to MPI.
        sleep(UInt32(timeout))
        _exit(0)
    }
}
