// The masked value losses for C: mean squared error, Bernoulli likelihood from probabilities and logits,
// relative error, of all cells together and cell by cell.

import CFastLoss
import FastLoss

/// What every masked loss is given.
private struct MaskedArguments {
    let rows: Int64
    let columns: Int64
    let predictions: (UnsafePointer<Float>?, stride: Int64)
    let targets: (UnsafePointer<Float>?, stride: Int64)
    let mask: (UnsafePointer<Bool>?, stride: Int64)
    let options: UnsafePointer<fastloss_masked_options>?

    /// The matrices of a call.
    struct Inputs {
        let shape: MatrixShape
        let predictions: Taken<Float>
        let targets: Taken<Float>
        let mask: Taken<Bool>?
    }

    func take(_ call: borrowing Call) throws(CallError) -> Inputs {
        Inputs(
            shape: MatrixShape(rows: Int(clamping: rows), columns: Int(clamping: columns)),
            predictions: try call.input(predictions.0, strides(predictions.stride, of: "predictions")),
            targets: try call.input(targets.0, strides(targets.stride, of: "targets")),
            mask: mask.0 == nil ? nil : try call.input(mask.0, strides(mask.stride, of: "mask")))
    }

    private func strides(_ stride: Int64, of name: String) -> Strides {
        Strides(rows: rows, columns: columns, stride: stride, of: name)
    }

    /// How to reduce.
    func settings() throws(CallError) -> (reduction: LossReduction, whenEmpty: EmptySelectionRule) {
        let options = try fastloss_masked_options.read(options)
        return (try LossReduction(options.reduction), try EmptySelectionRule(options.when_empty))
    }
}

// MARK: - All cells together

private func evaluate(
    _ arguments: MaskedArguments, _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?,
    _ make: (LossReduction, EmptySelectionRule) -> some MaskedMetric
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let settings = try arguments.settings()
        let inputs = try arguments.take(call)
        let gradient = try call.gradient(gradient, rows: arguments.rows, columns: arguments.columns)
        let metric = make(settings.reduction, settings.whenEmpty)
        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                try metric.plan(
                    predictions: call.span(inputs.predictions), targets: call.span(inputs.targets),
                    mask: call.optionalSpan(inputs.mask), into: call.output(gradient), in: &layout)
            })
    }
}

extension fastloss_loss_value {
    init(_ value: LossValue) {
        self.init(value: value.value, selected_count: Int64(value.selectedCount))
    }
}

// MARK: - Cell by cell

/// What a per-cell loss writes beside its gradient.
private struct PerCellResults {
    let values: UnsafeMutablePointer<Float>?
    let selectedCount: UnsafeMutablePointer<Int64>?

    /// The values' place among the matrices of a call.
    func take(_ call: borrowing Call, rows: Int64) throws(CallError) -> Taken<Float> {
        if let selectedCount { try checkAlignment(UnsafePointer(selectedCount), "selected_count") }
        return try call.output(values, Strides(count: rows, of: "values"))
    }
}

private func evaluatePerCell(
    _ arguments: MaskedArguments, _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ results: PerCellResults, _ make: (LossReduction, EmptySelectionRule) -> some MaskedMetric
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let settings = try arguments.settings()
        let inputs = try arguments.take(call)
        let gradient = try call.gradient(gradient, rows: arguments.rows, columns: arguments.columns)
        let values = try results.take(call, rows: arguments.rows)
        let metric = make(settings.reduction, settings.whenEmpty)
        let selected = try call.run { (layout) throws(LossError) in
            try metric.planPerCell(
                predictions: call.span(inputs.predictions), targets: call.span(inputs.targets),
                mask: call.optionalSpan(inputs.mask), shape: inputs.shape, values: call.buffer(values),
                into: call.output(gradient), in: &layout)
        }
        results.selectedCount?.pointee = Int64(selected)
    }
}

// MARK: - Exported

@c @implementation
public func fastloss_masked_mse(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    evaluate(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        gradient, workspace, loss
    ) { MaskedMSE(reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_masked_mse_per_cell(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ values: UnsafeMutablePointer<Float>?, _ selectedCount: UnsafeMutablePointer<Int64>?
) -> fastloss_status {
    evaluatePerCell(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        gradient, workspace, PerCellResults(values: values, selectedCount: selectedCount)
    ) { MaskedMSE(reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_bernoulli_nll(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    evaluate(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        gradient, workspace, loss
    ) { BernoulliNLL(from: .probabilities, reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_bernoulli_nll_per_cell(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ values: UnsafeMutablePointer<Float>?, _ selectedCount: UnsafeMutablePointer<Int64>?
) -> fastloss_status {
    evaluatePerCell(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        gradient, workspace, PerCellResults(values: values, selectedCount: selectedCount)
    ) { BernoulliNLL(from: .probabilities, reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_bernoulli_nll_logits(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    evaluate(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        gradient, workspace, loss
    ) { BernoulliNLL(from: .logits, reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_bernoulli_nll_logits_per_cell(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ values: UnsafeMutablePointer<Float>?, _ selectedCount: UnsafeMutablePointer<Int64>?
) -> fastloss_status {
    evaluatePerCell(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        gradient, workspace, PerCellResults(values: values, selectedCount: selectedCount)
    ) { BernoulliNLL(from: .logits, reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_masked_relative_error(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ workspace: OpaquePointer?, _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    evaluate(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        nil, workspace, loss
    ) { MaskedRelativeError(reduction: $0, whenEmpty: $1) }
}

@c @implementation
public func fastloss_masked_relative_error_per_cell(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?,
    _ workspace: OpaquePointer?, _ values: UnsafeMutablePointer<Float>?,
    _ selectedCount: UnsafeMutablePointer<Int64>?
) -> fastloss_status {
    evaluatePerCell(
        MaskedArguments(
            rows: rows, columns: columns, predictions: (predictions, predictionsStride),
            targets: (targets, targetsStride), mask: (mask, maskStride), options: options),
        nil, workspace, PerCellResults(values: values, selectedCount: selectedCount)
    ) { MaskedRelativeError(reduction: $0, whenEmpty: $1) }
}
