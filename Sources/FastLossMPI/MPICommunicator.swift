// The processes of an MPI program as a communicator.

import CMPI
import FastLoss

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The processes of an MPI program, or of one of its communicators, as ranks.
///
/// ```swift
/// let ranks = try MPICommunicator()
/// let loss = try similarity.value(embeddings: rows, shape: shape, across: ranks, workspace: workspace)
/// MPICommunicator.finalize()
/// ```
///
/// One thread makes all calls. Most MPI implementations move large messages only while a process is inside MPI,
/// unless they are told to have a thread for it; then sending overlaps computing.
public final class MPICommunicator: Communicator {
    /// Why there is no communicator.
    public enum SetupError: Error {
        /// MPI could not be initialised.
        case initialization
        /// MPI could not duplicate the communicator.
        case duplication
    }

    /// A message that this process sends. MPI cannot take it back, so it has memory of its own, which is
    /// abandoned if the receiver fails.
    private struct Sending {
        var message: fastloss_mpi_message
        let memory: UnsafeMutableRawBufferPointer
        let receiver: Int
    }

    private struct Exchange {
        var sending: Sending?
        var receiving: fastloss_mpi_message?
        let sender: Int
    }

    private var group: fastloss_mpi_group
    private let timeout: Double
    private var started: [Exchange] = []
    private var failure: CommunicationError?
    private var hasLeft = false

    /// The bytes that this rank has sent in exchanges. What it gathers is not counted.
    public private(set) var bytesSent = 0

    public var rank: Int { Int(group.rank) }
    public var size: Int { Int(group.size) }

    /// A group of all processes, or of those of an MPI communicator. All of them call it. Initialises MPI if the
    /// program has not.
    ///
    /// - Parameters:
    ///   - handle: the communicator's Fortran handle (`MPI_Comm_c2f`); nil for `MPI_COMM_WORLD`.
    ///   - timeout: how long a failed rank may delay the error of the others, in seconds.
    public init(handle: Int32? = nil, timeout: Double = 600) throws(SetupError) {
        guard fastloss_mpi_initialize() else { throw .initialization }
        var group = fastloss_mpi_group()
        let isOpen: Bool
        if var handle {
            isOpen = fastloss_mpi_open(&handle, &group)
        } else {
            isOpen = fastloss_mpi_open(nil, &group)
        }
        guard isOpen else { throw .duplication }
        self.group = group
        self.timeout = timeout
    }

    /// Tells the other ranks that this one makes no more calls. Those that wait for it fail at once, and not only
    /// after the time-out.
    ///
    /// A rank calls it when it fails outside a call, for example while it reads its cells, but lives on. Messages
    /// that it has sent still arrive. Afterwards no rank can use this communicator.
    public func leave() {
        guard !hasLeft else { return }
        hasLeft = true
        failure = failure ?? CommunicationError(rank: rank)
        fastloss_mpi_notify(&group, Int32(FASTLOSS_MPI_LEAVE_TAG))
    }

    /// Ends MPI, after the last call and before the program ends.
    public static func finalize() { fastloss_mpi_finalize() }

    deinit {
        // After a failure, messages that nobody receives may be on their way: a new communicator must not meet them.
        if failure == nil { fastloss_mpi_close(&group) }
    }

    public func startExchange(
        sending bytes: UnsafeRawBufferPointer, to receiver: Int,
        receiving buffer: UnsafeMutableRawBufferPointer, from sender: Int
    ) throws(CommunicationError) {
        if let failure { throw failure }
        var exchange = Exchange(sender: sender)
        if let memory = buffer.baseAddress, !buffer.isEmpty {
            var message = fastloss_mpi_message()
            guard
                fastloss_mpi_start(
                    &group, false, memory, buffer.count, Int32(sender), Int32(FASTLOSS_MPI_EXCHANGE_TAG),
                    &message)
            else { throw fail(sender) }
            exchange.receiving = message
        }
        started.append(exchange)
        if !bytes.isEmpty {
            started[started.count - 1].sending = try send(
                bytes, to: receiver, tag: Int32(FASTLOSS_MPI_EXCHANGE_TAG))
            bytesSent += bytes.count
        }
    }

    public func finishExchange() throws(CommunicationError) {
        if let failure { throw failure }
        let deadline = now + timeout / 3
        if started[0].receiving != nil {
            guard wait(&started[0].receiving!, with: started[0].sender, as: .exchange, until: deadline) else {
                throw fail(started[0].sender)
            }
            started[0].receiving = nil
        }
        if started[0].sending != nil {
            let receiver = started[0].sending!.receiver
            guard wait(&started[0].sending!.message, with: receiver, as: .exchange, until: deadline) else {
                throw fail(receiver)
            }
            started[0].sending!.memory.deallocate()
        }
        started.removeFirst()
    }

