// The gradients of the total objective: where they go, how they add up, and what becomes of buffers without a
// term.

import FastLoss
import Testing

@Suite struct ObjectiveGradientsTests {
    private let batch = ObjectiveBatch.random(cells: 7, tokens: 19, width: 6)
    private let objective = TotalObjectiveTests.everything

    /// The objective with some of its terms alone.
    private func only(_ terms: ObjectiveTerm...) -> TotalObjective {
        var objective = objective
        for term in ObjectiveTerm.allCases where !terms.contains(term) { objective.weights[term] = nil }
        return objective
    }

    // MARK: - Sums and signs

    @Test func theCellEmbeddingReceivesTheSumOfElasticAndContrastive() throws {
        let both = try #require(try batch.evaluate(only(.elastic, .contrastive)).gradients[.cellEmbedding])
        let elastic = try #require(try batch.evaluate(only(.elastic)).gradients[.cellEmbedding])
        let contrastive = try #require(try batch.evaluate(only(.contrastive)).gradients[.cellEmbedding])
        let sum = zip(elastic, contrastive).map { Double($0) + Double($1) }
        #expect(elastic.contains { $0 != 0 } && contrastive.contains { $0 != 0 })
        expectNormwise(
            actual: both, oracle: sum, scale: elastic.norm + contrastive.norm,
            tolerance: Tolerances.accuracyRule)
    }

    @Test(arguments: [Float(1), 0.3, 0, -2])
    func theReversedGradientIsMinusLambdaTimesTheOther(_ lambda: Float) throws {
        var objective = only(.batch)
        objective.domainAdversarial.reversal.lambda = lambda
        let gradients = try batch.evaluate(objective).gradients
        let gradient = try #require(gradients[.batchLogits])
        let reversed = try #require(gradients[.reversedBatchLogits])
        #expect(gradient.contains { $0 != 0 })
        if lambda == 1 {
            expectSameBits(reversed, gradient.map { -$0 })
        } else {
            expectWithinUlps(actual: reversed, oracle: gradient.map { -Double(lambda) * Double($0) })
        }
    }

    @Test func gradientScaleMultipliesEveryGradientAndNoValue() throws {
        let plain = try batch.evaluate(objective)
        // Powers of two are exact. A factor of 0 must leave zeros.
        for scale: Float in [1024, -0.25, 0] {
            let scaled = try batch.evaluate(objective, gradientScale: scale)
            #expect(scaled.value == plain.value)
            for slot in ObjectiveSlot.allCases {
                let expected = try #require(plain.gradients[slot]).map { scale * $0 }
                #expect(scaled.gradients[slot] == expected, "\(slot), scale \(scale)")
            }
        }
    }

    // MARK: - Overwriting and accumulating

