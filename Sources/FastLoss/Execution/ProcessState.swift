// The state that a process makes once, before any work is shared.

import CFastLossThreads

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The lazy statics that computations read.
///
/// The thread that reads a static first initialises it, and other threads wait. In a process made by fork()
/// they may wait for a thread that no longer exists (see `fastloss_once`). So the initialiser of a workspace
/// reads every static, before a helper can.
package enum ProcessState {
    /// Initialises the statics in the first call of the process. Later calls take a nanosecond.
    package static func prepare() {
        fastloss_once(FASTLOSS_ONCE_PROCESS) {
            _ = InstructionSet.chosen
            _ = kernels
            TileProducts.choose()
            _ = everythingSelected
            _ = ProcessState.defaultWorkers
            // The generic type of loops in tasks, which unoptimised builds instantiate on first use.
            for _ in stride(from: 0, to: 1, by: 1) {}
        }
    }

    /// See ``Workspace/defaultWorkers``.
    static let defaultWorkers: Int = {
        let asked = getenv("FASTLOSS_THREADS").flatMap { Int(String(cString: $0)) }
        guard let asked, (1...Workspace.mostWorkers).contains(asked) else {
            return Int(fastloss_available_processors())
        }
        return asked
    }()
}
