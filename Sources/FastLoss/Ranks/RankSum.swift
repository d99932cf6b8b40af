// The sum of numbers over ranks, such as the gradient of a model's parameters.

extension Communicator {
    /// Adds up each number over all ranks. Every rank gets the same bits.
    ///
    /// A data-parallel training loop calls it with the gradient of its parameters. Each rank sends its numbers to
    /// every other rank, 4·n·(P − 1) bytes, and adds those of all ranks in their order, in double. That suits small
    /// models and few ranks; MPI and gloo have faster ones.
    ///
    /// - Parameter numbers: n numbers, as many on every rank.
    /// - Throws: ``LossError``, on every rank: ``LossError/rankFailed(rank:)``, and
    ///   ``LossError/ranksDisagree(argument:value:rank:otherValue:otherRank:)`` if a rank has another number of
    ///   numbers.
    public func sum(_ numbers: inout [Float]) throws(LossError) {
        let group = RankGroup(self)
        let count = numbers.count
        _ = try group.agree(on: [
            ("the number of the computation", 3), ("the number of numbers", Double(count)),
        ]) { () throws(LossError) in }
        let own = numbers
        var all = [Float](repeating: 0, count: size * count)
        _ = try group.sum(0) { () throws(RankFailure) in
            var failure: RankFailure?
            own.withUnsafeBufferPointer { own in
                all.withUnsafeMutableBufferPointer { all in
                    do throws(RankFailure) {
                        for distance in 1..<max(1, size) {
                            let source = (rank + size - distance) % size
                            try group.start(
                                sending: own, to: (rank + distance) % size,
                                receiving: UnsafeMutableBufferPointer(
                                    rebasing: all[source * count..<(source + 1) * count]),
                                from: source)
                        }
                        for _ in 1..<max(1, size) { try group.finish() }
                    } catch {
                        failure = error
                    }
                }
            }
            if let failure { throw failure }
            return []
        }
        all.replaceSubrange(rank * count..<(rank + 1) * count, with: own)
        for index in 0..<count {
            numbers[index] = Float((0..<size).reduce(0.0) { $0 + Double(all[$1 * count + index]) })
        }
    }
}
