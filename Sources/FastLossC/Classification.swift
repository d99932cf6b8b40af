// Cross-entropy, gradient reversal and the domain-adversarial loss of the C interface.

import CFastLoss
import FastLoss

/// The options of cross-entropy.
struct CrossEntropyOptions {
    let loss: CrossEntropy
    /// The type of logits and gradient.
    let logits: ElementType

    init(_ pointer: UnsafePointer<fastloss_cross_entropy_options>?) throws(CallError) {
        let options = try fastloss_cross_entropy_options.read(pointer)
        loss = CrossEntropy(
            ignoredLabel: options.ignored_label, reduction: try LossReduction(options.reduction),
            whenEmpty: try EmptySelectionRule(options.when_empty))
        logits = try ElementType(options.logits, "options.logits")
        try checkReserved(options.reserved, "reserved")
        try checkReserved(options.reserved_last, "options.reserved_last")
    }
}

@c @implementation
public func fastloss_cross_entropy(
    _ rows: Int64, _ classes: Int64, _ logits: UnsafePointer<Float>?, _ logitsStride: Int64,
    _ labels: UnsafePointer<Int32>?, _ options: UnsafePointer<fastloss_cross_entropy_options>?,
    _ gradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try CrossEntropyOptions(options)
        let logits = try call.input(
            logits, Strides(rows: rows, columns: classes, stride: logitsStride, of: "logits"), options.logits)
        let labels = try call.input(labels, Strides(count: rows, of: "labels"))
        let gradient = try call.gradient(gradient, rows: rows, columns: classes, type: options.logits)
        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                try CrossEntropy.Plan(
                    options.loss, logits: call.elements(logits), labels: call.span(labels),
                    classes: Int(classes), into: call.output(gradient), in: &layout)
            })
    }
}

@c @implementation
public func fastloss_gradient_reversal(
    _ rows: Int64, _ columns: Int64, _ gradient: UnsafePointer<Float>?, _ gradientStride: Int64,
    _ lambda: Float, _ reversed: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let gradient = try call.input(
            gradient, Strides(rows: rows, columns: columns, stride: gradientStride, of: "gradient"))
        let reversed = try required(
            try call.gradient(reversed, rows: rows, columns: columns, named: "reversed"), "reversed")
        try call.run { (layout) throws(LossError) in
            try GradientReversal.Plan(
                GradientReversal(lambda: lambda), gradient: call.span(gradient),
                into: call.output(reversed, reversedBy: lambda), in: &layout)
        }
    }
}

@c @implementation
public func fastloss_domain_adversarial(
    _ rows: Int64, _ classes: Int64, _ logits: UnsafePointer<Float>?, _ logitsStride: Int64,
    _ labels: UnsafePointer<Int32>?, _ options: UnsafePointer<fastloss_domain_adversarial_options>?,
    _ discriminatorGradient: UnsafePointer<fastloss_gradient>?,
    _ embeddingGradient: UnsafePointer<fastloss_gradient>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    call(workspace) { (call) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try fastloss_domain_adversarial_options.read(options)
        let crossEntropy = CrossEntropy(
            ignoredLabel: options.ignored_label, reduction: try LossReduction(options.reduction),
            whenEmpty: try EmptySelectionRule(options.when_empty))
        let type = try ElementType(options.logits, "options.logits")
        try checkReserved(options.reserved, "options.reserved")
        let logits = try call.input(
            logits, Strides(rows: rows, columns: classes, stride: logitsStride, of: "logits"), type)
        let labels = try call.input(labels, Strides(count: rows, of: "labels"))
        let discriminator = try call.gradient(
            discriminatorGradient, rows: rows, columns: classes, named: "discriminator_gradient", type: type)
        let embedding = try call.gradient(
            embeddingGradient, rows: rows, columns: classes, named: "embedding_gradient", type: type)

        loss.pointee = fastloss_loss_value(
            try call.run { (layout) throws(LossError) in
                let reversal = GradientReversal(lambda: options.lambda)
                try reversal.checkLambda()
                return try CrossEntropy.Plan(
                    crossEntropy, logits: call.elements(logits), labels: call.span(labels),
                    classes: Int(classes), into: call.output(discriminator),
                    reversed: embedding.map { call.output($0, reversedBy: reversal.lambda) }, in: &layout)
            })
    }
}
