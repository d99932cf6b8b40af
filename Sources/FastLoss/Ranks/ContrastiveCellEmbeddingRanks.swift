// Contrastive cell embedding of a batch whose cells are spread over ranks.

import CFastLossKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

extension ContrastiveCellEmbedding {
    /// Computes the loss of a batch whose cells are spread over ranks. Every rank calls it with its own cells,
    /// and gets the same value.
    ///
    /// Each cell is compared with the second encodings of all ranks. Ranks may have different numbers of cells,
    /// or none.
    ///
    /// - Parameters:
    ///   - first: the first encoding of the rank's cells, row-major.
    ///   - second: the second encoding of the same cells.
    ///   - shape: the rank's cells of D columns.
    ///   - communicator: the rank's view of the group.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``, on every rank: this rank's own errors as without ranks;
    ///   ``LossError/rankFailed(rank:)`` if another rank throws or does not answer;
    ///   ``LossError/ranksDisagree(argument:value:rank:otherValue:otherRank:)``.
    public func value(
        first: Span<Float>, second: Span<Float>, shape: MatrixShape, across communicator: some Communicator,
        workspace: Workspace
    ) throws(LossError) -> LossValue {
        try RankedContrastive(
            self, first: first, second: second, shape: shape, into: nil, nil, communicator: communicator
        ).run(workspace)
    }

    /// Computes the loss of a batch whose cells are spread over ranks, and the gradients of this rank's cells.
    ///
    /// The gradients are those of the whole batch's loss. A training loop that averages the parameters'
    /// gradients over the ranks passes the number of ranks as `gradientScale`.
    ///
    /// It takes 8·B²·D flops over all ranks, where one process takes 6·B²·D: similarities are computed a second
    /// time, because a softmax is known only after its row has met all ranks.
    ///
    /// - Parameters:
    ///   - first: the first encoding of the rank's cells, row-major.
    ///   - second: the second encoding of the same cells.
    ///   - shape: the rank's cells of D columns.
    ///   - firstGradient: receives the gradient of `first`. It may not overlap any other argument. After
    ///     ``LossError/rankFailed(rank:)`` it holds unspecified values.
    ///   - secondGradient: receives the gradient of `second`, likewise.
    ///   - gradientScale: a finite factor of the gradients, the same on all ranks.
    ///   - update: whether the gradients replace the buffers' contents or are added to them.
    ///   - communicator: the rank's view of the group.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` as ``value(first:second:shape:across:workspace:)`` does, and if buffers overlap.
    public func valueAndGradient(
        first: Span<Float>, second: Span<Float>, shape: MatrixShape, firstGradient: inout MutableSpan<Float>,
        secondGradient: inout MutableSpan<Float>, gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let outputs = (
            GradientOutput(
                firstGradient.memory, named: "firstGradient", scale: gradientScale, update: update),
            GradientOutput(
                secondGradient.memory, named: "secondGradient", scale: gradientScale, update: update)
        )
        return try RankedContrastive(
            self, first: first, second: second, shape: shape, into: outputs.0, outputs.1,
            communicator: communicator
        ).run(workspace)
    }
}

