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
    /// or none. 16-bit embeddings are widened into the workspace; blocks travel as `Float`.
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
    public func value<Element: ModelOutputElement>(
        first: Span<Element>, second: Span<Element>, shape: MatrixShape,
        across communicator: some Communicator,
        workspace: Workspace
    ) throws(LossError) -> LossValue {
        try RankedContrastive(
            self, first: ModelElements(first), second: ModelElements(second), shape: shape, into: nil, nil,
            communicator: communicator
        ).run(workspace)
    }

    /// Computes the loss of a batch whose cells are spread over ranks, and the gradients of this rank's cells.
    ///
    /// The gradients are those of the whole batch's loss. A training loop that averages the parameters'
    /// gradients over the ranks passes the number of ranks as `gradientScale`.
    ///
    /// It takes (8 − 4/P)·B²·D flops over P ranks, where one process takes 6·B²·D: a softmax is known only after
    /// its row has met all ranks, and then the similarities with all but two of them are computed again.
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
    public func valueAndGradient<Element: ModelOutputElement>(
        first: Span<Element>, second: Span<Element>, shape: MatrixShape,
        firstGradient: inout MutableSpan<Element>, secondGradient: inout MutableSpan<Element>,
        gradientScale: Float = 1,
        update: GradientUpdate = .overwrite, across communicator: some Communicator, workspace: Workspace
    ) throws(LossError) -> LossValue {
        let outputs = (
            GradientOutput(
                firstGradient.memory, named: "firstGradient", scale: gradientScale, update: update),
            GradientOutput(
                secondGradient.memory, named: "secondGradient", scale: gradientScale, update: update)
        )
        return try RankedContrastive(
            self, first: ModelElements(first), second: ModelElements(second), shape: shape, into: outputs.0,
            outputs.1, communicator: communicator
        ).run(workspace)
    }
}

