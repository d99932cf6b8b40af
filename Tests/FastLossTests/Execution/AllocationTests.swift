// No call allocates after the first with its shape: shown by counting what reaches malloc and its siblings
// from any thread of the process, whoever asks for it.

import CAllocationCounter
import FastLoss
import Testing

/// Why nothing is counted in this process, or `nil`.
private let obstacle = allocation_counter_obstacle().map { String(cString: $0) }

/// Serialised, because the counter sees the whole process. Other suites may still run beside it, so the
/// fewest allocations of many tries count, until those suites have had the time to end: an allocation that the
/// call itself makes is in every one of them.
@Suite(
    .serialized,
    .enabled(if: obstacle == nil, "allocations are not counted: \(obstacle ?? "")"),
    .enabled(
        if: !_isDebugAssertConfiguration(),
        "only an optimised build keeps its closures on the stack, so that there is nothing to be counted")
)
struct AllocationTests {
    @Test func `the counter counts what this thread allocates`() {
        var made: [UnsafeMutableRawPointer] = []
        made.reserveCapacity(3)
        allocation_counter_start()
        for _ in 0..<3 { made.append(.allocate(byteCount: 100, alignment: 8)) }
        let count = allocation_counter_stop()
        made.forEach { $0.deallocate() }
        #expect(count >= 3)
    }

    @Test func `the counter counts what helpers allocate`() {
        let tasks = 64
        // What is allocated in the tasks, in a place of each task's own.
        let made = UnsafeMutableBufferPointer<UnsafeMutableRawPointer>.allocate(capacity: tasks)
        allocation_counter_start()
        forEachTask(tasks, workers: 2, estimatedNanoseconds: .infinity) { task, _ in
            made.initializeElement(at: task, to: .allocate(byteCount: 100, alignment: 8))
        }
        let count = allocation_counter_stop()
        made.forEach { $0.deallocate() }
        made.deallocate()
        #expect(count >= tasks)
    }

    @Test(arguments: PublicCall.all, [1, 2])
    func `a call with a known shape allocates nothing`(_ call: PublicCall, workers: Int) throws {
        let workspace = Workspace(workers: workers)
        let memory = CallMemory(call)
        for _ in 0..<3 { try call.run(memory, workspace) }
        var fewest = Int.max
        let start = ContinuousClock.now
        while fewest > 0, start.duration(to: .now) < .seconds(20) {
            allocation_counter_start()
            try call.run(memory, workspace)
            fewest = min(fewest, allocation_counter_stop())
        }
        #expect(fewest == 0)
    }
}
