// One pass over targets and mask that feeds any number of elementwise masked losses.
//
// The pass visits chunks of a fixed size. The first term reads a chunk of targets and mask from memory, and
// the others find it in the first-level cache. So a fused pass over several terms is a schedule of the
// kernels of single terms.
//
// Gradients use ordinary stores, even if they exceed the caches: non-temporal stores through a staging chunk
// were no faster for four terms and slower for one. Measured: the article Tuning.

import CFastLossKernels
import Synchronization

/// Elements per chunk: its targets (16 KiB) and mask (4 KiB) stay in a first-level cache of 32 KiB.
private let chunkSize = 4096

/// Bytes of a pass from which the kernels prefetch: more than the second-level cache of a core holds.
private let prefetchThreshold = 2 << 20

/// A chunk of `true`, used in place of an absent mask. Allocated once and never freed.
nonisolated(unsafe) package let everythingSelected: UnsafePointer<Bool> = {
    let chunk = UnsafeMutablePointer<Bool>.allocate(capacity: chunkSize)
    chunk.initialize(repeating: true, count: chunkSize)
    return UnsafePointer(chunk)
}()

/// One loss of a pass: its kernel, its predictions and, if wanted, its gradient.
struct MaskedTerm {
    let kernel: ElementwiseKernel
    let predictions: ModelElements
    let argument: String
    let gradient: GradientOutput?
}

/// The targets and the mask that the terms of a pass share.
package struct MaskedPass {
    private let targets: UnsafeBufferPointer<Float>
    private let mask: UnsafeBufferPointer<Bool>?
    private let count: Int

    /// A pass over `count` elements.
    init(targets: Span<Float>, mask: Span<Bool>?, count: Int) throws(LossError) {
        self.count = count
        try checkCount("targets", targets.count, is: count)
        if let mask { try checkCount("mask", mask.count, is: count) }
        self.targets = targets.memory
        self.mask = mask?.memory
    }

    /// A term of the pass. Throws if its predictions or its gradient do not fit.
    func term(
        _ kernel: ElementwiseKernel, predictions: ModelElements, named argument: String = "predictions",
        gradient: GradientOutput? = nil
    ) throws(LossError) -> MaskedTerm {
        try checkCount(argument, predictions.count, is: count)
        if let gradient {
            precondition(gradient.type == predictions.type, "a gradient has the type of its input")
            try gradient.check(count: count)
            try checkNoOverlap(gradient.named, predictions.named(argument))
            try checkNoOverlap(gradient.named, NamedMemory("targets", targets))
            try checkNoOverlap(gradient.named, mask.map { NamedMemory("mask", $0) })
        }
        return MaskedTerm(
            kernel: kernel, predictions: predictions, argument: argument, gradient: gradient)
    }
}

// MARK: - All elements

extension MaskedPass {
    /// The values of up to ``mostTerms`` losses over all elements.
    struct Reduced {
        /// The five value terms of an objective and the relative error.
        static let mostTerms = 6

        private let pass: MaskedPass
        private let reduction: LossReduction
        private let partials: ScratchArray<fastloss_partial>
        private var terms = InlineArray<6, MaskedTerm?>(repeating: nil)
        private var termCount = 0
        /// The number of elements that the mask selects.
        private(set) var selectedCount = 0
        /// The value of every loss if nothing is selected.
        private var emptyValue = 0.0

        /// A plan for `termCount` terms. The caller then adds as many.
        init(
            _ pass: MaskedPass, terms termCount: Int, reduction: LossReduction, in layout: inout ScratchLayout
        ) throws(LossError) {
            self.pass = pass
            self.reduction = reduction
            partials = try layout.add(pass.chunks, by: termCount, of: fastloss_partial.self)
        }

        mutating func add(_ term: MaskedTerm) {
            terms[termCount] = term
            termCount += 1
        }

        /// Counts the selected elements. Called after all other checks, because it reads the mask.
        mutating func select(
            workers: Int, whenEmpty: EmptySelectionRule, named loss: String
        ) throws(LossError) {
            selectedCount = pass.countSelected(workers: workers)
            guard selectedCount == 0 else { return }
            emptyValue = try whenEmpty.value(loss: loss, row: nil)
        }