/// The loss of the cells of all ranks, on one of them.
///
/// The rows of E₂ go around the ring. For each of its rows i of E₁ a rank keeps
///
///     F_i = log Σ exp A_ij,   and   U_i = Σ exp(A_ij − F_i)·N₂_j
///
/// over the blocks that it has met, U_i as a gradient. A new block is a softmax of its own; the two are averaged
/// with the weights of their sums, so nothing overflows at any temperature.
///
/// The last block is met together with own cells, in whole rows. Their softmax and F_i give the row's normaliser
/// log Z_i = A_ii + loss_i, so the rows of this matrix are multiplied into both gradients at once, as in one
/// process. The gradient of the last block's rows goes back to their owner. The rows of E₁ of the other ranks go
/// around with log Z_i, and each rank forms the rest of the gradient of its rows of E₂ from them.
package struct RankedContrastive<Ranks: Communicator> {
    private let loss: ContrastiveCellEmbedding
    private var first: ModelElements
    private var second: ModelElements
    private let shape: MatrixShape
    private var firstOutput: GradientOutput?
    private var secondOutput: GradientOutput?
    private let group: RankGroup<Ranks>
    private let check: LossError?

    package init(
        _ loss: ContrastiveCellEmbedding, first: ModelElements, second: ModelElements,
        named names: (first: String, second: String) = ("first", "second"), shape: MatrixShape,
        into firstOutput: GradientOutput?, _ secondOutput: GradientOutput?, communicator: Ranks
    ) {
        self.loss = loss
        self.first = first
        self.second = second
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
        var operands: FloatOperands?
        try group.together { () throws(LossError) in
            let floats = try FloatOperands(
                (first, second), gradients: (firstOutput?.place, secondOutput?.place),
                update: (firstOutput ?? secondOutput)?.update ?? .overwrite, in: workspace,
                for: "ContrastiveCellEmbedding")
            var call = self
            call.first = floats.outputs.first ?? first
            call.second = floats.outputs.second ?? second
            call.firstOutput = firstOutput?.moved(to: floats.gradients.first)
            call.secondOutput = secondOutput?.moved(to: floats.gradients.second)
            operands = floats
            prepared = try Ring(call, rows, in: workspace)
        }
        let sums = try group.sum(1) { () throws(RankFailure) in
            guard let prepared else { return [0] }
            return [try prepared.run()]
        }
        operands?.finish()
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
            let received: UnsafeMutableBufferPointer<Float>
            /// Own rows with the block's; nil if either has none, or if nothing is computed.
            let pass: BlockedSimilarities?
        }

        let call: RankedContrastive
        let execution: Execution
        let memory: Execution
        /// Rows of E₂, which meet own rows of E₁. The last block is not among them.
        var rowSteps: [Step] = []
        /// The last block of E₂.
        var last: Step?
        /// Own rows of E₁ with own rows of E₂ and those of the last block.
        let closingPass: BlockedSimilarities?
        /// Rows of E₁, which meet own rows of E₂.
        var columnSteps: [Step] = []

        /// Own rows of E₂ and those of the last block, and their gradient. Without own rows, the last block alone.
        let joined: UnsafeMutableBufferPointer<Float>
        let joinedGradient: UnsafeMutableBufferPointer<Float>
        /// The gradient of own rows of E₂ from the rank whose last block they are.
        let returned: UnsafeMutableBufferPointer<Float>
        /// Where the gradient of E₁ from other blocks is gathered; nil if there is none.
        let gathered: UnsafeMutablePointer<Float>?
        /// That from one block.
        let contribution: UnsafeMutablePointer<Float>

        // For each own row i:
        let losses: UnsafeMutablePointer<Double>
        /// F_i: log Σ exp A_ij over the blocks but own and the last one.
        let foreign: UnsafeMutablePointer<Double>
        /// log Z_i.
        let normalisers: UnsafeMutablePointer<Double>
        /// For each row of a block: log Σ exp A_ij of the block's columns, and log Z_i of the block's row.
        let block: UnsafeMutablePointer<Double>
        let receivedNormalisers: UnsafeMutablePointer<Double>

        init(_ call: RankedContrastive, _ rows: RankRows, in workspace: Workspace) throws(LossError) {
            self.call = call
            let (rank, shape) = (call.group.rank, call.shape)
            let (own, ownCount) = (shape.rows, try shape.checkedCount())
            let lastStep = rows.ranks - 1
            let lastRows = lastStep > 0 ? rows.counts[rows.rank(lastStep, before: rank)] : 0
            let joins = own > 0 && lastRows > 0
            let returns =
                own > 0 && call.secondOutput != nil && lastStep > 0
                && rows.counts[rows.rank(lastStep, after: rank)] > 0
            let middle = lastStep > 1 ? Array(1..<lastStep) : []
            /// The most rows that come but the last block.
            let most =
                middle.map { step in
                    max(
                        rows.counts[rows.rank(step, before: rank)],
                        rows.counts[rows.rank(step + 1, before: rank)])
                }.max() ?? 0
            let hasMiddle = own > 0 && middle.contains { rows.counts[rows.rank($0, before: rank)] > 0 }

            var blocks = workspace.layout
            let blockCount = try MatrixShape(rows: most, columns: shape.columns).checkedCount()
            let receivedArray = try blocks.add(2, by: blockCount, of: Float.self)
            let joinedCount = try MatrixShape(
                rows: joins ? own + lastRows : lastRows, columns: shape.columns
            ).checkedCount()
            let joinedArray = try blocks.add(joinedCount, of: Float.self)
            let joinedGradientArray = try blocks.add(
                joins && call.secondOutput != nil ? joinedCount : 0, of: Float.self)
            let returnedArray = try blocks.add(returns ? ownCount : 0, of: Float.self)
            let gathers = hasMiddle && call.firstOutput != nil
            let gathersAside = gathers && call.firstOutput?.mode == FASTLOSS_ACCUMULATE
            let asideArray = try blocks.add(gathersAside ? ownCount : 0, of: Float.self)
            let contributionArray = try blocks.add(gathers ? ownCount : 0, of: Float.self)
            let lossArray = try blocks.add(own, of: Double.self)
            let foreignArray = try blocks.add(own, of: Double.self)
            let normaliserArray = try blocks.add(own, of: Double.self)
            let blockArray = try blocks.add(max(own, most), of: Double.self)
            let receivedNormaliserArray = try blocks.add(most, of: Double.self)
            memory = try workspace.reserveBlocks(blocks, for: "ContrastiveCellEmbedding")

            let received = memory.pointer(receivedArray)
            joined = UnsafeMutableBufferPointer(start: memory.pointer(joinedArray), count: joinedCount)
            let joinedGradient = UnsafeMutableBufferPointer(
                start: memory.pointer(joinedGradientArray),
                count: joins && call.secondOutput != nil ? joinedCount : 0)
            self.joinedGradient = joinedGradient
            returned = UnsafeMutableBufferPointer(
                start: memory.pointer(returnedArray), count: returns ? ownCount : 0)
            gathered =
                gathersAside
                ? memory.pointer(asideArray) : gathers ? call.firstOutput?.memory.baseAddress : nil
            let contribution = memory.pointer(contributionArray)
            self.contribution = contribution
            losses = memory.pointer(lossArray)
            foreign = memory.pointer(foreignArray)
            normalisers = memory.pointer(normaliserArray)
            block = memory.pointer(blockArray)
            receivedNormalisers = memory.pointer(receivedNormaliserArray)

            var layout = workspace.layout
            let start = layout.mark
            func side(
                _ embeddings: UnsafePointer<Float>, _ count: Int, of owner: Int, _ gradient: GradientOutput?
            ) -> SimilaritySide {
                call.loss.side(
                    ModelElements(embeddings, count: count * shape.columns),
                    shape: MatrixShape(rows: count, columns: shape.columns),
                    firstRow: rows.firstRow(of: owner), batch: rows.total, gradient: gradient)
            }
            func pass(
                _ left: SimilaritySide, _ right: SimilaritySide
            ) throws(LossError) -> BlockedSimilarities {
                defer { layout.rewind(to: start) }
                return try BlockedSimilarities(
                    left, right,
                    schedule: .strips(RowStrips(rows: left.shape.rows, columns: right.shape.rows)),
                    in: &layout)
            }
            /// A step in which a block arrives in one of the two places.
            func step(
                _ distance: Int, place: Int,
                _ pass: (UnsafePointer<Float>, Int, _ source: Int) throws(LossError) -> BlockedSimilarities?
            ) throws(LossError) -> Step {
                let source = rows.rank(distance, before: rank)
                let count = rows.counts[source]
                let memory = received + place * blockCount
                return Step(
                    source: source, target: rows.rank(distance, after: rank),
                    received: UnsafeMutableBufferPointer(start: memory, count: count * shape.columns),
                    pass: own > 0 && count > 0 ? try pass(memory, count, source) : nil)
            }

            let ofBlock = call.firstOutput.map {
                GradientOutput(
                    UnsafeMutableBufferPointer(start: contribution, count: ownCount),
                    scale: $0.scale, update: .overwrite)
            }
            for distance in middle {
                rowSteps.append(
                    try step(distance, place: distance % 2) { (block, count, source) throws(LossError) in
                        try pass(
                            side(call.first.floatBuffer.baseAddress!, own, of: rank, ofBlock),
                            side(block, count, of: source, nil))
                    })
            }
            if lastStep > 0 {
                last = Step(
                    source: rows.rank(lastStep, before: rank), target: rows.rank(lastStep, after: rank),
                    received: UnsafeMutableBufferPointer(
                        rebasing: joined.suffix(lastRows * shape.columns)), pass: nil)
            }
            if own > 0 {
                let ofFirst = gathered.map { gathered in
                    GradientOutput(
                        UnsafeMutableBufferPointer(start: gathered, count: ownCount),
                        scale: call.firstOutput?.scale ?? 0, update: .accumulate)
                }
                let ofJoined = call.secondOutput.map {
                    GradientOutput(joinedGradient, scale: $0.scale, update: .overwrite)
                }
                closingPass = try pass(
                    side(call.first.floatBuffer.baseAddress!, own, of: rank, ofFirst ?? call.firstOutput),
                    joins
                        ? side(joined.baseAddress!, own + lastRows, of: rank, ofJoined)
                        : side(call.second.floatBuffer.baseAddress!, own, of: rank, call.secondOutput))
            } else {
                closingPass = nil
            }
            if let output = call.secondOutput {
                let ofSecond = GradientOutput(output.memory, scale: output.scale, update: .accumulate)
                for distance in middle {
                    columnSteps.append(
                        try step(distance + 1, place: distance % 2) {
                            (block, count, source) throws(LossError) in
                            try pass(
                                side(block, count, of: source, nil),
                                side(call.second.floatBuffer.baseAddress!, own, of: rank, ofSecond))
                        })
                }
            }
            execution = try workspace.reserve(layout, for: "ContrastiveCellEmbedding")
        }

        private var temperature: Float { call.loss.temperature }
        private var ownRows: Int { call.shape.rows }

        /// The sum of own rows' losses.
        func run() throws(RankFailure) -> Double {
            foreign.update(repeating: -.infinity, count: ownRows)
            try startSecond(0)
            var isFirstBlock = true
            for (index, step) in rowSteps.enumerated() {
                try call.group.finish()
                try startSecond(index + 1)
                guard let pass = step.pass else { continue }
                meet(pass, isFirstBlock: isFirstBlock)
                isFirstBlock = false
            }
            if last != nil { try call.group.finish() }
            try startFirst(0)
            close()
            try startNormalisers(0)
            try startReturn()
            for (index, step) in columnSteps.enumerated() {
                try call.group.finish()
                try call.group.finish()
                try startFirst(index + 1)
                step.pass?.run(
                    ForeignSoftmax(
                        temperature: temperature, logarithms: block,
                        normalisers: UnsafePointer(receivedNormalisers), needsFactors: true),
                    on: execution)
                if index == 0 { try finishReturn() }
                try startNormalisers(index + 1)
            }
            if columnSteps.isEmpty { try finishReturn() }
            return (0..<ownRows).reduce(0) { $0 + losses[$1] }
        }

        private func startSecond(_ index: Int) throws(RankFailure) {
            guard let step = index < rowSteps.count ? rowSteps[index] : last else { return }
            try call.group.start(
                sending: call.second.floatBuffer, to: step.target, receiving: step.received, from: step.source
            )
        }

        private func startFirst(_ index: Int) throws(RankFailure) {
            guard index < columnSteps.count else { return }
            let step = columnSteps[index]
            try call.group.start(
                sending: call.first.floatBuffer, to: step.target, receiving: step.received, from: step.source)
        }

        /// A pass has read those of the step before it.
        private func startNormalisers(_ index: Int) throws(RankFailure) {
            guard index < columnSteps.count else { return }
            let step = columnSteps[index]
            try call.group.start(
                sending: UnsafeBufferPointer(start: normalisers, count: ownRows), to: step.target,
                receiving: UnsafeMutableBufferPointer(
                    start: receivedNormalisers, count: step.received.count / call.shape.columns),
                from: step.source)
        }

        /// The gradient of the last block's rows goes back to their owner.
        private func startReturn() throws(RankFailure) {
            guard let last, call.secondOutput != nil else { return }
            let ofLast = joinedGradient.suffix(joinedGradient.isEmpty ? 0 : last.received.count)
            try call.group.start(
                sending: UnsafeBufferPointer(rebasing: ofLast), to: last.source, receiving: returned,
                from: last.target)
        }

        /// Adds the gradient that another rank has formed of own rows of E₂.
        private func finishReturn() throws(RankFailure) {
            guard last != nil, let output = call.secondOutput else { return }
            try call.group.finish()
            guard let incoming = returned.baseAddress, let own = output.memory.baseAddress else { return }
            kernels.scale(incoming, returned.count, 1, own, FASTLOSS_ACCUMULATE)
        }
    }
}

