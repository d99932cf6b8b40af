// The workspace that a caller owns and passes to every call: scratch memory and a number of workers.

/// Scratch memory that calls reuse, and the number of workers they may use.
///
/// A training loop makes one workspace and passes it to every call. Its memory grows to the size of the
/// largest call. Later calls with the same shapes allocate nothing.
///
/// A workspace serves one call at a time, and is not `Sendable`. Each thread that computes losses makes one.
public final class Workspace {
    /// The largest number of workers of a call, the calling thread included. Results do not depend on it.
    public let workers: Int

    private var memory = ScratchMemory()
    /// The rows and gradients of other ranks. Apart from `memory`: plans of a ring take their addresses.
    private var blocks = ScratchMemory()
    /// This rank's own, if they are 16-bit, as floats. They outlive the rings of several terms.
    private var floats = ScratchMemory()

    /// A workspace without memory yet.
    ///
    /// - Parameter workers: the largest number of workers, clamped to 1...``mostWorkers``.
    public init(workers: Int = Workspace.defaultWorkers) {
        ProcessState.prepare()
        self.workers = min(max(1, workers), Self.mostWorkers)
    }

    /// The bytes of scratch memory that this workspace holds now.
    public var byteCount: Int { memory.byteCount + blocks.byteCount + floats.byteCount }
}

extension Workspace {
    /// The largest number of workers of any workspace.
    public static let mostWorkers = 4096

    /// The value of the environment variable `FASTLOSS_THREADS` if it is a number from 1 to ``mostWorkers``,
    /// else the number of processors that this process may use.
    public static var defaultWorkers: Int {
        ProcessState.prepare()
        return ProcessState.defaultWorkers
    }
}

// MARK: - Running a plan

extension Workspace {
    /// An empty layout for a plan of this workspace.
    package var layout: ScratchLayout { ScratchLayout(workers: workers) }

    /// Reserves the layout, and runs the plan that was made with it.
    package func run<P: Plan>(_ plan: P, _ layout: ScratchLayout) throws(LossError) -> P.Result {
        try plan.run(on: memory.reserve(layout, for: plan.name))
    }

    /// Reserves the scratch arrays of several plans.
    package func reserve(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        try memory.reserve(layout, for: call)
    }

    /// Reserves memory for the rows and gradients of other ranks.
    package func reserveBlocks(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        try blocks.reserve(layout, for: call)
    }

    /// Reserves memory for a rank's own rows and gradients as floats.
    func reserveFloats(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        try floats.reserve(layout, for: call)
    }
}
