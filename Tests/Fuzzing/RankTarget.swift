// ECS, CCE and the objective across ranks: unequal and empty ranks, mistakes of some rank and arguments that differ;
// value and gradients against the oracle of the whole batch, and against one process.

import FastLoss
import RankThreads

enum RankTarget {
    static func run(_ input: inout FuzzInput) throws {
        let counts = (0..<input.int(1...5)).map { _ in input.rarely(4) ? 0 : input.int(1...3) }
        switch input.int(0...2) {
        case 0: try elastic(&input, counts)
        case 1: try contrastive(&input, counts)
        default: try objective(&input, counts)
        }
    }

    /// The calls of ECS or CCE on all ranks, and their errors judged.
    ///
    /// - Returns: what the ranks computed; nil if they threw as expected, or if there are no rows.
    private static func judged(
        _ calls: [some RankCall], rows: Int, whenEmpty: EmptySelectionRule, start: Float
    ) throws -> (outcomes: [RankOutcome], value: Double)? {
        let outcomes = try onRanks(calls.count) { try calls[$0.rank].run(across: $0) }.map { try $0.get() }
        guard
            let value = try RankErrors(
                own: calls.map(\.mistakes), common: calls.map(\.common),
                all: rows == 0 && whenEmpty == .error ? .empty : nil
            ).judge(outcomes, start: start)
        else { return nil }
        guard rows > 0 else {
            guard whenEmpty == .zero ? value == 0 : value.isNaN else { throw Wrong("no rows: \(value)") }
            return nil
        }
        return (outcomes, value)
    }

    // MARK: - ECS

    private struct ElasticCall: RankCall {
        var loss: ElasticCellSimilarity
        let embeddings: [Float]
        let shape: MatrixShape
        var scale: Float
        let update: GradientUpdate
        let start: Float
        let workers: Int

        var mistakes: Set<ExpectedError> {
            var mistakes: Set<ExpectedError> = []
            if embeddings.count != shape.rows * shape.columns { mistakes.insert(.shape) }
            if !(loss.threshold >= -1 && loss.threshold <= 1) || !scale.isFinite {
                mistakes.insert(.parameter)
            }
            return mistakes
        }

        /// What ranks must agree on.
        var common: [AnyHashable] { [loss.threshold, scale, loss.whenEmpty] }

        func run(across rank: ThreadCommunicator) throws -> RankOutcome {
            var gradient = [Float](repeating: start, count: embeddings.count)
            let value = Result { () throws(LossError) in
                var span = gradient.mutableSpan
                return try loss.valueAndGradient(
                    embeddings: embeddings.span, shape: shape, gradient: &span, gradientScale: scale,
                    update: update, across: rank, workspace: Workspace(workers: workers))
            }
            return RankOutcome(value: value, gradients: [gradient])
        }
    }

    private static func elastic(_ input: inout FuzzInput, _ counts: [Int]) throws {
        let batch = RankBatch(counts: counts, columns: input.rarely(32) ? 0 : input.int(1...9))
        let x = SimilarityTarget.embeddings(&input, batch.shape)
        let threshold = input.rarely(16) ? input.number(.bits) : Float(input.int(-10...10)) / 10
        let loss = ElasticCellSimilarity(
            threshold: threshold, whenEmpty: input.choice([.error, .zero, .nan]), certificate: .never)
        let update = input.choice([GradientUpdate.overwrite, .accumulate])
        let start: Float = update == .accumulate ? 0.75 : -12345
        let scale = input.rarely(32) ? input.number(.mixed) : input.choice([Float(1), 0.5, -3])
        var calls = counts.indices.map { rank in
            var own = batch.part(rank, of: x)
            if input.rarely(64) { own.append(0) }
            return ElasticCall(
                loss: loss, embeddings: own, shape: batch.shape(of: rank), scale: scale, update: update,
                start: start, workers: 1 + input.int(0...1))
        }
        if input.rarely(), counts.count > 1 {
            let rank = input.int(0...counts.count - 1)
            switch input.int(0...2) {
            case 0: calls[rank].loss.threshold = 0.125
            case 1: calls[rank].scale = 7
            default: calls[rank].loss.whenEmpty = .zero
            }
        }
        guard
            let (outcomes, value) = try judged(
                calls, rows: batch.rows, whenEmpty: loss.whenEmpty, start: start)
        else { return }

        let gradient = outcomes.flatMap { $0.gradients[0] }
        var alone = [Float](repeating: start, count: x.count)
        var span = alone.mutableSpan
        let one = try loss.valueAndGradient(
            embeddings: x.span, shape: batch.shape, gradient: &span, gradientScale: scale, update: update,
            workspace: Workspace(workers: 1)
        ).value
        try judgeNaN("ECS", [value], [one])
        try judgeNaN("ECS's gradient", gradient, alone)
        guard x.allSatisfy(\.isFinite), batch.columns > 0,
            let oracle = PairOracle.elastic(x, batch.shape, threshold: threshold, scale: Double(scale))
        else { return }
        try oracle.judgeValue("ECS", value)
        try judge("ECS of one process", value, truth: one, naive: 0, allowed: 2 * oracle.allowedValue)
        try oracle.first.judgeGradient(
            "ECS's gradient", gradient, start: update == .accumulate ? Double(start) : 0)
    }

