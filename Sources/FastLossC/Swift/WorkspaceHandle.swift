// The workspace behind the opaque pointer that C holds.

import CFastLoss
import FastLoss
import Synchronization

/// A workspace, scratch memory for matrices with gaps between their rows, and whether a call is using both.
final class WorkspaceHandle {
    /// More than any machine has: a larger number is a mistake, and would be asked of the system as threads.
    static let mostWorkers: Int64 = 4096

    let workspace: Workspace
    /// What packed matrices lie in. A workspace of its own, because every loss reserves the other for itself.
    let packing: Workspace
    /// The matrices of the call that is going on. Kept here, so that no call has to allocate the list.
    var operands: [Operand] = []
    private let isBusy = Atomic(false)

    init(workers: Int) {
        workspace = Workspace(workers: workers)
        packing = Workspace(workers: workers)
        operands.reserveCapacity(Operand.capacity)
    }

    /// Takes the workspace for a call, or tells that another call has it.
    func acquire() -> Bool {
        isBusy.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged
    }

    func release() {
        operands.removeAll(keepingCapacity: true)
        isBusy.store(false, ordering: .releasing)
    }

    /// The workspace behind a pointer that C gave; the thread's own for NULL.
    static func of(_ pointer: OpaquePointer?) -> WorkspaceHandle {
        guard let pointer else { return ThreadState.current.workspace }
        return Unmanaged<WorkspaceHandle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
    }
}

/// Runs one call of the C interface on the workspace that it was given.
func call(
    _ workspace: OpaquePointer?, _ body: (borrowing Call) throws(CallError) -> Void
) -> fastloss_status {
    let handle = WorkspaceHandle.of(workspace)
    guard handle.acquire() else { return fail(.workspaceBusy) }
    defer { handle.release() }
    return status { () throws(CallError) in try body(Call(handle)) }
}

// MARK: - Exported

@c @implementation
public func fastloss_workspace_create(
    _ workers: Int64, _ workspace: UnsafeMutablePointer<OpaquePointer?>?
) -> fastloss_status {
    status { () throws(CallError) in
        let workspace = try required(workspace, "workspace")
        guard (0...WorkspaceHandle.mostWorkers).contains(workers) else {
            throw .loss(
                .invalidParameter(
                    name: "workers", value: Double(workers),
                    requirement: "between 0 and \(WorkspaceHandle.mostWorkers)"))
        }
        let handle = WorkspaceHandle(workers: workers == 0 ? Workspace.defaultWorkers : Int(workers))
        workspace.pointee = OpaquePointer(Unmanaged.passRetained(handle).toOpaque())
    }
}

@c @implementation
public func fastloss_workspace_destroy(_ workspace: OpaquePointer?) {
    guard let workspace else { return }
    Unmanaged<WorkspaceHandle>.fromOpaque(UnsafeRawPointer(workspace)).release()
}

@c @implementation
public func fastloss_workspace_byte_count(_ workspace: OpaquePointer?) -> Int {
    let handle = WorkspaceHandle.of(workspace)
    return handle.workspace.byteCount + handle.packing.byteCount
}

@c @implementation
public func fastloss_workspace_workers(_ workspace: OpaquePointer?) -> Int64 {
    Int64(WorkspaceHandle.of(workspace).workspace.workers)
}
