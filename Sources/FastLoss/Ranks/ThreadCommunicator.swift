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
}

// MARK: - Messages

/// The messages that are on their way between threads.
private final class MessageBoard: @unchecked Sendable {
    enum Kind: Int {
        case exchange
        case gather
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
    /// A queue for each kind, sender and receiver.
    private var queues: [[Message]]
    /// When each rank's link is free again.
    private var linkIsFree: [Double]

    init(size: Int, timeout: Double, secondsPerByte: Double) {
        self.size = size
        self.timeout = timeout
        self.secondsPerByte = secondsPerByte
        queues = Array(repeating: [], count: 2 * size * size)
        linkIsFree = Array(repeating: 0, count: size)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(arrived, nil)
    }

    deinit {
        for queue in queues { for message in queue { message.bytes.deallocate() } }
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

    private func queue(_ sender: Int, _ receiver: Int, _ kind: Kind) -> Int {
        (kind.rawValue * size + sender) * size + receiver
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
        queues[queue(sender, receiver, kind)].append(Message(bytes: copy, arrival: arrival))
        pthread_cond_broadcast(arrived)
    }

    /// Copies the oldest message of a sender. Returns false if none arrives in time, or one of another length.
    func receive(
        into buffer: UnsafeMutableRawBufferPointer, from sender: Int, to receiver: Int, as kind: Kind,
        until deadline: Double? = nil
    ) -> Bool {
        let deadline = deadline ?? self.deadline(of: kind)
        let queue = queue(sender, receiver, kind)
        pthread_mutex_lock(mutex)
        while queues[queue].isEmpty || queues[queue][0].arrival > now {
            let now = now
            guard now < deadline else {
                pthread_mutex_unlock(mutex)
                return false
            }
            let next = min(deadline, queues[queue].first?.arrival ?? deadline)
            var time = timespec()
            time.tv_sec = Int(next)
            time.tv_nsec = Int((next - Double(Int(next))) * 1e9)
            pthread_cond_timedwait(arrived, mutex, &time)
        }
        let message = queues[queue].removeFirst()
        pthread_mutex_unlock(mutex)
        defer { message.bytes.deallocate() }
        guard message.bytes.count == buffer.count else { return false }
        buffer.copyMemory(from: UnsafeRawBufferPointer(message.bytes))
        return true
    }
}
