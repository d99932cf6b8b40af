// A thread for each rank of a ThreadCommunicator's group.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

extension ThreadCommunicator {
    /// Runs `body` for each rank of a new group, each on a thread of its own, and waits for all of them.
    ///
    /// ```swift
    /// let losses = try ThreadCommunicator.onThreads(2) { rank in try step(on: rank) }.map { try $0.get() }
    /// ```
    ///
    /// A rank whose body throws makes the others fail as soon as they wait for it.
    ///
    /// - Parameters:
    ///   - size: the number of ranks, at least 1.
    ///   - timeout: how long a rank that is late may delay the error of the others, in seconds.
    ///   - bytesPerSecond: the speed of each rank's link, in either direction; nil for that of memory.
    ///   - body: what a rank does. Its thread has a stack of 8 MiB.
    /// - Returns: what `body` returned or threw for each rank; ``LossError/outOfMemory(call:bytes:)`` for a rank for
    ///   which the system has no thread. The others then fail when they wait for it.
    public static func onThreads<Value: Sendable>(
        _ size: Int, timeout: Double = 600, bytesPerSecond: Double? = nil,
        _ body: @escaping @Sendable (ThreadCommunicator) throws -> Value
    ) -> [Result<Value, any Error>] {
        let ranks = group(size: size, timeout: timeout, bytesPerSecond: bytesPerSecond)
        let outcomes = ranks.map { rank in
            RankThread {
                defer { rank.leave() }
                return try body(rank)
            }
        }
        for (rank, outcome) in zip(ranks, outcomes) where !outcome.start() { rank.leave() }
        return outcomes.map { $0.result() }
    }
}

/// One thread, and what its body returned. The body's result is read after the thread has ended.
private final class RankThread<Value>: @unchecked Sendable {
    private static var stackSize: Int { 8 << 20 }

    private let body: () throws -> Value
    private var outcome: Result<Value, any Error>?
    #if canImport(Darwin)
        private var thread: pthread_t?
    #else
        private var thread = pthread_t()
    #endif
    private var isStarted = false

    init(_ body: @escaping () throws -> Value) { self.body = body }

    /// Returns false if the system has no thread.
    func start() -> Bool {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, Self.stackSize)
        defer { pthread_attr_destroy(&attributes) }
        let start = Unmanaged.passRetained(StartedBody { self.outcome = Result { try self.body() } })
        isStarted = pthread_create(&thread, &attributes, startRankThread, start.toOpaque()) == 0
        if !isStarted { start.release() }
        return isStarted
    }

    func result() -> Result<Value, any Error> {
        guard isStarted else {
            return .failure(
                LossError.outOfMemory(call: "ThreadCommunicator.onThreads", bytes: Self.stackSize))
        }
        #if canImport(Darwin)
            if let thread { pthread_join(thread, nil) }
        #else
            pthread_join(thread, nil)
        #endif
        guard let outcome else { preconditionFailure("a rank's thread ended without an outcome") }
        return outcome
    }
}

/// What a thread runs: a C function has no generic arguments.
private final class StartedBody {
    let run: () -> Void

    init(_ run: @escaping () -> Void) { self.run = run }
}

#if canImport(Darwin)
    private func startRankThread(_ start: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
        Unmanaged<StartedBody>.fromOpaque(start).takeRetainedValue().run()
        return nil
    }
#else
    private func startRankThread(_ start: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        if let start { Unmanaged<StartedBody>.fromOpaque(start).takeRetainedValue().run() }
        return nil
    }
#endif
