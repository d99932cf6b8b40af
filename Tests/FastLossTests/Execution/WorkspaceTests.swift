// Scratch memory: aligned, disjoint, kept from call to call; sizes that do not exist are errors.

import FastLoss
import Testing

@Suite struct WorkspaceTests {
    @Test(arguments: [(-3, 1), (0, 1), (1, 1), (5, 5)])
    func workersAreAtLeastOne(asked: Int, workers: Int) {
        #expect(Workspace(workers: asked).workers == workers)
    }

    @Test func startsEmptyAndKeepsTheLargest() throws {
        let workspace = Workspace(workers: 1)
        #expect(workspace.byteCount == 0)
        for (count, bytes) in [(0, 0), (1, 64), (100, 448), (10, 448), (112, 448), (113, 512)] {
            var layout = Workspace.Layout()
            _ = try layout.add(count, of: Float.self)
            try workspace.reserve(layout)
            #expect(workspace.byteCount == bytes)
        }
    }

    @Test func arraysAreAlignedAndDisjoint() throws {
        var layout = Workspace.Layout()
        let bytes = try layout.add(3, of: UInt8.self)
        let none = try layout.add(0, of: Double.self)
        let floats = try layout.add(17, of: Float.self)
        let doubles = try layout.add(2, of: Double.self)
        let workspace = Workspace(workers: 1)
        try workspace.reserve(layout)
        let starts = [
            Int(bitPattern: workspace.pointer(bytes)), Int(bitPattern: workspace.pointer(none)),
            Int(bitPattern: workspace.pointer(floats)), Int(bitPattern: workspace.pointer(doubles)),
        ]
        #expect(starts.allSatisfy { $0 % Workspace.alignment == 0 })
        #expect(starts.map { $0 - starts[0] } == [0, 64, 64, 192])
        #expect(workspace.byteCount == 256)
    }

    @Test(arguments: [Int.max, Int.max / 4, Int.max / 4 - 10])
    func sizesBeyondMemory(count: Int) {
        expectError("scratch memory is \(count), but BLAS takes sizes up to \(Int32.max)") {
            () throws(LossError) in
            var layout = Workspace.Layout()
            _ = try layout.add(count, of: Float.self)
        }
    }
}