    // MARK: - CCE

    private struct ContrastiveCall: RankCall {
        var loss: ContrastiveCellEmbedding
        let first: [Float]
        let second: [Float]
        let shape: MatrixShape
        var scale: Float
        let update: GradientUpdate
        let start: Float
        let workers: Int

        var mistakes: Set<ExpectedError> {
            var mistakes: Set<ExpectedError> = []
            let count = shape.rows * shape.columns
            if first.count != count || second.count != count { mistakes.insert(.shape) }
            let isValid = loss.temperature >= .leastNormalMagnitude && loss.temperature.isFinite
            if !isValid || !scale.isFinite { mistakes.insert(.parameter) }
            return mistakes
        }

        var common: [AnyHashable] { [loss.temperature, scale, loss.whenEmpty] }

        func run(across rank: ThreadCommunicator) throws -> RankOutcome {
            var firstGradient = [Float](repeating: start, count: first.count)
            var secondGradient = [Float](repeating: start, count: second.count)
            let value = Result { () throws(LossError) in
                var firstSpan = firstGradient.mutableSpan
                var secondSpan = secondGradient.mutableSpan
                return try loss.valueAndGradient(
                    first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
                    secondGradient: &secondSpan, gradientScale: scale, update: update, across: rank,
                    workspace: Workspace(workers: workers))
            }
            return RankOutcome(value: value, gradients: [firstGradient, secondGradient])
        }
    }

