// Cross-entropy with an ignored label: of cell types (CLS), and of batch labels behind a gradient reversal
// (DAB).

import CFastLossKernels

/// Cross-entropy of logits against labels, some of which may be ignored (scGPT: `criterion_cls`,
/// `criterion_dab`).
///
///     L = Σ over rows with yᵢ ≠ ignored of (log Σⱼ exp zᵢⱼ − zᵢ,yᵢ) / N        N = number of such rows
///     ∂L/∂z = (softmax(z) − onehot(y)) / N, and 0 in ignored rows
///
/// It is stable for all finite logits. The loss of a row whose label is nearly certain is accurate to the
/// last bits, because the sum leaves out the label's own term. A gradient is accurate to the last bits if it
/// is a normal `Float` (for scales up to 2¹⁰⁰), also if the class's probability is too small for one.
///
/// Ignored rows are not read. In other rows, −∞ is a class with probability 0; NaN and +∞ make the loss and
/// the row's gradient NaN.
///
/// A label outside 0..<C that is not the ignored label throws
/// ``LossError/labelOutOfRange(argument:label:row:classes:)``. That includes −1, the code of a missing value
/// in categorical types.
///
/// Logits are `Float`, ``BFloat16`` or `Float16`, and the gradient has their type. Rows are widened before they
/// are computed, and the gradient is rounded once.
///
/// Time is O(B·C); scratch memory is 8 bytes per 4,096 logits, and for 16-bit logits 32 KiB for each worker, or
/// 8·C bytes for rows of more than 4,096 classes.
///
/// Source: PyTorch's `CrossEntropyLoss` with `ignore_index`, as scGPT and scFormer use it.
public struct CrossEntropy: Sendable {
    /// The label of rows that are left out.
    public var ignoredLabel: Int32
    /// How the losses of the rows become one number.
    public var reduction: LossReduction
    /// The result if every row is ignored, or there are no rows.
    public var whenEmpty: EmptySelectionRule

