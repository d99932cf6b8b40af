// Elastic cell similarity of a batch whose rows are spread over ranks.

import CFastLossKernels

extension ElasticCellSimilarity {
    /// Computes the loss of a batch whose rows are spread over ranks. Every rank calls it with its own rows,
    /// and gets the same value.
    ///
    /// The loss is that of all rows. Ranks may have different numbers of rows, or none. No pair is summed in
    /// closed form: see <doc:AcrossRanks>. 16-bit embeddings are widened into the workspace; blocks travel as `Float`.
    ///
    /// - Parameters:
    ///   - embeddings: the rank's rows, row-major.
    ///   - shape: the rank's rows of D columns.
    ///   - communicator: the rank's view of the group.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError``, on every rank: this rank's own errors as without ranks;
    ///   ``LossError/rankFailed(rank:)`` if another rank throws or does not answer;
    ///   ``LossError/ranksDisagree(argument:value:rank:otherValue:otherRank:)``.
    public func value<Element: ModelOutputElement>(
        embeddings: Span<Element>, shape: MatrixShape, across communicator: some Communicator,
        workspace: Workspace
    ) throws(LossError) -> LossValue {
        try RankedElastic(
            self, embeddings: ModelElements(embeddings), shape: shape, into: nil, RankGroup(communicator)
        ).run(workspace)
    }

    /// Computes the loss of a batch whose rows are spread over ranks, and the gradient of this rank's rows.
    ///
    /// The gradient is that of the whole batch's loss. A training loop that averages the parameters' gradients
    /// over the ranks passes the number of ranks as `gradientScale`.
    ///
    /// - Parameters:
    ///   - embeddings: the rank's rows, row-major.
    ///   - shape: the rank's rows of D columns.
    ///   - gradient: receives the gradient of the rank's rows. It may not overlap the embeddings. After
    ///     ``LossError/rankFailed(rank:)`` it holds unspecified values.
    ///   - gradientScale: a finite factor of the gradient, the same on all ranks.
    ///   - update: whether the gradient replaces the buffer's contents or is added to them.
    ///   - communicator: the rank's view of the group.
    ///   - workspace: scratch memory and workers.
    /// - Throws: ``LossError`` as ``value(embeddings:shape:across:workspace:)`` does, and if buffers overlap.
    public func valueAndGradient<Element: ModelOutputElement>(
        embeddings: Span<Element>, shape: MatrixShape, gradient: inout MutableSpan<Element>,
        gradientScale: Float = 1, update: GradientUpdate = .overwrite, across communicator: some Communicator,
        workspace: Workspace
    ) throws(LossError) -> LossValue {
        let output = GradientOutput(gradient.memory, scale: gradientScale, update: update)
        return try RankedElastic(
            self, embeddings: ModelElements(embeddings), shape: shape, into: output, RankGroup(communicator)
        ).run(workspace)
    }
}

/// The loss of the rows of all ranks, on one of them.
///
/// In step s of half the ring, a rank receives the rows of the rank s before it. It computes the pairs of its
/// own rows and those; the gradient of those goes back to their owner. Rows go straight from their owner to
/// the rank that needs them: that is as many bytes as from hand to hand, and nothing is copied on the way.
/// While a step computes, the rows of the next step and the gradient of the last are on their way.
package struct RankedElastic<Ranks: Communicator> {
    private let loss: ElasticCellSimilarity
    private var embeddings: ModelElements
    private let shape: MatrixShape
    private var output: GradientOutput?
    private let group: RankGroup<Ranks>
    private let check: LossError?

    package init(
        _ loss: ElasticCellSimilarity, embeddings: ModelElements, named name: String = "embeddings",
        shape: MatrixShape, into output: GradientOutput?, communicator: Ranks
    ) {
        self.init(
            loss, embeddings: embeddings, named: name, shape: shape, into: output, RankGroup(communicator))
    }

    init(
        _ loss: ElasticCellSimilarity, embeddings: ModelElements, named name: String = "embeddings",
        shape: MatrixShape, into output: GradientOutput?, _ group: RankGroup<Ranks>
    ) {
        self.loss = loss
        self.embeddings = embeddings
        self.shape = shape
        self.output = output
        self.group = group
        // A plan of one rank's rows makes the same checks. That this rank has no rows is no error.
        var ofRank = loss
        ofRank.whenEmpty = .zero
        var failure: LossError?
        do throws(LossError) {
            var layout = ScratchLayout(workers: 1)
            _ = try ElasticCellSimilarity.Plan(
                ofRank, embeddings: embeddings, named: name, shape: shape, into: output,
                in: &layout)
        } catch {
            failure = error
        }
        check = failure
    }

    package func run(_ workspace: Workspace) throws(LossError) -> LossValue {
        let arguments: [(name: String?, value: Double)] = [
            ("the number of the computation", 1), ("columns", Double(shape.columns)),
            ("threshold", Double(loss.threshold)), ("whenEmpty", loss.whenEmpty.number),
            ("the number of gradients", output == nil ? 0 : 1), ("gradientScale", output?.scale ?? 0),
            (nil, Double(shape.rows)),
        ]
        let table = try group.agree(on: arguments) { () throws(LossError) in
            if let check { throw check }
        }
        let rows = RankRows(counts: (0..<group.size).map { Int(table[$0, arguments.count - 1]) })
        let batch = rows.total
        guard batch > 0 else {
            let value = try loss.whenEmpty.value(loss: "ElasticCellSimilarity", row: nil)
            return LossValue(value: value, selectedCount: 0)
        }
        let pairs = Double(batch) * Double(batch)
        guard shape.columns > 0 else {
            let threshold = Double(loss.threshold)
            return LossValue(value: 1 - threshold * threshold, selectedCount: batch)
        }
        var prepared: Ring?
        var operands: FloatOperands?
        try group.together { () throws(LossError) in
            let floats = try FloatOperands(
                (embeddings, nil), gradients: (output?.place, nil), update: output?.update ?? .overwrite,
                in: workspace, for: "ElasticCellSimilarity")
            var call = self
            call.embeddings = floats.outputs.first ?? embeddings
            call.output = output?.moved(to: floats.gradients.first)
            operands = floats
            prepared = try Ring(call, rows, in: workspace)
        }
        let sums = try group.sum(1) { () throws(RankFailure) in
            guard let prepared else { return [0] }
            return [try prepared.run()]
        }
        operands?.finish()
        return LossValue(value: 1 - sums[0] / pairs, selectedCount: batch)
    }
}

