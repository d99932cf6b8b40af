// One pass over targets and mask that feeds any number of elementwise masked losses.
//
// The elements are cut into chunks whose size depends on nothing; a chunk of targets and mask is read from memory once and
// stays in the first-level cache while one term after the other runs over it. The fused pass over several terms is therefore a
// schedule of the same kernels, not a kernel of its own.
//
// Gradients are stored the ordinary way also where they outgrow the caches. Stores past the caches were tried, by way of a
// chunk of staging memory: at 4096×1201 on two Zen 5 cores they gained nothing for the four terms of integration (42 GB/s with,
// 41 without), and lost a tenth for one.

import CFastLossKernels

/// Elements per chunk: 16 KiB of targets and 4 KiB of mask stay in a 32 KiB first-level cache beside the streams.
private let chunkSize = 4096

/// Bytes of a pass that a core's own caches hold; beyond, the inputs are asked for ahead of their use.
private let prefetchThreshold = 2 << 20

/// What stands in for an absent mask: a chunk of `true`, made once and never freed.
nonisolated(unsafe) private let everythingSelected: UnsafePointer<Bool> = {
    let chunk = UnsafeMutablePointer<Bool>.allocate(capacity: chunkSize)
    chunk.initialize(repeating: true, count: chunkSize)
    return UnsafePointer(chunk)
}()

/// One loss of a pass: its kernel, its predictions and, where wanted, its gradient.
package struct MaskedTerm {
    fileprivate let kernel: ElementwiseKernel
    fileprivate let predictions: UnsafePointer<Float>
    fileprivate let argument: String
    fileprivate let gradient: GradientOutput?
    /// The reduced loss, once the pass has run.
    package fileprivate(set) var value = Double.nan
}

/// The targets and the mask that the terms of a pass share.
package struct MaskedPass {
    private let targets: UnsafeBufferPointer<Float>
    private let mask: UnsafeBufferPointer<Bool>?
    private let shape: MatrixShape
    private let count: Int

    /// A pass over the rows of `shape`.
    package init(targets: Span<Float>, mask: Span<Bool>?, shape: MatrixShape) throws(LossError) {
        self.shape = shape
        count = try shape.checkedCount()
        try checkCount("targets", targets.count, is: count)
        if let mask { try checkCount("mask", mask.count, is: count) }
        self.targets = targets.memory
        self.mask = mask?.memory
    }

    /// A loss that takes part in the pass, once its predictions and its gradient's place are found to be right.
    package func term(
        _ kernel: ElementwiseKernel, predictions: Span<Float>, named argument: String = "predictions",
        gradient: GradientOutput? = nil
    ) throws(LossError) -> MaskedTerm {
        try checkCount(argument, predictions.count, is: count)
        if let gradient {
            try checkCount(gradient.name, gradient.memory.count, is: count)
            try checkGradientScale(gradient.scale)
            try checkNoOverlap(gradient.named, NamedMemory(argument, predictions.memory))
            try checkNoOverlap(gradient.named, NamedMemory("targets", targets))
            try checkNoOverlap(gradient.named, mask.map { NamedMemory("mask", $0) })
        }
        return MaskedTerm(
            kernel: kernel, predictions: predictions.pointer, argument: argument, gradient: gradient)
    }
}

// MARK: - All elements

extension MaskedPass {
    /// Runs all `terms` over every chunk, sets their values, and returns the number of selected elements.
    package func run(
        _ terms: UnsafeMutableBufferPointer<MaskedTerm>, reduction: LossReduction, whenEmpty: EmptySelectionRule,
        workspace: Workspace
    ) throws(LossError) -> Int {
        let chunks = (count + chunkSize - 1) / chunkSize
        var layout = Workspace.Layout()
        let countScratch = try layout.add(chunks, of: Int.self)
        let partialScratch = try layout.add(chunks * terms.count, of: fastloss_partial.self)
        try workspace.reserve(layout)

        let selected = countSelected(into: workspace.pointer(countScratch), chunks: chunks, workspace: workspace)
        guard selected > 0 else {
            let value = try whenEmpty.value(loss: terms.first?.kernel.name ?? "", row: nil)
            for index in terms.indices {
                terms[index].gradient?.fill(0..<count, with: Float(value))
                terms[index].value = value
            }
            return 0
        }

        let divisor = reduction == .mean ? Double(selected) : 1
        let partials = workspace.pointer(partialScratch)
        let cost = terms.reduce(0) { $0 + $1.kernel.cost }
        let gradients = terms.reduce(0) { $0 + ($1.gradient == nil ? 0 : 1) }
        let prefetches = prefetches(terms: terms.count, gradients: gradients)
        forEachChunk(chunks, estimatedNanoseconds: count * cost / 100, workspace) { chunk in
            let range = chunk * chunkSize..<min(count, (chunk + 1) * chunkSize)
            for (index, term) in terms.enumerated() {
                partials[chunk * terms.count + index] = runChunk(
                    range, term, divisor: divisor, prefetches: prefetches)
            }
        }

        for index in terms.indices {
            var sum = 0.0
            var invalid = 0
            for chunk in 0..<chunks {
                sum += partials[chunk * terms.count + index].sum
                invalid += partials[chunk * terms.count + index].invalid
            }
            guard invalid == 0 else { throw outOfDomain(terms[index]) }
            terms[index].value = sum / divisor
        }
        return selected
    }

    private func countSelected(into counts: UnsafeMutablePointer<Int>, chunks: Int, workspace: Workspace) -> Int {
        guard let mask = mask?.baseAddress else { return count }
        // 64 bytes a cycle: a mask is worth a second worker only where it comes from memory.
        forEachChunk(chunks, estimatedNanoseconds: count / 50, workspace) { chunk in
            let start = chunk * chunkSize
            counts[chunk] = kernels.count_selected(mask + start, min(chunkSize, count - start))
        }
        return (0..<chunks).reduce(0) { $0 + counts[$1] }
    }

