// Multiply-adds in registers, the peak of rows that arithmetic limits.
//
// The clock and the neighbours of a shared machine change within seconds. So the loop is timed in pairs with
// the row: the share of the peak is the loop's time over the row's, for equal floating-point operations.

import CMachineCeilings
import FastLoss

/// Makes a call that does `flops` floating-point operations in registers, spread over `workers`.
package typealias MakePeakLoop = (_ flops: Int, _ workers: Int) -> () -> Float

/// The loop for the instruction set that FastLoss uses.
///
/// - Parameter flops: rounded up to whole rounds of the loop on each worker.
package func multiplyAddLoop(flops: Int, workers: Int) -> () -> Float {
    let loops = machine_ceilings_loops.active
    let rounds = (flops + loops.flops_per_round * workers - 1) / (loops.flops_per_round * workers)
    // Blocks apart, so that no two workers write to one cache line.
    let sums = Arrays(count: workers, floats: Int(MACHINE_CEILINGS_BLOCK))
    return {
        forEachTask(workers, workers: workers, estimatedNanoseconds: .infinity) { task, _ in
            sums[task].pointee = loops.multiply_add(rounds)
        }
        return (0..<workers).reduce(0) { $0 + sums[$1].pointee }
    }
}
