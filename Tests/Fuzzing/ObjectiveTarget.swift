// The total objective: any terms, weights and options over one batch, with missing and wrong inputs, each term
// and each gradient against the oracle of its loss.

import FastLoss
import FastLossReference

enum ObjectiveTarget {
    static func run(_ input: inout FuzzInput) throws {
        var call = ObjectiveCall(&input)
        try call.run()
    }
}

/// One call of an objective.
struct ObjectiveCall {
    var objective: TotalObjective
    var inputs: ObjectiveArrays
    var gradients = ObjectiveGradientArrays()
    var scale: Float
    let update: GradientUpdate
    let start: Float
    let workers: Int
    /// Whether the call takes buffer pointers in place of arrays.
    private let usesBuffers: Bool

    /// A call with random arguments.
    ///
    /// - Parameter rows: the number of rows; nil for a random one.
    init(_ input: inout FuzzInput, rows: Int? = nil) {
        objective = Self.objective(&input)
        let shape = MatrixShape(
            rows: rows ?? (input.rarely(32) ? 0 : input.int(1...5)),
            columns: input.rarely(32) ? 0 : input.int(1...11))
        let count = shape.rows * shape.columns
        let width = input.int(1...9)
        let pairs = MatrixShape(rows: shape.rows, columns: width)
        inputs = ObjectiveArrays(shape: shape, width: width)
        inputs.targets = input.numbers(input.count(count))
        if input.bool() { inputs.mask = input.mask(input.count(count)) }
        inputs.genePredictions = input.numbers(input.count(count))
        inputs.cellPredictions = input.numbers(count)
        inputs.generatedPredictions = input.numbers(count)
        let isLogit = objective.nonzeroForm == .logits
        inputs.geneNonzero = isLogit ? input.numbers(count) : input.probabilities(count)
        inputs.cellNonzero = isLogit ? input.numbers(count) : input.probabilities(count)
        inputs.cellEmbedding = SimilarityTarget.embeddings(&input, pairs)
        inputs.secondCellEmbedding = SimilarityTarget.embeddings(&input, pairs)
        inputs.cellTypes = Self.classification(&input, shape.rows, objective.cellTypes.ignoredLabel)
        inputs.batches = Self.classification(
            &input, shape.rows, objective.domainAdversarial.crossEntropy.ignoredLabel)
        workers = 1 + input.int(0...1)
        usesBuffers = input.bool()
        scale = input.rarely(32) ? input.number(.mixed) : input.choice([1, 0.5, -3, 65536])
        update = input.choice([.overwrite, .accumulate])
        start = update == .accumulate ? 0.75 : -12345
        gradients = ObjectiveGradientArrays(zerosFor: inputs)
        for member in Self.gradientMembers {
            if let count = gradients[keyPath: member]?.count {
                gradients[keyPath: member] = [Float](repeating: start, count: count)
            }
            if input.rarely(8) { gradients[keyPath: member] = nil }
        }
        if input.rarely(32) { gradients.genePredictions?.append(start) }
        if input.rarely(16) { inputs[keyPath: input.choice(Self.optionalInputs)] = nil }
        if input.rarely(32) { inputs.cellTypes = nil }
        if input.rarely(32) { inputs.batches = nil }
    }

    static let gradientMembers: [WritableKeyPath<ObjectiveGradientArrays, [Float]?> & Sendable] = [
        \.genePredictions, \.geneNonzero, \.cellPredictions, \.cellNonzero, \.generatedPredictions,
        \.cellEmbedding, \.secondCellEmbedding, \.cellTypeLogits, \.batchLogits, \.reversedBatchLogits,
    ]

    private static let optionalInputs: [WritableKeyPath<ObjectiveArrays, [Float]?> & Sendable] =
        [\.targets] + outputMembers

    /// The outputs of the model but the logits.
    static let outputMembers: [WritableKeyPath<ObjectiveArrays, [Float]?> & Sendable] = [
        \.genePredictions, \.geneNonzero, \.cellPredictions, \.cellNonzero,
        \.generatedPredictions, \.cellEmbedding, \.secondCellEmbedding,
    ]