    private static func contrastive(_ input: inout FuzzInput, _ counts: [Int]) throws {
        let batch = RankBatch(counts: counts, columns: input.rarely(32) ? 0 : input.int(1...9))
        let first = SimilarityTarget.embeddings(&input, batch.shape)
        let second = SimilarityTarget.embeddings(&input, batch.shape)
        let temperature = input.rarely(16) ? input.number(.bits) : Float(input.int(1...20)) / 10
        let loss = ContrastiveCellEmbedding(
            temperature: temperature, whenEmpty: input.choice([.error, .zero, .nan]))
        let update = input.choice([GradientUpdate.overwrite, .accumulate])
        let start: Float = update == .accumulate ? 0.75 : -12345
        let scale = input.rarely(32) ? input.number(.mixed) : input.choice([Float(1), 0.5, -3])
        var calls = counts.indices.map { rank in
            var own = batch.part(rank, of: second)
            if input.rarely(64) { own.append(0) }
            return ContrastiveCall(
                loss: loss, first: batch.part(rank, of: first), second: own, shape: batch.shape(of: rank),
                scale: scale, update: update, start: start, workers: 1 + input.int(0...1))
        }
        if input.rarely(), counts.count > 1 {
            let rank = input.int(0...counts.count - 1)
            switch input.int(0...2) {
            case 0: calls[rank].loss.temperature = 0.125
            case 1: calls[rank].scale = 7
            default: calls[rank].loss.whenEmpty = .zero
            }
        }
        guard
            let (outcomes, value) = try judged(
                calls, rows: batch.rows, whenEmpty: loss.whenEmpty, start: start)
        else { return }

        let gradients = (0..<2).map { side in outcomes.flatMap { $0.gradients[side] } }
        var alone = [
            [Float](repeating: start, count: first.count), [Float](repeating: start, count: first.count),
        ]
        var (firstAlone, secondAlone) = (alone[0], alone[1])
        var firstSpan = firstAlone.mutableSpan
        var secondSpan = secondAlone.mutableSpan
        let one = try loss.valueAndGradient(
            first: first.span, second: second.span, shape: batch.shape, firstGradient: &firstSpan,
            secondGradient: &secondSpan, gradientScale: scale, update: update,
            workspace: Workspace(workers: 1)
        ).value
        alone = [firstAlone, secondAlone]
        guard temperature >= 0.1 && temperature <= 10 else { return }
        try judgeNaN("CCE", [value], [one])
        for side in 0..<2 { try judgeNaN("CCE's gradient \(side)", gradients[side], alone[side]) }
        guard first.allSatisfy(\.isFinite), second.allSatisfy(\.isFinite), batch.columns > 0,
            let oracle = PairOracle.contrastive(
                first, second, batch.shape, temperature: temperature, scale: Double(scale))
        else { return }
        try oracle.judgeValue("CCE", value)
        try judge("CCE of one process", value, truth: one, naive: 0, allowed: 2 * oracle.allowedValue)
        let from = update == .accumulate ? Double(start) : 0
        try oracle.first.judgeGradient("CCE's first gradient", gradients[0], start: from)
        try oracle.second.judgeGradient("CCE's second gradient", gradients[1], start: from)
    }

    // MARK: - The objective

    private static func objective(_ input: inout FuzzInput, _ counts: [Int]) throws {
        let batch = RankBatch(counts: counts, columns: 1)
        var whole = ObjectiveCall(&input, rows: batch.rows)
        var calls = counts.indices.map { rank in
            var call = whole.part(rank, of: batch)
            // No mask selects everything, too.
            if input.bool(), call.inputs.mask?.allSatisfy(\.self) ?? false,
                call.inputs.mask?.count == call.inputs.targets?.count
            {
                call.inputs.mask = nil
            }
            return call
        }
        if input.rarely(), counts.count > 1 { disagree(&calls[input.int(0...counts.count - 1)], &input) }
        let outcomes = try onRanks(counts.count) { [calls] rank in
            var call = calls[rank.rank]
            let value = Result { () throws(LossError) in
                try call.objective.valueAndGradient(
                    call.inputs, gradients: &call.gradients, gradientScale: call.scale, update: call.update,
                    across: rank, workspace: Workspace(workers: call.workers))
            }
            return (value: value, gradients: call.gradients)
        }.map { try $0.get() }
        for (rank, outcome) in outcomes.enumerated() { calls[rank].gradients = outcome.gradients }

        let own = calls.map(\.mistakesOfRank)
        let errors = RankErrors(
            own: own, common: calls.map(\.common), all: whole.mistakes.contains(.empty) ? .empty : nil,
            late: zip(calls, own).map { $1.isEmpty && $0.hasWrongProbability })
        guard
            let value = try errors.judge(
                outcomes.map(\.value), unwritten: { try calls[$0].judgeUnwritten() })
        else { return }
        for member in ObjectiveCall.gradientMembers where whole.gradients[keyPath: member] != nil {
            whole.gradients[keyPath: member] = calls.flatMap { $0.gradients[keyPath: member] ?? [] }
        }
        try whole.judge(value)
    }

    /// Gives a rank another argument.
    private static func disagree(_ call: inout ObjectiveCall, _ input: inout FuzzInput) {
        switch input.int(0...8) {
        case 0: call.objective.elasticCellSimilarity.threshold = 0.125
        case 1: call.objective.contrastiveCellEmbedding.temperature = 0.125
        case 2: call.objective.domainAdversarial.reversal.lambda = 0.125
        case 3: call.objective.cellTypes.whenEmpty = .zero
        case 4: call.objective.whenMaskEmpty = .zero
        case 5: call.objective.cellTypes.reduction = .mean
        case 6: call.objective.weights[input.choice(ObjectiveTerm.allCases)] = input.bool() ? nil : 3
        case 7: call.gradients[keyPath: input.choice(ObjectiveCall.gradientMembers)] = nil
        default: call.scale = 7
        }
    }

