// A communicator whose ranks are threads of one process: for tests, examples, and to try out a link's speed.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A rank of a group of threads in one process.
///
/// Sending copies the bytes, so no rank waits until its message is read. A group can be given the speed of a
/// link: then a message arrives as late as it would over that link.
///
/// ```swift
/// let ranks = ThreadCommunicator.group(size: 2)
/// // On a thread for each rank:
/// let loss = try similarity.value(embeddings: rows, shape: shape, across: ranks[rank], workspace: workspace)
/// ```
public final class ThreadCommunicator: Communicator, @unchecked Sendable {
    public let rank: Int
    private let board: MessageBoard
    /// The exchanges that were started: the sender of the message, and where it goes.
    private var started: [(sender: Int, buffer: UnsafeMutableRawBufferPointer)] = []
    private var failure: CommunicationError?

    /// The bytes that this rank has sent in exchanges. What it gathers is not counted.
    public private(set) var bytesSent = 0

    public var size: Int { board.size }

    private init(rank: Int, board: MessageBoard) {
        self.rank = rank
        self.board = board
    }

    /// The ranks of a new group. Each is used by one thread at a time.
    ///
    /// - Parameters:
    ///   - size: the number of ranks, at least 1.
    ///   - timeout: how long a failed rank may delay the error of the others, in seconds.
    ///   - bytesPerSecond: the speed of each rank's link, in either direction; nil for that of memory.
    public static func group(
        size: Int, timeout: Double = 600, bytesPerSecond: Double? = nil
    ) -> [ThreadCommunicator] {
        let board = MessageBoard(
            size: max(1, size), timeout: timeout, secondsPerByte: bytesPerSecond.map { 1 / $0 } ?? 0)
        return (0..<board.size).map { ThreadCommunicator(rank: $0, board: board) }
    }

    public func startExchange(
        sending bytes: UnsafeRawBufferPointer, to receiver: Int,
        receiving buffer: UnsafeMutableRawBufferPointer, from sender: Int
    ) throws(CommunicationError) {
        if let failure { throw failure }
        if !bytes.isEmpty {
            board.send(bytes, from: rank, to: receiver, as: .exchange)
            bytesSent += bytes.count
        }
        started.append((sender, buffer))
    }

    public func finishExchange() throws(CommunicationError) {
        if let failure { throw failure }
        let (sender, buffer) = started.removeFirst()
        guard !buffer.isEmpty else { return }
        guard board.receive(into: buffer, from: sender, to: rank, as: .exchange) else {
            let failure = CommunicationError(rank: sender)
            self.failure = failure
            // This rank starts no further exchange: whoever waits for one need not wait for the time-out.
            board.stop(rank, .exchange)
            throw failure
        }
    }

    public func gather(
        _ bytes: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer
    ) throws(CommunicationError) {
        for other in 0..<size where other != rank { board.send(bytes, from: rank, to: other, as: .gather) }
        var missing: Int?
        let deadline = board.deadline(of: .gather)
        for other in 0..<size {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: all[other * bytes.count..<(other + 1) * bytes.count])
            if other == rank {
                part.copyMemory(from: bytes)
            } else if !board.receive(into: part, from: other, to: rank, as: .gather, until: deadline) {
                missing = missing ?? other
            }
        }
        if let missing { throw CommunicationError(rank: missing) }
    }

    /// Tells the other ranks that this one sends nothing more. Those that wait for it fail at once, and not only
    /// after the time-out.
    ///
    /// Messages that it has sent still arrive. ``onThreads(_:timeout:bytesPerSecond:_:)`` calls it when a rank's
    /// body has returned or thrown.
    public func leave() {
        board.stop(rank, .exchange)
        board.stop(rank, .gather)
    }
}

// MARK: - Messages

/// The messages that are on their way between threads.
private final class MessageBoard: @unchecked Sendable {
    enum Kind {
        case exchange
        case gather
    }

