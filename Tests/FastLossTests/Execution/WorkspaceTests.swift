// Scratch memory: aligned, disjoint, kept from call to call; sizes that do not exist are errors.

import FastLoss
import Testing

@Suite struct WorkspaceTests {
    @Test(arguments: [(-3, 1), (0, 1), (1, 1), (5, 5), (4_096, 4_096), (4_097, 4_096), (.max, 4_096)])
    func workersAreBetweenOneAndTheMost(asked: Int, workers: Int) {
        #expect(Workspace(workers: asked).workers == workers)
    }

    @Test func startsEmptyAndKeepsTheLargest() throws {
        var memory = ScratchMemory()
        #expect(memory.byteCount == 0)
        for (count, bytes) in [(0, 0), (1, 64), (100, 448), (10, 448), (112, 448), (113, 512)] {
            var layout = ScratchLayout(workers: 1)
            _ = try layout.add(count, of: Float.self)
            _ = try memory.reserve(layout, for: "a test")
            #expect(memory.byteCount == bytes)
        }
    }

    @Test func arraysAreAlignedAndDisjoint() throws {
        var layout = ScratchLayout(workers: 1)
        let bytes = try layout.add(3, of: UInt8.self)
        let none = try layout.add(0, of: Double.self)
        let floats = try layout.add(17, of: Float.self)
        let doubles = try layout.add(2, of: Double.self)
        var memory = ScratchMemory()
        let execution = try memory.reserve(layout, for: "a test")
        let starts = [
            Int(bitPattern: execution.pointer(bytes)), Int(bitPattern: execution.pointer(none)),
            Int(bitPattern: execution.pointer(floats)), Int(bitPattern: execution.pointer(doubles)),
        ]
        #expect(starts.allSatisfy { $0 % ScratchLayout.alignment == 0 })
        #expect(starts.map { $0 - starts[0] } == [0, 64, 64, 192])
        #expect(memory.byteCount == 256)
    }

    @Test(arguments: 1...3)
    func arraysOfOneWorkerLieTogether(workers: Int) throws {
        var layout = ScratchLayout(workers: workers)
        _ = try layout.add(1, of: Float.self)
        let copies = try layout.addCopies(workers) { layout throws(LossError) in
            (bytes: try layout.add(65, of: UInt8.self), doubles: try layout.add(3, of: Double.self))
        }
        let after = try layout.add(1, of: Float.self)
        var memory = ScratchMemory()
        let execution = try memory.reserve(layout, for: "a test")
        let start = UnsafeMutableRawPointer(execution.pointer(copies.arrays.bytes))
        for worker in 0..<workers {
            let bytes = execution.pointer(copies.arrays.bytes, ofCopy: worker, in: copies)
            let doubles = execution.pointer(copies.arrays.doubles, ofCopy: worker, in: copies)
            #expect(start + 192 * worker == UnsafeMutableRawPointer(bytes))
            #expect(start + 192 * worker + 128 == UnsafeMutableRawPointer(doubles))
        }
        #expect(start + 192 * workers == UnsafeMutableRawPointer(execution.pointer(after)))
        #expect(memory.byteCount == 64 + 192 * workers + 64)
    }

    @Test func arraysOfPlansThatFollowEachOtherShareMemory() throws {
        var layout = ScratchLayout(workers: 1)
        _ = try layout.add(1, of: Float.self)
        let start = layout.mark
        let first = try layout.add(100, of: Float.self)
        layout.rewind(to: start)
        let second = try layout.add(20, of: Float.self)
        #expect(layout.byteCount == 64 + 448)
        var memory = ScratchMemory()
        let execution = try memory.reserve(layout, for: "a test")
        #expect(execution.pointer(first) == execution.pointer(second))
    }

    @Test func memoryThatThereIsNotIsAnError() throws {
        var memory = ScratchMemory()
        expectError("a test could not allocate 4611686018427387904 bytes of scratch memory") {
            () throws(LossError) in
            var layout = ScratchLayout(workers: 1)
            _ = try layout.add(1 << 60, of: Float.self)
            _ = try memory.reserve(layout, for: "a test")
        }
        #expect(memory.byteCount == 0)
    }

    @Test(arguments: [Int.max, Int.max / 4, Int.max / 4 - 10])
    func sizesBeyondMemory(count: Int) {
        expectError("this call could not allocate \(Int.max) bytes of scratch memory") {
            () throws(LossError) in
            var layout = ScratchLayout(workers: 1)
            _ = try layout.add(count, of: Float.self)
        }
    }
}
