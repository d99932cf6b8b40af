// The version, libraries and settings of this process, in one value for logs and reports.

/// The version, libraries, instruction set and workers of this process.
///
/// ```swift
/// print(RuntimeDescription.current)
/// ```
public struct RuntimeDescription: Equatable, Sendable {
    /// FastLoss's version.
    public var version: String
    /// OpenBLAS's version and build options, in its own words.
    public var blasConfiguration: String
    /// The processor core whose kernels OpenBLAS uses.
    public var blasCore: String
    /// The value of `OPENBLAS_CORETYPE`, if it is set. OpenBLAS then uses that core's kernels, which may be
    /// slower than those of the processor.
    public var requestedBLASCore: String?
    /// Threads that OpenBLAS uses per call: 1, unless FASTLOSS_KEEP_BLAS_THREADS=1.
    public var blasThreads: Int
    /// The file of the shared library that BLAS was loaded from.
    public var blasLibrary: String
    /// The instruction set of FastLoss's own kernels.
    public var instructionSet: InstructionSet
    /// The value of `FASTLOSS_ISA`, if it is set. It differs from `instructionSet` if that set is not
    /// available.
    public var requestedInstructionSet: String?
    /// The default number of workers of a workspace.
    public var workers: Int

    /// The description of this process.
    public static var current: RuntimeDescription {
        ProcessState.prepare()
        BLAS.prepare()
        return RuntimeDescription(
            version: FastLossVersion.current,
            blasConfiguration: String(cString: BLAS.configurationText),
            blasCore: String(cString: BLAS.coreNameText),
            requestedBLASCore: BLAS.requestedCore,
            blasThreads: BLAS.threads,
            blasLibrary: BLAS.libraryPathText.map { String(cString: $0) } ?? BLAS.staticLibrary,
            instructionSet: .active,
            requestedInstructionSet: InstructionSet.requested,
            workers: Workspace.defaultWorkers)
    }
}

extension RuntimeDescription: CustomStringConvertible {
    /// Two lines of text: kernels and workers, then BLAS.
    public var description: String {
        let forced =
            switch requestedInstructionSet {
            case nil: ""
            case instructionSet.rawValue?: " (forced by FASTLOSS_ISA)"
            case let name?: " (FASTLOSS_ISA=\(name) is not available)"
            }
        let forcedCore = requestedBLASCore == nil ? "" : " (forced by OPENBLAS_CORETYPE)"
        return """
            FastLoss \(version), kernels \(instructionSet.rawValue)\(forced), \(workers) workers
            \(blasConfiguration), core \(blasCore)\(forcedCore), \(blasThreads) thread per call, from \(blasLibrary)
            """
    }
}

/// The version of this package.
package enum FastLossVersion {
    package static var text: StaticString { "0.1.0" }
    package static var current: String { text.description }
}