    /// A preset, or any terms with any weights.
    private static func objective(_ input: inout FuzzInput) -> TotalObjective {
        var objective: TotalObjective
        switch input.int(0...9) {
        case 0: objective = .integration()
        case 1: objective = .annotation
        case 2: objective = .perturbation
        case 3: objective = .multiOmics
        case 4: objective = .generativePretraining()
        case 5: objective = .maskedPretraining
        case 6: objective = .scFormer(cellTypes: input.bool(), contrastive: input.bool())
        default:
            objective = TotalObjective(weights: TermValues())
            for term in ObjectiveTerm.allCases where input.bool() {
                objective.weights[term] =
                    input.rarely(32) ? input.number(.mixed) : input.choice([1, 10, 0.25, -2, 0])
            }
        }
        let rules = [EmptySelectionRule.error, .zero, .nan]
        let reductions = [LossReduction.mean, .sum]
        objective.elasticCellSimilarity.threshold =
            input.rarely(32) ? input.number(.bits) : Float(input.int(-10...10)) / 10
        objective.elasticCellSimilarity.whenEmpty = input.choice(rules)
        objective.contrastiveCellEmbedding.temperature =
            input.rarely(32) ? input.number(.bits) : Float(input.int(1...20)) / 10
        objective.contrastiveCellEmbedding.whenEmpty = input.choice(rules)
        objective.cellTypes = CrossEntropy(
            ignoredLabel: input.choice([-100, -1, 0]), reduction: input.choice(reductions),
            whenEmpty: input.choice(rules))
        objective.domainAdversarial.crossEntropy = CrossEntropy(
            ignoredLabel: input.choice([-100, -1, 0]), reduction: input.choice(reductions),
            whenEmpty: input.choice(rules))
        objective.domainAdversarial.reversal.lambda =
            input.rarely(32) ? input.number(.mixed) : input.choice([1, 0.25, -2, 0])
        objective.nonzeroForm = input.choice([.probabilities, .logits])
        objective.whenMaskEmpty = input.choice(rules)
        return objective
    }

    private static func classification(
        _ input: inout FuzzInput, _ rows: Int, _ ignored: Int32
    ) -> ClassificationArrays {
        let classes = input.int(1...7)
        return ClassificationArrays(
            logits: input.numbers(input.count(rows * classes)),
            labels: input.labels(input.count(rows), classes: classes, ignored: ignored), classes: classes)
    }

    // MARK: - The value terms

    private struct ValueTerm {
        let term: ObjectiveTerm
        let form: ElementwiseOracle.Form
        let predictions: WritableKeyPath<ObjectiveArrays, [Float]?>
        let gradient: WritableKeyPath<ObjectiveGradientArrays, [Float]?>
    }

    private var valueTerms: [ValueTerm] {
        let nonzero = objective.nonzeroForm == .logits ? ElementwiseOracle.Form.logits : .probabilities
        return [
            ValueTerm(
                term: .maskedGene, form: .squaredError, predictions: \.genePredictions,
                gradient: \.genePredictions),
            ValueTerm(
                term: .maskedGeneZero, form: nonzero, predictions: \.geneNonzero, gradient: \.geneNonzero),
            ValueTerm(
                term: .cellGene, form: .squaredError, predictions: \.cellPredictions,
                gradient: \.cellPredictions),
            ValueTerm(
                term: .cellGeneZero, form: nonzero, predictions: \.cellNonzero, gradient: \.cellNonzero),
            ValueTerm(
                term: .generation, form: .squaredError, predictions: \.generatedPredictions,
                gradient: \.generatedPredictions),
        ].filter { objective.weights[$0.term] != nil }
    }

    private func selects(_ index: Int) -> Bool { inputs.mask?[index] ?? true }

    // MARK: - Mistakes

