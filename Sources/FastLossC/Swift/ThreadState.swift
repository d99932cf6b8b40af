// What the C interface keeps for each thread: the message of its last error, and its own workspace.

import FastLoss

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// The state of one thread, made when the thread first needs it and freed when the thread ends.
final class ThreadState {
    /// Bytes of a message with its final 0. The longest that there is has fewer than 300.
    private static let messageCapacity = 1024

    private let text: UnsafeMutablePointer<CChar>

    /// The workspace of calls that are given none.
    private(set) lazy var workspace = WorkspaceHandle(workers: Workspace.defaultWorkers)

    private init() {
        text = .allocate(capacity: Self.messageCapacity)
        text.initialize(repeating: 0, count: Self.messageCapacity)
    }

    deinit {
        text.deallocate()
    }

    /// The message that was kept last; empty before the first.
    var message: UnsafePointer<CChar> { UnsafePointer(text) }

    func keep(message: String) {
        // At most the capacity, cut between two characters: what is left over would be no UTF-8.
        var length = 0
        for character in message {
            let end = length + character.utf8.count
            guard end < Self.messageCapacity else { break }
            for byte in character.utf8 {
                text[length] = CChar(bitPattern: byte)
                length += 1
            }
        }
        text[length] = 0
    }
}

// MARK: - Where it is kept

extension ThreadState {
    /// The key of the threads' states; nil where the system has no more keys.
    private static let key: pthread_key_t? = {
        var key = pthread_key_t()
        let status = pthread_key_create(&key) { state in
            // Optional or not, as the C library has it; a value of NULL has no destructor.
            let state: UnsafeMutableRawPointer? = state
            state.map { Unmanaged<ThreadState>.fromOpaque($0).release() }
        }
        return status == 0 ? key : nil
    }()

    /// This thread's state, if it has one.
    static var existing: ThreadState? {
        guard let key, let state = pthread_getspecific(key) else { return nil }
        return Unmanaged<ThreadState>.fromOpaque(state).takeUnretainedValue()
    }

    /// This thread's state.
    static var current: ThreadState {
        if let existing { return existing }
        let state = ThreadState()
        if let key { pthread_setspecific(key, Unmanaged.passRetained(state).toOpaque()) }
        return state
    }
}
