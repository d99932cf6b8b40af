// The masked losses of the C interface, over all cells and per cell. Generated.swift has the functions, which
// call `evaluate` and `evaluatePerCell` here.

import CFastLoss
import FastLoss

/// The loss of each function, by the function's name in C without its prefix.
enum MaskedMetrics {
    static func masked_mse(_ options: MaskedOptions) -> MaskedMSE {
        MaskedMSE(reduction: options.reduction, whenEmpty: options.whenEmpty)
    }

    static func bernoulli_nll(_ options: MaskedOptions) -> BernoulliNLL {
        BernoulliNLL(from: .probabilities, reduction: options.reduction, whenEmpty: options.whenEmpty)
    }

    static func bernoulli_nll_logits(_ options: MaskedOptions) -> BernoulliNLL {
        BernoulliNLL(from: .logits, reduction: options.reduction, whenEmpty: options.whenEmpty)
    }

    static func masked_relative_error(_ options: MaskedOptions) -> MaskedRelativeError {
        MaskedRelativeError(reduction: options.reduction, whenEmpty: options.whenEmpty)
    }
}

// MARK: - Arguments

/// The options of a masked loss or reduction.
struct MaskedOptions {
    let reduction: LossReduction
    let whenEmpty: EmptySelectionRule
    /// The type of predictions and gradient.
    let predictions: ElementType

    init(_ pointer: UnsafePointer<fastloss_masked_options>?) throws(CallError) {
        let options = try fastloss_masked_options.read(pointer)
        reduction = try LossReduction(options.reduction)
        whenEmpty = try EmptySelectionRule(options.when_empty)
        predictions = try ElementType(options.predictions, "options.predictions")
        try checkReserved(options.reserved, "options.reserved")
    }
}

/// The parameters that all masked losses share.
struct MaskedArguments {
    private let rows: Int64
    private let columns: Int64
    private let predictions: (UnsafePointer<Float>?, stride: Int64)
    private let targets: (UnsafePointer<Float>?, stride: Int64)
    private let mask: (UnsafePointer<Bool>?, stride: Int64)
    fileprivate let options: UnsafePointer<fastloss_masked_options>?

    init(
        _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
        _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
        _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?
    ) {
        self.rows = rows
        self.columns = columns
        self.predictions = (predictions, predictionsStride)
        self.targets = (targets, targetsStride)
        self.mask = (mask, maskStride)
        self.options = options
    }

    /// The matrices of a call.
    fileprivate struct Inputs {
        let shape: MatrixShape
        let predictions: TakenOutput
        let targets: Taken<Float>
        let mask: Taken<Bool>?
        let gradient: TakenGradient?
    }

    fileprivate func take(
        _ call: borrowing Call, _ gradient: UnsafePointer<fastloss_gradient>?, _ options: MaskedOptions
    ) throws(CallError) -> Inputs {
        Inputs(
            shape: MatrixShape(rows: Int(clamping: rows), columns: Int(clamping: columns)),
            predictions: try call.input(
                predictions.0, strides(predictions.stride, of: "predictions"), options.predictions),
            targets: try call.input(targets.0, strides(targets.stride, of: "targets")),
            mask: mask.0 == nil ? nil : try call.input(mask.0, strides(mask.stride, of: "mask")),
            gradient: try call.gradient(
                gradient, rows: rows, columns: columns, type: options.predictions))
    }

    private func strides(_ stride: Int64, of name: String) -> Strides {
        Strides(rows: rows, columns: columns, stride: stride, of: name)
    }
}

// MARK: - All cells

func evaluate(
    _ arguments: MaskedArguments, _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?, _ make: (MaskedOptions) -> some MaskedMetric
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try MaskedOptions(arguments.options)
        let metric = make(options)
        let inputs = try arguments.take(call, gradient, options)
        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                try metric.plan(
                    predictions: call.elements(inputs.predictions), targets: call.span(inputs.targets),
                    mask: call.optionalSpan(inputs.mask), into: call.output(inputs.gradient), in: &layout)
            })
    }
}

extension fastloss_loss_value {
    init(_ value: LossValue) {
        self.init(value: value.value, selected_count: Int64(value.selectedCount))
    }
}

// MARK: - Per cell

/// The results of a per-cell loss except its gradient.
struct PerCellResults {
    private let values: UnsafeMutablePointer<Float>?
    fileprivate let selectedCount: UnsafeMutablePointer<Int64>?

    init(_ values: UnsafeMutablePointer<Float>?, _ selectedCount: UnsafeMutablePointer<Int64>?) {
        self.values = values
        self.selectedCount = selectedCount
    }

    fileprivate func take(_ call: borrowing Call, rows: Int) throws(CallError) -> Taken<Float> {
        if let selectedCount { try checkAlignment(UnsafePointer(selectedCount), "selected_count") }
        return try call.output(values, Strides(count: Int64(rows), of: "values"))
    }
}

func evaluatePerCell(
    _ arguments: MaskedArguments, _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ results: PerCellResults, _ make: (MaskedOptions) -> some MaskedMetric
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let options = try MaskedOptions(arguments.options)
        let metric = make(options)
        let inputs = try arguments.take(call, gradient, options)
        let values = try results.take(call, rows: inputs.shape.rows)
        let selected = try call.run { (layout) throws(LossError) in
            try metric.planPerCell(
                predictions: call.elements(inputs.predictions), targets: call.span(inputs.targets),
                mask: call.optionalSpan(inputs.mask), shape: inputs.shape, values: call.buffer(values),
                into: call.output(inputs.gradient), in: &layout)
        }
        results.selectedCount?.pointee = Int64(selected)
    }
}
