// The workspace behind the opaque pointer that C holds.

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

/// The workspace behind a pointer: memory of the C library, whose allocator says where there is none.
struct WorkspaceHandle {
    private struct State: ~Copyable {
        let workers: Int
        var scratch = ScratchMemory()
        /// What packed matrices lie in. Memory of its own: it is filled before the scratch memory of a loss is laid out.
        var packing = ScratchMemory()
        /// The matrices of the call that is going on. Kept here, because the list is too large to hand around.
        var operands = InlineArray<23, Operand?>(repeating: nil)
        var operandCount = 0
        let isBusy = Atomic(false)

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

    /// The workspace behind a pointer that C has.
    init(_ pointer: UnsafeMutableRawPointer) {
        state = pointer.assumingMemoryBound(to: State.self)
    }

    /// The workspace behind a pointer that C gave; the thread's own for NULL.
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

    /// Bytes of scratch memory that are held now.
    var byteCount: Int { state.pointee.scratch.byteCount + state.pointee.packing.byteCount }

    /// Takes the workspace for a call, or tells that another call has it.
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

    /// Operand number `index` of those that were appended.
    subscript(index: Int) -> Operand {
        get { state.pointee.operands[index]! }
        nonmutating set { state.pointee.operands[index] = newValue }
    }

    /// Returns the operand's number.
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

    /// Memory for the scratch arrays of a plan.
    func reserve(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        try state.pointee.scratch.reserve(layout, for: call)
    }

    /// Memory for packed matrices.
    func reservePacking(_ layout: ScratchLayout) throws(LossError) -> Execution {
        try state.pointee.packing.reserve(layout, for: "packing matrices with gaps between their rows")
    }
}

/// Runs one call of the C interface on the workspace that it was given.
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