    /// What the call checks before it computes.
    var mistakes: Set<ExpectedError> {
        let weights = objective.weights
        var mistakes: Set<ExpectedError> = []
        func check(_ isRight: Bool, _ error: ExpectedError) { if !isRight { mistakes.insert(error) } }
        func checkFactor(_ isWanted: Bool, _ factor: Double) {
            check(!isWanted || abs(factor) <= Double(Float.greatestFiniteMagnitude), .parameter)
        }
        let (rows, count) = (inputs.shape.rows, inputs.shape.rows * inputs.shape.columns)

        check(scale.isFinite, .parameter)
        for term in ObjectiveTerm.allCases { check(weights[term]?.isFinite ?? true, .parameter) }
        for (gradient, input) in gradientsWithInputs where gradient != nil {
            check(input != nil, .withoutInput)
            if let gradient, let input { check(gradient.count == input.count, .shape) }
        }
        let values = valueTerms
        if !values.isEmpty {
            check(inputs.targets != nil, .missing)
            check((inputs.targets?.count ?? count) == count, .shape)
            check((inputs.mask?.count ?? count) == count, .shape)
        }
        for value in values {
            let predictions = inputs[keyPath: value.predictions]
            check(predictions != nil, .missing)
            check((predictions?.count ?? count) == count, .shape)
            checkFactor(
                gradients[keyPath: value.gradient] != nil,
                Double(weights[value.term] ?? 0) * Double(scale))
        }
        if weights.elastic != nil || weights.contrastive != nil {
            check(inputs.cellEmbedding != nil, .missing)
        }
        if let weight = weights.elastic {
            let loss = objective.elasticCellSimilarity
            check(loss.threshold >= -1 && loss.threshold <= 1, .parameter)
            check(rows > 0 || loss.whenEmpty != .error, .empty)
            checkFactor(gradients.cellEmbedding != nil, Double(weight) * Double(scale))
        }
        if let weight = weights.contrastive {
            let loss = objective.contrastiveCellEmbedding
            check(inputs.secondCellEmbedding != nil, .missing)
            check(loss.temperature >= .leastNormalMagnitude && loss.temperature.isFinite, .parameter)
            check(rows > 0 || loss.whenEmpty != .error, .empty)
            checkFactor(
                gradients.cellEmbedding != nil || gradients.secondCellEmbedding != nil,
                Double(weight) * Double(scale))
        }
        func checkClasses(_ classes: ClassificationArrays?, _ loss: CrossEntropy) {
            check(classes != nil, .missing)
            guard let classes else { return }
            check(classes.labels.count == rows && classes.logits.count == rows * classes.classes, .shape)
            let kept = classes.labels.filter { $0 != loss.ignoredLabel }
            check(kept.allSatisfy { (0..<classes.classes).contains(Int($0)) }, .label)
            check(!kept.isEmpty || loss.whenEmpty != .error, .empty)
        }
        if let weight = weights.cellType {
            checkClasses(inputs.cellTypes, objective.cellTypes)
            checkFactor(gradients.cellTypeLogits != nil, Double(weight) * Double(scale))
        }
        if let weight = weights.batch {
            let lambda = objective.domainAdversarial.reversal.lambda
            check(lambda.isFinite, .parameter)
            checkClasses(inputs.batches, objective.domainAdversarial.crossEntropy)
            checkFactor(gradients.batchLogits != nil, Double(weight) * Double(scale))
            checkFactor(
                gradients.reversedBatchLogits != nil, Double(lambda) * Double(weight) * Double(scale))
        }
        guard !values.isEmpty, !mistakes.contains(.shape) else { return mistakes }
        check((0..<count).contains(where: selects) || objective.whenMaskEmpty != .error, .empty)
        return mistakes
    }

    /// Whether a probability is out of range, which the call finds while it computes.
    var hasWrongProbability: Bool {
        valueTerms.contains { value in
            guard value.form == .probabilities else { return false }
            let probabilities = inputs[keyPath: value.predictions] ?? []
            return probabilities.indices.contains {
                selects($0) && !(probabilities[$0] >= 0 && probabilities[$0] <= 1)
            }
        }
    }