/// The loss of the cells of all ranks, on one of them.
///
/// The rows of E₂ go around the whole ring first. A rank keeps, for each of its rows i of E₁, the sum over
/// other cells
///
///     R_i = Σ exp(A_ij − A_ii),   and   U_i = Σ exp(A_ij − A_ii)·N₂_j / R_i
///
/// both over the blocks that it has met, as a logarithm and as a gradient. A new block is a softmax of its own;
/// the two are averaged with the weights of their sums, so nothing overflows at any temperature. In the end
/// loss_i = log1p(R_i), and the rows of E₁ go around the ring with the logarithm of each row's normaliser, A_ii
/// + loss_i. Each rank forms the gradient of its rows of E₂ from them. No gradient travels.
package struct RankedContrastive<Ranks: Communicator> {
    private let loss: ContrastiveCellEmbedding
    private let first: UnsafeBufferPointer<Float>
    private let second: UnsafeBufferPointer<Float>
    private let shape: MatrixShape
    private let firstOutput: GradientOutput?
    private let secondOutput: GradientOutput?
    private let group: RankGroup<Ranks>
    private let check: LossError?

    package init(
        _ loss: ContrastiveCellEmbedding, first: Span<Float>, second: Span<Float>,
        named names: (first: String, second: String) = ("first", "second"), shape: MatrixShape,
        into firstOutput: GradientOutput?, _ secondOutput: GradientOutput?, communicator: Ranks
    ) {
        self.loss = loss
        self.first = first.memory
        self.second = second.memory
        self.shape = shape
        self.firstOutput = firstOutput
        self.secondOutput = secondOutput
        group = RankGroup(communicator)
        // A plan of one rank's cells makes the same checks. That this rank has no cells is no error.
        var ofRank = loss
        ofRank.whenEmpty = .zero
        var failure: LossError?
        do throws(LossError) {
            var layout = ScratchLayout(workers: 1)
            _ = try ContrastiveCellEmbedding.Plan(
                ofRank, first: first, second: second, named: names, shape: shape, into: firstOutput,
                secondOutput, in: &layout)
        } catch {
            failure = error
        }
        check = failure
    }

    package func run(_ workspace: Workspace) throws(LossError) -> LossValue {
        let arguments: [(name: String?, value: Double)] = [
            ("the number of the computation", 2), ("columns", Double(shape.columns)),
            ("temperature", Double(loss.temperature)), ("whenEmpty", loss.whenEmpty.number),
            ("the number of gradients", (firstOutput == nil ? 0 : 1) + (secondOutput == nil ? 0 : 2)),
            ("gradientScale", (firstOutput ?? secondOutput)?.scale ?? 0), (nil, Double(shape.rows)),
        ]
        let table = try group.agree(on: arguments) { () throws(LossError) in
            if let check { throw check }
        }
        let rows = RankRows(counts: (0..<group.size).map { Int(table[$0, arguments.count - 1]) })
        let batch = rows.total
        guard batch > 0 else {
            let value = try loss.whenEmpty.value(loss: "ContrastiveCellEmbedding", row: nil)
            return LossValue(value: value, selectedCount: 0)
        }
        guard shape.columns > 0 else { return LossValue(value: log(Double(batch)), selectedCount: batch) }
        var prepared: Ring?
        try group.together { () throws(LossError) in
            prepared = try Ring(self, rows, in: workspace)
        }
        let sums = try group.sum(1) { () throws(RankFailure) in
            guard let prepared else { return [0] }
            return [try prepared.run()]
        }
        return LossValue(value: sums[0] / Double(batch), selectedCount: batch)
    }
}

// MARK: - The ring