    /// Messages of one kind from one rank to another.
    private struct Route: Hashable {
        let kind: Kind
        let sender: Int
        let receiver: Int
    }

    /// Messages of one kind from one rank.
    private struct Source: Hashable {
        let kind: Kind
        let sender: Int
    }

    private struct Message {
        let bytes: UnsafeMutableRawBufferPointer
        /// When a link would have delivered it.
        let arrival: Double
    }

    let size: Int
    private let timeout: Double
    private let secondsPerByte: Double
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let arrived = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// The messages on their way, the oldest first. Routes without any are absent.
    private var queues: [Route: [Message]] = [:]
    /// Ranks that send no more messages of a kind.
    private var stopped: Set<Source> = []
    /// When each rank's link is free again.
    private var linkIsFree: [Double]

    init(size: Int, timeout: Double, secondsPerByte: Double) {
        self.size = size
        self.timeout = timeout
        self.secondsPerByte = secondsPerByte
        linkIsFree = Array(repeating: 0, count: size)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(arrived, nil)
    }

    deinit {
        for queue in queues.values { for message in queue { message.bytes.deallocate() } }
        pthread_cond_destroy(arrived)
        pthread_mutex_destroy(mutex)
        arrived.deallocate()
        mutex.deallocate()
    }

    /// Seconds of the clock that waits are measured by.
    private var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    /// Until when a verb waits; see ``Communicator``.
    func deadline(of kind: Kind) -> Double { now + timeout * (kind == .gather ? 2 : 1) / 3 }

    /// Notes that a rank sends no more messages of a kind.
    func stop(_ sender: Int, _ kind: Kind) {
        pthread_mutex_lock(mutex)
        stopped.insert(Source(kind: kind, sender: sender))
        pthread_cond_broadcast(arrived)
        pthread_mutex_unlock(mutex)
    }

    func send(_ bytes: UnsafeRawBufferPointer, from sender: Int, to receiver: Int, as kind: Kind) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        copy.copyMemory(from: bytes)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let now = now
        // An exchange waits for the one before it. What is gathered is too small to count.
        var arrival = now
        if kind == .exchange {
            arrival = max(now, linkIsFree[sender]) + Double(bytes.count) * secondsPerByte
            linkIsFree[sender] = arrival
        }
        queues[Route(kind: kind, sender: sender, receiver: receiver), default: []]
            .append(Message(bytes: copy, arrival: arrival))
        pthread_cond_broadcast(arrived)
    }

    /// Copies the oldest message of a sender. Returns false if none arrives in time, if none is on its way and the
    /// sender sends no more, or if the message has another length.
    func receive(
        into buffer: UnsafeMutableRawBufferPointer, from sender: Int, to receiver: Int, as kind: Kind,
        until deadline: Double? = nil
    ) -> Bool {
        let deadline = deadline ?? self.deadline(of: kind)
        let route = Route(kind: kind, sender: sender, receiver: receiver)
        pthread_mutex_lock(mutex)
        var next = queues[route]?.first
        while next.map({ $0.arrival > now }) ?? true {
            let hasStopped = next == nil && stopped.contains(Source(kind: kind, sender: sender))
            guard !hasStopped, now < deadline else {
                pthread_mutex_unlock(mutex)
                return false
            }
            let wakeUp = min(deadline, next?.arrival ?? deadline)
            var time = timespec()
            time.tv_sec = Int(wakeUp)
            time.tv_nsec = Int((wakeUp - Double(Int(wakeUp))) * 1e9)
            pthread_cond_timedwait(arrived, mutex, &time)
            next = queues[route]?.first
        }
        guard let message = next else { preconditionFailure("a message is on its way") }
        queues[route]?.removeFirst()
        if queues[route]?.isEmpty == true { queues[route] = nil }
        pthread_mutex_unlock(mutex)
        defer { message.bytes.deallocate() }
        guard message.bytes.count == buffer.count else { return false }
        buffer.copyMemory(from: UnsafeRawBufferPointer(message.bytes))
        return true
    }
}
