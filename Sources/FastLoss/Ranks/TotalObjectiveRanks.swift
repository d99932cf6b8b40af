// The total objective of a batch whose cells are spread over ranks.

import CFastLossKernels

extension TotalObjective {
    /// The objective of a batch whose cells are spread over ranks, from spans. Every rank gets the same value.
    ///
    /// All means and sums run over the cells of all ranks: those of the value terms over all selected elements,
    /// those of the classifications over all labels that count. A rank may have no cells, or select nothing.
    /// Outputs of the model are `Float`, ``BFloat16`` or `Float16`; 16-bit cell embeddings are widened into the
    /// workspace.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs for the rank's cells, and their targets.
    ///   - communicator: the rank's view of the group.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``, on every rank: this rank's own errors as without ranks;
    ///   ``LossError/rankFailed(rank:)`` if another rank throws or does not answer;
    ///   ``LossError/ranksDisagree(argument:value:rank:otherValue:otherRank:)``.
    public func value<Element: ModelOutputElement>(
        _ inputs: ObjectiveInputFields<Span<Element>, Span<Float>, Span<Bool>, Span<Int32>>,
        across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try RankedObjective(self, inputs.elements(), GradientTable(), RankGroup(communicator)).run(workspace)
    }

    /// The objective of a batch whose cells are spread over ranks, from arrays.
    public func value(
        _ inputs: ObjectiveArrays, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        defer { withExtendedLifetime(inputs) {} }
        return try RankedObjective(self, inputs.elements(), GradientTable(), RankGroup(communicator))
            .run(workspace)
    }

    /// The objective of a batch whose cells are spread over ranks, from buffer pointers.
    public func value(
        _ inputs: ObjectiveBuffers, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        try RankedObjective(self, inputs.elements(), GradientTable(), RankGroup(communicator)).run(workspace)
    }

    /// The objective of a batch whose cells are spread over ranks, and its gradients if they are wanted.
    package func valueAndGradient(
        _ inputs: ObjectiveElements, gradients: ObjectiveGradientMemory?, gradientScale: Float,
        update: GradientUpdate, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        let table = gradients?.table(scale: gradientScale, update: update) ?? GradientTable()
        return try RankedObjective(self, inputs, table, RankGroup(communicator)).run(workspace)
    }

    /// The objective of a batch whose cells are spread over ranks, and the gradients of this rank's inputs, from
    /// spans and into spans.
    ///
    /// The gradients are those of the whole batch's objective. A training loop that averages the parameters'
    /// gradients over the ranks passes the number of ranks as `gradientScale`.
    ///
    /// - Parameters:
    ///   - inputs: the model's outputs for the rank's cells, and their targets.
    ///   - gradients: a buffer for each gradient that is wanted, of the same inputs on all ranks.
    ///   - gradientScale: a finite factor of all gradients, the same on all ranks.
    ///   - update: whether the gradients replace the buffers' contents or are added to them.
    ///   - communicator: the rank's view of the group.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` as the value does, and the errors of gradients as without ranks. After
    ///   ``LossError/rankFailed(rank:)`` the buffers hold unspecified values.
    public func valueAndGradient<Element: ModelOutputElement>(
        _ inputs: ObjectiveInputFields<Span<Element>, Span<Float>, Span<Bool>, Span<Int32>>,
        gradients: inout ObjectiveGradientFields<MutableSpan<Element>>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        let table = gradients.table(scale: gradientScale, update: update)
        return try RankedObjective(self, inputs.elements(), table, RankGroup(communicator)).run(workspace)
    }

    /// The objective of a batch whose cells are spread over ranks, and the gradients of this rank's inputs, from
    /// arrays and into arrays.
    public func valueAndGradient(
        _ inputs: ObjectiveArrays, gradients: inout ObjectiveGradientArrays, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        defer { withExtendedLifetime(inputs) {} }
        let table = gradients.table(scale: gradientScale, update: update)
        return try RankedObjective(self, inputs.elements(), table, RankGroup(communicator)).run(workspace)
    }

