// What a caller owns and passes to every call: scratch memory that is reused, and a number of workers.

/// Scratch memory that calls reuse, and the number of workers they may use.
///
/// A training loop makes one workspace and passes it to every call. Memory grows to what the largest call needs and stays, so
/// a call with a shape that was seen before allocates nothing.
///
/// A workspace serves one call at a time: it is not `Sendable`, and each thread of a loop that computes losses on several
/// threads makes its own.
public final class Workspace {
    /// How many workers a call may use, the calling thread among them. Results do not depend on it.
    public let workers: Int

    private var memory = ScratchMemory()

    /// - Parameter workers: from 1 to ``mostWorkers``; a number outside counts as the nearest inside. The default is
    ///   ``defaultWorkers``.
    public init(workers: Int = Workspace.defaultWorkers) {
        ProcessState.prepare()
        self.workers = min(max(1, workers), Self.mostWorkers)
    }

    /// Bytes of scratch memory that this workspace holds now.
    public var byteCount: Int { memory.byteCount }
}

extension Workspace {
    /// The most workers that any call uses: more than any machine has processors, so that a larger number is a mistake.
    public static let mostWorkers = 4096

    /// The environment variable `FASTLOSS_THREADS` where it holds a number from 1 to ``mostWorkers``, else the number of
    /// processors that this process may use.
    public static var defaultWorkers: Int {
        ProcessState.prepare()
        return ProcessState.defaultWorkers
    }
}

// MARK: - Running a plan

extension Workspace {
    /// An empty layout for a plan that this workspace will run.
    package var layout: ScratchLayout { ScratchLayout(workers: workers) }

    /// Reserves the layout and runs the plan that was made over it.
    package func run<P: Plan>(_ plan: P, _ layout: ScratchLayout) throws(LossError) -> P.Result {
        try plan.run(on: memory.reserve(layout, for: plan.name))
    }
}
