// No call touches memory outside its operands: each operand lies against an unreadable page, inputs are
// read-only, and the rest of an operand's pages holds NaN, which must not get into a result.

import FastLoss
import FastLossDiagnostics
import Foundation
import RankThreads
import Testing

@Suite struct BoundsTests {
    /// Sizes around vectors of 4, 8 and 16 floats, and odd ones: operands that end before the unreadable page
    /// start at every alignment of a float.
    static let sizes = Array(1...18) + [31, 33, 47, 63, 65, 97]

    @Test(arguments: sizes, GuardedMemory.End.allCases)
    func `no call leaves its operands`(size: Int, end: GuardedMemory.End) throws {
        let workspace = Workspace(workers: 1)
        for cells in [1, 2, 5] {
            let calls = try PublicCall.calls(
                cells: cells, tokens: size, width: 1 + size * 5 % 19, classes: 1 + size * 7 % 17)
            for call in calls { try check(call, end, workspace) }
        }
    }

    /// Shapes that several workers share.
    @Test(arguments: PublicCall.all, GuardedMemory.End.allCases)
    func `no worker leaves its operands`(_ call: PublicCall, end: GuardedMemory.End) throws {
        try check(call, end, Workspace(workers: 2))
    }

    /// Ranks of different sizes, which read each other's rows.
    @Test(arguments: [1, 7, 18, 33], GuardedMemory.End.allCases)
    func `no rank leaves its operands`(size: Int, end: GuardedMemory.End) throws {
        let mistakes = try onRanks(3) { ranks in
            let workspace = Workspace(workers: 1)
            let calls = PublicCall.acrossRanks(
                ranks, cells: 1 + (size + 5 * ranks.rank) % 11, tokens: size, width: 1 + size * 5 % 19)
            return try calls.compactMap { try Self.mistake(of: $0, end, workspace) }
        }.flatMap { try $0.get() }
        #expect(mistakes == [])
    }

    /// LAPACK works on a copy.
    @Test(arguments: [1, 2, 7, 33], GuardedMemory.End.allCases)
    func `the spectrum stays within its embeddings`(rows: Int, end: GuardedMemory.End) throws {
        let shape = MatrixShape(rows: rows, columns: 13)
        var random = RandomInputs(seed: 9)
        let embeddings = random.normals(rows * 13)
        let memory = GuardedMemory(byteCount: embeddings.count * MemoryLayout<Float>.stride, end: end)
        let elements: UnsafeMutableBufferPointer<Float> = memory.elements()
        _ = elements.initialize(from: embeddings)
        memory.makeReadOnly()
        let spectrum = try EmbeddingSpectrum(
            embeddings: Span(_unsafeElements: UnsafeBufferPointer(elements)), shape: shape,
            workspace: Workspace(workers: 1))
        #expect(try spectrum == EmbeddingSpectrum(embeddings: embeddings, shape: shape))
    }

    private func check(_ call: PublicCall, _ end: GuardedMemory.End, _ workspace: Workspace) throws {
        #expect(try Self.mistake(of: call, end, workspace) == nil)
    }

    /// What is wrong with a call whose operands lie against unreadable pages.
    private static func mistake(
        of call: PublicCall, _ end: GuardedMemory.End, _ workspace: Workspace
    ) throws -> String? {
        let expected = try call.bits(workspace)
        let memory = CallMemory(call, placement: .guarded(end))
        try call.run(memory, workspace)
        guard memory.bits == expected else {
            return "\(call.name): the result depends on where its operands lie"
        }
        return memory.isIntact ? nil : "\(call.name) wrote outside an operand"
    }

    /// The check of the check: one element further is fatal.
    @Test(arguments: GuardedMemory.End.allCases)
    func `an access outside ends the process`(end: GuardedMemory.End) async {
        switch end {
        case .start:
            await #expect(processExitsWith: .signal(SIGSEGV)) {
                let memory = GuardedMemory(byteCount: 12, end: .start)
                print((memory.bytes.baseAddress! - 4).load(as: Float.self))
            }
        case .end:
            await #expect(processExitsWith: .signal(SIGSEGV)) {
                let memory = GuardedMemory(byteCount: 12, end: .end)
                print((memory.bytes.baseAddress! + 12).load(as: Float.self))
            }
        }
    }

    @Test func `a write to an input ends the process`() async {
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            let memory = GuardedMemory(byteCount: 12, end: .end)
            memory.makeReadOnly()
            memory.bytes.storeBytes(of: 1, as: Float.self)
        }
    }

    @Test func `a write beside an operand shows`() {
        let memory = GuardedMemory(byteCount: 12, end: .end)
        #expect(memory.isIntact)
        (memory.bytes.baseAddress! - 4).storeBytes(of: 1, as: Float.self)
        #expect(!memory.isIntact)
    }
}