    // MARK: - Judgement

    /// NaN is where it is without ranks. Where a gradient overflows, its parts may cancel to NaN in either.
    private static func judgeNaN<Number: BinaryFloatingPoint>(
        _ name: String, _ actual: [Number], _ alone: [Number]
    ) throws {
        for (index, (actual, alone)) in zip(actual, alone).enumerated()
        where actual.isNaN != alone.isNaN && !actual.isInfinite && !alone.isInfinite {
            throw Wrong("\(name)[\(index)] is \(actual), but that of one process is \(alone)")
        }
    }
}

/// A rank's call of a loss over pairs of cells.
private protocol RankCall: Sendable {
    /// What the rank finds in its own arguments.
    var mistakes: Set<ExpectedError> { get }
    /// What ranks must agree on.
    var common: [AnyHashable] { get }
    func run(across rank: ThreadCommunicator) throws -> RankOutcome
}

/// What a rank computed.
private struct RankOutcome: Sendable {
    let value: Result<LossValue, LossError>
    let gradients: [[Float]]
}

/// The errors that the ranks of a group must report.
private struct RankErrors {
    /// What each rank finds in its own arguments.
    let own: [Set<ExpectedError>]
    /// What the ranks must agree on.
    let common: [[AnyHashable]]
    /// What all find.
    let all: ExpectedError?
    /// Whether a rank finds a wrong probability while it computes.
    var late: [Bool] = []

    /// Judges the outcomes of losses; returns their value, if there is one.
    func judge(_ outcomes: [RankOutcome], start: Float) throws -> Double? {
        try judge(
            outcomes.map(\.value),
            unwritten: { rank in
                guard outcomes[rank].gradients.joined().allSatisfy({ $0 == start }) else {
                    throw Wrong("rank \(rank) threw and wrote")
                }
            })?.value
    }

    /// Judges the ranks' results.
    ///
    /// - Parameter unwritten: judges the gradients of a rank that throws before it computes.
    /// - Returns: what all ranks returned; nil if they threw as expected.
    func judge<Value: Equatable>(
        _ results: [Result<Value, LossError>], unwritten: (Int) throws -> Void
    ) throws -> Value? {
        if own.contains(where: { !$0.isEmpty }) {
            try judgeFailures(results, of: own)
            for rank in own.indices {
                do { try unwritten(rank) } catch { throw Wrong("\(error): rank \(rank), mistakes \(own)") }
            }
            return nil
        }
        let shared = common.contains { $0 != common[0] } ? ExpectedError.disagreement : all
        if let shared {
            for (rank, result) in results.enumerated() {
                guard case .failure(let error) = result, ExpectedError(error) == shared else {
                    throw Wrong("rank \(rank) has \(result), but \(shared) is expected")
                }
                do { try unwritten(rank) } catch { throw Wrong("\(error): rank \(rank), all \(shared)") }
            }
            return nil
        }
        if late.contains(true) {
            try judgeFailures(results, of: late.map { $0 ? [.probability] : [] })
            return nil
        }
        let values = try results.map { result in
            do throws(LossError) { return try result.get() } catch { throw Wrong("the error is '\(error)'") }
        }
        // A text has NaN equal to itself.
        guard values.allSatisfy({ "\($0)" == "\(values[0])" }) else { throw Wrong("ranks differ: \(values)") }
        return values[0]
    }

    /// Each rank that made a mistake reports it, and each other names one of those.
    private func judgeFailures<Value>(
        _ results: [Result<Value, LossError>], of mistakes: [Set<ExpectedError>]
    ) throws {
        for (rank, result) in results.enumerated() {
            let isExpected =
                switch result {
                case .success: false
                case .failure(.rankFailed(let culprit)):
                    mistakes[rank].isEmpty && mistakes.indices.contains(culprit)
                        && !mistakes[culprit].isEmpty
                case .failure(let error): mistakes[rank].contains(ExpectedError(error))
                }
            guard isExpected else { throw Wrong("rank \(rank) has \(result), but mistakes are \(mistakes)") }
        }
    }
}

