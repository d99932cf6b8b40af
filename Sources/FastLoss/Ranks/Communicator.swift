// The protocol between FastLoss and whatever carries bytes from rank to rank: threads, MPI, torch.distributed.

/// A group of ranks that compute a loss of one batch together, as one of its ranks sees it.
///
/// A rank is a process or a thread with rows of its own. FastLoss needs three verbs. All ranks of a group call
/// the same losses in the same order, so every exchange meets its counterpart.
///
/// - Messages between two ranks arrive in the order in which they were sent.
/// - No verb may wait for another rank for ever. Of the group's time-out, ``finishExchange()`` waits for a third
///   and ``gather(_:into:)`` for two thirds. Then they throw ``CommunicationError`` with the rank that they
///   waited for. After a failure each rank waits once in an exchange and once to gather, so the whole call
///   ends within the time-out; and a rank that gathers outlasts those that still wait for the failed one.
/// - When ``startExchange(sending:to:receiving:from:)`` or ``finishExchange()`` has thrown, the memory of
///   earlier exchanges is no longer in use, and every later exchange throws. ``gather(_:into:)`` still works:
///   the ranks that are left tell each other who failed. After that the group is not used again.
///
/// ``ThreadCommunicator`` connects threads of one process. The product FastLossMPI connects processes.
public protocol Communicator {
    /// The number of this rank, in 0..<``size``.
    var rank: Int { get }

    /// How many ranks the group has.
    var size: Int { get }

    /// Starts to send bytes to one rank and to receive bytes from another, and returns without waiting.
    ///
    /// - Parameters:
    ///   - bytes: what is sent. The memory does not change until the exchange is finished. Nothing is sent if
    ///     it is empty.
    ///   - receiver: the rank that receives the bytes.
    ///   - buffer: where the message of `sender` goes. It has the message's length. Nothing is received if it
    ///     is empty.
    ///   - sender: the rank that the message comes from.
    func startExchange(
        sending bytes: UnsafeRawBufferPointer, to receiver: Int,
        receiving buffer: UnsafeMutableRawBufferPointer, from sender: Int
    ) throws(CommunicationError)

    /// Waits until the oldest exchange that was started is complete.
    func finishExchange() throws(CommunicationError)

    /// Collects some bytes of every rank, the same number of each, in the order of the ranks. Every rank
    /// receives the same.
    ///
    /// If it throws, the parts of the ranks that have not answered are unchanged.
    ///
    /// - Parameters:
    ///   - bytes: this rank's part, at most some hundred bytes.
    ///   - all: receives ``size`` parts.
    func gather(
        _ bytes: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer
    ) throws(CommunicationError)
}

/// A rank failed, or did not answer in time.
public struct CommunicationError: Error, Equatable, Sendable {
    /// The rank that did not answer.
    public var rank: Int

    /// The failure of a rank.
    public init(rank: Int) { self.rank = rank }
}