extension EmptySelectionRule {
    /// The rule as a number that ranks compare.
    var number: Double {
        switch self {
        case .error: 0
        case .zero: 1
        case .nan: 2
        }
    }
}

// MARK: - The ring

extension RankedElastic {
    /// The steps of one call, planned, with their memory.
    private struct Ring {
        /// A pass over blocks of similarities, and the sums of its blocks.
        struct Pass {
            let similarities: BlockedSimilarities
            let sums: ScratchArray<Double>
        }

        /// One step of a rank.
        struct Step {
            /// The pairs of this rank. Nil if it has none.
            let pass: Pass?
            /// The rank whose rows come, and how many elements.
            let source: Int
            let received: UnsafeMutableBufferPointer<Float>
            /// The gradient of those rows, which goes back.
            let returned: UnsafeMutableBufferPointer<Float>
            /// The rank that gets some of this rank's rows, and which elements.
            let target: Int
            let sent: UnsafeBufferPointer<Float>
            /// Where the gradient of those elements arrives, and where it is added.
            let incoming: UnsafeMutableBufferPointer<Float>
            let own: UnsafeMutablePointer<Float>?
        }

        let call: RankedElastic
        let execution: Execution
        let ownPass: Pass?
        var steps: [Step] = []

        init(_ call: RankedElastic, _ rows: RankRows, in workspace: Workspace) throws(LossError) {
            self.call = call
            let (rank, columns) = (call.group.rank, call.shape.columns)
            let embeddings = call.embeddings.floatBuffer
            let range = rows.ranks > 1 ? Array(rows.halfRing) : []

            // Memory for the rows of two steps, their gradients, and the gradient that comes back.
            var mostForeign = 0
            var mostReturned = 0
            for step in range {
                mostForeign = max(mostForeign, rows.pairs(ofRank: rank, step: step).foreign.count)
                let target = rows.rank(step, after: rank)
                mostReturned = max(mostReturned, rows.pairs(ofRank: target, step: step).foreign.count)
            }
            let gradients = call.output == nil ? 0 : 2
            var blocks = workspace.layout
            let blockCount = try MatrixShape(rows: mostForeign, columns: columns).checkedCount()
            let received = try blocks.add(2, by: blockCount, of: Float.self)
            let returned = try blocks.add(gradients, by: blockCount, of: Float.self)
            let incoming = try blocks.add(
                gradients / 2, by: MatrixShape(rows: mostReturned, columns: columns).checkedCount(),
                of: Float.self)
            let memory = try workspace.reserveBlocks(blocks, for: "ElasticCellSimilarity")

            let firstRow = rows.firstRow(of: rank)
            /// Some of this rank's rows.
            func ownSide(_ part: Range<Int>, update: fastloss_write_mode?) -> SimilaritySide {
                let place = part.lowerBound * columns..<part.upperBound * columns
                return ElasticCellSimilarity.side(
                    ModelElements(embeddings.baseAddress! + place.lowerBound, count: place.count),
                    shape: MatrixShape(rows: part.count, columns: columns),
                    firstRow: firstRow + part.lowerBound, batch: rows.total,
                    gradient: call.output.map { output in
                        GradientOutput(
                            UnsafeMutableBufferPointer(rebasing: output.memory[place]), scale: output.scale,
                            update: (update ?? output.mode) == FASTLOSS_OVERWRITE ? .overwrite : .accumulate)
                    })
            }

            var layout = workspace.layout
            let start = layout.mark
            func pass(_ similarities: BlockedSimilarities) throws(LossError) -> Pass {
                defer { layout.rewind(to: start) }
                return Pass(
                    similarities: similarities,
                    sums: try layout.add(similarities.blocks, of: Double.self))
            }
            if call.shape.rows > 0 {
                ownPass = try pass(
                    BlockedSimilarities(
                        ownSide(0..<call.shape.rows, update: nil),
                        schedule: ElasticCellSimilarity.Plan.schedule(rows: call.shape.rows), in: &layout))
            } else {
                ownPass = nil
            }
            for step in range {
                let pairs = rows.pairs(ofRank: rank, step: step)
                let (source, target) = (rows.rank(step, before: rank), rows.rank(step, after: rank))
                let sent = rows.pairs(ofRank: target, step: step).foreign
                let place = step % 2 * blockCount
                let foreign = UnsafeMutableBufferPointer(
                    start: memory.pointer(received) + place, count: pairs.foreign.count * columns)
                let gradient = UnsafeMutableBufferPointer(
                    start: memory.pointer(returned) + (gradients > 0 ? place : 0),
                    count: gradients > 0 ? foreign.count : 0)
                var stepPass: Pass?
                if !pairs.own.isEmpty {
                    let side = ElasticCellSimilarity.side(
                        ModelElements(foreign.baseAddress!, count: foreign.count),
                        shape: MatrixShape(rows: pairs.foreign.count, columns: columns),
                        firstRow: rows.firstRow(of: source) + pairs.foreign.lowerBound, batch: rows.total,
                        gradient: call.output.map {
                            GradientOutput(gradient, scale: $0.scale, update: .overwrite)
                        })
                    stepPass = try pass(
                        BlockedSimilarities(
                            ownSide(pairs.own, update: FASTLOSS_ACCUMULATE), side,
                            schedule: .strips(
                                RowStrips(
                                    rows: pairs.own.count, columns: pairs.foreign.count, isMirrored: true)),
                            in: &layout))
                }
                let elements = sent.lowerBound * columns..<sent.upperBound * columns
                steps.append(
                    Step(
                        pass: stepPass, source: source, received: foreign, returned: gradient, target: target,
                        sent: UnsafeBufferPointer(rebasing: embeddings[elements]),
                        incoming: UnsafeMutableBufferPointer(
                            start: memory.pointer(incoming), count: gradients > 0 ? elements.count : 0),
                        own: call.output?.memory.baseAddress.map { $0 + elements.lowerBound }))
            }
            execution = try workspace.reserve(layout, for: "ElasticCellSimilarity")
        }