extension RankedContrastive {
    /// The steps of one call, planned, with their memory.
    fileprivate struct Ring {
        /// One step of a rank: a block of the rank `step` before it, and the rank that gets its block.
        struct Step {
            let source: Int
            let target: Int
            /// The source's rows: of E₂ in the first pass, of E₁ in the second.
            let received: UnsafeMutableBufferPointer<Float>
            /// The logarithms of the normalisers of its rows of E₁.
            let normalisers: UnsafeMutableBufferPointer<Double>
            /// Own rows of E₁ with those of E₂; nil if either has none.
            let rowPass: BlockedSimilarities?
            /// Its rows of E₁ with own rows of E₂.
            let columnPass: BlockedSimilarities?
        }

        let call: RankedContrastive
        let execution: Execution
        let memory: Execution
        /// Own rows of both encodings: without gradients, and with them.
        let ownValues: BlockedSimilarities?
        let ownGradients: BlockedSimilarities?
        var steps: [Step] = []

        // For each own row i:
        /// A_ii.
        let diagonal: ScratchArray<Double>
        /// The loss among own cells alone, then that among all.
        let ownLosses: ScratchArray<Double>
        let losses: ScratchArray<Double>
        /// log Σ exp(A_ij − A_ii) over the cells of other ranks.
        let foreign: ScratchArray<Double>
        let normalisers: ScratchArray<Double>
        /// A block's log Σ exp A_ij.
        let block: ScratchArray<Double>
        /// The gradient of E₁ from other ranks, if the output accumulates, and that from one block.
        let aside: ScratchArray<Float>
        let contribution: ScratchArray<Float>

        init(_ call: RankedContrastive, _ rows: RankRows, in workspace: Workspace) throws(LossError) {
            self.call = call
            let (rank, shape) = (call.group.rank, call.shape)
            let range = rows.ranks > 1 ? Array(1..<rows.ranks) : []
            let others = range.map { rows.counts[rows.rank($0, before: rank)] }
            let most = max(shape.rows, others.max() ?? 0)
            let formsFirst = call.firstOutput != nil
            let formsSecond = call.secondOutput != nil

            var blocks = workspace.layout
            let blockCount = try MatrixShape(rows: others.max() ?? 0, columns: shape.columns).checkedCount()
            let received = try blocks.add(2, by: blockCount, of: Float.self)
            let receivedNormalisers = try blocks.add(2, by: others.max() ?? 0, of: Double.self)
            diagonal = try blocks.add(shape.rows, of: Double.self)
            ownLosses = try blocks.add(shape.rows, of: Double.self)
            losses = try blocks.add(shape.rows, of: Double.self)
            foreign = try blocks.add(shape.rows, of: Double.self)
            normalisers = try blocks.add(shape.rows, of: Double.self)
            block = try blocks.add(most, of: Double.self)
            let ownCount = try shape.checkedCount()
            let accumulates = call.firstOutput?.mode == FASTLOSS_ACCUMULATE
            aside = try blocks.add(accumulates ? ownCount : 0, of: Float.self)
            contribution = try blocks.add(formsFirst && !range.isEmpty ? ownCount : 0, of: Float.self)
            memory = try workspace.reserveBlocks(blocks, for: "ContrastiveCellEmbedding")

            // What other ranks contribute is in the gradient before own cells are added.
            let hasForeign = others.contains { $0 > 0 }
            let (aside, contribution) = (memory.pointer(aside), memory.pointer(contribution))
            let gathered = call.firstOutput.map {
                GradientOutput(
                    accumulates ? UnsafeMutableBufferPointer(start: aside, count: ownCount) : $0.memory,
                    scale: $0.scale, update: hasForeign ? .accumulate : .overwrite)
            }
            let ofBlock = call.firstOutput.map {
                GradientOutput(
                    UnsafeMutableBufferPointer(start: contribution, count: ownCount),
                    scale: $0.scale, update: .overwrite)
            }
            let ofSecond = call.secondOutput.map {
                GradientOutput($0.memory, scale: $0.scale, update: .accumulate)
            }

            func side(
                _ rows: UnsafePointer<Float>, _ count: Int, of owner: Int, _ gradient: GradientOutput?
            ) -> SimilaritySide {
                call.loss.side(
                    rows, shape: MatrixShape(rows: count, columns: shape.columns),
                    firstRow: ranks.firstRow(of: owner), batch: ranks.total, gradient: gradient)
            }
            let ranks = rows
            var layout = workspace.layout
            let start = layout.mark
            func pass(
                _ left: SimilaritySide, _ right: SimilaritySide
            ) throws(LossError) -> BlockedSimilarities {
                defer { layout.rewind(to: start) }
                return try BlockedSimilarities(
                    left, right,
                    schedule: .strips(RowStrips(rows: left.shape.rows, columns: right.shape.rows)),
                    in: &layout)
            }
            if shape.rows > 0, let first = call.first.baseAddress, let second = call.second.baseAddress {
                ownValues = try pass(
                    side(first, shape.rows, of: rank, nil), side(second, shape.rows, of: rank, nil))
                ownGradients =
                    formsFirst || formsSecond
                    ? try pass(
                        side(first, shape.rows, of: rank, gathered),
                        side(second, shape.rows, of: rank, call.secondOutput)) : nil
            } else {
                (ownValues, ownGradients) = (nil, nil)
            }
            for step in range {
                let (source, target) = (rows.rank(step, before: rank), rows.rank(step, after: rank))
                let count = rows.counts[source]
                let block = memory.pointer(received) + step % 2 * blockCount
                let hasPairs = shape.rows > 0 && count > 0
                steps.append(
                    Step(
                        source: source, target: target,
                        received: UnsafeMutableBufferPointer(start: block, count: count * shape.columns),
                        normalisers: UnsafeMutableBufferPointer(
                            start: memory.pointer(receivedNormalisers) + step % 2 * (others.max() ?? 0),
                            count: count),
                        rowPass: hasPairs
                            ? try pass(
                                side(call.first.baseAddress!, shape.rows, of: rank, ofBlock),
                                side(block, count, of: source, nil)) : nil,
                        columnPass: hasPairs && formsSecond
                            ? try pass(
                                side(block, count, of: source, nil),
                                side(call.second.baseAddress!, shape.rows, of: rank, ofSecond)) : nil))
            }
            execution = try workspace.reserve(layout, for: "ContrastiveCellEmbedding")
        }

        private var temperature: Float { call.loss.temperature }
        private var ownRows: Int { call.shape.rows }

        /// The sum of own rows' losses.
        func run() throws(RankFailure) -> Double {
            let losses = memory.pointer(losses)
            try startSecond(0)
            meetOwnCells()
            var isFirstBlock = true
            for (index, step) in steps.enumerated() {
                try call.group.finish()
                try startSecond(index + 1)
                guard let pass = step.rowPass else { continue }
                meet(pass, isFirstBlock: isFirstBlock)
                isFirstBlock = false
            }
            completeLosses(hasForeign: !isFirstBlock)
            if call.secondOutput != nil { try startFirst(0) }
            formOwnGradients()
            if call.secondOutput != nil {
                for (index, step) in steps.enumerated() {
                    try call.group.finish()
                    try call.group.finish()
                    try startFirst(index + 1)
                    step.columnPass?.run(
                        ForeignSoftmax(
                            temperature: temperature, logarithms: memory.pointer(block),
                            normalisers: UnsafePointer(step.normalisers.baseAddress), needsFactors: true),
                        on: execution)
                }
            }
            return (0..<ownRows).reduce(0) { $0 + losses[$1] }
        }

        private func startSecond(_ index: Int) throws(RankFailure) {
            guard index < steps.count else { return }
            let step = steps[index]
            try call.group.start(
                sending: call.second, to: step.target, receiving: step.received, from: step.source)
        }

        private func startFirst(_ index: Int) throws(RankFailure) {
            guard index < steps.count else { return }
            let step = steps[index]
            try call.group.start(
                sending: call.first, to: step.target, receiving: step.received, from: step.source)
            try call.group.start(
                sending: UnsafeBufferPointer(start: memory.pointer(normalisers), count: ownRows),
                to: step.target, receiving: step.normalisers, from: step.source)
        }
    }
}

