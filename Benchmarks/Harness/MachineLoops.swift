// The C loops that measure the machine, for FastLoss's instruction set, and their arrays.

import CMachineCeilings
import FastLoss

extension machine_ceilings_loops {
    /// The loops for the instruction set that FastLoss uses.
    static var active: machine_ceilings_loops {
        let instructionSet = InstructionSet.active.rawValue
        guard let loops = machine_ceilings_loops_for(instructionSet) else {
            preconditionFailure("there are no loops for \(instructionSet), which FastLoss runs")
        }
        return loops.pointee
    }
}

/// One array per worker, contiguous, on cache lines and in memory of its own, filled with small numbers.
final class Arrays {
    private let memory: UnsafeMutableBufferPointer<Float>
    private let stride: Int

    init(count: Int, floats: Int) {
        stride = floats
        let bytes = 4 * count * floats
        memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: ScratchLayout.alignment)
            .bindMemory(to: Float.self)
        memory.initialize(repeating: 0x1p-10)
    }

    deinit { memory.deallocate() }

    subscript(task: Int) -> UnsafeMutablePointer<Float> { memory.baseAddress! + task * stride }
}
