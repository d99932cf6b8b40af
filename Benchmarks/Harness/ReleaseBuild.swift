// A debug build hands over to a release build: neither Swift nor C is optimised in debug, and its timings
// would mislead.

import Foundation

/// The release configuration of this program.
package enum ReleaseBuild {
    /// Whether this program was built without optimisation.
    package static var isDebug: Bool {
        #if DEBUG
            true
        #else
            false
        #endif
    }

    /// Hands over to a release build, saying so, if this program was built without optimisation.
    package static func handOverIfDebug() throws {
        guard isDebug else { return }
        Terminal.warn("This is a debug build: building and running the release configuration instead.")
        try replaceProcess(arguments: Array(CommandLine.arguments.dropFirst()))
    }

    /// Becomes `swift run -c release` with the same arguments. Returns by throwing only.
    ///
    /// The process is replaced, not a child started: signals, exit code and standard streams need no
    /// relaying. SwiftPM reports the build on standard error, which leaves standard output to the table,
    /// and restores the working folder.
    package static func replaceProcess(arguments: [String]) throws(ReleaseBuildError) -> Never {
        let package = packageFolder
        guard FileManager.default.fileExists(atPath: package.appending(path: "Package.swift").path) else {
            throw .noPackage(path: package.path)
        }
        let command = runCommand(
            package: package, scratch: Bundle.main.executableURL.flatMap(scratchFolder(ofExecutable:)),
            arguments: arguments)
        let words = command.map { strdup($0) } + [nil]
        execvp("swift", words)
        throw .cannotStart(command: command.joined(separator: " "), reason: String(cString: strerror(errno)))
    }

    /// The words of the command.
    package static func runCommand(package: URL, scratch: URL?, arguments: [String]) -> [String] {
        ["swift", "run", "-c", "release", "--package-path", package.path]
            + (scratch.map { ["--scratch-path", $0.path] } ?? [])
            + ["Benchmarks"] + arguments
    }

    /// The folder that SwiftPM builds in, wherever `--scratch-path` has put it: the nearest folder above
    /// the executable that holds SwiftPM's state. Nil if the executable has been moved.
    package static func scratchFolder(ofExecutable executable: URL) -> URL? {
        var folder = executable.resolvingSymlinksInPath().deletingLastPathComponent()
        while folder.pathComponents.count > 1 {
            if FileManager.default.fileExists(atPath: folder.appending(path: "workspace-state.json").path) {
                return folder
            }
            folder.deleteLastPathComponent()
        }
        return nil
    }

    /// The package that this file was compiled from.
    static var packageFolder: URL {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardizedFileURL
    }
}

/// Why the release build cannot take over.
package enum ReleaseBuildError: Error, Equatable, CustomStringConvertible {
    /// The sources are no longer where they were compiled.
    case noPackage(path: String)
    case cannotStart(command: String, reason: String)

    package var description: String {
        switch self {
        case .noPackage(let path):
            "this is a debug build, and its package is no longer at \(path); "
                + "run 'swift run -c release Benchmarks' where it is now"
        case .cannotStart(let command, let reason):
            "this is a debug build, and '\(command)' cannot be started: \(reason)"
        }
    }
}