        /// Σ (C_ij − β)² of the pairs that this rank computes.
        func run() throws(RankFailure) -> Double {
            try startRows(0)
            var sum = ownPass.map(sum) ?? 0
            for (index, step) in steps.enumerated() {
                try call.group.finish()
                try startRows(index + 1)
                if let pass = step.pass { sum += self.sum(pass) }
                if index > 0 { try finishGradient(index - 1) }
                try startGradient(index)
            }
            if !steps.isEmpty { try finishGradient(steps.count - 1) }
            return sum
        }

        private func sum(_ pass: Pass) -> Double {
            let epilogue = ElasticEpilogue(
                threshold: call.loss.threshold, sums: execution.pointer(pass.sums),
                needsFactors: pass.similarities.formsGradients)
            pass.similarities.run(epilogue, on: execution)
            return (0..<pass.similarities.blocks).reduce(0) { $0 + epilogue.sums[$1] }
        }

        private func startRows(_ index: Int) throws(RankFailure) {
            guard index < steps.count else { return }
            let step = steps[index]
            try call.group.start(
                sending: step.sent, to: step.target, receiving: step.received, from: step.source)
        }

        private func startGradient(_ index: Int) throws(RankFailure) {
            guard call.output != nil else { return }
            let step = steps[index]
            try call.group.start(
                sending: UnsafeBufferPointer(step.returned), to: step.source, receiving: step.incoming,
                from: step.target)
        }

        /// Adds the gradient that another rank has formed of this rank's rows.
        private func finishGradient(_ index: Int) throws(RankFailure) {
            guard call.output != nil else { return }
            try call.group.finish()
            let step = steps[index]
            guard let own = step.own, let incoming = step.incoming.baseAddress else { return }
            kernels.scale(incoming, step.incoming.count, 1, own, FASTLOSS_ACCUMULATE)
        }
    }
}
