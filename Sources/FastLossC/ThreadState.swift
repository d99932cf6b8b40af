// What the C interface keeps for each thread: the message of its last error, and its own workspace.

import CFastLossThreads
import FastLoss

/// The state of one thread, made when the thread first needs it and freed when the thread ends.
struct ThreadState {
    /// The thread's block of memory, which begins as zeros.
    private struct Block {
        var workspace: UnsafeMutableRawPointer?
        var message: InlineArray<1024, CChar>
    }

    private let block: UnsafeMutablePointer<Block>

    /// This thread's state, if it has one.
    static var existing: ThreadState? { ThreadState(fastloss_thread_memory()) }

    /// This thread's state; nil where there is no memory for it.
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

    /// The message that was kept last; empty before the first.
    var message: UnsafePointer<CChar> { UnsafePointer(text) }

    func keep(_ message: Message) { message.write(to: text) }

    private var text: UnsafeMutablePointer<CChar> {
        // The capacity of a message and the 0 at its end.
        UnsafeMutableRawPointer(block).advanced(by: MemoryLayout<UnsafeMutableRawPointer?>.size)
            .assumingMemoryBound(to: CChar.self)
    }

    /// The workspace of calls that are given none.
    func workspace() throws(CallError) -> WorkspaceHandle {
        if let workspace = block.pointee.workspace { return WorkspaceHandle(workspace) }
        let handle = try WorkspaceHandle(workers: Workspace.defaultWorkers)
        block.pointee.workspace = handle.pointer
        return handle
    }
}