    /// Hands chunks out in neighbouring ones, so that a worker reads its arrays as long streams: at most 32 of them, and
    /// where there are fewer than 1,024 of them, so few that there are 32 handfuls.
    ///
    /// Measured on two Zen 5 cores at 4096×1201: MaskedMSE, value and gradient, from 50 to 60 GB/s, the four terms of
    /// integration from 36 to 42.
    private func forEachChunk(
        _ chunks: Int, estimatedNanoseconds: Int, _ workspace: Workspace, _ body: (Int) -> Void
    ) {
        let handful = max(1, min(32, chunks / 32))
        workspace.forEachTask(
            (chunks + handful - 1) / handful, estimatedNanoseconds: estimatedNanoseconds
        ) { task, _ in
            for chunk in task * handful..<min(chunks, (task + 1) * handful) { body(chunk) }
        }
    }
}

// MARK: - Cell by cell

extension MaskedPass {
    /// One term over each row; returns the number of selected elements in all rows.
    func runPerCell(
        _ term: MaskedTerm, reduction: LossReduction, whenEmpty: EmptySelectionRule,
        values: UnsafeMutableBufferPointer<Float>, workspace: Workspace
    ) throws(LossError) -> Int {
        let memory = NamedMemory("values", values)
        try checkCount("values", values.count, is: shape.rows)
        try checkNoOverlap(
            memory, NamedMemory(term.argument, UnsafeBufferPointer(start: term.predictions, count: count)))
        try checkNoOverlap(memory, NamedMemory("targets", targets))
        try checkNoOverlap(memory, mask.map { NamedMemory("mask", $0) })
        try checkNoOverlap(memory, term.gradient?.named)
        let rows = shape.rows
        guard rows > 0, let values = values.baseAddress else {
            // No rows, no values: nothing is selected, and no single row is to blame.
            _ = try whenEmpty.value(loss: term.kernel.name, row: nil)
            return 0
        }

        let columns = shape.columns
        // Whole rows per task, about a chunk of elements together.
        let rowsPerTask = max(1, chunkSize / max(1, columns))
        let tasks = (rows + rowsPerTask - 1) / rowsPerTask
        var layout = Workspace.Layout()
        let countScratch = try layout.add(rows, of: Int.self)
        let invalidScratch = try layout.add(tasks, of: Int.self)
        try workspace.reserve(layout)
        let counts = workspace.pointer(countScratch)
        let invalid = workspace.pointer(invalidScratch)

        // All rows are counted before anything is written: an empty row that is an error leaves every output as it was.
        var selected = 0
        for row in 0..<rows {
            counts[row] = mask?.baseAddress.map { kernels.count_selected($0 + row * columns, columns) } ?? columns
            selected += counts[row]
            if counts[row] == 0 { _ = try whenEmpty.value(loss: term.kernel.name, row: row) }
        }

        let empty: Float = whenEmpty == .nan ? .nan : 0
        let prefetches = prefetches(terms: 1, gradients: term.gradient == nil ? 0 : 1)
        workspace.forEachTask(tasks, estimatedNanoseconds: count * term.kernel.cost / 100) { task, _ in
            invalid[task] = 0
            for row in task * rowsPerTask..<min(rows, (task + 1) * rowsPerTask) {
                let elements = row * columns..<(row + 1) * columns
                guard counts[row] > 0 else {
                    values[row] = empty
                    term.gradient?.fill(elements, with: empty)
                    continue
                }
                let divisor = reduction == .mean ? Double(counts[row]) : 1
                var sum = 0.0
                for start in stride(from: elements.lowerBound, to: elements.upperBound, by: chunkSize) {
                    let chunk = start..<min(elements.upperBound, start + chunkSize)
                    let partial = runChunk(chunk, term, divisor: divisor, prefetches: prefetches)
                    sum += partial.sum
                    invalid[task] += partial.invalid
                }
                values[row] = Float(sum / divisor)
            }
        }
        guard (0..<tasks).allSatisfy({ invalid[$0] == 0 }) else { throw outOfDomain(term) }
        return selected
    }
}

// MARK: - Shared pieces

extension MaskedPass {
    /// Whether a pass over so many terms touches more than a core's own caches hold.
    private func prefetches(terms: Int, gradients: Int) -> Bool {
        count * (1 + terms + gradients) * MemoryLayout<Float>.stride >= prefetchThreshold
    }

    /// One term over at most `chunkSize` elements.
    private func runChunk(
        _ range: Range<Int>, _ term: MaskedTerm, divisor: Double, prefetches: Bool
    ) -> fastloss_partial {
        let start = range.lowerBound
        // A pass with elements has memory behind its targets.
        let targets = targets.baseAddress! + start
        let mask = mask?.baseAddress.map { $0 + start } ?? everythingSelected
        guard let gradient = term.gradient else {
            return term.kernel.run(
                term.predictions + start, targets, mask, range.count, 0, nil, FASTLOSS_GRADIENT_NONE, prefetches)
        }
        return term.kernel.run(
            term.predictions + start, targets, mask, range.count, Float(Double(gradient.scale) / divisor),
            gradient.memory.baseAddress! + start, gradient.mode, prefetches)
    }

    /// The error that names the first selected prediction outside [0, 1].
    private func outOfDomain(_ term: MaskedTerm) -> LossError {
        let index = (0..<count).first {
            (mask?[$0] ?? true) && !(0...1).contains(term.predictions[$0])
        }
        return .probabilityOutOfRange(
            argument: term.argument, probability: index.map { term.predictions[$0] } ?? .nan, index: index ?? 0)
    }
}
