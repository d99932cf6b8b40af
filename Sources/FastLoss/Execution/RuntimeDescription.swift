// What this process computes with, in one value, for logs and reports.

/// The version, libraries, instruction set and workers of this process.
///
/// ```swift
/// print(RuntimeDescription.current)
/// ```
public struct RuntimeDescription: Equatable, Sendable {
    /// FastLoss's version.
    public var version: String
    /// OpenBLAS's own description of its build, with its version.
    public var blasConfiguration: String
    /// The processor core that OpenBLAS chose its kernels for.
    public var blasCore: String
    /// Threads that OpenBLAS uses per call: 1, unless FASTLOSS_KEEP_BLAS_THREADS=1.
    public var blasThreads: Int
    /// The shared library that the BLAS in use was loaded from.
    public var blasLibrary: String
    /// The instruction set of FastLoss's own kernels.
    public var instructionSet: InstructionSet
    /// What FASTLOSS_ISA asked for, if anything; differs from `instructionSet` where it is not available.
    public var requestedInstructionSet: String?
    /// Workers of a workspace that is made without saying how many.
    public var workers: Int

    /// This process's description.
    public static var current: RuntimeDescription {
        ProcessState.prepare()
        BLAS.prepare()
        return RuntimeDescription(
            version: FastLossVersion.current,
            blasConfiguration: String(cString: BLAS.configurationText),
            blasCore: String(cString: BLAS.coreNameText),
            blasThreads: BLAS.threads,
            blasLibrary: BLAS.libraryPathText.map { String(cString: $0) } ?? BLAS.staticLibrary,
            instructionSet: .active,
            requestedInstructionSet: InstructionSet.requested,
            workers: Workspace.defaultWorkers)
    }
}

extension RuntimeDescription: CustomStringConvertible {
    public var description: String {
        let forced =
            switch requestedInstructionSet {
            case nil: ""
            case instructionSet.rawValue?: " (forced by FASTLOSS_ISA)"
            case let name?: " (FASTLOSS_ISA=\(name) is not available)"
            }
        return """
            FastLoss \(version), kernels \(instructionSet.rawValue)\(forced), \(workers) workers
            \(blasConfiguration), core \(blasCore), \(blasThreads) thread per call, from \(blasLibrary)
            """
    }
}

/// The version of this package.
package enum FastLossVersion {
    package static var text: StaticString { "0.1.0" }
    package static var current: String { text.description }
}
