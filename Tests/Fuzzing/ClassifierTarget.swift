// The classifiers of cell types and batches, and the encoder of batch labels: values and gradients against the
// oracle, wrong counts and labels, and hostile numbers.

import FastLoss
import FastLossHeads
import FastLossReference

enum ClassifierTarget {
    static func run(_ input: inout FuzzInput) throws {
        guard input.int(0...3) > 0 else { return try encode(&input) }
        var call = try ClassifierCall(&input)
        try call.run()
    }

    // MARK: - The encoder

    private static func encode(_ input: inout FuzzInput) throws {
        let (count, width) = (input.int(1...4), input.int(1...6))
        let encoder = try BatchLabelEncoder(labels: count, width: width)
        let isHostile = input.rarely(8)
        let rows = input.rarely(16) ? 0 : input.int(1...5)
        let labels = input.indices(rows, below: count)
        let parameters = input.small(input.count(encoder.layout.count), hostile: isHostile)
        let upstream = input.small(input.count(rows * width), hostile: isHostile)
        let scale: Float = input.rarely(32) ? input.number(.mixed) : input.choice([1, 0.5, -3])
        let update = input.choice([GradientUpdate.overwrite, .accumulate])
        let start: Float = update == .accumulate ? 0.75 : -12345
        var embeddings = [Float](repeating: start, count: rows * width)
        var gradient = [Float](repeating: start, count: input.count(encoder.layout.count))
        let workspace = Workspace(workers: 1 + input.int(0...1))

        var mistakes: Set<ExpectedError> = []
        if parameters.count != encoder.layout.count { mistakes.insert(.shape) }
        if !labels.allSatisfy({ (0..<count).contains(Int($0)) }) { mistakes.insert(.index) }
        let hasEmbeddings = try succeeds(expectingOneOf: mistakes) { () throws(LossError) in
            var span = embeddings.mutableSpan
            try encoder.embed(
                labels: labels.span, parameters: parameters.span, embeddings: &span, workspace: workspace)
        }
        if upstream.count != rows * width || gradient.count != encoder.layout.count {
            mistakes.insert(.shape)
        }
        if !scale.isFinite { mistakes.insert(.parameter) }
        let hasGradient = try succeeds(expectingOneOf: mistakes) { () throws(LossError) in
            var span = gradient.mutableSpan
            try encoder.gradient(
                labels: labels.span, embeddingsGradient: upstream.span, parameters: parameters.span,
                parametersGradient: &span, gradientScale: scale, update: update, workspace: workspace)
        }
        if !hasGradient {
            guard gradient.allSatisfy({ $0 == start }) else { throw Wrong("a call that threw wrote") }
        }
        guard hasEmbeddings, !isHostile, abs(scale) <= 3 else { return }
        func results<T: ReferenceScalar>(_ numbers: HeadNumbers<T>) -> HeadResults {
            var reference = Reference.BatchLabelEncoder.Parameters<T>(batches: count, width: width)
            var source = ParameterCursor(setting: numbers(parameters))
            source.visit(&reference)
            var results = HeadResults()
            results.values = [
                Reference.BatchLabelEncoder.value(parameters: reference, labels: labels).map { Double($0) }
            ]
            guard hasGradient else { return results }
            var gradients = Reference.BatchLabelEncoder.gradients(
                outputGradient: numbers(upstream).map { $0 * T(scale) }, parameters: reference, labels: labels
            )
            var collector = ParameterCursor<T>()
            collector.visit(&gradients)
            results.gradients = [("parameters", collector.collected.map { Double($0) })]
            return results
        }
        let oracle = HeadOracle(truth: results, naive: results)
        try oracle.judgeValue(0, "embeddings", embeddings.map { Double($0) })
        if hasGradient { try oracle.judgeGradients([gradient], start: update == .accumulate ? start : 0) }
    }
}

// MARK: - The classifiers

private struct ClassifierCall {
    /// Whether this is the discriminator, with its gradient reversal.
    private let isReversed: Bool
    private let strength: Float
    private let cells: Int
    private let width: Int
    private let classes: Int
    private let blocks: Int
    private let crossEntropy: CrossEntropy
    private let decoder: CellTypeDecoder
    private let discriminator: AdversarialDiscriminator
    private let isHostile: Bool
    private let parameters: [Float]
    private let cellEmbeddings: [Float]
    private let labels: [Int32]
    private let scale: Float
    private let update: GradientUpdate
    private let workspace: Workspace
    private var parameterGradient: [Float]
    private var cellGradient: [Float]

    init(_ input: inout FuzzInput) throws {
        isReversed = input.bool()
        strength = input.rarely(32) ? input.number(.mixed) : input.choice([1, 0.25, -2, 0])
        cells = input.rarely(32) ? 0 : input.int(1...4)
        (width, classes, blocks) = (input.int(1...6), input.int(1...5), input.int(0...2))
        crossEntropy = CrossEntropy(
            ignoredLabel: input.choice([-100, -1]), reduction: input.choice([.mean, .sum]),
            whenEmpty: input.choice([.error, .zero, .nan]))
        var decoder = try CellTypeDecoder(width: width, classes: classes, blocks: blocks)
        decoder.crossEntropy = crossEntropy
        var discriminator = try AdversarialDiscriminator(
            width: width, batches: classes, blocks: blocks, reversalStrength: strength)
        discriminator.crossEntropy = crossEntropy
        (self.decoder, self.discriminator) = (decoder, discriminator)
        isHostile = input.rarely(8)
        parameters = input.small(input.count(decoder.layout.count), hostile: isHostile)
        cellEmbeddings = input.small(input.count(cells * width), hostile: isHostile)
        labels = input.labels(cells, classes: classes, ignored: crossEntropy.ignoredLabel)
        scale = input.rarely(32) ? input.number(.mixed) : input.choice([1, 0.5, -3])
        update = input.choice([.overwrite, .accumulate])
        workspace = Workspace(workers: 1 + input.int(0...1))
        let start: Float = update == .accumulate ? 0.75 : -12345
        parameterGradient = [Float](repeating: start, count: input.count(decoder.layout.count))
        cellGradient = [Float](repeating: start, count: input.count(cellEmbeddings.count))
    }