// MARK: - The softmax of a row, block by block

extension RankedContrastive.Ring {
    /// The losses among own cells, and A_ii.
    private func meetOwnCells() {
        ownValues?.run(
            OwnSoftmax(
                temperature: temperature, diagonal: memory.pointer(diagonal),
                ownLosses: memory.pointer(ownLosses), losses: nil),
            on: execution)
        memory.pointer(foreign).update(repeating: -.infinity, count: ownRows)
    }

    /// Adds the cells of another rank to the sums and the gradients of own rows.
    private func meet(_ pass: BlockedSimilarities, isFirstBlock: Bool) {
        pass.run(
            ForeignSoftmax(
                temperature: temperature, logarithms: memory.pointer(block), normalisers: nil,
                needsFactors: pass.formsGradients),
            on: execution)
        let (diagonal, foreign) = (memory.pointer(diagonal), memory.pointer(foreign))
        let (block, contribution) = (memory.pointer(block), memory.pointer(contribution))
        let gradient = gathered
        forEachRow { row, place in
            let (sum, logarithm) = (foreign[row], block[row] - diagonal[row])
            let total = logarithmOfSum(sum, logarithm)
            foreign[row] = total
            guard let gradient else { return }
            let columns = call.shape.columns
            let (target, source) = (gradient + place, contribution + place)
            if isFirstBlock {
                target.update(from: source, count: columns)
            } else {
                kernels.scale(target, columns, exp(sum - total), target, FASTLOSS_OVERWRITE)
                kernels.scale(source, columns, exp(logarithm - total), target, FASTLOSS_ACCUMULATE)
            }
        }
    }

    /// The losses among all cells. The gradient from other ranks gets its share of the softmax.
    private func completeLosses(hasForeign: Bool) {
        let (diagonal, foreign) = (memory.pointer(diagonal), memory.pointer(foreign))
        let (ownLosses, losses) = (memory.pointer(ownLosses), memory.pointer(losses))
        let normalisers = memory.pointer(normalisers)
        let gradient = gathered
        forEachRow { row, place in
            let loss = softplus(logarithmOfSum(logarithmOfExpm1(ownLosses[row]), foreign[row]))
            losses[row] = loss
            normalisers[row] = diagonal[row] + loss
            guard hasForeign, let gradient else { return }
            kernels.scale(
                gradient + place, call.shape.columns, exp(foreign[row] - loss), gradient + place,
                FASTLOSS_OVERWRITE)
        }
    }

    private func formOwnGradients() {
        ownGradients?.run(
            OwnSoftmax(
                temperature: temperature, diagonal: memory.pointer(diagonal),
                ownLosses: memory.pointer(ownLosses), losses: memory.pointer(losses)),
            on: execution)
        guard let output = call.firstOutput, output.mode == FASTLOSS_ACCUMULATE, let gradient = gathered,
            let target = output.memory.baseAddress
        else { return }
        forEachRow { _, place in
            kernels.scale(gradient + place, call.shape.columns, 1, target + place, FASTLOSS_ACCUMULATE)
        }
    }

    /// Where the gradient of E₁ is gathered.
    private var gathered: UnsafeMutablePointer<Float>? {
        guard let output = call.firstOutput, ownRows > 0 else { return nil }
        return output.mode == FASTLOSS_ACCUMULATE ? memory.pointer(aside) : output.memory.baseAddress
    }