    /// The objective of a batch whose cells are spread over ranks, and the gradients of this rank's inputs, from
    /// and through buffer pointers.
    public func valueAndGradient(
        _ inputs: ObjectiveBuffers, gradients: ObjectiveGradientBuffers, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> ObjectiveValue {
        let table = gradients.table(scale: gradientScale, update: update)
        return try RankedObjective(self, inputs.elements(), table, RankGroup(communicator)).run(workspace)
    }
}

/// The objective of the cells of all ranks, on one of them.
///
/// The mean of a term over all ranks is Σ count_r·mean_r / Σ count_r. So each rank computes its own means with
/// its weights times count_r / Σ count_r, which makes its gradients those of the whole. Sums add up as they are.
/// ECS and CCE, which couple cells of different ranks, go around the ring.
struct RankedObjective<Ranks: Communicator> {
    private let objective: TotalObjective
    private let inputs: ObjectiveElements
    private let gradients: GradientTable
    private let group: RankGroup<Ranks>

    init(
        _ objective: TotalObjective, _ inputs: ObjectiveElements, _ gradients: GradientTable,
        _ group: RankGroup<Ranks>
    ) {
        self.objective = objective
        self.inputs = inputs
        self.gradients = gradients
        self.group = group
    }

    /// The selections that terms are means over.
    private enum Selection: Int, CaseIterable {
        case mask
        case cellTypes
        case batches
    }

    func run(_ workspace: Workspace) throws(LossError) -> ObjectiveValue {
        let named = arguments
        let counts = Selection.allCases.map { (name: String?.none, value: Double(count($0))) }
        let cells: [(name: String?, value: Double)] = [(nil, Double(inputs.shape.rows))]
        let table = try group.agree(on: named + counts + cells) { () throws(LossError) in
            // A plan of one rank's cells makes the same checks. That this rank has none is no error.
            var layout = ScratchLayout(workers: 1)
            _ = try TotalObjective.Plan(ofRank(objective), inputs, gradients, in: &layout)
        }
        let totals = Selection.allCases.map { selection in
            (0..<group.size).reduce(0) { $0 + table[$1, named.count + selection.rawValue] }
        }
        try checkEmpty(totals)
        if !(0..<group.size).contains(where: { table[$0, named.count + counts.count] > 0 }) {
            try checkCells()
        }

        // The terms that need no other rank.
        let own = local(totals)
        let terms = ObjectiveTerm.allCases.filter { own.weights[$0] != nil }
        var operands: FloatOperands?
        let sums = try group.sum(terms.count + 1) { () throws(RankFailure) in
            do throws(LossError) {
                operands = try pairOperands(workspace)
                var layout = workspace.layout
                let plan = try TotalObjective.Plan(own, inputs, gradients, in: &layout)
                let value = try workspace.run(plan, layout)
                return terms.map { (value.values[$0] ?? 0) * share(selection(of: $0)) }
                    + [(value.relativeError ?? 0) * Double(count(.mask))]
            } catch {
                throw .computation(error)
            }
        }

        var result = ObjectiveValue()
        for term in ObjectiveTerm.valueTerms.indices.map({ ObjectiveTerm.valueTerms[$0] }) {
            record(reduced(term, terms, sums, totals), of: term, in: &result)
        }
        if objective.weights.maskedGene != nil {
            let total = totals[Selection.mask.rawValue]
            result.relativeError = total > 0 ? sums[terms.count] / total : emptyValue(.mask)
        }
        if hasValueTerms { result.selectedCount = Int(totals[Selection.mask.rawValue]) }
        record(reduced(.cellType, terms, sums, totals), of: .cellType, in: &result)
        if let operands {
            if let elastic = try elastic(operands, workspace) { record(elastic, of: .elastic, in: &result) }
            if let contrastive = try contrastive(operands, workspace) {
                record(contrastive, of: .contrastive, in: &result)
            }
            operands.finish()
        }
        record(reduced(.batch, terms, sums, totals), of: .batch, in: &result)
        return result
    }
}

// MARK: - Arguments

extension RankedObjective {
    private var weights: TermValues<Float> { objective.weights }

    private var hasValueTerms: Bool {
        ObjectiveTerm.valueTerms.indices.contains { weights[ObjectiveTerm.valueTerms[$0]] != nil }
    }