    private var kept: [Int32] { labels.filter { $0 != crossEntropy.ignoredLabel } }

    private var mistakes: Set<ExpectedError> {
        var mistakes: Set<ExpectedError> = []
        if parameters.count != decoder.layout.count || cellEmbeddings.count != cells * width
            || parameterGradient.count != decoder.layout.count || cellGradient.count != cellEmbeddings.count
        {
            mistakes.insert(.shape)
        }
        if !scale.isFinite || (isReversed && !strength.isFinite) { mistakes.insert(.parameter) }
        if !kept.allSatisfy({ (0..<classes).contains(Int($0)) }) { mistakes.insert(.label) }
        if mistakes.isEmpty, kept.isEmpty, crossEntropy.whenEmpty == .error { mistakes.insert(.empty) }
        return mistakes
    }

    mutating func run() throws {
        let start: Float = update == .accumulate ? 0.75 : -12345
        var value: LossValue?
        let succeeded = try succeeds(expectingOneOf: mistakes) { () throws(LossError) in
            var (parameterGradient, cellGradient) = (self.parameterGradient, self.cellGradient)
            defer { (self.parameterGradient, self.cellGradient) = (parameterGradient, cellGradient) }
            var gradients = ClassifierGradients(
                parameters: parameterGradient.mutableSpan, cellEmbeddings: cellGradient.mutableSpan)
            value =
                isReversed
                ? try discriminator.valueAndGradient(
                    cellEmbeddings: cellEmbeddings.span, labels: labels.span, parameters: parameters.span,
                    gradients: &gradients, gradientScale: scale, update: update, workspace: workspace)
                : try decoder.valueAndGradient(
                    cellEmbeddings: cellEmbeddings.span, labels: labels.span, parameters: parameters.span,
                    gradients: &gradients, gradientScale: scale, update: update, workspace: workspace)
        }
        let gradients = [parameterGradient, cellGradient]
        guard succeeded, let value else {
            guard gradients.joined().allSatisfy({ $0 == start }) else {
                throw Wrong("a call that threw wrote")
            }
            return
        }
        guard value.selectedCount == kept.count else { throw Wrong("\(value.selectedCount) cells") }
        guard !kept.isEmpty else {
            let isRight = crossEntropy.whenEmpty == .zero ? value.value == 0 : value.value.isNaN
            guard isRight else { throw Wrong("empty: \(value.value)") }
            return
        }
        guard !isHostile, abs(scale) <= 3, !isReversed || abs(strength) <= 2 else { return }
        let oracle = HeadOracle(truth: results, naive: results)
        try oracle.judgeValue(0, "value", [value.value])
        var logits = [Float](repeating: -12345, count: cells * classes)
        var span = logits.mutableSpan
        if isReversed {
            try discriminator.predict(
                cellEmbeddings: cellEmbeddings.span, cells: cells, parameters: parameters.span, logits: &span,
                workspace: workspace)
        } else {
            try decoder.predict(
                cellEmbeddings: cellEmbeddings.span, cells: cells, parameters: parameters.span, logits: &span,
                workspace: workspace)
        }
        try oracle.judgeValue(1, "logits", logits.map { Double($0) })
        try oracle.judgeGradients(gradients, start: update == .accumulate ? start : 0)
    }

    private func results<T: ReferenceScalar>(_ numbers: HeadNumbers<T>) -> HeadResults {
        var reference = Reference.NormalizedClassifier<T>(width: width, classes: classes, blocks: blocks)
        var source = ParameterCursor(setting: numbers(parameters))
        source.visit(&reference)
        let embeddings = numbers(cellEmbeddings)
        let activation = isReversed ? Reference.Activation.leakyReLU : .relu
        let logits = reference.value(input: embeddings, activation: activation)
        var logitsGradient = logits
        var value = Reference.CrossEntropy.valueAndGradient(
            logits: logits, labels: labels, rows: cells, classes: classes,
            ignoredLabel: crossEntropy.ignoredLabel, gradient: &logitsGradient)
        if crossEntropy.reduction == .sum {
            value *= T(kept.count)
            logitsGradient = logitsGradient.map { $0 * T(kept.count) }
        }
        logitsGradient = numbers.gradients(
            ofLogits: logitsGradient.map { $0 * T(scale) },
            factor: T(scale) / (crossEntropy.reduction == .sum ? 1 : T(kept.count)))
        var (parameters, cellGradient) =
            isReversed
            ? Reference.AdversarialDiscriminator.gradients(
                logitsGradient: logitsGradient, parameters: reference, cellEmbeddings: embeddings,
                reversalStrength: T(strength))
            : Reference.CellTypeDecoder.gradients(
                logitsGradient: logitsGradient, parameters: reference, cellEmbeddings: embeddings)
        var results = HeadResults()
        results.values = [[Double(value)], logits.map { Double($0) }]
        var collector = ParameterCursor<T>()
        collector.visit(&parameters)
        results.gradients = [
            ("parameters", collector.collected.map { Double($0) }),
            ("cells", cellGradient.map { Double($0) }),
        ]
        var hidden = embeddings
        for block in reference.blocks {
            results.kinkDistance = min(results.kinkDistance, kinkDistance(block.linear, hidden))
            hidden = block.norm.value(
                input: activation.value(input: block.linear.value(input: hidden)))
        }
        return results
    }
}
