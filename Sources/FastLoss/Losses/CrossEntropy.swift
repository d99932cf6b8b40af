// Cross-entropy with an ignored label: cell types (CLS) and, behind a gradient reversal, batch labels (DAB).

import CFastLossKernels

/// Cross-entropy of logits against labels, some of which may be ignored (scGPT: `criterion_cls`,
/// `criterion_dab`).
///
///     L = Σ over rows with yᵢ ≠ ignored of (log Σⱼ exp zᵢⱼ − zᵢ,yᵢ) / N        N = number of such rows
///     ∂L/∂z = (softmax(z) − onehot(y)) / N, and 0 in ignored rows
///
/// Stable for logits of any finite size, and exact to the last bits also where a row is already right: the
/// label's own term is kept out of the sum. An ignored row is not read. In other rows −Inf is a class with
/// probability 0, NaN and +Inf make the row's loss and gradient NaN.
///
/// A label outside 0..<C that is not the ignored label throws
/// ``LossError/labelOutOfRange(argument:label:row:classes:)``; beware of −1, which categorical types use for
/// "missing".
///
/// O(B·C) time; 8 bytes of scratch memory per 4,096 logits.
///
/// Source: PyTorch's `CrossEntropyLoss` with `ignore_index`, as scGPT and scFormer use it.
public struct CrossEntropy: Sendable {
    /// Rows with this label count for nothing.
    public var ignoredLabel: Int32
    public var reduction: LossReduction
    public var whenEmpty: EmptySelectionRule

    public init(
        ignoredLabel: Int32 = -100, reduction: LossReduction = .mean, whenEmpty: EmptySelectionRule = .error
    ) {
        self.ignoredLabel = ignoredLabel
        self.reduction = reduction
        self.whenEmpty = whenEmpty
    }

    /// The reduced loss; its count is that of the rows that were not ignored.
    ///
    /// - Parameters:
    ///   - logits: B·C logits, row-major.
    ///   - labels: B labels, each in 0..<C or ``ignoredLabel``.
    ///   - classes: C, at least 1 where there are rows.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: shapes that disagree, a label out of range, only ignored labels (as
    ///   ``whenEmpty`` says).
    public func value(
        logits: Span<Float>, labels: Span<Int32>, classes: Int, workspace: Workspace
    ) throws(LossError) -> LossValue {
        try evaluate(logits: logits, labels: labels, classes: classes, into: nil, workspace: workspace)
    }

    /// The reduced loss and its gradient with respect to the logits.
    ///
    /// - Parameters:
    ///   - logits: B·C logits, row-major.
    ///   - labels: B labels, each in 0..<C or ``ignoredLabel``.
    ///   - classes: C, at least 1 where there are rows.
    ///   - gradient: receives B·C gradients; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient alone.
    ///   - update: whether the gradient replaces what the buffer holds or is added to it.
    ///   - workspace: scratch memory and workers.
    /// - Throws: as ``value(logits:labels:classes:workspace:)``, and overlap.
    public func valueAndGradient(
        logits: Span<Float>, labels: Span<Int32>, classes: Int, gradient: inout MutableSpan<Float>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        return try evaluate(logits: logits, labels: labels, classes: classes, into: output, workspace: workspace)
    }

    /// The reduced loss, from arrays; a thin wrapper that makes its own workspace.
    public func value(logits: [Float], labels: [Int32], classes: Int) throws(LossError) -> LossValue {
        try value(logits: logits.span, labels: labels.span, classes: classes, workspace: Workspace())
    }

    /// The reduced loss and its gradient, from arrays; a thin wrapper that makes its own workspace.
    public func valueAndGradient(
        logits: [Float], labels: [Int32], classes: Int, gradientScale: Float = 1
    ) throws(LossError) -> (loss: LossValue, gradient: [Float]) {
        var gradient = [Float](repeating: 0, count: logits.count)
        var span = gradient.mutableSpan
        let loss = try valueAndGradient(
            logits: logits.span, labels: labels.span, classes: classes, gradient: &span, gradientScale: gradientScale,
            workspace: Workspace())
        return (loss, gradient)
    }
}

extension CrossEntropy {
    /// What the labels are called where they are an argument of their own.
    package static let labelsName = "labels"

    /// Elements of one task: enough to be worth handing out.
    private static let taskSize = 4096

    package func evaluate(
        logits: Span<Float>, labels: Span<Int32>, named argument: String = Self.labelsName, classes: Int,
        into gradient: GradientOutput?, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let rows = labels.count
        let selected = try check(
            logits: logits, labels: labels, named: argument, classes: classes, gradient: gradient)
        guard selected > 0 else {
            gradient?.fill(0..<logits.count, with: 0)
            return LossValue(value: try emptyValue(argument), selectedCount: 0)
        }

        let rowsPerTask = max(1, Self.taskSize / classes)
        let tasks = (rows + rowsPerTask - 1) / rowsPerTask
        var layout = Workspace.Layout()
        let sumScratch = try layout.add(tasks, of: Double.self)
        try workspace.reserve(layout)

        let sums = workspace.pointer(sumScratch)
        let logits = logits.pointer
        let labels = labels.pointer
        let divisor = reduction == .mean ? Double(selected) : 1
        let scale = gradient.map { Float(Double($0.scale) / divisor) } ?? 0
        let mode = gradient?.mode ?? FASTLOSS_GRADIENT_NONE
        // About 1 ns an element: an exponential for the sum, and at worst another for the gradient.
        workspace.forEachTask(tasks, estimatedNanoseconds: rows * classes) { task, _ in
            let start = task * rowsPerTask
            sums[task] = kernels.softmax_cross_entropy_rows(
                logits + start * classes, labels + start, min(rowsPerTask, rows - start), classes, ignoredLabel, scale,
                gradient?.memory.baseAddress.map { $0 + start * classes }, mode)
        }
        let sum = (0..<tasks).reduce(0.0) { $0 + sums[$1] }
        return LossValue(value: sum / divisor, selectedCount: selected)
    }

    /// Everything that can be wrong with a call, found before anything is written; the number of labels that
    /// count.
    ///
    /// - Parameter argument: what the labels are called in messages.
    package func check(
        logits: Span<Float>, labels: Span<Int32>, named argument: String = Self.labelsName, classes: Int,
        gradient: GradientOutput?
    ) throws(LossError) -> Int {
        try checkCount("logits", logits.count, is: MatrixShape(rows: labels.count, columns: classes).checkedCount())
        if let gradient {
            try checkCount(gradient.name, gradient.memory.count, is: logits.count)
            try checkGradientScale(gradient.scale)
            try checkNoOverlap(gradient.named, NamedMemory("logits", logits.memory))
            try checkNoOverlap(gradient.named, NamedMemory("labels", labels.memory))
        }
        var selected = 0
        for row in labels.indices where labels[row] != ignoredLabel {
            guard labels[row] >= 0, labels[row] < classes else {
                throw .labelOutOfRange(argument: argument, label: labels[row], row: row, classes: classes)
            }
            selected += 1
        }
        if selected == 0 { _ = try emptyValue(argument) }
        return selected
    }

    /// The name is put together only where it is thrown, because that allocates.
    private func emptyValue(_ argument: String) throws(LossError) -> Double {
        guard whenEmpty == .error, argument != Self.labelsName else {
            return try whenEmpty.value(loss: "CrossEntropy", row: nil)
        }
        throw .emptySelection(loss: "CrossEntropy of \(argument)", row: nil)
    }
}