    @Test func accumulatingAddsToWhatTheBuffersHold() throws {
        let (value, overwritten) = try batch.evaluate(objective)
        var random = RandomInputs(seed: 3)
        let before = overwritten.mapValues { random.normals($0.count, shift: 10) }
        var gradients = before
        let again = try batch.valueAndGradient(of: objective, gradients: &gradients, update: .accumulate)
        #expect(again == value)
        for slot in ObjectiveSlot.allCases {
            let sum = zip(try #require(before[slot]), try #require(overwritten[slot]))
                .map { Double($0) + Double($1) }
            expectWithinUlps(actual: try #require(gradients[slot]), oracle: sum, "\(slot)")
        }
    }

    @Test(arguments: [(1, 1, 1), (7, 19, 6), (131, 40, 9)])
    func accumulatingOntoZerosOverwrites(_ size: (Int, Int, Int)) throws {
        let batch = ObjectiveBatch.random(cells: size.0, tokens: size.1, width: size.2)
        let overwritten = try batch.evaluate(objective).gradients
        var gradients = overwritten.mapValues { [Float](repeating: 0, count: $0.count) }
        _ = try batch.valueAndGradient(of: objective, gradients: &gradients, update: .accumulate)
        for slot in ObjectiveSlot.allCases {
            let (actual, expected) = (try #require(gradients[slot]), try #require(overwritten[slot]))
            if slot == .cellEmbedding {
                // (0 + ECS) + CCE: the products may be fused with either sum.
                expectNormwise(
                    actual: actual, oracle: expected.doubles,
                    scale: batch.embeddingScale(of: slot, objective), tolerance: Tolerances.accuracyRule,
                    "\(slot)")
            } else {
                #expect(actual == expected, "\(slot)")
            }
        }
    }

    // MARK: - Absent and unused buffers

    /// A buffer receives the same gradient alone as among all others. Without any buffer the value is the
    /// same.
    @Test func absentBuffersChangeNothing() throws {
        let all = try batch.evaluate(objective)
        for slot in ObjectiveSlot.allCases {
            var alone = batch.untouchedGradients.filter { $0.key == slot }
            #expect(try batch.valueAndGradient(of: objective, gradients: &alone) == all.value)
            expectSameBits(try #require(alone[slot]), try #require(all.gradients[slot]), "\(slot) alone")

            var others = batch.untouchedGradients.filter { $0.key != slot }
            #expect(try batch.valueAndGradient(of: objective, gradients: &others) == all.value)
            for (other, gradient) in others {
                expectSameBits(gradient, try #require(all.gradients[other]), "\(other) without \(slot)")
            }
        }
        var none: [ObjectiveSlot: [Float]] = [:]
        #expect(try batch.valueAndGradient(of: objective, gradients: &none) == all.value)
    }

    /// With one term on, the buffers that it does not read are cleared, or kept where gradients accumulate.
    @Test(arguments: ObjectiveTerm.allCases)
    func buffersWithoutATermAreClearedOrKept(_ term: ObjectiveTerm) throws {
        let objective = only(term)
        let read = ObjectiveSlot.read(by: term)
        var cleared = batch.untouchedGradients
        var kept = batch.untouchedGradients
        _ = try batch.valueAndGradient(of: objective, gradients: &cleared)
        _ = try batch.valueAndGradient(of: objective, gradients: &kept, update: .accumulate)
        for (slot, untouched) in batch.untouchedGradients {
            if read.contains(slot.input) {
                #expect(cleared[slot] != untouched && kept[slot] != untouched, "\(slot)")
                #expect(cleared[slot]?.contains { $0 != 0 } == true, "\(slot)")
            } else {
                expectSameBits(try #require(cleared[slot]), untouched.map { _ in 0 }, "\(slot), cleared")
                expectSameBits(try #require(kept[slot]), untouched, "\(slot), kept")
            }
        }
    }

    // MARK: - Shared memory

    /// A gradient in the memory of an input or of another gradient is refused, down to one shared byte;
    /// memory that only touches is not shared.
    @Test(arguments: ObjectiveSlot.allCases)
    func sharedMemoryIsRefused(_ slot: ObjectiveSlot) throws {
        let batch = ObjectiveBatch.random(cells: 3, tokens: 4, width: 4, cellTypes: 4, batches: 4)
        let memory = ObjectiveMemory(batch, gradients: batch.untouchedGradients)
        let gradient = try #require(memory.gradients[slot])
        var others: [(String, UnsafeMutableRawBufferPointer)] = [
            ("targets", .init(memory.targets)), ("mask", .init(try #require(memory.mask))),
            ("cellTypes.labels", .init(memory.cellTypeLabels)), ("batches.labels", .init(memory.batchLabels)),
        ]
        for input in ObjectiveSlot.inputs {
            others.append((input.argument, .init(try #require(memory.inputs[input]))))
        }
        for (name, bytes) in others {
            let start = try #require(bytes.baseAddress)
            let last = (bytes.count - 1) / MemoryLayout<Float>.stride * MemoryLayout<Float>.stride
            for (offset, overlaps) in [(0, true), (last, true), (last + MemoryLayout<Float>.stride, false)] {
                memory.gradients[slot] = UnsafeMutableBufferPointer(
                    start: (start + offset).assumingMemoryBound(to: Float.self), count: gradient.count)
                if overlaps {
                    expectOverlap("gradients.\(slot.rawValue)", name, in: memory)
                } else {
                    _ = try memory.valueAndGradient(of: objective, workspace: Workspace())
                }
            }
        }
        for other in ObjectiveSlot.allCases where other != slot {
            memory.gradients[slot] = memory.gradients[other]
            // The one that comes later in the list of gradients is the one that is refused.
            let order = ObjectiveSlot.allCases
            let isLater = try #require(order.firstIndex(of: slot)) > #require(order.firstIndex(of: other))
            let (later, earlier) = isLater ? (slot, other) : (other, slot)
            expectOverlap("gradients.\(later.rawValue)", "gradients.\(earlier.rawValue)", in: memory)
        }
    }

    private func expectOverlap(
        _ output: String, _ other: String, in memory: ObjectiveMemory,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let before = memory.gradients.mapValues { Array($0) }
        let error = #expect(throws: LossError.self, "\(output), \(other)", sourceLocation: sourceLocation) {
            try memory.valueAndGradient(of: objective, workspace: Workspace())
        }
        #expect(error == .overlappingBuffers(output: output, other: other), sourceLocation: sourceLocation)
        #expect(
            error?.description == "output \(output) shares memory with \(other)",
            sourceLocation: sourceLocation)
        for (slot, gradient) in memory.gradients {
            expectSameBits(Array(gradient), before[slot] ?? [], "\(slot)", sourceLocation: sourceLocation)
        }
    }
}