    private var gradientsWithInputs: [(gradient: [Float]?, input: [Float]?)] {
        [
            (gradients.genePredictions, inputs.genePredictions),
            (gradients.geneNonzero, inputs.geneNonzero),
            (gradients.cellPredictions, inputs.cellPredictions),
            (gradients.cellNonzero, inputs.cellNonzero),
            (gradients.generatedPredictions, inputs.generatedPredictions),
            (gradients.cellEmbedding, inputs.cellEmbedding),
            (gradients.secondCellEmbedding, inputs.secondCellEmbedding),
            (gradients.cellTypeLogits, inputs.cellTypes?.logits),
            (gradients.batchLogits, inputs.batches?.logits),
            (gradients.reversedBatchLogits, inputs.batches?.logits),
        ]
    }

    // MARK: - The call

    mutating func run() throws {
        var mistakes = mistakes
        if mistakes.isEmpty, hasWrongProbability { mistakes = [.probability] }
        var value = ObjectiveValue?.none
        let succeeded = try succeeds(expectingOneOf: mistakes) { () throws(LossError) in
            let workspace = Workspace(workers: workers)
            guard usesBuffers else {
                value = try objective.valueAndGradient(
                    inputs, gradients: &gradients, gradientScale: scale, update: update, workspace: workspace)
                return
            }
            value = try callWithBuffers(workspace)
        }
        guard succeeded, let value else {
            if mistakes != [.probability] { try judgeUnwritten() }
            return
        }
        try judge(value)
    }

    private mutating func callWithBuffers(_ workspace: Workspace) throws(LossError) -> ObjectiveValue {
        var blocks: [UnsafeMutableRawBufferPointer] = []
        func copy<Element: BitwiseCopyable>(_ array: [Element]) -> UnsafeMutableBufferPointer<Element> {
            let buffer = UnsafeMutableBufferPointer<Element>.allocate(capacity: array.count)
            _ = buffer.initialize(from: array)
            blocks.append(UnsafeMutableRawBufferPointer(buffer))
            return buffer
        }
        func memory<Element: BitwiseCopyable>(_ array: [Element]?) -> UnsafeBufferPointer<Element>? {
            array.map { UnsafeBufferPointer(copy($0)) }
        }
        func memory(_ classes: ClassificationArrays?) -> ClassificationBuffers? {
            classes.map {
                ClassificationBuffers(
                    logits: UnsafeBufferPointer(copy($0.logits)),
                    labels: UnsafeBufferPointer(copy($0.labels)), classes: $0.classes)
            }
        }
        let buffers = ObjectiveBuffers(
            shape: inputs.shape, targets: memory(inputs.targets), mask: memory(inputs.mask),
            genePredictions: memory(inputs.genePredictions), geneNonzero: memory(inputs.geneNonzero),
            cellPredictions: memory(inputs.cellPredictions), cellNonzero: memory(inputs.cellNonzero),
            generatedPredictions: memory(inputs.generatedPredictions), width: inputs.width,
            cellEmbedding: memory(inputs.cellEmbedding),
            secondCellEmbedding: memory(inputs.secondCellEmbedding), cellTypes: memory(inputs.cellTypes),
            batches: memory(inputs.batches))
        let places = ObjectiveGradientBuffers(
            genePredictions: gradients.genePredictions.map(copy),
            geneNonzero: gradients.geneNonzero.map(copy),
            cellPredictions: gradients.cellPredictions.map(copy),
            cellNonzero: gradients.cellNonzero.map(copy),
            generatedPredictions: gradients.generatedPredictions.map(copy),
            cellEmbedding: gradients.cellEmbedding.map(copy),
            secondCellEmbedding: gradients.secondCellEmbedding.map(copy),
            cellTypeLogits: gradients.cellTypeLogits.map(copy), batchLogits: gradients.batchLogits.map(copy),
            reversedBatchLogits: gradients.reversedBatchLogits.map(copy))
        defer {
            gradients = ObjectiveGradientArrays(
                genePredictions: places.genePredictions.map { Array($0) },
                geneNonzero: places.geneNonzero.map { Array($0) },
                cellPredictions: places.cellPredictions.map { Array($0) },
                cellNonzero: places.cellNonzero.map { Array($0) },
                generatedPredictions: places.generatedPredictions.map { Array($0) },
                cellEmbedding: places.cellEmbedding.map { Array($0) },
                secondCellEmbedding: places.secondCellEmbedding.map { Array($0) },
                cellTypeLogits: places.cellTypeLogits.map { Array($0) },
                batchLogits: places.batchLogits.map { Array($0) },
                reversedBatchLogits: places.reversedBatchLogits.map { Array($0) })
            blocks.forEach { $0.deallocate() }
        }
        return try objective.valueAndGradient(
            buffers, gradients: places, gradientScale: scale, update: update, workspace: workspace)
    }

