// The elements of a suite: one `Benchmark` per row of the table.
//
// How to write the suite of a kernel
//
//   1. Add `Benchmarks/Suites/<Stem>.swift`, an extension of `Suites` with a static property of the kernel's
//      benchmarks, and add that property to `Suites.all`.
//   2. Give one `Benchmark` per mode and shape: the 700 real cells, scGPT's shapes, and a shape where we
//      may lose. Nothing is computed before `prepare` is called, so that `--list` and `--filter` cost
//      nothing.
//   3. `prepare` makes the inputs from `context.cells`, allocates every output, and returns a `Prepared`:
//      the check, the FastLoss call and the naive call. What the closures capture lives until the row is
//      done. The FastLoss call takes a workspace, because it is timed with all workers and with one. A call
//      does the whole job once and returns the loss's value; the same bits every time and with any number
//      of workers, or the row fails.
//   4. The check computes with FastLoss and with the reference in Double, and returns the largest relative
//      error of all that the mode produces; `Accuracy.swift` has the measures. It runs before anything is
//      timed; beyond `tolerance` the row fails, is not timed, and the program's exit code says so.
//   5. The naive call is FastLossReference's loop in Float, on the same inputs. Where it would take
//      minutes, leave it out and name in `naiveTimedAt` the smaller shape at which the same kernel, variant
//      and mode is timed against it. That row must exist, its ratio is not carried over, and the table says
//      so.
//   6. Where there is another thing to beat than a naive loop — one plain product for the similarity matrix,
//      the parts one by one for the objective — add it as a `Rival`. It is timed against the FastLoss call in
//      pairs of their own, with as many workers.
//   7. Count the work that is to be done at the least: every product and sum is one FLOP, every logarithm,
//      exponential, division and root is one too; every byte of input and output counts once, no
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
//                     let fastloss = { workspace in try MaskedMSE().value(…, workspace: workspace) }
//                     return Prepared(
//                         work: work,
//                         maxRelativeError: { relativeError(of: try fastloss($0), to: reference(…)) },
//                         fastloss: fastloss,
//                         naive: { referenceInFloat(…) })
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
    /// Bytes of scratch memory beyond which the row fails.
    package let mostScratch: Int?
    /// Whether `--quick` keeps the row.
    package let isQuick: Bool
    /// Makes the inputs and the closures. Called once, just before the row is checked and timed.
    package let prepare: (BenchmarkContext) throws -> Prepared

    package init(
        kernel: String, variant: String? = nil, mode: Mode, shape: ProblemShape, tolerance: Double,
        naiveTimedAt: ProblemShape? = nil, mostScratch: Int? = nil, isQuick: Bool = true,
        prepare: @escaping (BenchmarkContext) throws -> Prepared
    ) {
        self.kernel = kernel
        self.variant = variant
        self.mode = mode
        self.shape = shape
        self.tolerance = tolerance
        self.naiveTimedAt = naiveTimedAt
        self.mostScratch = mostScratch
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
    /// Workers of the workspace that FastLoss's call is given.
    package let workers: Int
    /// What rows beyond the caches are timed against; nil where only the measured ceilings count.
    package let streams: MemoryStreams?

    package init(cells: RealCells, workers: Int, streams: MemoryStreams? = nil) {
        self.cells = cells
        self.workers = workers
        self.streams = streams
    }
}

/// A row made ready: inputs are built, outputs allocated.
package struct Prepared {
    /// The work of one call.
    package let work: Work
    /// Computes with FastLoss and with the reference, and returns the largest relative error.
    package let maxRelativeError: (Workspace) throws -> Double
    /// Does the whole job once with FastLoss and returns the loss's value.
    package let fastloss: (Workspace) throws -> Float
    /// Does the same with the naive loop; nil only where the benchmark says where that is timed instead.
    package let naive: (() throws -> Float)?
    package let rival: Rival?

    package init(
        work: Work, maxRelativeError: @escaping (Workspace) throws -> Double,
        fastloss: @escaping (Workspace) throws -> Float, naive: (() throws -> Float)?, rival: Rival? = nil
    ) {
        self.work = work
        self.maxRelativeError = maxRelativeError
        self.fastloss = fastloss
        self.naive = naive
        self.rival = rival
    }
}

/// A further competitor of FastLoss's call.
package struct Rival {
    package enum Kind: Sendable {
        /// One plain sgemm of the full product, its rows spread over the same workers.
        case sgemm
        /// The parts of an objective, one FastLoss call after the other.
        case parts
    }

    package let kind: Kind
    package let call: (Workspace) throws -> Float

    package init(_ kind: Kind, call: @escaping (Workspace) throws -> Float) {
        self.kind = kind
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