// MARK: - One rank's part of an objective

extension ObjectiveCall {
    /// The call of a rank with its rows.
    fileprivate func part(_ rank: Int, of batch: RankBatch) -> ObjectiveCall {
        var part = self
        let columns = inputs.shape.columns
        func rows<Element>(_ elements: [Element]?, _ width: Int) -> [Element]? {
            elements.map { batch.part(rank, of: $0, width: width) }
        }
        func rows(_ classes: ClassificationArrays?) -> ClassificationArrays? {
            classes.map {
                ClassificationArrays(
                    logits: batch.part(rank, of: $0.logits, width: $0.classes),
                    labels: batch.part(rank, of: $0.labels, width: 1), classes: $0.classes)
            }
        }
        part.inputs.shape.rows = batch.counts[rank]
        part.inputs.targets = rows(inputs.targets, columns)
        part.inputs.mask = rows(inputs.mask, columns)
        part.inputs.genePredictions = rows(inputs.genePredictions, columns)
        part.inputs.geneNonzero = rows(inputs.geneNonzero, columns)
        part.inputs.cellPredictions = rows(inputs.cellPredictions, columns)
        part.inputs.cellNonzero = rows(inputs.cellNonzero, columns)
        part.inputs.generatedPredictions = rows(inputs.generatedPredictions, columns)
        part.inputs.cellEmbedding = rows(inputs.cellEmbedding, inputs.width)
        part.inputs.secondCellEmbedding = rows(inputs.secondCellEmbedding, inputs.width)
        part.inputs.cellTypes = rows(inputs.cellTypes)
        part.inputs.batches = rows(inputs.batches)
        part.gradients.genePredictions = rows(gradients.genePredictions, columns)
        part.gradients.geneNonzero = rows(gradients.geneNonzero, columns)
        part.gradients.cellPredictions = rows(gradients.cellPredictions, columns)
        part.gradients.cellNonzero = rows(gradients.cellNonzero, columns)
        part.gradients.generatedPredictions = rows(gradients.generatedPredictions, columns)
        part.gradients.cellEmbedding = rows(gradients.cellEmbedding, inputs.width)
        part.gradients.secondCellEmbedding = rows(gradients.secondCellEmbedding, inputs.width)
        part.gradients.cellTypeLogits = rows(gradients.cellTypeLogits, inputs.cellTypes?.classes ?? 1)
        part.gradients.batchLogits = rows(gradients.batchLogits, inputs.batches?.classes ?? 1)
        part.gradients.reversedBatchLogits = rows(
            gradients.reversedBatchLogits, inputs.batches?.classes ?? 1)
        return part
    }

    /// The mistakes of a rank, which may have selected nothing.
    fileprivate var mistakesOfRank: Set<ExpectedError> {
        var call = self
        call.objective.whenMaskEmpty = .zero
        call.objective.cellTypes.whenEmpty = .zero
        call.objective.domainAdversarial.crossEntropy.whenEmpty = .zero
        call.objective.elasticCellSimilarity.whenEmpty = .zero
        call.objective.contrastiveCellEmbedding.whenEmpty = .zero
        return call.mistakes
    }

    /// What ranks must agree on.
    fileprivate var common: [AnyHashable] {
        let adversary = objective.domainAdversarial
        let numbers: [Float] = [
            objective.elasticCellSimilarity.threshold, objective.contrastiveCellEmbedding.temperature,
            adversary.reversal.lambda, scale,
        ]
        let options: [AnyHashable] = [
            objective.nonzeroForm, objective.whenMaskEmpty, objective.cellTypes.whenEmpty,
            objective.cellTypes.reduction, adversary.crossEntropy.whenEmpty, adversary.crossEntropy.reduction,
        ]
        // NaN where no term reads it is no disagreement.
        return numbers.map { $0.isNaN ? "NaN" : AnyHashable($0) } + options
            + ObjectiveTerm.allCases.map { objective.weights[$0] }
            + Self.gradientMembers.map { gradients[keyPath: $0] == nil }
    }
}