    // MARK: - Judgement

    /// Judges the gradients of a call that threw.
    func judgeUnwritten() throws {
        for member in Self.gradientMembers {
            guard (gradients[keyPath: member] ?? []).allSatisfy({ $0 == start }) else {
                throw Wrong("a call that threw wrote")
            }
        }
    }

    /// Judges a value and the gradients, which the call has written.
    func judge(_ value: ObjectiveValue) throws {
        try judgeSums(value)
        try judgeValueTerms(value)
        try judgeClasses(value)
        try judgePairs(value)
    }

    /// What an accumulated gradient started from.
    private var from: Float { update == .accumulate ? start : 0 }

    /// The terms that are on have values, and the total is their weighted sum.
    private func judgeSums(_ value: ObjectiveValue) throws {
        var (sum, size) = (0.0, 0.0)
        for term in ObjectiveTerm.allCases {
            guard let weight = objective.weights[term], let single = value.values[term] else {
                let isOff = objective.weights[term] == nil && value.values[term] == nil
                guard isOff && value.weighted[term] == nil else { throw Wrong("\(term) is on or off") }
                continue
            }
            let weighted = value.weighted[term] ?? .nan
            let expected = Double(weight) * single
            guard weighted == expected || (weighted.isNaN && expected.isNaN) else {
                throw Wrong("\(term) is weighted \(weighted), but \(expected) is expected")
            }
            sum += expected
            size += abs(expected)
        }
        guard sum.isFinite, size.isFinite else {
            guard !value.total.isFinite else { throw Wrong("the total is \(value.total)") }
            return
        }
        guard abs(value.total - sum) <= 1e-14 * size else {
            throw Wrong("the total is \(value.total), but the terms sum to \(sum)")
        }
    }

    private func judgeValueTerms(_ value: ObjectiveValue) throws {
        let count = inputs.shape.rows * inputs.shape.columns
        let range = 0..<count
        let values = valueTerms
        let selected = values.isEmpty ? 0 : range.count(where: selects)
        guard value.selectedCount == selected else { throw Wrong("\(value.selectedCount) are selected") }
        for member in values {
            guard let predictions = inputs[keyPath: member.predictions], let targets = inputs.targets,
                let actual = value.values[member.term]
            else { continue }
            let oracle = ElementwiseOracle(
                member.form, predictions: predictions, targets: targets, mask: inputs.mask)
            try oracle.judgeValue("\(member.term)", actual, of: range, .mean, objective.whenMaskEmpty)
            if member.term == .maskedGene {
                let metric = ElementwiseOracle(
                    .relativeError, predictions: predictions, targets: targets, mask: inputs.mask)
                try metric.judgeValue(
                    "relative error", value.relativeError ?? -1, of: range, .mean, objective.whenMaskEmpty)
            }
            guard let gradient = gradients[keyPath: member.gradient] else { continue }
            try oracle.judgeGradient(
                "gradient of \(member.term)", gradient, of: range, .mean, objective.whenMaskEmpty,
                scale: Double(objective.weights[member.term] ?? 0) * Double(scale), start: from)
        }
        for (term, gradient) in [
            (ObjectiveTerm.maskedGene, gradients.genePredictions), (.maskedGeneZero, gradients.geneNonzero),
            (.cellGene, gradients.cellPredictions), (.cellGeneZero, gradients.cellNonzero),
            (.generation, gradients.generatedPredictions),
        ] where objective.weights[term] == nil { try judgeUnread(gradient, "\(term)") }
    }