// MARK: - The softmax of a row, block by block

extension RankedContrastive.Ring {
    /// Adds the cells of another rank to the sums and the gradients of own rows.
    private func meet(_ pass: BlockedSimilarities, isFirstBlock: Bool) {
        pass.run(
            ForeignSoftmax(
                temperature: temperature, logarithms: block, normalisers: nil,
                needsFactors: pass.formsGradients),
            on: execution)
        let columns = call.shape.columns
        forEachRow { row, place in
            let (sum, logarithm) = (foreign[row], block[row])
            let total = logarithmOfSum(sum, logarithm)
            foreign[row] = total
            guard let gathered else { return }
            let (target, source) = (gathered + place, contribution + place)
            if isFirstBlock {
                target.update(from: source, count: columns)
            } else {
                kernels.scale(target, columns, exp(sum - total), target, FASTLOSS_OVERWRITE)
                kernels.scale(source, columns, exp(logarithm - total), target, FASTLOSS_ACCUMULATE)
            }
        }
    }

    /// The losses among all cells, the gradient of own rows of E₁, and that of own rows of E₂ and of the last
    /// block's from own rows of E₁.
    private func close() {
        guard let closingPass else { return }
        let columns = call.shape.columns
        let ownPart = joined.dropLast(last?.received.count ?? 0)
        _ = UnsafeMutableBufferPointer(rebasing: ownPart).update(
            fromContentsOf: call.second.floatBuffer.prefix(ownPart.count))
        closingPass.run(
            ClosingSoftmax(
                temperature: temperature, foreign: foreign, losses: losses, normalisers: normalisers,
                needsFactors: closingPass.formsGradients, gathered: gathered, columns: columns),
            on: execution)
        if let gathered, let output = call.firstOutput, output.mode == FASTLOSS_ACCUMULATE,
            let target = output.memory.baseAddress
        {
            forEachRow { _, place in
                kernels.scale(gathered + place, columns, 1, target + place, FASTLOSS_ACCUMULATE)
            }
        }
        if !joinedGradient.isEmpty, let formed = joinedGradient.baseAddress, let output = call.secondOutput,
            let target = output.memory.baseAddress
        {
            forEachRow { _, place in
                kernels.scale(formed + place, columns, 1, target + place, output.mode)
            }
        }
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

/// The softmax of rows of A whose own cell is among the columns, when all other cells have been met: `foreign` is
/// log Σ exp A_ij over the columns of other blocks, −∞ if there are none.
///
/// Records the losses among all cells and log Z_i. The row becomes softmax − I among all cells, times the
/// probability scale. The gradient from other blocks gets its share of the softmax. Blocks have whole rows.
private struct ClosingSoftmax: SimilarityEpilogue {
    let inverseTemperature: Float
    let foreign: UnsafePointer<Double>
    let losses: UnsafeMutablePointer<Double>
    let normalisers: UnsafeMutablePointer<Double>
    let needsFactors: Bool
    let gathered: UnsafeMutablePointer<Float>?
    let columns: Int

    init(
        temperature: Float, foreign: UnsafePointer<Double>, losses: UnsafeMutablePointer<Double>,
        normalisers: UnsafeMutablePointer<Double>, needsFactors: Bool,
        gathered: UnsafeMutablePointer<Float>?, columns: Int
    ) {
        inverseTemperature = Float(1 / Double(temperature))
        self.foreign = foreign
        self.losses = losses
        self.normalisers = normalisers
        self.needsFactors = needsFactors
        self.gathered = gathered
        self.columns = columns
    }

    func visit(_ block: SimilarityBlock) {
        let scale = ContrastiveEpilogue.probabilityScale
        for index in 0..<block.rows.count {
            let similarities = block.row(index)
            let row = block.rows.lowerBound + index
            let label = block.diagonal + index
            let own = Double(similarities[label]) * Double(inverseTemperature)
            let blockLoss = kernels.softmax_cross_entropy(
                similarities, block.columns.count, label, inverseTemperature, scale, similarities,
                needsFactors ? FASTLOSS_OVERWRITE : FASTLOSS_NO_OUTPUT)
            let others = foreign[row] - own
            let loss =
                foreign[row] == -.infinity
                ? blockLoss : softplus(logarithmOfSum(logarithmOfExpm1(blockLoss), others))
            losses[row] = loss
            normalisers[row] = own + loss
            guard needsFactors, foreign[row] != -.infinity else { continue }
            // These columns have this share of the row's normaliser. The own cell's element is −(1 − its
            // probability), without cancellation.
            kernels.scale(
                similarities, block.columns.count, exp(blockLoss - loss), similarities, FASTLOSS_OVERWRITE)
            similarities[label] = Float(Double(scale) * expm1(-loss))
            guard let gathered else { continue }
            kernels.scale(
                gathered + row * columns, columns, exp(others - loss), gathered + row * columns,
                FASTLOSS_OVERWRITE)
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