    /// A loss with this ignored label (PyTorch's by default), reduction and rule for empty selections.
    public init(
        ignoredLabel: Int32 = -100, reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error
    ) {
        self.ignoredLabel = ignoredLabel
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    /// The reduced loss. Its `selectedCount` is the number of rows that are not ignored.
    ///
    /// - Parameters:
    ///   - logits: B·C logits, row-major.
    ///   - labels: B labels, each in 0..<C or ``ignoredLabel``.
    ///   - classes: C, at least 1 where there are rows.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: counts that disagree; a label out of range; only ignored labels, if
    ///   ``whenEmpty`` is `.error`.
    @specialized(where Element == Float)
    public func value<Element: ModelOutputElement>(
        logits: Span<Element>, labels: Span<Int32>, classes: Int, workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try Plan(
            self, logits: ModelElements(logits), labels: labels, classes: classes, into: nil, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The reduced loss and its gradient with respect to the logits.
    ///
    /// - Parameters:
    ///   - logits: B·C logits, row-major.
    ///   - labels: B labels, each in 0..<C or ``ignoredLabel``.
    ///   - classes: C, at least 1 where there are rows.
    ///   - gradient: receives B·C gradients; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient, but not of the value.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``value(logits:labels:classes:workspace:)``; a scale that is not finite;
    ///   overlap.
    @specialized(where Element == Float)
    public func valueAndGradient<Element: ModelOutputElement>(
        logits: Span<Element>, labels: Span<Int32>, classes: Int, gradient: inout MutableSpan<Element>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        var layout = workspace.layout
        let plan = try Plan(
            self, logits: ModelElements(logits), labels: labels, classes: classes, into: output, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The reduced loss, from arrays. Makes a workspace of its own.
    ///
    /// - Parameters:
    ///   - logits: B·C logits, row-major.
    ///   - labels: B labels, each in 0..<C or ``ignoredLabel``.
    ///   - classes: C, at least 1 where there are rows.
    /// - Throws: the errors of ``value(logits:labels:classes:workspace:)``.
    public func value(logits: [Float], labels: [Int32], classes: Int) throws(LossError) -> LossValue {
        try value(logits: logits.span, labels: labels.span, classes: classes, workspace: Workspace())
    }

    /// The reduced loss and its gradient, from arrays. Makes a workspace of its own.
    ///
    /// - Parameters:
    ///   - logits: B·C logits, row-major.
    ///   - labels: B labels, each in 0..<C or ``ignoredLabel``.
    ///   - classes: C, at least 1 where there are rows.
    ///   - gradientScale: a finite factor of the gradient, but not of the value.
    /// - Throws: the errors of
    ///   ``valueAndGradient(logits:labels:classes:gradient:gradientScale:update:workspace:)``.
    public func valueAndGradient(
        logits: [Float], labels: [Int32], classes: Int, gradientScale: Float = 1
    ) throws(LossError) -> (loss: LossValue, gradient: [Float]) {
        var gradient = [Float](repeating: 0, count: logits.count)
        var span = gradient.mutableSpan
        let loss = try valueAndGradient(
            logits: logits.span, labels: labels.span, classes: classes, gradient: &span,
            gradientScale: gradientScale,
            workspace: Workspace())
        return (loss, gradient)
    }
}

// MARK: - Plan

extension CrossEntropy {
    /// The names of logits and labels in messages.
    package struct Names {
        let logits: String
        let labels: String
        /// The name of the loss in messages.
        let loss: String

        package static let alone = Names(logits: "logits", labels: "labels", loss: "CrossEntropy")

        package init(logits: String, labels: String, loss: String) {
            self.logits = logits
            self.labels = labels
            self.loss = loss
        }
    }

    /// The number of rows that are not ignored. Throws unless their labels are classes.
    package func countLabels(
        _ labels: Span<Int32>, named name: String, classes: Int
    ) throws(LossError) -> Int {
        var selected = 0
        for row in labels.indices where labels[row] != ignoredLabel {
            guard labels[row] >= 0, labels[row] < classes else {
                throw .labelOutOfRange(argument: name, label: labels[row], row: row, classes: classes)
            }
            selected += 1
        }
        return selected
    }

    /// The loss of one batch, and up to two gradients that differ by their factor.
    package struct Plan: FastLoss.Plan {
        private let loss: CrossEntropy
        private let names: Names
        private let logits: ModelElements
        private let labels: UnsafePointer<Int32>
        private let shape: MatrixShape
        private let gradient: GradientOutput?
        private let reversed: GradientOutput?
        private let sums: ScratchArray<Double>
        /// The logits of one task's rows for each worker, if they are 16-bit.
        private let widened: ScratchArray<Float>
        /// The gradient of one task's rows for each worker, if gradients are 16-bit, or if `gradient`
        /// accumulates and `reversed` is wanted, too.
        private let aside: ScratchArray<Float>
        /// The number of rows that are not ignored.
        private var selectedCount = 0
        /// The loss if all rows are ignored.
        private var emptyValue = 0.0

        package var name: String { names.loss }

        /// - Parameters:
        ///   - gradient: the output of the gradient.
        ///   - reversed: a second output of the gradient with another factor, for the input of a gradient
        ///     reversal.
        package init(
            _ loss: CrossEntropy, logits: ModelElements, labels: Span<Int32>, named names: Names = .alone,
            classes: Int,
            into gradient: GradientOutput?, reversed: GradientOutput? = nil, in layout: inout ScratchLayout
        ) throws(LossError) {
            self.loss = loss
            self.names = names
            self.logits = logits
            self.labels = labels.pointer
            self.gradient = gradient
            self.reversed = reversed
            shape = MatrixShape(rows: labels.count, columns: classes)
            try checkCount(names.logits, logits.count, is: shape.checkedCount())
            try Self.check(gradient, logits, labels, names)
            try Self.check(reversed, logits, labels, names)
            if let reversed { try checkNoOverlap(reversed.named, gradient?.named) }

            let tasks = logits.count == 0 ? 0 : Self.tasks(shape)
            sums = try layout.add(tasks, of: Double.self)
            let workers = min(layout.workers, tasks)
            let elements = tasks == 0 ? 0 : Self.rowsPerTask(shape) * classes
            let isWidened = logits.type != .float32
            widened = try layout.add(isWidened ? workers : 0, by: elements, of: Float.self)
            let needsAside =
                isWidened && (gradient ?? reversed) != nil
                || reversed != nil && gradient?.mode == FASTLOSS_ACCUMULATE
            aside = try layout.add(needsAside ? workers : 0, by: elements, of: Float.self)
            selectedCount = try loss.countLabels(labels, named: names.labels, classes: classes)
            if selectedCount == 0 { emptyValue = try loss.whenEmpty.value(loss: names.loss, row: nil) }
        }

        private static func check(
            _ output: GradientOutput?, _ logits: ModelElements, _ labels: Span<Int32>, _ names: Names
        ) throws(LossError) {
            guard let output else { return }
            try output.check(count: logits.count)
            try checkNoOverlap(output.named, logits.named(names.logits))
            try checkNoOverlap(output.named, NamedMemory(names.labels, labels.memory))
        }

        /// Rows of about 4,096 logits, a task of some microseconds.
        private static func rowsPerTask(_ shape: MatrixShape) -> Int { max(1, 4096 / shape.columns) }

        private static func tasks(_ shape: MatrixShape) -> Int {
            (shape.rows + rowsPerTask(shape) - 1) / rowsPerTask(shape)
        }

        package func run(on execution: Execution) -> LossValue {
            guard selectedCount > 0 else {
                gradient?.fill(0..<shape.rows * shape.columns, with: 0)
                reversed?.fill(0..<shape.rows * shape.columns, with: 0)
                return LossValue(value: emptyValue, selectedCount: 0)
            }
            let rowsPerTask = Self.rowsPerTask(shape)
            let tasks = Self.tasks(shape)
            let sums = execution.pointer(sums)
            let (widened, aside) = (execution.pointer(widened), execution.pointer(aside))
            let divisor = loss.reduction == .mean ? Double(selectedCount) : 1
            // About 1 ns for each element: one exponential for the sum, and at most one more for the
            // gradient.
            execution.forEachTask(
                tasks, estimatedNanoseconds: Double(shape.rows) * Double(shape.columns)
            ) { task, worker in
                let rows = task * rowsPerTask..<min(shape.rows, (task + 1) * rowsPerTask)
                let place = worker * rowsPerTask * shape.columns
                sums[task] = visit(rows, divisor: divisor, widened: widened + place, aside: aside + place)
            }
            let sum = (0..<tasks).reduce(0.0) { $0 + sums[$1] }
            return LossValue(value: sum / divisor, selectedCount: selectedCount)
        }

        /// The largest ratio of the two factors for which one gradient is computed as a multiple of the
        /// other. With a larger ratio, elements that underflow in the smaller gradient could matter in the
        /// larger.
        private static let largestRatio = 1024.0

        /// Returns the sum of the rows' losses and writes their gradients, from the same exponentials.
        private func visit(
            _ rows: Range<Int>, divisor: Double, widened: UnsafeMutablePointer<Float>,
            aside: UnsafeMutablePointer<Float>
        ) -> Double {
            let elements = rows.lowerBound * shape.columns..<rows.upperBound * shape.columns
            let logits = logits.floats(elements, widenedInto: widened)
            func kernel(
                _ output: GradientOutput?, into place: UnsafeMutablePointer<Float>?,
                _ mode: fastloss_write_mode
            ) -> Double {
                kernels.softmax_cross_entropy_rows(
                    logits, labels + rows.lowerBound, rows.count, shape.columns, loss.ignoredLabel,
                    Float((output?.scale ?? 0) / divisor), place, mode)
            }
            /// Where the gradient can be formed in its output.
            func place(_ output: GradientOutput) -> UnsafeMutablePointer<Float>? {
                output.memory.baseAddress.map { $0 + elements.lowerBound }
            }
            func visit(_ output: GradientOutput?) -> Double {
                guard let output, output.type != .float32 else {
                    return kernel(output, into: output.flatMap(place), output?.mode ?? FASTLOSS_NO_OUTPUT)
                }
                let sum = kernel(output, into: aside, FASTLOSS_OVERWRITE)
                output.write(aside, to: elements)
                return sum
            }
            guard let gradient, let reversed else { return visit(gradient ?? reversed) }
            let ratio = reversed.scale / gradient.scale
            guard abs(ratio) <= Self.largestRatio, gradient.address != nil, reversed.address != nil else {
                _ = visit(reversed)
                return visit(gradient)
            }
            guard gradient.type == .float32, let target = place(gradient), let other = place(reversed) else {
                let sum = visit(gradient)
                kernels.scale(aside, elements.count, ratio, aside, FASTLOSS_OVERWRITE)
                reversed.write(aside, to: elements)
                return sum
            }
            let accumulates = gradient.mode == FASTLOSS_ACCUMULATE
            let pure = accumulates ? aside : target
            let sum = kernel(gradient, into: pure, FASTLOSS_OVERWRITE)
            if accumulates { kernels.scale(pure, elements.count, 1, target, FASTLOSS_ACCUMULATE) }
            kernels.scale(pure, elements.count, ratio, other, reversed.mode)
            return sum
        }
    }
}