    /// The gradient of an input that no term reads.
    private func judgeUnread(_ gradient: [Float]?, _ name: String) throws {
        guard (gradient ?? []).allSatisfy({ $0 == from }) else {
            throw Wrong("the gradient of \(name) is written, but the term is off")
        }
    }

    private func judgeClasses(_ value: ObjectiveValue) throws {
        func judge(
            _ term: ObjectiveTerm, _ classes: ClassificationArrays?, _ loss: CrossEntropy,
            _ gradients: [(gradient: [Float]?, factor: Double)]
        ) throws {
            guard let weight = objective.weights[term] else {
                for (gradient, _) in gradients { try judgeUnread(gradient, "\(term)") }
                return
            }
            guard let classes, let actual = value.values[term] else { return }
            let oracle = CrossEntropyOracle(
                logits: classes.logits, labels: classes.labels, classes: classes.classes,
                ignored: loss.ignoredLabel)
            try oracle.judgeValue("\(term)", actual, loss.reduction, loss.whenEmpty)
            for (gradient, factor) in gradients {
                guard let gradient else { continue }
                try oracle.judgeGradient(
                    "gradient of \(term), \(factor)", gradient, loss.reduction,
                    scale: factor * Double(weight) * Double(scale), start: from)
            }
        }
        try judge(.cellType, inputs.cellTypes, objective.cellTypes, [(gradients.cellTypeLogits, 1)])
        try judge(
            .batch, inputs.batches, objective.domainAdversarial.crossEntropy,
            [
                (gradients.batchLogits, 1),
                (gradients.reversedBatchLogits, -Double(objective.domainAdversarial.reversal.lambda)),
            ])
    }

    private func judgePairs(_ value: ObjectiveValue) throws {
        let weights = objective.weights
        let shape = MatrixShape(rows: inputs.shape.rows, columns: inputs.width)
        if weights.contrastive == nil { try judgeUnread(gradients.secondCellEmbedding, "contrastive") }
        guard weights.elastic != nil || weights.contrastive != nil else {
            return try judgeUnread(gradients.cellEmbedding, "elastic and contrastive")
        }
        let (first, second) = (inputs.cellEmbedding ?? [], inputs.secondCellEmbedding ?? [])
        guard shape.rows > 0 else {
            for (actual, rule) in [
                (value.values.elastic, objective.elasticCellSimilarity.whenEmpty),
                (value.values.contrastive, objective.contrastiveCellEmbedding.whenEmpty),
            ] {
                guard let actual else { continue }
                guard rule == .zero ? actual == 0 : actual.isNaN else { throw Wrong("no cells: \(actual)") }
            }
            return
        }
        var oracles: [PairOracle] = []
        if let weight = weights.elastic {
            guard first.allSatisfy(\.isFinite),
                let oracle = PairOracle.elastic(
                    first, shape, threshold: objective.elasticCellSimilarity.threshold,
                    scale: Double(weight) * Double(scale))
            else { return }
            try oracle.judgeValue("ECS", value.values.elastic ?? .nan)
            oracles.append(oracle)
        }
        if let weight = weights.contrastive {
            let temperature = objective.contrastiveCellEmbedding.temperature
            guard first.allSatisfy(\.isFinite), second.allSatisfy(\.isFinite), temperature >= 0.1,
                temperature <= 10,
                let oracle = PairOracle.contrastive(
                    first, second, shape, temperature: temperature, scale: Double(weight) * Double(scale))
            else { return }
            try oracle.judgeValue("CCE", value.values.contrastive ?? .nan)
            if let gradient = gradients.secondCellEmbedding {
                try oracle.second.judgeGradient("CCE's second gradient", gradient, start: Double(from))
            }
            oracles.append(oracle)
        }
        guard let gradient = gradients.cellEmbedding, let oracle = oracles.first else { return }
        let sum = oracles.dropFirst().reduce(oracle.first) { $0 + $1.first }
        try sum.judgeGradient("gradient of the cell embedding", gradient, start: Double(from))
    }
}