        /// The reduced losses, in the order of the terms.
        func run(on execution: Execution) throws(LossError) -> InlineArray<6, Double> {
            var values = InlineArray<6, Double>(repeating: emptyValue)
            guard selectedCount > 0 else {
                for index in 0..<termCount {
                    terms[index]?.gradient?.fill(0..<pass.count, with: Float(emptyValue))
                }
                return values
            }
            let divisor = reduction == .mean ? Double(selectedCount) : 1
            let partials = execution.pointer(partials)
            runChunks(into: partials, divisor: divisor, on: execution)
            for index in 0..<termCount {
                var sum = 0.0
                var invalid = 0
                for chunk in 0..<pass.chunks {
                    sum += partials[chunk * termCount + index].sum
                    invalid += partials[chunk * termCount + index].invalid
                }
                if invalid > 0, let term = terms[index] { throw pass.outOfDomain(term) }
                values[index] = sum / divisor
            }
            return values
        }

        /// All terms over every chunk.
        private func runChunks(
            into partials: UnsafeMutablePointer<fastloss_partial>, divisor: Double, on execution: Execution
        ) {
            var cost = 0
            var gradients = 0
            for index in 0..<termCount {
                cost += terms[index]?.kernel.cost ?? 0
                gradients += terms[index]?.gradient == nil ? 0 : 1
            }
            let prefetches = pass.prefetches(terms: termCount, gradients: gradients)
            pass.forEachChunk(
                workers: execution.workers, estimatedNanoseconds: Double(pass.count) * Double(cost) / 100
            ) { chunk in
                let range = chunk * chunkSize..<min(pass.count, (chunk + 1) * chunkSize)
                for index in 0..<termCount {
                    guard let term = terms[index] else { continue }
                    partials[chunk * termCount + index] = pass.runChunk(
                        range, term, divisor: divisor, prefetches: prefetches)
                }
            }
        }
    }

    private var chunks: Int { (count + chunkSize - 1) / chunkSize }

    private func countSelected(workers: Int) -> Int {
        guard let mask = mask?.baseAddress else { return count }
        // At 64 bytes a cycle, a second worker pays only for a mask that comes from memory.
        let selected = Atomic(0)
        forEachChunk(workers: workers, estimatedNanoseconds: Double(count) / 50) { chunk in
            let start = chunk * chunkSize
            let inChunk = kernels.count_selected(mask + start, min(chunkSize, count - start))
            selected.add(inChunk, ordering: .relaxed)
        }
        return selected.load(ordering: .relaxed)
    }

    /// Groups consecutive chunks into about 32 tasks of at most 32 chunks, so that a worker reads its arrays
    /// as long streams. Measured: the article Tuning.
    private func forEachChunk(workers: Int, estimatedNanoseconds: Double, _ body: (Int) -> Void) {
        let group = max(1, min(32, chunks / 32))
        forEachTask(
            (chunks + group - 1) / group, workers: workers, estimatedNanoseconds: estimatedNanoseconds
        ) { task, _ in
            for chunk in task * group..<min(chunks, (task + 1) * group) { body(chunk) }
        }
    }
}

// MARK: - Cell by cell

