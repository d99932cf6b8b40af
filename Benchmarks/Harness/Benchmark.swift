// The elements of a suite: one `Benchmark` per row of the table.
//
// How to write the suite of a kernel
//
//   1. Add `Benchmarks/Suites/<Stem>.swift`, an extension of `Suites` with a static property of the kernel's
//      benchmarks, and add that property to `Suites.all`.
//   2. Write one `Benchmark` per mode and shape: the 700 real cells, scGPT's shapes, and a shape at which
//      FastLoss may lose. Compute nothing before `prepare` is called, so that `--list` is immediate.
//   3. `prepare` makes the inputs from `context.cells`, allocates every output, and returns a `Prepared`:
//      the check, the FastLoss call and the naive call. What the closures capture lives until the row is
//      done. The FastLoss call takes a workspace, because it is timed with all workers and with one. A call
//      does the whole job once and returns the loss's value. The row fails unless the value has the same
//      bits in every call and for any number of workers.
//   4. The check computes with FastLoss and with the reference in Double, and returns the largest relative
//      error of everything that the mode computes; `Accuracy.swift` has the measures. The check runs before
//      the timing. A row with an error above `tolerance` fails and is not timed, and the exit code is 1.
//   5. The naive call is FastLossReference's loop in Float, on the same inputs. If it would take minutes,
//      leave it out, and name in `naiveTimedAt` the smaller shape at which the same kernel, variant and mode
//      is timed against it. That row must exist. The table names it and does not repeat its ratio.
//   6. If FastLoss has another competitor than a naive loop, such as one plain product for the similarity
//      matrix or the single terms for the objective, add it as a `Rival`. It is timed in pairs with the
//      FastLoss call, with the same number of workers.
//   7. Count the least work: every product, sum, logarithm, exponential, division and root is one FLOP. Every
//      byte of input and output counts once, intermediates do not count. Write the formula in a comment at
//      the numbers. `Ceilings.swift` says what they are compared with.
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

import BenchmarkData
import FastLoss

/// One row of the table: a kernel in one mode at one shape.
package struct Benchmark {
    /// The stem of the kernel, e.g. "MaskedMSE".
    package let kernel: String
    /// What distinguishes this row from others of the kernel and shape, e.g. "logits"; nil if it is the only
    /// one.
    package let variant: String?
    package let mode: Mode
    package let shape: ProblemShape
    /// The largest relative error that the check accepts.
    package let tolerance: Double
    /// The shape at which the naive loop is timed, if it takes too long at this one.
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

/// The size of a problem: rows × columns, and × depth if the input has a third side.
package struct ProblemShape: Equatable, Sendable, CustomStringConvertible {
    package let rows: Int
    package let columns: Int
    /// 1 if the input has no third side.
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

/// The data and settings that `prepare` may use.
package struct BenchmarkContext {
    /// The real cells.
    package let cells: RealCells
    /// Workers of the workspace that FastLoss's call is given.
    package let workers: Int
    /// Streams that rows beyond the caches are timed against; nil if only the measured ceilings count.
    package let streams: MemoryStreams?
    /// Makes the loops that rows of arithmetic are timed against; nil if only the measured ceilings count.
    package let peakLoop: MakePeakLoop?

    package init(
        cells: RealCells, workers: Int, streams: MemoryStreams? = nil, peakLoop: MakePeakLoop? = nil
    ) {
        self.cells = cells
        self.workers = workers
        self.streams = streams
        self.peakLoop = peakLoop
    }
}

/// A prepared row: its inputs are built and its outputs allocated.
package struct Prepared {
    /// The work of one call.
    package let work: Work
    /// Computes with FastLoss and with the reference, and returns the largest relative error.
    package let maxRelativeError: (Workspace) throws -> Double
    /// Does the whole job once with FastLoss and returns the loss's value.
    package let fastloss: (Workspace) throws -> Float
    /// Does the same with the naive loop; nil only if the benchmark names another shape for it.
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
        /// A head in upstream's order: every token, layer by layer, with sgemm.
        case upstream
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
    /// The limit that the speed is compared with: the machine's arithmetic or its memory.
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