    /// What must be the same on all ranks. A term that is off has an infinite weight, which no other has.
    private var arguments: [(name: String?, value: Double)] {
        var arguments: [(name: String?, value: Double)] = [
            ("the number of the computation", 3), ("width", Double(inputs.width)),
            ("elasticCellSimilarity.threshold", Double(objective.elasticCellSimilarity.threshold)),
            ("contrastiveCellEmbedding.temperature", Double(objective.contrastiveCellEmbedding.temperature)),
            ("lambda", Double(objective.domainAdversarial.reversal.lambda)),
            ("nonzeroForm", objective.nonzeroForm == .logits ? 1 : 0),
            ("whenMaskEmpty", objective.whenMaskEmpty.number),
            ("cellTypes.whenEmpty", objective.cellTypes.whenEmpty.number),
            ("batches.whenEmpty", objective.domainAdversarial.crossEntropy.whenEmpty.number),
            ("cellTypes.reduction", reduction(.cellTypes) == .sum ? 1 : 0),
            ("batches.reduction", reduction(.batches) == .sum ? 1 : 0),
            ("gradientScale", Double(gradients.scale)),
        ]
        for term in ObjectiveTerm.allCases {
            arguments.append((term.weightName, weights[term].map(Double.init) ?? .infinity))
        }
        for slot in GradientSlot.allCases {
            arguments.append((slot.name, gradients[slot] == nil ? 0 : 1))
        }
        return arguments
    }

    /// The objective of a rank that may have selected nothing.
    private func ofRank(_ objective: TotalObjective) -> TotalObjective {
        var result = objective
        result.whenMaskEmpty = .zero
        result.cellTypes.whenEmpty = .zero
        result.domainAdversarial.crossEntropy.whenEmpty = .zero
        result.elasticCellSimilarity.whenEmpty = .zero
        result.contrastiveCellEmbedding.whenEmpty = .zero
        return result
    }

    private func selection(of term: ObjectiveTerm) -> Selection {
        switch term {
        case .cellType: .cellTypes
        case .batch: .batches
        default: .mask
        }
    }

    /// How many elements or labels of this rank count.
    private func count(_ selection: Selection) -> Int {
        func labels(_ labels: UnsafeBufferPointer<Int32>?, ignored: Int32) -> Int {
            labels.map { $0.reduce(0) { $0 + ($1 == ignored ? 0 : 1) } } ?? 0
        }
        switch selection {
        case .mask:
            if let mask = inputs.mask {
                return mask.baseAddress.map { kernels.count_selected($0, mask.count) } ?? 0
            }
            return inputs.targets?.count ?? 0
        case .cellTypes:
            return labels(inputs.cellTypes?.labels, ignored: objective.cellTypes.ignoredLabel)
        case .batches:
            return labels(
                inputs.batches?.labels, ignored: objective.domainAdversarial.crossEntropy.ignoredLabel)
        }
    }

    private func reduction(_ selection: Selection) -> LossReduction {
        switch selection {
        case .mask: .mean
        case .cellTypes: objective.cellTypes.reduction
        case .batches: objective.domainAdversarial.crossEntropy.reduction
        }
    }

    /// By what this rank's value of a term is multiplied before the ranks' values are added.
    private func share(_ selection: Selection) -> Double {
        reduction(selection) == .sum ? 1 : Double(count(selection))
    }

    private func rule(_ selection: Selection) -> EmptySelectionRule {
        switch selection {
        case .mask: objective.whenMaskEmpty
        case .cellTypes: objective.cellTypes.whenEmpty
        case .batches: objective.domainAdversarial.crossEntropy.whenEmpty
        }
    }

    private func emptyValue(_ selection: Selection) -> Double { rule(selection) == .nan ? .nan : 0 }

    /// Throws if all ranks together have selected nothing for a term, as one process would.
    private func checkEmpty(_ totals: [Double]) throws(LossError) {
        for term in ObjectiveTerm.allCases where weights[term] != nil {
            if term == .elastic || term == .contrastive { continue }
            let selection = selection(of: term)
            guard totals[selection.rawValue] == 0, rule(selection) == .error else { continue }
            switch selection {
            case .mask: throw .emptySelection(loss: "TotalObjective", row: nil)
            case .cellTypes: throw .emptySelection(loss: "CrossEntropy of cellTypes.labels", row: nil)
            case .batches: throw .emptySelection(loss: "CrossEntropy of batches.labels", row: nil)
            }
        }
    }

