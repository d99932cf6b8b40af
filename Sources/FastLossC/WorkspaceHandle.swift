// The workspace behind C's opaque pointer.

import CFastLoss
import FastLoss
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A workspace in memory from malloc, which reports failure.
struct WorkspaceHandle {
    private struct State: ~Copyable {
        let workers: Int
        var scratch = ScratchMemory()
        /// The packed matrices. Separate from `scratch`: it is filled before a loss lays out its scratch
        /// memory.
        var packing = ScratchMemory()
        /// The matrices of the current call: most for a classifier of 16 blocks and its gradients. The list is too
        /// large to pass around.
        var operands = InlineArray<137, Operand?>(repeating: nil)
        var operandCount = 0
        let isBusy = Atomic(false)
        /// The workspace of the losses across ranks, once one was called.
        var ranks: Workspace?

        init(workers: Int) {
            self.workers = workers
        }
    }

    private let state: UnsafeMutablePointer<State>

    init(workers: Int) throws(CallError) {
        ProcessState.prepare()
        guard let memory = malloc(MemoryLayout<State>.size) else {
            throw .loss(.outOfMemory(call: "a workspace", bytes: MemoryLayout<State>.size))
        }
        state = memory.bindMemory(to: State.self, capacity: 1)
        state.initialize(to: State(workers: workers))
    }

    /// The workspace behind a pointer.
    init(_ pointer: UnsafeMutableRawPointer) {
        state = pointer.assumingMemoryBound(to: State.self)
    }

    /// The workspace behind a pointer from C; the thread's own for NULL.
    init(given pointer: OpaquePointer?) throws(CallError) {
        if let pointer {
            self.init(UnsafeMutableRawPointer(pointer))
        } else if let thread = ThreadState.current {
            self = try thread.workspace()
        } else {
            throw .loss(.outOfMemory(call: "the state of this thread", bytes: Message.capacity))
        }
    }

    var pointer: UnsafeMutableRawPointer { UnsafeMutableRawPointer(state) }

    func destroy() {
        state.deinitialize(count: 1)
        free(state)
    }

    var workers: Int { state.pointee.workers }

    /// The bytes of scratch memory.
    var byteCount: Int {
        state.pointee.scratch.byteCount + state.pointee.packing.byteCount
            + (state.pointee.ranks?.byteCount ?? 0)
    }

    /// The workspace of the losses across ranks.
    var ranks: Workspace {
        if let ranks = state.pointee.ranks { return ranks }
        let ranks = Workspace(workers: workers)
        state.pointee.ranks = ranks
        return ranks
    }

    /// Acquires the workspace for a call. Returns false if another call has it.
    func acquire() -> Bool {
        state.pointee.isBusy.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged
    }

    func release() {
        state.pointee.operandCount = 0
        state.pointee.isBusy.store(false, ordering: .releasing)
    }
}

// MARK: - The matrices of the call

extension WorkspaceHandle {
    var operandCount: Int { state.pointee.operandCount }

    /// The operand at `index`.
    subscript(index: Int) -> Operand {
        get { state.pointee.operands[index]! }
        nonmutating set { state.pointee.operands[index] = newValue }
    }

    /// Appends an operand and returns its index.
    func append(_ operand: Operand) -> Int {
        let number = state.pointee.operandCount
        state.pointee.operands[number] = operand
        state.pointee.operandCount = number + 1
        return number
    }
}

// MARK: - Memory

extension WorkspaceHandle {
    var layout: ScratchLayout { ScratchLayout(workers: workers) }

    /// Reserves memory for the scratch arrays of a plan.
    func reserve(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        try state.pointee.scratch.reserve(layout, for: call)
    }

    /// Reserves memory for packed matrices.
    func reservePacking(_ layout: ScratchLayout) throws(LossError) -> Execution {
        try state.pointee.packing.reserve(layout, for: "packing matrices with gaps between their rows")
    }
}

/// Runs one call of the C interface on its workspace.
func call(
    _ workspace: OpaquePointer?, _ body: (borrowing Call) throws(CallError) -> Void
) -> fastloss_status {
    status { () throws(CallError) in
        let handle = try WorkspaceHandle(given: workspace)
        guard handle.acquire() else { throw .workspaceBusy }
        defer { handle.release() }
        try body(Call(handle))
    }
}

// MARK: - Exported

@c @implementation
public func fastloss_workspace_create(
    _ workers: Int64, _ workspace: UnsafeMutablePointer<OpaquePointer?>?
) -> fastloss_status {
    status { () throws(CallError) in
        let workspace = try required(workspace, "workspace")
        guard (0...Int64(Workspace.mostWorkers)).contains(workers) else { throw .workers(workers) }
        let handle = try WorkspaceHandle(workers: workers == 0 ? Workspace.defaultWorkers : Int(workers))
        workspace.pointee = OpaquePointer(handle.pointer)
    }
}

@c @implementation
public func fastloss_workspace_destroy(_ workspace: OpaquePointer?) {
    guard let workspace else { return }
    WorkspaceHandle(UnsafeMutableRawPointer(workspace)).destroy()
}

@c @implementation
public func fastloss_workspace_byte_count(_ workspace: OpaquePointer?) -> Int {
    (try? WorkspaceHandle(given: workspace))?.byteCount ?? 0
}

@c @implementation
public func fastloss_workspace_workers(_ workspace: OpaquePointer?) -> Int64 {
    Int64((try? WorkspaceHandle(given: workspace))?.workers ?? Workspace.defaultWorkers)
}
