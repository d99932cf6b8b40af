// No call keeps memory: the bytes that the allocator has handed out are the same after many calls. scripts/verify
// makes 100,000 of each.

#if canImport(Glibc)
    import CAllocationCounter
    import FastLoss
    import Glibc
    import Testing

    /// In a process of its own, because the allocator counts the bytes of all threads.
    @Suite(
        .enabled(
            if: allocation_counter_obstacle() == nil,
            "a sanitizer's allocator counts nothing, and reports leaks"),
        .enabled(if: TestLength.isLong, "few calls cannot tell a leak from what other threads allocate")
    )
    struct LeakTests {
        /// The smallest block that the allocator hands out.
        private static let smallestBlock = 16

        /// Makes calls, and returns how many bytes they kept, the least of three tries: the first fill the
        /// allocator's caches. Less than a block for each call comes from other threads of the process.
        private static func bytesKept(
            _ name: String, calls: Int, _ body: () throws -> Void
        ) rethrows -> Int {
            var fewest = Int.max
            for _ in 0..<3 where fewest >= calls * smallestBlock {
                let before = allocation_counter_bytes()
                for _ in 0..<calls { try body() }
                fewest = min(fewest, Int(allocation_counter_bytes()) - Int(before))
            }
            guard fewest >= calls * smallestBlock else { return 0 }
            print("\(name) keeps \(fewest) bytes after \(calls) calls")
            return fewest
        }

        /// Each call at a small shape: in a workspace that it shares, in new ones, and with an error.
        static func run() throws {
            let calls = TestLength.callsOfEach
            var kept = 0
            let all = try PublicCall.calls(cells: 3, tokens: 7, width: 5, classes: 3)
            for call in all {
                let workspace = Workspace(workers: 2)
                let memory = CallMemory(call)
                for _ in 0..<10 { try call.run(memory, workspace) }
                kept += try bytesKept(call.name, calls: calls) { try call.run(memory, workspace) }
                kept += try bytesKept("\(call.name), new workspaces", calls: max(10, calls / 100)) {
                    try call.run(memory, Workspace(workers: 2))
                }
            }
            kept += bytesKept("an error", calls: calls) {
                do throws(LossError) {
                    _ = try MaskedMSE().value(predictions: [1, 2], targets: [1])
                } catch { _ = error.description }
            }
            if TestLength.isLong {
                print("leaks: \(calls) of each of \(all.count) calls, \(kept) bytes kept")
            }
            guard kept == 0 else { exit(1) }
        }

        /// A leak of the smallest block in each call, as a check of this test.
        static func runWithPlantedLeak() -> Int {
            let calls = TestLength.callsOfEach
            return bytesKept("a planted leak", calls: calls) {
                _ = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)
            }
        }

        @Test func `a planted leak is reported`() async {
            await #expect(processExitsWith: .success) {
                guard LeakTests.runWithPlantedLeak() >= TestLength.callsOfEach * LeakTests.smallestBlock
                else {
                    exit(1)
                }
            }
        }

        @Test func `no call keeps memory`() async {
            await #expect(processExitsWith: .success) { try LeakTests.run() }
        }
    }
#endif