    public func gather(
        _ bytes: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer
    ) throws(CommunicationError) {
        if hasLeft { throw CommunicationError(rank: rank) }
        let deadline = now + timeout * 2 / 3
        let tag = Int32(FASTLOSS_MPI_GATHER_TAG)
        var receiving: [(rank: Int, message: fastloss_mpi_message, memory: UnsafeMutableRawBufferPointer)] =
            []
        var sending: [Sending] = []
        var missing: Int?
        for other in 0..<size {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: all[other * bytes.count..<(other + 1) * bytes.count])
            guard other != rank else {
                part.copyMemory(from: bytes)
                continue
            }
            // A part of its own, so that one which is late changes nothing.
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
            var message = fastloss_mpi_message()
            if fastloss_mpi_start(
                &group, false, memory.baseAddress, memory.count, Int32(other), tag, &message)
            {
                receiving.append((other, message, memory))
            } else {
                memory.deallocate()
                missing = missing ?? other
            }
        }
        for other in 0..<size where other != rank {
            if let message = try? send(bytes, to: other, tag: tag) { sending.append(message) }
        }
        for index in receiving.indices {
            let (other, _, memory) = receiving[index]
            if wait(&receiving[index].message, with: other, as: .gather, until: deadline) {
                all.baseAddress.map {
                    ($0 + other * bytes.count).copyMemory(from: memory.baseAddress!, byteCount: bytes.count)
                }
            } else {
                fastloss_mpi_cancel(&receiving[index].message)
                missing = min(missing ?? other, other)
            }
            memory.deallocate()
        }
        for index in sending.indices {
            let receiver = sending[index].receiver
            if wait(&sending[index].message, with: receiver, as: .gather, until: deadline) {
                sending[index].memory.deallocate()
            }
        }
        if let missing { throw CommunicationError(rank: missing) }
    }
}

// MARK: - Messages

extension MPICommunicator {
    private func send(
        _ bytes: UnsafeRawBufferPointer, to receiver: Int, tag: Int32
    ) throws(CommunicationError) -> Sending {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        memory.copyMemory(from: bytes)
        var message = fastloss_mpi_message()
        guard
            fastloss_mpi_start(&group, true, memory.baseAddress, memory.count, Int32(receiver), tag, &message)
        else {
            throw tag == Int32(FASTLOSS_MPI_GATHER_TAG) ? CommunicationError(rank: receiver) : fail(receiver)
        }
        return Sending(message: message, memory: memory, receiver: receiver)
    }

    /// Gives up all exchanges.
    private func fail(_ rank: Int) -> CommunicationError {
        for index in started.indices where started[index].receiving != nil {
            fastloss_mpi_cancel(&started[index].receiving!)
        }
        started = []
        let error = CommunicationError(rank: rank)
        failure = error
        // Whoever waits for an exchange with this rank need not wait for the time-out.
        fastloss_mpi_notify(&group, Int32(FASTLOSS_MPI_STOP_TAG))
        return error
    }

    private enum Kind {
        case exchange
        case gather
    }

    /// Whether a rank sends and receives no more messages of a kind.
    private func hasStopped(_ peer: Int, _ kind: Kind) -> Bool {
        if fastloss_mpi_is_notified(&group, Int32(peer), Int32(FASTLOSS_MPI_LEAVE_TAG)) { return true }
        return kind == .exchange
            && fastloss_mpi_is_notified(&group, Int32(peer), Int32(FASTLOSS_MPI_STOP_TAG))
    }

    /// Tests after which a message that a rank sent before it stopped has arrived: some hundredths of a second.
    private static let lastTests = 500

    /// Whether a message from or to a rank is complete before the deadline. MPI has no wait with a time limit.
    private func wait(
        _ message: inout fastloss_mpi_message, with peer: Int, as kind: Kind, until deadline: Double
    ) -> Bool {
        var tests = 0
        var testsLeft: Int?
        while true {
            let state = fastloss_mpi_test(&message)
            if state != 0 { return state > 0 }
            tests += 1
            guard tests > 1_000 else { continue }
            // Leave the processor to a rank that computes on it.
            usleep(50)
            if now > deadline { return false }
            if let left = testsLeft {
                guard left > 0 else { return false }
                testsLeft = left - 1
            } else if hasStopped(peer, kind) {
                testsLeft = Self.lastTests
            }
        }
    }

    private var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
