// The state of a thread: the message of its last error, and its workspace.

import CFastLossThreads
import FastLoss

/// The state of one thread. Its first use creates it, and the end of the thread frees it.
struct ThreadState {
    /// The thread's memory, initially zero.
    private struct Block {
        var workspace: UnsafeMutableRawPointer?
        var message: InlineArray<1024, CChar>
    }

    private let block: UnsafeMutablePointer<Block>

    /// This thread's state; nil before its first use.
    static var existing: ThreadState? { ThreadState(fastloss_thread_memory()) }

    /// This thread's state; nil if no memory is available.
    static var current: ThreadState? {
        existing
            ?? ThreadState(
                fastloss_make_thread_memory(MemoryLayout<Block>.size) { memory in
                    ThreadState(memory)?.block.pointee.workspace.map { WorkspaceHandle($0).destroy() }
                })
    }

    private init?(_ memory: UnsafeMutableRawPointer?) {
        guard let memory else { return nil }
        block = memory.assumingMemoryBound(to: Block.self)
    }

    /// The last message; empty before the first.
    var message: UnsafePointer<CChar> { UnsafePointer(text) }

    func keep(_ message: Message) { message.write(to: text) }

    private var text: UnsafeMutablePointer<CChar> {
        // A message of any length fits, with its terminating 0.
        UnsafeMutableRawPointer(block).advanced(by: MemoryLayout<UnsafeMutableRawPointer?>.size)
            .assumingMemoryBound(to: CChar.self)
    }

    /// The workspace of calls with a NULL workspace.
    func workspace() throws(CallError) -> WorkspaceHandle {
        if let workspace = block.pointee.workspace { return WorkspaceHandle(workspace) }
        let handle = try WorkspaceHandle(workers: Workspace.defaultWorkers)
        block.pointee.workspace = handle.pointer
        return handle
    }
}
