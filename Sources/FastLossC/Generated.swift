// The functions of the masked losses, and the names of statuses and terms.
//
// Written by scripts/generate/interface from the headers in Sources/CFastLoss/include. Do not edit.
// swift-format-ignore-file

import CFastLoss

// MARK: - Masked losses

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
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        gradient, workspace, loss, MaskedMetrics.masked_mse)
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
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        gradient, workspace, PerCellResults(values, selectedCount), MaskedMetrics.masked_mse)
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
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        gradient, workspace, loss, MaskedMetrics.bernoulli_nll)
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
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        gradient, workspace, PerCellResults(values, selectedCount), MaskedMetrics.bernoulli_nll)
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
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        gradient, workspace, loss, MaskedMetrics.bernoulli_nll_logits)
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
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        gradient, workspace, PerCellResults(values, selectedCount), MaskedMetrics.bernoulli_nll_logits)
}

@c @implementation
public func fastloss_masked_relative_error(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    evaluate(
        MaskedArguments(
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        nil, workspace, loss, MaskedMetrics.masked_relative_error)
}

@c @implementation
public func fastloss_masked_relative_error_per_cell(
    _ rows: Int64, _ columns: Int64, _ predictions: UnsafePointer<Float>?, _ predictionsStride: Int64,
    _ targets: UnsafePointer<Float>?, _ targetsStride: Int64, _ mask: UnsafePointer<Bool>?,
    _ maskStride: Int64, _ options: UnsafePointer<fastloss_masked_options>?, _ workspace: OpaquePointer?,
    _ values: UnsafeMutablePointer<Float>?, _ selectedCount: UnsafeMutablePointer<Int64>?
) -> fastloss_status {
    evaluatePerCell(
        MaskedArguments(
            rows, columns, predictions, predictionsStride, targets, targetsStride, mask, maskStride, options),
        nil, workspace, PerCellResults(values, selectedCount), MaskedMetrics.masked_relative_error)
}

// MARK: - Statuses

@c @implementation
public func fastloss_status_name(_ status: fastloss_status) -> UnsafePointer<CChar>? {
    switch Int(status) {
    case FASTLOSS_OK: staticText("FASTLOSS_OK")
    case FASTLOSS_ERROR_SHAPE_MISMATCH: staticText("FASTLOSS_ERROR_SHAPE_MISMATCH")
    case FASTLOSS_ERROR_INVALID_SHAPE: staticText("FASTLOSS_ERROR_INVALID_SHAPE")
    case FASTLOSS_ERROR_DIMENSION_TOO_LARGE: staticText("FASTLOSS_ERROR_DIMENSION_TOO_LARGE")
    case FASTLOSS_ERROR_INVALID_PARAMETER: staticText("FASTLOSS_ERROR_INVALID_PARAMETER")
    case FASTLOSS_ERROR_EMPTY_SELECTION: staticText("FASTLOSS_ERROR_EMPTY_SELECTION")
    case FASTLOSS_ERROR_LABEL_OUT_OF_RANGE: staticText("FASTLOSS_ERROR_LABEL_OUT_OF_RANGE")
    case FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE: staticText("FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE")
    case FASTLOSS_ERROR_OVERLAPPING_BUFFERS: staticText("FASTLOSS_ERROR_OVERLAPPING_BUFFERS")
    case FASTLOSS_ERROR_MISSING_INPUT: staticText("FASTLOSS_ERROR_MISSING_INPUT")
    case FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT: staticText("FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT")
    case FASTLOSS_ERROR_NOT_FINITE: staticText("FASTLOSS_ERROR_NOT_FINITE")
    case FASTLOSS_ERROR_FACTORIZATION_FAILED: staticText("FASTLOSS_ERROR_FACTORIZATION_FAILED")
    case FASTLOSS_ERROR_OUT_OF_MEMORY: staticText("FASTLOSS_ERROR_OUT_OF_MEMORY")
    case FASTLOSS_ERROR_RANKS_DISAGREE: staticText("FASTLOSS_ERROR_RANKS_DISAGREE")
    case FASTLOSS_ERROR_RANK_FAILED: staticText("FASTLOSS_ERROR_RANK_FAILED")
    case FASTLOSS_ERROR_NULL_POINTER: staticText("FASTLOSS_ERROR_NULL_POINTER")
    case FASTLOSS_ERROR_MISALIGNED_POINTER: staticText("FASTLOSS_ERROR_MISALIGNED_POINTER")
    case FASTLOSS_ERROR_INVALID_STRIDE: staticText("FASTLOSS_ERROR_INVALID_STRIDE")
    case FASTLOSS_ERROR_INVALID_ENUMERATION: staticText("FASTLOSS_ERROR_INVALID_ENUMERATION")
    case FASTLOSS_ERROR_INVALID_STRUCT: staticText("FASTLOSS_ERROR_INVALID_STRUCT")
    case FASTLOSS_ERROR_WORKSPACE_BUSY: staticText("FASTLOSS_ERROR_WORKSPACE_BUSY")
    default: staticText("unknown status")
    }
}

// MARK: - Terms

/// The constant of a term, for messages.
func nameOfTerm(_ term: Int) -> String {
    switch term {
    case FASTLOSS_TERM_MASKED_GENE: "FASTLOSS_TERM_MASKED_GENE"
    case FASTLOSS_TERM_MASKED_GENE_ZERO: "FASTLOSS_TERM_MASKED_GENE_ZERO"
    case FASTLOSS_TERM_CELL_GENE: "FASTLOSS_TERM_CELL_GENE"
    case FASTLOSS_TERM_CELL_GENE_ZERO: "FASTLOSS_TERM_CELL_GENE_ZERO"
    case FASTLOSS_TERM_GENERATION: "FASTLOSS_TERM_GENERATION"
    case FASTLOSS_TERM_CELL_TYPE: "FASTLOSS_TERM_CELL_TYPE"
    case FASTLOSS_TERM_CONTRASTIVE: "FASTLOSS_TERM_CONTRASTIVE"
    case FASTLOSS_TERM_ELASTIC: "FASTLOSS_TERM_ELASTIC"
    case FASTLOSS_TERM_BATCH: "FASTLOSS_TERM_BATCH"
    default: "unknown term"
    }
}
