// After the first call with a shape, no call allocates. The tests count the calls of malloc and its siblings
// from every thread of the process.

import CAllocationCounter
import FastLoss
import Testing

/// The reason why allocations are not counted in this process, or `nil`.
private let obstacle = allocation_counter_obstacle().map { String(cString: $0) }

/// Serialised, because the counter sees the whole process. Other suites may run at the same time, so the
/// smallest count of many tries decides: every try includes the allocations of the call itself.
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
        // The tasks' allocations, one for each task.
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
