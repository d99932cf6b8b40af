// What a suite consists of: one `Benchmark` per row of the table.
//
// How to write the suite of a kernel
//
//   1. Add `Benchmarks/Suites/<Stem>.swift`, an extension of `Suites` with a static property of the kernel's
//      benchmarks, and add that property to `Suites.all`.
//   2. Give one `Benchmark` per mode and shape: the 700 real cells, scGPT's shapes, and a shape where we
//      may lose. Nothing is computed before `prepare` is called, so that `--list` and `--filter` cost
//      nothing.
//   3. `prepare` makes the inputs from `context.cells`, allocates every output and workspace, and returns a
//      `Prepared`: the check, the FastLoss call and the naive call. What the closures capture lives until
//      the row is done. A call does the whole job once and returns the loss's value; the same bits every
//      time, or the row fails.
//   4. The check computes with FastLoss and with the reference in Double, and returns the largest relative
//      error of all that the mode produces; `Accuracy.swift` has the measures. It runs before anything is
//      timed; beyond `tolerance` the row fails, is not timed, and the program's exit code says so.
//   5. The naive call is FastLossReference's loop in Float, on the same inputs. Where it would take
//      minutes, leave it out and name in `naiveTimedAt` the smaller shape at which the same kernel, variant
//      and mode is timed against it. That row must exist, its ratio is not carried over, and the table says
//      so.
//   6. Count the work that each implementation does at the least: every product and sum is one FLOP, every
//      logarithm, exponential, division and root is one too; every byte of input and output counts once, no
//      intermediate counts. Write the formula beside the numbers. `Ceilings.swift` says what the counts are
//      held against.
//
//     extension Suites {
//         static var maskedMSE: [Benchmark] {
//             [ProblemShape(700, 765), ProblemShape(64, 1201)].map { shape in
//                 Benchmark(kernel: "MaskedMSE", mode: .value, shape: shape, tolerance: 1e-6) { context in
//                     let batch = context.cells.batch(cells: shape.rows, tokens: shape.columns)
//                     let predictions = batch.predictions()
//                     // Subtract, square and add per masked element; read two Floats and a Bool per element.
//                     let work = Work(
//                         flops: 3 * batch.maskedCount, bytes: 9 * shape.count, limitedBy: .memory)
//                     let fastloss = { try MaskedMSE().value(…) }
//                     return Prepared(
//                         maxRelativeError: { relativeError(of: try fastloss(), to: reference(…)) },
//                         fastloss: Implementation(work: work, threads: context.workers, call: fastloss),
//                         naive: Implementation(work: work, call: { referenceInFloat(…) }))
//                 }
//             }
//         }
//     }

import FastLoss

/// One row of the table: a kernel in one mode at one shape.
package struct Benchmark {
    /// The stem of the kernel, e.g. "MaskedMSE".
    package let kernel: String
    /// What tells this row from others of the kernel and shape, e.g. "logits"; nil where nothing needs
    /// telling.
    package let variant: String?
    package let mode: Mode
    package let shape: ProblemShape
    /// The largest relative error with which the row is timed at all.
    package let tolerance: Double
    /// Where the naive loop is timed instead, if it takes too long at this shape.
    package let naiveTimedAt: ProblemShape?
    /// Whether `--quick` keeps the row.
    package let isQuick: Bool
    /// Makes the inputs and the closures. Called once, just before the row is checked and timed.
    package let prepare: (BenchmarkContext) throws -> Prepared

    package init(
        kernel: String, variant: String? = nil, mode: Mode, shape: ProblemShape, tolerance: Double,
        naiveTimedAt: ProblemShape? = nil, isQuick: Bool = true,
        prepare: @escaping (BenchmarkContext) throws -> Prepared
    ) {
        self.kernel = kernel
        self.variant = variant
        self.mode = mode
        self.shape = shape
        self.tolerance = tolerance
        self.naiveTimedAt = naiveTimedAt
        self.isQuick = isQuick
        self.prepare = prepare
    }

    /// The row's name on the command line: "MaskedMSE/value/64x1201", or with a variant
    /// "BernoulliNLL(logits)/value/64x1201".
    package var name: String {
        Self.name(kernel: kernel, variant: variant, mode: mode, shape: shape)
    }

    package static func name(kernel: String, variant: String?, mode: Mode, shape: ProblemShape) -> String {
        "\(kernel)\(variant.map { "(\($0))" } ?? "")/\(mode.rawValue)/\(shape)"
    }
}

/// What is computed.
package enum Mode: String, Codable, Sendable, CaseIterable {
    case value
    case valueAndGradient
}

/// The size of a problem: rows × columns, and depth where the input has a third side.
package struct ProblemShape: Equatable, Sendable, CustomStringConvertible {
    package let rows: Int
    package let columns: Int
    /// 1 where there is no third side.
    package let depth: Int

    package init(_ rows: Int, _ columns: Int, _ depth: Int = 1) {
        self.rows = rows
        self.columns = columns
        self.depth = depth
    }

    /// rows · columns · depth.
    package var count: Int { rows * columns * depth }

    package var description: String {
        depth == 1 ? "\(rows)x\(columns)" : "\(rows)x\(columns)x\(depth)"
    }
}

/// What `prepare` may draw on.
package struct BenchmarkContext {
    /// The real cells.
    package let cells: RealCells
    /// Workers of a FastLoss workspace made without saying how many.
    package let workers: Int

    package init(cells: RealCells, workers: Int) {
        self.cells = cells
        self.workers = workers
    }
}

/// A row made ready: inputs are built, outputs and workspaces allocated.
package struct Prepared {
    /// Computes with FastLoss and with the reference, and returns the largest relative error.
    package let maxRelativeError: () throws -> Double
    package let fastloss: Implementation
    /// Nil only where the benchmark says where the naive loop is timed instead.
    package let naive: Implementation?
    /// FastLoss's scratch memory, whose size after the calls is reported; nil where none is used.
    package let workspace: Workspace?

    package init(
        maxRelativeError: @escaping () throws -> Double, fastloss: Implementation, naive: Implementation?,
        workspace: Workspace? = nil
    ) {
        self.maxRelativeError = maxRelativeError
        self.fastloss = fastloss
        self.naive = naive
        self.workspace = workspace
    }
}

/// One way to compute a row.
package struct Implementation {
    /// The work of one call.
    package let work: Work
    /// The threads that the call may use.
    package let threads: Int
    /// Does the whole job once and returns the loss's value.
    package let call: () throws -> Float

    package init(work: Work, threads: Int = 1, call: @escaping () throws -> Float) {
        self.work = work
        self.threads = threads
        self.call = call
    }
}

/// The work of one call, counted as the guide above says.
package struct Work: Equatable, Sendable {
    /// What the speed is compared with: the machine's arithmetic or its memory.
    package enum Limit: Sendable {
        /// Shown as GFLOP/s.
        case arithmetic
        /// Shown as GB/s.
        case memory
    }

    package let flops: Int
    package let bytes: Int
    package let limit: Limit

    package init(flops: Int, bytes: Int, limitedBy limit: Limit) {
        self.flops = flops
        self.bytes = bytes
        self.limit = limit
    }
}
