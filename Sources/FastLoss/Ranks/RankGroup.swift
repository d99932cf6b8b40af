// What ranks tell each other besides their rows: arguments that must agree, failures, sums.

/// A group of ranks during one call.
///
/// A call gathers three times: the arguments, whether the memory of every rank is reserved, and the sums. So
/// no rank waits for rows that another will not send, and every rank throws if one does.
package struct RankGroup<Ranks: Communicator> {
    let communicator: Ranks

    var rank: Int { communicator.rank }
    var size: Int { communicator.size }

    package init(_ communicator: Ranks) {
        self.communicator = communicator
    }
}

/// The arguments of a call as its ranks gather them: the same number of them for every loss, so that ranks which
/// call different losses find out.
private enum RankHeader {
    /// The objective has the most.
    static let count = 40

    static func numbers(_ numbers: [Double]) -> [Double] {
        numbers + [Double](repeating: 0, count: max(0, count - numbers.count))
    }
}

/// The numbers of every rank, one row for each rank.
struct RankTable {
    fileprivate let numbers: [Double]
    fileprivate let columns: Int

    subscript(rank: Int, column: Int) -> Double { numbers[rank * columns + column] }
}

extension RankGroup {
    /// Gathers the same number of numbers from every rank. Ranks that did not answer have zeros.
    private func gather(_ numbers: [Double]) -> (table: RankTable, missing: Int?) {
        var all = [Double](repeating: 0, count: size * numbers.count)
        var missing: Int?
        numbers.withUnsafeBytes { part in
            all.withUnsafeMutableBytes { all in
                do throws(CommunicationError) {
                    try communicator.gather(part, into: all)
                } catch {
                    missing = error.rank
                }
            }
        }
        return (RankTable(numbers: all, columns: numbers.count), missing)
    }

    /// Gathers, and throws this rank's own error rather than another's.
    private func gatherOrThrow(_ numbers: [Double], unless own: LossError?) throws(LossError) -> RankTable {
        let (table, missing) = gather(numbers)
        if let own { throw own }
        if let missing { throw .rankFailed(rank: missing) }
        return table
    }

    /// Gathers arguments, after this rank has checked its own. Throws on every rank if a rank's check failed,
    /// or if an argument differs that has a name.
    ///
    /// - Parameters:
    ///   - check: this rank's checks. Its error is thrown here; other ranks throw ``LossError/rankFailed(rank:)``.
    ///   - arguments: this rank's arguments. Those without a name may differ.
    func agree(
        on arguments: [(name: String?, value: Double)], check: () throws(LossError) -> Void
    ) throws(LossError) -> RankTable {
        var failure: LossError?
        do throws(LossError) { try check() } catch { failure = error }
        let table = try gatherOrThrow(
            RankHeader.numbers([failure == nil ? 1 : 0] + arguments.map(\.value)), unless: failure)
        for rank in 0..<size where table[rank, 0] != 1 { throw .rankFailed(rank: rank) }
        for (column, argument) in arguments.enumerated() {
            guard let name = argument.name else { continue }
            for rank in 1..<max(1, size) {
                let (value, first) = (table[rank, column + 1], table[0, column + 1])
                // An argument that no term reads may be NaN, on all ranks.
                guard value == first || (value.isNaN && first.isNaN) else {
                    throw .ranksDisagree(
                        argument: name, value: value, rank: rank, otherValue: first, otherRank: 0)
                }
            }
        }
        return RankTable(
            numbers: (0..<size).flatMap { rank in arguments.indices.map { table[rank, $0 + 1] } },
            columns: arguments.count)
    }

    /// Throws on every rank if `body` throws on one.
    func together(_ body: () throws(LossError) -> Void) throws(LossError) {
        _ = try agree(on: [], check: body)
    }

    /// Tells the other ranks, which gather their arguments, that this one has failed before it could.
    package func announceFailure() {
        _ = gather(RankHeader.numbers([0]))
    }

    /// Ends a computation: adds up each number over the ranks, in their order, so that every rank has the same
    /// bits. Throws on every rank if the computation failed on one, or if one does not answer. All name the
    /// same rank.
    ///
    /// - Parameter computation: returns `count` numbers.
    func sum(
        _ count: Int, of computation: () throws(RankFailure) -> [Double]
    ) throws(LossError) -> [Double] {
        var numbers = [Double](repeating: 0, count: count)
        // The rank that this one waited for in vain, or itself.
        var suspect: Int?
        var own: LossError?
        do throws(RankFailure) {
            numbers = try computation()
        } catch {
            switch error {
            case .communication(let error): suspect = error.rank
            case .computation(let error): (suspect, own) = (rank, error)
            }
        }
        let (table, missing) = gather([Double((suspect ?? -1) + 1)] + numbers)
        if let own { throw own }
        if var culprit = suspect ?? missing ?? (0..<size).first(where: { table[$0, 0] > 0 }) {
            // A rank may have waited for one that itself waited in vain: name the last of them.
            for _ in 0..<size {
                let next = Int(table[culprit, 0]) - 1
                guard next >= 0, next < size, next != culprit else { break }
                culprit = next
            }
            throw .rankFailed(rank: culprit)
        }
        return (0..<count).map { column in
            (0..<size).reduce(0) { $0 + table[$1, column + 1] }
        }
    }
}

/// Why a rank could not complete its part of a computation.
enum RankFailure: Error {
    case communication(CommunicationError)
    case computation(LossError)
}

extension RankGroup {
    /// Starts an exchange of elements.
    func start<Element: BitwiseCopyable>(
        sending elements: UnsafeBufferPointer<Element>, to receiver: Int,
        receiving buffer: UnsafeMutableBufferPointer<Element>, from sender: Int
    ) throws(RankFailure) {
        do throws(CommunicationError) {
            try communicator.startExchange(
                sending: UnsafeRawBufferPointer(elements), to: receiver,
                receiving: UnsafeMutableRawBufferPointer(buffer), from: sender)
        } catch {
            throw .communication(error)
        }
    }

    /// Waits for the oldest exchange.
    func finish() throws(RankFailure) {
        do throws(CommunicationError) {
            try communicator.finishExchange()
        } catch {
            throw .communication(error)
        }
    }
}
