// How a debug build finds the release configuration.

import Benchmarks
import Foundation
import Testing

@Suite struct ReleaseBuildTests {
    @Test func `the scratch folder is found above the executable, through links`() throws {
        let files = FileManager.default
        let scratch = files.temporaryDirectory.appending(path: UUID().uuidString).resolvingSymlinksInPath()
        defer { try? files.removeItem(at: scratch) }
        let products = scratch.appending(path: "x86_64-unknown-linux-gnu/debug")
        try files.createDirectory(at: products, withIntermediateDirectories: true)
        try files.createSymbolicLink(at: scratch.appending(path: "debug"), withDestinationURL: products)
        try Data().write(to: products.appending(path: "Benchmarks"))
        let executable = scratch.appending(path: "debug/Benchmarks")

        #expect(ReleaseBuild.scratchFolder(ofExecutable: executable) == nil)
        try Data("{}".utf8).write(to: scratch.appending(path: "workspace-state.json"))
        #expect(ReleaseBuild.scratchFolder(ofExecutable: executable)?.path == scratch.path)
    }

    @Test func `arguments are passed on as they are`() {
        let package = URL(filePath: "/package")
        #expect(
            ReleaseBuild.runCommand(package: package, scratch: nil, arguments: ["--filter", "a b"])
                == [
                    "swift", "run", "-c", "release", "--package-path", "/package", "Benchmarks", "--filter",
                    "a b",
                ])
        #expect(
            ReleaseBuild.runCommand(package: package, scratch: URL(filePath: "/scratch"), arguments: [])
                == [
                    "swift", "run", "-c", "release", "--package-path", "/package", "--scratch-path",
                    "/scratch",
                    "Benchmarks",
                ])
    }
}
