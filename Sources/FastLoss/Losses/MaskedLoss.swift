// The methods of every elementwise masked loss and metric. A loss adds its function and its documentation.

import CFastLossKernels

/// A function of one prediction x and its target t that a masked metric reduces.
public enum ElementwiseMetric: Equatable, Sendable {
    /// (x − t)²; see ``MaskedMSE``.
    case squaredError
    /// −log p or −log(1 − p); see ``BernoulliNLL``.
    case bernoulliNLL(BernoulliNLL.Form)
    /// |x − t| / (t + 10⁻⁶), which has no gradient here; see ``MaskedRelativeError``.
    case relativeError
}

/// A function of one prediction x and its target t that a masked loss reduces and differentiates.
public enum ElementwiseLoss: Equatable, Sendable {
    /// (x − t)²; see ``MaskedMSE``.
    case squaredError
    /// −log p or −log(1 − p); see ``BernoulliNLL``.
    case bernoulliNLL(BernoulliNLL.Form)
}

/// A metric that averages or sums an elementwise function over a mask.
///
/// The mask *selects*: no sum reads an element outside it, so NaN and infinities there have no effect; inside
/// they propagate as IEEE arithmetic says. Without a mask every element is selected.
///
/// Time is O(B·L) in one pass over the inputs, and one over the mask before it, for the count. Extra memory
/// is 16 bytes per 4,096 elements. Sums run in float lanes inside blocks of at most 128 elements and in
/// double across them, in an order that depends on the shape alone: results are bitwise the same for any
/// number of workers.
///
/// Predictions are `Float`, ``BFloat16`` or `Float16`; targets and values are `Float`. A gradient has the type
/// of the predictions.
///
/// A type of your own conforms by naming its function, its reduction and its rule.
public protocol MaskedMetric: Sendable {
    /// How the selected elements become one number.
    var reduction: LossReduction { get }
    /// The result if nothing is selected.
    var whenEmpty: EmptySelectionRule { get }
    /// The function that is reduced.
    var elementwiseMetric: ElementwiseMetric { get }
}

/// A masked metric with a gradient for its predictions.
public protocol MaskedLoss: MaskedMetric {
    /// The function that is reduced and differentiated. ``MaskedMetric/elementwiseMetric`` follows from it.
    var elementwiseLoss: ElementwiseLoss { get }
}

extension MaskedLoss {
    /// The function of ``elementwiseLoss``.
    public var elementwiseMetric: ElementwiseMetric { elementwiseLoss.metric }
}

