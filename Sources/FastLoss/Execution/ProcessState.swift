// Everything that a process makes once, made by a caller before it shares work.

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
/// A static is initialised by the thread that touches it first, and a second thread waits for it. After fork() that wait can
/// last for ever (see `fastloss_once`). So no helper touches a static first: whoever makes a workspace prepares them all.
package enum ProcessState {
    /// Initialises the statics in the first call of the process; later calls cost a nanosecond.
    package static func prepare() {
        fastloss_once(FASTLOSS_ONCE_PROCESS) {
            _ = InstructionSet.chosen
            _ = kernels
            TileProducts.choose()
            _ = everythingSelected
            _ = ProcessState.defaultWorkers
            // The generic type behind loops in tasks, for builds that do not optimise it away.
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