extension MaskedPass {
    /// One value of one loss for each row.
    package struct PerCell: Plan {
        package var name: String { term.kernel.name }

        private let pass: MaskedPass
        private let term: MaskedTerm
        private let shape: MatrixShape
        private let reduction: LossReduction
        private let whenEmpty: EmptySelectionRule
        private let values: UnsafeMutableBufferPointer<Float>
        private let invalid: ScratchArray<Int>
        /// The number of selected elements of all rows.
        private var selectedCount = 0

        init(
            _ pass: MaskedPass, _ term: MaskedTerm, shape: MatrixShape, reduction: LossReduction,
            whenEmpty: EmptySelectionRule, values: UnsafeMutableBufferPointer<Float>,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            self.pass = pass
            self.term = term
            self.shape = shape
            self.reduction = reduction
            self.whenEmpty = whenEmpty
            self.values = values
            let memory = NamedMemory("values", values)
            try checkCount("values", values.count, is: shape.rows)
            try checkNoOverlap(memory, term.predictions.named(term.argument))
            try checkNoOverlap(memory, NamedMemory("targets", pass.targets))
            try checkNoOverlap(memory, pass.mask.map { NamedMemory("mask", $0) })
            try checkNoOverlap(memory, term.gradient?.named)
            // Without rows nothing is selected, and the error names no row.
            if shape.rows == 0 { _ = try whenEmpty.value(loss: term.kernel.name, row: nil) }
            invalid = try layout.add(Self.tasks(shape), of: Int.self)
            for row in 0..<shape.rows {
                let count = selected(inRow: row)
                selectedCount += count
                if count == 0 { _ = try whenEmpty.value(loss: term.kernel.name, row: row) }
            }
        }

        /// The number of whole rows that have about a chunk of elements.
        private static func rowsPerTask(_ shape: MatrixShape) -> Int {
            max(1, chunkSize / max(1, shape.columns))
        }

        private static func tasks(_ shape: MatrixShape) -> Int {
            (shape.rows + rowsPerTask(shape) - 1) / rowsPerTask(shape)
        }

        private func selected(inRow row: Int) -> Int {
            let columns = shape.columns
            return pass.mask?.baseAddress.map { kernels.count_selected($0 + row * columns, columns) }
                ?? columns
        }

        /// Writes the values and gradients of the rows, and returns the number of selected elements.
        package func run(on execution: Execution) throws(LossError) -> Int {
            let rowsPerTask = Self.rowsPerTask(shape)
            let tasks = Self.tasks(shape)
            let invalid = execution.pointer(invalid)
            let prefetches = pass.prefetches(terms: 1, gradients: term.gradient == nil ? 0 : 1)
            execution.forEachTask(
                tasks, estimatedNanoseconds: Double(pass.count) * Double(term.kernel.cost) / 100
            ) { task, _ in
                invalid[task] = 0
                for row in task * rowsPerTask..<min(shape.rows, (task + 1) * rowsPerTask) {
                    invalid[task] += runRow(row, prefetches: prefetches)
                }
            }
            guard (0..<tasks).allSatisfy({ invalid[$0] == 0 }) else { throw pass.outOfDomain(term) }
            return selectedCount
        }

        /// Writes one row, and returns the number of its predictions outside the domain.
        private func runRow(_ row: Int, prefetches: Bool) -> Int {
            let elements = row * shape.columns..<(row + 1) * shape.columns
            let count = selected(inRow: row)
            guard count > 0 else {
                let empty: Float = whenEmpty == .nan ? .nan : 0
                values[row] = empty
                term.gradient?.fill(elements, with: empty)
                return 0
            }
            let divisor = reduction == .mean ? Double(count) : 1
            var sum = 0.0
            var invalid = 0
            for start in stride(from: elements.lowerBound, to: elements.upperBound, by: chunkSize) {
                let chunk = start..<min(elements.upperBound, start + chunkSize)
                let partial = pass.runChunk(chunk, term, divisor: divisor, prefetches: prefetches)
                sum += partial.sum
                invalid += partial.invalid
            }
            values[row] = Float(sum / divisor)
            return invalid
        }
    }
}

// MARK: - Shared pieces

extension MaskedPass {
    /// Whether a pass over this many terms exceeds the caches of a core.
    private func prefetches(terms: Int, gradients: Int) -> Bool {
        count * (1 + terms + gradients) * MemoryLayout<Float>.stride >= prefetchThreshold
    }

    /// One term over at most `chunkSize` elements.
    private func runChunk(
        _ range: Range<Int>, _ term: MaskedTerm, divisor: Double, prefetches: Bool
    ) -> fastloss_partial {
        let start = range.lowerBound
        // A pass with elements has memory behind its targets and predictions.
        let targets = targets.baseAddress! + start
        let mask = mask?.baseAddress.map { $0 + start } ?? everythingSelected
        let type = term.predictions.type
        let predictions = term.predictions.address! + start * type.byteCount
        guard let gradient = term.gradient else {
            return term.kernel.run(
                predictions, targets, mask, range.count, 0, nil, FASTLOSS_NO_OUTPUT, type.kernelElement,
                prefetches)
        }
        return term.kernel.run(
            predictions, targets, mask, range.count, Float(Double(gradient.scale) / divisor),
            gradient.address! + start * type.byteCount, gradient.mode, type.kernelElement, prefetches)
    }

    /// The error that names the first selected prediction outside [0, 1].
    private func outOfDomain(_ term: MaskedTerm) -> LossError {
        let index = (0..<count).first {
            (mask?[$0] ?? true) && !(0...1).contains(term.predictions[$0])
        }
        return .probabilityOutOfRange(
            argument: term.argument, probability: index.map { term.predictions[$0] } ?? .nan,
            index: index ?? 0)
    }
}