    /// Throws if a term over pairs of cells does not take a batch without cells. Before anything is written.
    private func checkCells() throws(LossError) {
        if weights.elastic != nil {
            _ = try objective.elasticCellSimilarity.whenEmpty.value(loss: "ElasticCellSimilarity", row: nil)
        }
        if weights.contrastive != nil {
            _ = try objective.contrastiveCellEmbedding.whenEmpty.value(
                loss: "ContrastiveCellEmbedding", row: nil)
        }
    }

    /// The terms that this rank computes alone, weighted by its share.
    private func local(_ totals: [Double]) -> TotalObjective {
        var result = ofRank(objective)
        result.weights.elastic = nil
        result.weights.contrastive = nil
        for term in ObjectiveTerm.allCases {
            guard let weight = result.weights[term] else { continue }
            let selection = selection(of: term)
            let total = totals[selection.rawValue]
            if total > 0, reduction(selection) == .mean {
                result.weights[term] = Float(Double(weight) * Double(count(selection)) / total)
            }
        }
        // Without any selection the rule decides about the gradients, on every rank.
        if totals[Selection.mask.rawValue] == 0 { result.whenMaskEmpty = objective.whenMaskEmpty }
        if totals[Selection.cellTypes.rawValue] == 0 {
            result.cellTypes.whenEmpty = objective.cellTypes.whenEmpty
        }
        if totals[Selection.batches.rawValue] == 0 {
            result.domainAdversarial.crossEntropy.whenEmpty =
                objective.domainAdversarial.crossEntropy.whenEmpty
        }
        return result
    }
}

// MARK: - Terms

extension RankedObjective {
    /// The cell embeddings and their gradients as floats; nil if no term over pairs of cells is on.
    private func pairOperands(_ workspace: Workspace) throws(LossError) -> FloatOperands? {
        let isPaired = weights.contrastive != nil
        guard isPaired || weights.elastic != nil else { return nil }
        return try FloatOperands(
            (inputs.cellEmbedding, isPaired ? inputs.secondCellEmbedding : nil),
            gradients: (gradients[.cellEmbedding], isPaired ? gradients[.secondCellEmbedding] : nil),
            update: gradients.update, in: workspace, for: "TotalObjective")
    }

    private func elastic(_ operands: FloatOperands, _ workspace: Workspace) throws(LossError) -> Double? {
        guard let weight = weights.elastic, let embeddings = operands.outputs.first else { return nil }
        return try RankedElastic(
            objective.elasticCellSimilarity, embeddings: embeddings,
            named: InputSlot.cellEmbedding.name, shape: inputs.embeddingShape,
            into: gradients.output(.cellEmbedding, weight: weight)?.moved(to: operands.gradients.first), group
        ).run(workspace).value
    }

    private func contrastive(_ operands: FloatOperands, _ workspace: Workspace) throws(LossError) -> Double? {
        guard let weight = weights.contrastive, let first = operands.outputs.first,
            let second = operands.outputs.second
        else { return nil }
        return try RankedContrastive(
            objective.contrastiveCellEmbedding, first: first, second: second,
            named: (InputSlot.cellEmbedding.name, InputSlot.secondCellEmbedding.name),
            shape: inputs.embeddingShape,
            into: gradients.output(
                .cellEmbedding, weight: weight, update: weights.elastic == nil ? nil : .accumulate
            )?.moved(to: operands.gradients.first),
            gradients.output(.secondCellEmbedding, weight: weight)?.moved(to: operands.gradients.second),
            communicator: group.communicator
        ).run(workspace).value
    }

    /// The mean or the sum of a term over all ranks; nil if it is off.
    private func reduced(
        _ term: ObjectiveTerm, _ terms: [ObjectiveTerm], _ sums: [Double], _ totals: [Double]
    ) -> Double? {
        guard let index = terms.firstIndex(of: term) else { return nil }
        let selection = selection(of: term)
        let total = totals[selection.rawValue]
        guard total > 0 else { return emptyValue(selection) }
        return reduction(selection) == .sum ? sums[index] : sums[index] / total
    }

    private func record(_ value: Double?, of term: ObjectiveTerm, in result: inout ObjectiveValue) {
        guard let value else { return }
        let weighted = Double(weights[term] ?? 0) * value
        result.values[term] = value
        result.weighted[term] = weighted
        result.total += weighted
    }
}