    /// Shares own rows among the workers: the row, and the index of its first element.
    private func forEachRow(_ body: (_ row: Int, _ place: Int) -> Void) {
        let columns = call.shape.columns
        execution.forEachTask(ownRows, estimatedNanoseconds: Double(ownRows) * Double(columns) / 2) {
            row, _ in body(row, row * columns)
        }
    }
}

/// log(exp a + exp b).
private func logarithmOfSum(_ a: Double, _ b: Double) -> Double {
    if a.isNaN || b.isNaN { return .nan }
    let largest = max(a, b)
    return largest == -.infinity ? largest : largest + log1p(exp(min(a, b) - largest))
}

/// log(exp x − 1) for x ≥ 0.
private func logarithmOfExpm1(_ x: Double) -> Double {
    x > 1 ? x + log1p(-exp(-x)) : log(expm1(x))
}

/// log(1 + exp x).
private func softplus(_ x: Double) -> Double {
    x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))
}

// MARK: - Epilogues

/// The softmax of rows of A whose own cell is among the columns.
///
/// Without `losses`, records the losses among these columns and A_ii. With them, turns each row into softmax −
/// I among all cells, times the probability scale. Blocks have whole rows.
private struct OwnSoftmax: SimilarityEpilogue {
    let inverseTemperature: Float
    let diagonal: UnsafeMutablePointer<Double>
    let ownLosses: UnsafeMutablePointer<Double>
    let losses: UnsafeMutablePointer<Double>?

    init(
        temperature: Float, diagonal: UnsafeMutablePointer<Double>, ownLosses: UnsafeMutablePointer<Double>,
        losses: UnsafeMutablePointer<Double>?
    ) {
        inverseTemperature = Float(1 / Double(temperature))
        self.diagonal = diagonal
        self.ownLosses = ownLosses
        self.losses = losses
    }

    func visit(_ block: SimilarityBlock) {
        let scale = ContrastiveEpilogue.probabilityScale
        for index in 0..<block.rows.count {
            let similarities = block.row(index)
            let row = block.rows.lowerBound + index
            let label = block.diagonal + index
            guard let losses else {
                diagonal[row] = Double(similarities[label]) * Double(inverseTemperature)
                ownLosses[row] = kernels.softmax_cross_entropy(
                    similarities, block.columns.count, label, inverseTemperature, scale, nil,
                    FASTLOSS_NO_OUTPUT)
                continue
            }
            let ownLoss = kernels.softmax_cross_entropy(
                similarities, block.columns.count, label, inverseTemperature, scale, similarities,
                FASTLOSS_OVERWRITE)
            // Own cells have this share of the row's normaliser. The own cell's element is −(1 − its
            // probability), without cancellation.
            kernels.scale(
                similarities, block.columns.count, exp(ownLoss - losses[row]), similarities,
                FASTLOSS_OVERWRITE)
            similarities[label] = Float(Double(scale) * expm1(-losses[row]))
        }
    }
}

/// The softmax of rows of A whose own cell is on another rank than the columns.
///
/// Records log Σ exp A_ij of each row. The row becomes its softmax among these columns; with `normalisers`, its
/// softmax among all cells. Both times the probability scale. Blocks have whole rows.
private struct ForeignSoftmax: SimilarityEpilogue {
    let inverseTemperature: Float
    let logarithms: UnsafeMutablePointer<Double>
    let normalisers: UnsafePointer<Double>?
    let needsFactors: Bool

    init(
        temperature: Float, logarithms: UnsafeMutablePointer<Double>, normalisers: UnsafePointer<Double>?,
        needsFactors: Bool
    ) {
        inverseTemperature = Float(1 / Double(temperature))
        self.logarithms = logarithms
        self.normalisers = normalisers
        self.needsFactors = needsFactors
    }

    func visit(_ block: SimilarityBlock) {
        let scale = ContrastiveEpilogue.probabilityScale
        for index in 0..<block.rows.count {
            let similarities = block.row(index)
            let row = block.rows.lowerBound + index
            // The kernel wants a label: the first column, whose element is its probability instead of that
            // minus 1.
            let logit = Double(similarities[0]) * Double(inverseTemperature)
            let loss = kernels.softmax_cross_entropy(
                similarities, block.columns.count, 0, inverseTemperature, scale, similarities,
                needsFactors ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT)
            logarithms[row] = logit + loss
            guard needsFactors else { continue }
            similarities[0] = Float(Double(scale) * exp(-loss))
            guard let normalisers else { continue }
            kernels.scale(
                similarities, block.columns.count, exp(logarithms[row] - normalisers[row]), similarities,
                FASTLOSS_OVERWRITE)
        }
    }
}