extension MaskedMetric {
    /// The reduced value.
    ///
    /// - Parameters:
    ///   - predictions: n predictions of any shape, flattened.
    ///   - targets: n targets.
    ///   - mask: n selections, or nil to select everything.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: counts that disagree; an empty selection, if ``whenEmpty`` is `.error`; a
    ///   selected probability outside [0, 1].
    public func value<Element: ModelOutputElement>(
        predictions: Span<Element>, targets: Span<Float>, mask: Span<Bool>?, workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try plan(
            predictions: ModelElements(predictions), targets: targets, mask: mask, into: nil, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// One value for each cell (row): the mean or the sum of its selected elements, as ``reduction`` says.
    ///
    /// - Parameters:
    ///   - predictions: B·L predictions, one cell after the other.
    ///   - targets: B·L targets.
    ///   - mask: B·L selections, or nil to select everything.
    ///   - shape: B rows (cells) of L columns (tokens).
    ///   - values: receives B values.
    ///   - workspace: scratch memory and workers.
    /// - Returns: the number of selected elements of all cells.
    /// - Throws: the errors of ``value(predictions:targets:mask:workspace:)``, with ``whenEmpty`` applied to
    ///   each row; `values` that overlap an input.
    @discardableResult
    public func valuePerCell<Element: ModelOutputElement>(
        predictions: Span<Element>, targets: Span<Float>, mask: Span<Bool>?, shape: MatrixShape,
        values: inout MutableSpan<Float>, workspace: Workspace
    ) throws(LossError) -> Int {
        var layout = workspace.layout
        let plan = try planPerCell(
            predictions: ModelElements(predictions), targets: targets, mask: mask, shape: shape,
            values: values.memory, into: nil, in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The reduced value, from arrays. Makes a workspace of its own.
    ///
    /// - Parameters:
    ///   - predictions: n predictions of any shape, flattened.
    ///   - targets: n targets.
    ///   - mask: n selections, or nil to select everything.
    /// - Throws: the errors of ``value(predictions:targets:mask:workspace:)``.
    public func value(
        predictions: [Float], targets: [Float], mask: [Bool]? = nil
    ) throws(LossError) -> LossValue {
        try value(
            predictions: predictions.span, targets: targets.span, mask: mask?.span, workspace: Workspace())
    }
}

extension MaskedLoss {
    /// The reduced value, and its gradient with respect to the predictions, in one pass.
    ///
    /// The gradient of an element outside the mask is 0.
    ///
    /// - Parameters:
    ///   - predictions: n predictions of any shape, flattened.
    ///   - targets: n targets.
    ///   - mask: n selections, or nil to select everything.
    ///   - gradient: receives n gradients; may not overlap an input.
    ///   - gradientScale: a finite factor of the gradient, but not of the value: a term's weight, 1 /
    ///     accumulation steps, loss scaling.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``: counts that disagree; a scale that is not finite; overlap; an empty
    ///   selection, if ``MaskedMetric/whenEmpty`` is `.error`; a selected probability outside [0, 1], after
    ///   which the gradient is unspecified.
    public func valueAndGradient<Element: ModelOutputElement>(
        predictions: Span<Element>, targets: Span<Float>, mask: Span<Bool>?,
        gradient: inout MutableSpan<Element>, gradientScale: Float = 1, update: GradientUpdate = .overwrite,
        workspace: Workspace
    ) throws(LossError) -> LossValue {
        var layout = workspace.layout
        let plan = try plan(
            elementwiseLoss.metric.kernel, predictions: ModelElements(predictions), targets: targets,
            mask: mask, into: GradientOutput(gradient.memory, scale: gradientScale, update: update),
            in: &layout)
        return try workspace.run(plan, layout)
    }

    /// One value for each cell, and the gradient of their sum, in one pass.
    ///
    /// Row b of the gradient is `gradientScale`·∂(value of cell b)/∂(predictions of cell b).
    ///
    /// - Parameters:
    ///   - predictions: B·L predictions, one cell after the other.
    ///   - targets: B·L targets.
    ///   - mask: B·L selections, or nil to select everything.
    ///   - shape: B rows (cells) of L columns (tokens).
    ///   - values: receives B values.
    ///   - gradient: receives B·L gradients; may not overlap an input or `values`.
    ///   - gradientScale: a finite factor of the gradient, but not of the values.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - workspace: scratch memory and workers.
    /// - Returns: the number of selected elements of all cells.
    /// - Throws: the errors of
    ///   ``valueAndGradient(predictions:targets:mask:gradient:gradientScale:update:workspace:)``, with
    ///   ``MaskedMetric/whenEmpty`` applied to each row.
    @discardableResult
    public func valueAndGradientPerCell<Element: ModelOutputElement>(
        predictions: Span<Element>, targets: Span<Float>, mask: Span<Bool>?, shape: MatrixShape,
        values: inout MutableSpan<Float>, gradient: inout MutableSpan<Element>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, workspace: Workspace
    ) throws(LossError) -> Int {
        var layout = workspace.layout
        let plan = try planPerCell(
            elementwiseLoss.metric.kernel, predictions: ModelElements(predictions), targets: targets,
            mask: mask, shape: shape, values: values.memory,
            into: GradientOutput(gradient.memory, scale: gradientScale, update: update), in: &layout)
        return try workspace.run(plan, layout)
    }

    /// The reduced value and its gradient, from arrays. Makes a workspace of its own.
    ///
    /// - Parameters:
    ///   - predictions: n predictions of any shape, flattened.
    ///   - targets: n targets.
    ///   - mask: n selections, or nil to select everything.
    ///   - gradientScale: a finite factor of the gradient, but not of the value.
    /// - Throws: the errors of
    ///   ``valueAndGradient(predictions:targets:mask:gradient:gradientScale:update:workspace:)``.
    public func valueAndGradient(
        predictions: [Float], targets: [Float], mask: [Bool]? = nil, gradientScale: Float = 1
    ) throws(LossError) -> (loss: LossValue, gradient: [Float]) {
        var gradient = [Float](repeating: 0, count: predictions.count)
        var span = gradient.mutableSpan
        let loss = try valueAndGradient(
            predictions: predictions.span, targets: targets.span, mask: mask?.span, gradient: &span,
            gradientScale: gradientScale, workspace: Workspace())
        return (loss, gradient)
    }
}

// MARK: - Kernels

/// The kernel of an elementwise function.
package struct ElementwiseKernel: Sendable {
    /// The loss's name in messages.
    package let name: String
    package let run: fastloss_masked_kernel
    /// The cost of one element on one worker in hundredths of a nanosecond, which decides whether a second
    /// worker pays. Measured: the article Tuning.
    package let cost: Int
}

extension ElementwiseMetric {
    package var kernel: ElementwiseKernel {
        switch self {
        case .squaredError: ElementwiseKernel(name: "MaskedMSE", run: kernels.masked_mse, cost: 12)
        case .bernoulliNLL(.probabilities):
            ElementwiseKernel(name: "BernoulliNLL", run: kernels.bernoulli_nll, cost: 40)
        case .bernoulliNLL(.logits):
            ElementwiseKernel(name: "BernoulliNLL", run: kernels.bernoulli_nll_logits, cost: 50)
        case .relativeError:
            ElementwiseKernel(name: "MaskedRelativeError", run: kernels.masked_relative_error, cost: 25)
        }
    }
}

extension ElementwiseLoss {
    fileprivate var metric: ElementwiseMetric {
        switch self {
        case .squaredError: .squaredError
        case .bernoulliNLL(let form): .bernoulliNLL(form)
        }
    }
}

// MARK: - Plans

extension MaskedMetric {
    /// The kernel of the function.
    package var kernel: ElementwiseKernel { elementwiseMetric.kernel }

    /// A pass of this metric over all elements.
    package func plan(
        predictions: ModelElements, targets: Span<Float>, mask: Span<Bool>?, into gradient: GradientOutput?,
        in layout: inout ScratchLayout
    ) throws(LossError) -> ReducedLossPlan {
        try plan(
            kernel, predictions: predictions, targets: targets, mask: mask, into: gradient, in: &layout)
    }

    /// A pass of this metric row by row.
    package func planPerCell(
        predictions: ModelElements, targets: Span<Float>, mask: Span<Bool>?, shape: MatrixShape,
        values: UnsafeMutableBufferPointer<Float>, into gradient: GradientOutput?,
        in layout: inout ScratchLayout
    ) throws(LossError) -> MaskedPass.PerCell {
        try planPerCell(
            kernel, predictions: predictions, targets: targets, mask: mask, shape: shape, values: values,
            into: gradient, in: &layout)
    }

    fileprivate func plan(
        _ kernel: ElementwiseKernel, predictions: ModelElements, targets: Span<Float>, mask: Span<Bool>?,
        into gradient: GradientOutput?, in layout: inout ScratchLayout
    ) throws(LossError) -> ReducedLossPlan {
        let pass = try MaskedPass(targets: targets, mask: mask, count: predictions.count)
        var reduced = try MaskedPass.Reduced(pass, terms: 1, reduction: reduction, in: &layout)
        reduced.add(try pass.term(kernel, predictions: predictions, gradient: gradient))
        try reduced.select(workers: layout.workers, whenEmpty: whenEmpty, named: kernel.name)
        return ReducedLossPlan(name: kernel.name, reduced: reduced)
    }

    fileprivate func planPerCell(
        _ kernel: ElementwiseKernel, predictions: ModelElements, targets: Span<Float>, mask: Span<Bool>?,
        shape: MatrixShape, values: UnsafeMutableBufferPointer<Float>, into gradient: GradientOutput?,
        in layout: inout ScratchLayout
    ) throws(LossError) -> MaskedPass.PerCell {
        let pass = try MaskedPass(targets: targets, mask: mask, count: shape.checkedCount())
        return try MaskedPass.PerCell(
            pass, pass.term(kernel, predictions: predictions, gradient: gradient), shape: shape,
            reduction: reduction, whenEmpty: whenEmpty, values: values, in: &layout)
    }
}

/// One metric over all elements.
package struct ReducedLossPlan: Plan {
    package let name: String
    fileprivate let reduced: MaskedPass.Reduced

    package func run(on execution: Execution) throws(LossError) -> LossValue {
        LossValue(value: try reduced.run(on: execution)[0], selectedCount: reduced.selectedCount)
    }
}
