// Every function of the library that takes a workspace, with inputs, for the tests of allocations and
// determinism.

import FastLoss
import Foundation
import Testing

/// One verb on fixed inputs. It can be called any number of times and on any thread, each time into memory of
/// its own.
struct PublicCall: Sendable, CustomTestStringConvertible {
    let name: String
    /// Elements of each output.
    let outputs: [Int]
    /// Norms of the one verb that returns them in double.
    let norms: Int
    private let body: @Sendable (CallMemory, Workspace) throws -> Double

    init(
        _ name: String, outputs: [Int] = [], norms: Int = 0,
        body: @escaping @Sendable (CallMemory, Workspace) throws -> Double
    ) {
        self.name = name
        self.outputs = outputs
        self.norms = norms
        self.body = body
    }

    func run(_ memory: CallMemory, _ workspace: Workspace) throws {
        memory.value = try body(memory, workspace)
    }

    /// The bits of all that a call gives, from outputs that hold the same before every call.
    func bits(_ workspace: Workspace) throws -> Data {
        let memory = CallMemory(self)
        try run(memory, workspace)
        return memory.bits
    }

    var testDescription: String { name }
}

/// The outputs of one call.
final class CallMemory {
    var value = 0.0
    private let floats: [UnsafeMutableBufferPointer<Float>]
    private let doubles: UnsafeMutableBufferPointer<Double>
    /// The gradients of a call that writes into arrays. Its first run makes them.
    var gradients: ObjectiveGradientArrays?

    init(_ call: PublicCall) {
        floats = call.outputs.map { count in
            let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: count)
            // A number that gradients are added to: not 0, which would hide the order of the additions.
            buffer.initialize(repeating: 0.7)
            return buffer
        }
        doubles = .allocate(capacity: call.norms)
        doubles.initialize(repeating: 1)
    }

    deinit {
        floats.forEach { $0.deallocate() }
        doubles.deallocate()
    }

    /// Output number `index`. Each call asks for each of its outputs once.
    @_lifetime(borrow self)
    borrowing func output(_ index: Int) -> MutableSpan<Float> {
        _overrideLifetime(MutableSpan(_unsafeElements: floats[index]), borrowing: self)
    }

    @_lifetime(borrow self)
    borrowing func norms() -> MutableSpan<Double> {
        _overrideLifetime(MutableSpan(_unsafeElements: doubles), borrowing: self)
    }

    var bits: Data {
        var data = Data()
        withUnsafeBytes(of: value) { data.append(contentsOf: $0) }
        for buffer in floats { data.append(contentsOf: UnsafeRawBufferPointer(buffer)) }
        data.append(contentsOf: UnsafeRawBufferPointer(doubles))
        for slot in ObjectiveSlot.allCases {
            gradients?[slot]?.withUnsafeBytes { data.append(contentsOf: $0) }
        }
        return data
    }
}
