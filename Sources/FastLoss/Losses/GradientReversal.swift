// Gradient reversal, and the adversarial batch loss built on it (DAB, DAR).

import CFastLossKernels

/// Gradient reversal (scGPT: `grad_reverse`): the identity forward, −λ times the gradient backward.
///
///     y = x        ∂L/∂x = −λ·∂L/∂y
///
/// Between the cell embedding and a discriminator of batches, it trains the discriminator to tell the batches
/// apart and the embedding to prevent that. NaN and infinite gradients propagate.
///
/// Source: Ganin & Lempitsky, Unsupervised Domain Adaptation by Backpropagation, 2015; scGPT's
/// `grad_reverse`.
public struct GradientReversal: Equatable, Sendable {
    /// λ, finite; upstream's is 1.
    public var lambda: Float

    /// A reversal with the factor −λ.
    public init(lambda: Float = 1) {
        self.lambda = lambda
    }

    /// The gradient of the reversal's input, −λ times that of its output.
    ///
    /// - Parameters:
    ///   - gradient: n elements of ∂L/∂y, from the discriminator's backward pass.
    ///   - reversed: receives −λ·gradient; may not overlap `gradient`.
    ///   - update: whether the result replaces the contents of `reversed` or is added to them.
    /// - Throws: ``LossError``: counts that disagree; overlap; a λ that is not finite.
    public func backward(
        gradient: Span<Float>, reversed: inout MutableSpan<Float>, update: GradientUpdate = .overwrite
    ) throws(LossError) {
        let output = GradientOutput(
            reversed.memory, named: "reversed", scale: -Double(lambda), named: "lambda", update: update)
        var layout = ScratchLayout(workers: 1)
        let plan = try Plan(self, gradient: gradient, into: output, in: &layout)
        plan.run()
    }

    /// −λ·gradient, from an array.
    ///
    /// - Parameter gradient: ∂L/∂y, from the discriminator's backward pass.
    /// - Throws: ``LossError``: a λ that is not finite.
    public func backward(gradient: [Float]) throws(LossError) -> [Float] {
        var reversed = [Float](repeating: 0, count: gradient.count)
        var span = reversed.mutableSpan
        try backward(gradient: gradient.span, reversed: &span)
        return reversed
    }

    package func checkLambda() throws(LossError) {
        try checkParameter("lambda", lambda, "finite") { $0.isFinite }
    }
}

extension GradientReversal {
    /// The gradient of one buffer.
    package struct Plan: FastLoss.Plan {
        private let gradient: UnsafeBufferPointer<Float>
        private let output: GradientOutput

        package var name: String { "GradientReversal" }

        /// - Parameter output: its scale includes −λ.
        package init(
            _ reversal: GradientReversal, gradient: Span<Float>, into output: GradientOutput,
            in layout: inout ScratchLayout
        ) throws(LossError) {
            ProcessState.prepare()
            try reversal.checkLambda()
            try output.check(count: gradient.count)
            try checkNoOverlap(output.named, NamedMemory("gradient", gradient.memory))
            self.gradient = gradient.memory
            self.output = output
        }

        package func run(on execution: Execution) { run() }

        /// One pass on the calling thread, without scratch memory.
        fileprivate func run() {
            guard gradient.count > 0, let source = gradient.baseAddress,
                let target = output.memory.baseAddress
            else { return }
            kernels.scale(source, gradient.count, output.scale, target, output.mode)
        }
    }
}

/// Domain adaptation by reverse back-propagation (DAB, DAR): cross-entropy on batch labels behind a
/// ``GradientReversal``.
///
/// The discriminator minimises the loss and the embedding maximises it, so a training loop needs two
/// gradients:
///
///     discriminatorGradient = +gradientScale·∂L/∂z          for the discriminator's own parameters
///     embeddingGradient     = −λ·gradientScale·∂L/∂z        for everything before the reversal
///
/// Both are gradients of the logits z. A backward pass is linear in its gradient. So either send both through
/// the discriminator, or send the first and apply ``GradientReversal/backward(gradient:reversed:update:)`` to
/// the gradient of the discriminator's input.
///
/// Source: scGPT's `AdversarialDiscriminator` with `criterion_dab`.
public struct DomainAdversarialLoss: Sendable {
    /// The loss of the batch labels.
    public var crossEntropy: CrossEntropy
    /// The reversal, with its λ.
    public var reversal: GradientReversal

    /// A cross-entropy behind a gradient reversal.
    public init(crossEntropy: CrossEntropy = CrossEntropy(), reversal: GradientReversal = GradientReversal())
    {
        self.crossEntropy = crossEntropy
        self.reversal = reversal
    }

    /// The reduced cross-entropy of the batch labels.
    ///
    /// - Parameters:
    ///   - logits: B·C logits of the discriminator, row-major.
    ///   - labels: B batch labels.
    ///   - classes: C, the number of batches.
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of ``CrossEntropy/value(logits:labels:classes:workspace:)``.
    @specialized(where Element == Float)
    public func value<Element: ModelOutputElement>(
        logits: Span<Element>, labels: Span<Int32>, classes: Int, workspace: Workspace
    ) throws(LossError) -> LossValue {
        try crossEntropy.value(logits: logits, labels: labels, classes: classes, workspace: workspace)
    }

    /// The reduced cross-entropy, and the gradient of the logits for both sides of the reversal.
    ///
    /// - Parameters:
    ///   - logits: B·C logits of the discriminator, row-major.
    ///   - labels: B batch labels.
    ///   - classes: C, the number of batches.
    ///   - discriminatorGradient: receives B·C gradients; may not overlap an input.
    ///   - embeddingGradient: receives −λ times those; may not overlap an input or `discriminatorGradient`.
    ///   - gradientScale: a finite factor of both gradients (upstream's `dab_weight`).
    ///   - workspace: scratch memory and workers.
    /// - Throws: the errors of
    ///   ``CrossEntropy/valueAndGradient(logits:labels:classes:gradient:gradientScale:update:workspace:)``; a
    ///   λ that is not finite.
    @specialized(where Element == Float)
    public func valueAndGradient<Element: ModelOutputElement>(
        logits: Span<Element>, labels: Span<Int32>, classes: Int,
        discriminatorGradient: inout MutableSpan<Element>,
        embeddingGradient: inout MutableSpan<Element>, gradientScale: Float = 1, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let discriminator = GradientOutput(
            discriminatorGradient.memory, named: "discriminatorGradient", scale: gradientScale,
            update: .overwrite)
        let embedding = GradientOutput(
            embeddingGradient.memory, named: "embeddingGradient",
            scale: -Double(reversal.lambda) * Double(gradientScale),
            named: gradientScale.isFinite ? "lambda · gradientScale" : "gradientScale", update: .overwrite)
        try reversal.checkLambda()
        var layout = workspace.layout
        let plan = try CrossEntropy.Plan(
            crossEntropy, logits: ModelElements(logits), labels: labels, classes: classes,
            into: discriminator, reversed: embedding, in: &layout)
        return try workspace.run(plan, layout)
    }
}
