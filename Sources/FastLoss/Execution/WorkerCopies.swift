// Operands of which each worker makes a copy for itself.

/// One copy of an operand for each worker, made when the worker first asks; or one that all workers share.
///
/// Copies are for small operands that every task reads as a whole. A worker makes its own in less time than it
/// would wait for another worker and fetch the operand from that one's cache. Measured: the article Tuning.
package struct WorkerCopies {
    /// A flag of a worker on a cache line of its own, so that workers do not wait for each other.
    private typealias CacheLine = SIMD16<UInt32>

    /// The most floats of an operand that is copied: 256 KiB, which leaves room in a second-level cache.
    package static let mostFloats = 65_536

    /// The number of copies: 1, or that of the workers.
    package let count: Int
    private let isMade: ScratchArray<CacheLine>

    package init(oneForEachWorker: Bool, in layout: inout ScratchLayout) throws(LossError) {
        count = oneForEachWorker ? layout.workers : 1
        isMade = try layout.add(count > 1 ? count : 0, of: CacheLine.self)
    }

    /// Whether all workers use copy 0, which the caller makes before it shares the work.
    package var areShared: Bool { count == 1 }

    /// Forgets the copies of an earlier call.
    package func forget(on execution: Execution) {
        guard !areShared else { return }
        execution.pointer(isMade).initialize(repeating: .zero, count: count)
    }

    /// The worker's copy. Only the worker itself may ask.
    ///
    /// - Parameter make: makes the copy of that number; called if the worker has none yet.
    package func copy(of worker: Int, on execution: Execution, make: (_ copy: Int) -> Void) -> Int {
        guard !areShared else { return 0 }
        let isMade = execution.pointer(isMade) + worker
        if isMade.pointee[0] == 0 {
            make(worker)
            isMade.pointee[0] = 1
        }
        return worker
    }
}
