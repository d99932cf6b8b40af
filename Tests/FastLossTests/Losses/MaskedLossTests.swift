// What every elementwise masked loss promises alike: accuracy, the mask law, NaN, empty masks, updates,
// order, errors.

import FastLoss
import FastLossReference
import Testing

@Suite struct MaskedLossTests {
    // MARK: - Accuracy

    /// Around the lanes of a round (16), a block (128), a group of logarithms (512) and a chunk (4,096).
    static let shapes = [
        (1, 1), (1, 2), (1, 15), (1, 16), (1, 17), (2, 31), (3, 33), (1, 127), (1, 129), (1, 511), (5, 513),
        (1, 1023),
        (2, 1024), (1, 1025), (1, 4095), (1, 4096), (3, 4097), (9, 1201),
    ]

    @Test(arguments: MaskedSubject.all, shapes)
    func oracleIsMatched(_ subject: MaskedSubject, shape: (Int, Int)) throws {
        for ratio in [0.4, nil] {
            var inputs = subject.inputs(rows: shape.0, columns: shape.1, selecting: ratio)
            // At least one element in each cell.
            for row in 0..<shape.0 { inputs.mask?[row * shape.1] = true }
            for aggregation in Aggregation.allCases {
                let result = try subject.run(inputs, aggregation, scale: 0.7)
                subject.expectTruth(result, of: inputs, aggregation, scale: 0.7)
                #expect(try subject.value(inputs, aggregation) == result.values)
                #expect(result.selectedCount == (0..<inputs.count).count(where: inputs.selects))
            }
        }
    }

    /// Equal terms: all roundings of their sum go in the same direction.
    @Test(arguments: MaskedSubject.all, [Float(0.1), 0.3, 0.7, 1])
    func equalTermsDoNotDrift(_ subject: MaskedSubject, prediction: Float) throws {
        let count = 9_000
        let inputs = MaskedInputs(
            predictions: [Float](repeating: prediction, count: count),
            targets: [Float](repeating: 0, count: count),
            mask: nil, shape: MatrixShape(rows: 1, columns: count))
        for aggregation in Aggregation.allCases {
            subject.expectTruth(try subject.run(inputs, aggregation), of: inputs, aggregation)
        }
    }

    // MARK: - The mask

    /// f(x[mask], t[mask]) = f(x, t, mask), up to the order of the sum; the gradients agree to the bit.
    @Test(arguments: MaskedSubject.all, [Aggregation.mean, .sum])
    func maskLaw(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let inputs = subject.inputs(columns: 5_003)
        func selected(_ elements: [Float]) -> [Float] {
            elements.indices.filter(inputs.selects).map { elements[$0] }
        }
        let alone = MaskedInputs(
            predictions: selected(inputs.predictions), targets: selected(inputs.targets), mask: nil,
            shape: MatrixShape(rows: 1, columns: selected(inputs.targets).count))
        let (result, expected) = (try subject.run(inputs, aggregation), try subject.run(alone, aggregation))
        expectWithinUlps(actual: Float(result.values[0]), oracle: expected.values[0], floor: 0)
        #expect(result.selectedCount == expected.selectedCount)
        guard subject.hasGradient else { return }
        expectSameBits(selected(result.gradient), expected.gradient)
        #expect(inputs.predictions.indices.allSatisfy { inputs.selects($0) || result.gradient[$0] == 0 })
    }

    @Test(arguments: MaskedSubject.all, Aggregation.allCases)
    func noMaskIsAMaskOfTrue(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        var inputs = subject.inputs(rows: 3, columns: 1_367, selecting: nil)
        let result = try subject.run(inputs, aggregation)
        inputs.mask = [Bool](repeating: true, count: inputs.count)
        #expect(try subject.run(inputs, aggregation).bits == result.bits)
    }

    @Test(arguments: MaskedSubject.all, Aggregation.allCases)
    func nothingOutsideTheMaskHasAnEffect(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        for columns in [7, 16, 1_367] {
            let inputs = subject.inputs(rows: 3, columns: columns, selecting: 0.5)
            let expected = try subject.run(inputs, aggregation)
            for strange: Float in [.nan, .infinity, -.infinity, -1, .greatestFiniteMagnitude] {
                var changed = inputs
                for i in 0..<inputs.count where !inputs.selects(i) {
                    changed.predictions[i] = strange
                    changed.targets[i] = -strange
                }
                #expect(try subject.run(changed, aggregation).bits == expected.bits, "\(strange), \(columns)")
                #expect(try subject.value(changed, aggregation) == expected.values)
            }
        }
    }

    /// A scale so large that doubling it overflows must not turn the zeros outside the mask into NaN.
    @Test(arguments: MaskedSubject.losses)
    func largestScaleLeavesZerosOutsideTheMask(_ subject: MaskedSubject) throws {
        let inputs = subject.inputs(columns: 100)
        let result = try subject.run(inputs, .sum, scale: .greatestFiniteMagnitude)
        #expect((0..<100).allSatisfy { inputs.selects($0) || result.gradient[$0] == 0 })
    }

    @Test(arguments: [MaskedSubject.mse, .logits, .relativeError], Aggregation.allCases)
    func nanInsideTheMaskPropagates(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        for index in [0, 15, 16, 40] {
            var inputs = subject.inputs(rows: 2, columns: 41, selecting: nil)
            let clean = try subject.run(inputs, aggregation)
            inputs.predictions[index] = .nan
            let result = try subject.run(inputs, aggregation)
            #expect(result.values[0].isNaN)
            if aggregation.isPerCell { #expect(result.values[1] == clean.values[1]) }
            guard subject.hasGradient else { continue }
            #expect(result.gradient.indices.allSatisfy { result.gradient[$0].isNaN == ($0 == index) })
        }
    }

    @Test(arguments: [MaskedSubject.mse, .relativeError])
    func nanTargetPropagates(_ subject: MaskedSubject) throws {
        var inputs = subject.inputs(columns: 41, selecting: nil)
        inputs.targets[17] = .nan
        let result = try subject.run(inputs, .mean)
        #expect(result.values[0].isNaN)
        #expect(!subject.hasGradient || result.gradient[17].isNaN)
    }

    // MARK: - Empty selections

    @Test(arguments: MaskedSubject.all, Aggregation.allCases)
    func emptySelectionIsAnErrorAndTouchesNothing(_ subject: MaskedSubject, aggregation: Aggregation) {
        for columns in [0, 3, 5_000] {
            var inputs = subject.inputs(rows: 2, columns: columns, selecting: 0)
            // The first cell has something, so that the second is found.
            if aggregation.isPerCell, columns > 0 { inputs.mask?[0] = true }
            let row = aggregation.isPerCell ? (columns == 0 ? 0 : 1) : nil
            let place = row.map { " in row \($0)" } ?? ""
            expectUntouched(
                subject, inputs, aggregation, throwing: .emptySelection(loss: subject.name, row: row),
                "\(subject.name) has nothing to average\(place): no element is selected "
                    + "(the EmptySelectionRule .zero or .nan gives a value instead)")
        }
    }

    @Test(arguments: MaskedSubject.all, [Aggregation.meanPerCell, .sumPerCell])
    func noRowsIsAnEmptySelection(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let inputs = subject.inputs(rows: 0, columns: 5)
        expectUntouched(
            subject, inputs, aggregation, throwing: .emptySelection(loss: subject.name, row: nil),
            "\(subject.name) has nothing to average: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)")
        #expect(try subject.run(inputs, aggregation, whenEmpty: .zero).values == [])
    }

    @Test(arguments: MaskedSubject.all, Aggregation.allCases)
    func emptySelectionByChoice(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let inputs = subject.inputs(rows: 2, columns: 5, selecting: 0)
        for (rule, number) in [(EmptySelectionRule.zero, Float(0)), (.nan, .nan)] {
            let result = try subject.run(inputs, aggregation, whenEmpty: rule)
            #expect(result.selectedCount == 0)
            expectSameBits(result.values.map { Float($0) }, result.values.map { _ in number })
            expectSameBits(result.gradient, result.gradient.map { _ in number })
            // What accumulates into a buffer adds the same number.
            let initial = [Float](repeating: 3, count: subject.hasGradient ? inputs.count : 0)
            guard subject.hasGradient else { continue }
            let added = try subject.run(inputs, aggregation, whenEmpty: rule, addingTo: initial)
            expectSameBits(added.gradient, initial.map { $0 + number })
        }
    }

    /// An empty cell and a full cell in one batch: each follows its own rule.
    @Test(arguments: MaskedSubject.losses, [Aggregation.meanPerCell, .sumPerCell])
    func oneEmptyCell(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        var inputs = subject.inputs(rows: 2, columns: 20, selecting: nil)
        let full = try subject.run(inputs, aggregation)
        inputs.mask = (0..<40).map { $0 < 20 }
        let result = try subject.run(inputs, aggregation, whenEmpty: .nan)
        #expect(result.values[0] == full.values[0])
        #expect(result.values[1].isNaN)
        expectSameBits(Array(result.gradient[..<20]), Array(full.gradient[..<20]))
        #expect(result.gradient[20...].allSatisfy { $0.isNaN })
    }

    // MARK: - The gradient's place

    @Test(arguments: MaskedSubject.losses, Aggregation.allCases)
    func gradientScaleAndUpdate(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let inputs = subject.inputs(rows: 3, columns: 1_367)
        let plain = try subject.run(inputs, aggregation)
        let scaled = try subject.run(inputs, aggregation, scale: -0.25)
        #expect(scaled.values == plain.values)
        expectSameBits(scaled.gradient.map { $0 + 0 }, plain.gradient.map { $0 * -0.25 + 0 })

        var random = RandomInputs(seed: 3)
        let initial = random.normals(inputs.count)
        let added = try subject.run(inputs, aggregation, addingTo: initial)
        #expect(added.values == plain.values)
        // A fused multiply-add may round once where the sum rounds twice.
        expectWithinUlps(
            actual: added.gradient, oracle: zip(initial, plain.gradient).map { Double($0) + Double($1) },
            floor: Tolerances.accumulatedFloor)
        #expect((0..<inputs.count).allSatisfy { inputs.selects($0) || added.gradient[$0] == initial[$0] })
    }

    // MARK: - Execution

    /// Large enough for many tasks: values, gradients and counts do not depend on who computes them.
    @Test(arguments: MaskedSubject.all, Aggregation.allCases)
    func anyNumberOfWorkersGivesTheSameBits(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let inputs = subject.inputs(rows: 67, columns: 1_201)
        let expected = try subject.run(inputs, aggregation, workspace: Workspace(workers: 1)).bits
        for workers in [2, 3, 4, 8] {
            let workspace = Workspace(workers: workers)
            for _ in 0..<2 {
                #expect(try subject.run(inputs, aggregation, workspace: workspace).bits == expected)
            }
        }
    }

    @Test(arguments: MaskedSubject.all, Aggregation.allCases)
    func workspaceStopsGrowing(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let workspace = Workspace(workers: 2)
        let inputs = subject.inputs(rows: 67, columns: 601)
        _ = try subject.run(inputs, aggregation, workspace: workspace)
        let bytes = workspace.byteCount
        _ = try subject.run(inputs, aggregation, workspace: workspace)
        _ = try subject.run(subject.inputs(columns: 100), aggregation, workspace: workspace)
        #expect(workspace.byteCount == bytes)
    }

    @Test(arguments: MaskedSubject.losses)
    func arrayConveniencesAgree(_ subject: MaskedSubject) throws {
        let inputs = subject.inputs(columns: 1_000)
        let expected = try subject.run(inputs, .mean, scale: 3)
        let loss = try #require(subject.make(.mean, .error) as? any MaskedLoss)
        let (value, gradient) = try loss.valueAndGradient(
            predictions: inputs.predictions, targets: inputs.targets, mask: inputs.mask, gradientScale: 3)
        #expect(value == LossValue(value: expected.values[0], selectedCount: expected.selectedCount))
        expectSameBits(gradient, expected.gradient)
        #expect(
            try loss.value(predictions: inputs.predictions, targets: inputs.targets, mask: inputs.mask)
                == value)
    }

    // MARK: - Errors

    @Test(arguments: MaskedSubject.all)
    func shapesThatDisagree(_ subject: MaskedSubject) {
        let right = subject.inputs(rows: 2, columns: 3)
        for aggregation in Aggregation.allCases {
            var inputs = right
            inputs.targets.removeLast()
            expectUntouched(
                subject, inputs, aggregation,
                throwing: .shapeMismatch(argument: "targets", expected: 6, actual: 5),
                "targets has 5 elements, but the other arguments ask for 6")
            inputs = right
            inputs.mask?.append(true)
            expectUntouched(
                subject, inputs, aggregation,
                throwing: .shapeMismatch(argument: "mask", expected: 6, actual: 7),
                "mask has 7 elements, but the other arguments ask for 6")
            if subject.hasGradient {
                expectUntouched(
                    subject, right, aggregation, gradientCount: 7,
                    throwing: .shapeMismatch(argument: "gradient", expected: 6, actual: 7),
                    "gradient has 7 elements, but the other arguments ask for 6")
            }
            guard aggregation.isPerCell else { continue }
            inputs = right
            inputs.predictions.removeLast()
            expectUntouched(
                subject, inputs, aggregation,
                throwing: .shapeMismatch(argument: "predictions", expected: 6, actual: 5),
                "predictions has 5 elements, but the other arguments ask for 6")
            expectUntouched(
                subject, right, aggregation, valueCount: 3,
                throwing: .shapeMismatch(argument: "values", expected: 2, actual: 3),
                "values has 3 elements, but the other arguments ask for 2")
        }
    }

    @Test(
        arguments: MaskedSubject.all,
        [(-1, 3), (3, -1), (-2, -3), (Int.max, 2), (Int.min, -1), (Int.max, Int.max)])
    func impossibleShapes(_ subject: MaskedSubject, shape: (Int, Int)) {
        var inputs = subject.inputs(rows: 2, columns: 3)
        inputs.shape = MatrixShape(rows: shape.0, columns: shape.1)
        expectUntouched(
            subject, inputs, .meanPerCell, valueCount: 2,
            throwing: .invalidShape(rows: shape.0, columns: shape.1),
            "a shape of \(shape.0) rows and \(shape.1) columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int")
    }

    @Test(arguments: MaskedSubject.losses, [Float.nan, .infinity, -.infinity])
    func gradientScaleHasToBeFinite(_ subject: MaskedSubject, scale: Float) {
        for aggregation in Aggregation.allCases {
            let inputs = subject.inputs(rows: 2, columns: 3, selecting: nil)
            var (values, gradient) = ([Float](repeating: 1, count: 2), [Float](repeating: 1, count: 6))
            expectError("gradientScale is \(Double(scale)), but it must be finite") { () throws(LossError) in
                _ = try subject.run(
                    inputs, aggregation, whenEmpty: .error, scale: scale, values: &values, gradient: &gradient
                )
            }
            #expect(values == [1, 1] && gradient == [1, 1, 1, 1, 1, 1])
        }
    }

    /// Outputs that begin in the last element of an input, or of each other.
    @Test(arguments: MaskedSubject.losses, ["predictions", "targets", "mask"])
    func overlappingGradient(_ subject: MaskedSubject, input: String) throws {
        let loss = try #require(subject.make(.mean, .error) as? any MaskedLoss)
        let memory = TestMemory(floats: 64)
        let spans = (x: input == "predictions" ? 7 : 16, t: input == "targets" ? 7 : 24)
        expectError("output gradient shares memory with \(input)") { () throws(LossError) in
            var gradient = memory.mutable(0, count: 8)
            _ = try loss.valueAndGradient(
                predictions: memory.floats(spans.x, count: 8), targets: memory.floats(spans.t, count: 8),
                mask: memory.bools(input == "mask" ? 7 : 40, count: 8), gradient: &gradient,
                workspace: Workspace(workers: 1))
        }
        expectError("output gradient shares memory with \(input)") { () throws(LossError) in
            var gradient = memory.mutable(0, count: 8)
            var values = memory.mutable(60, count: 1)
            try loss.valueAndGradientPerCell(
                predictions: memory.floats(spans.x, count: 8), targets: memory.floats(spans.t, count: 8),
                mask: memory.bools(input == "mask" ? 7 : 40, count: 8),
                shape: MatrixShape(rows: 1, columns: 8),
                values: &values, gradient: &gradient, workspace: Workspace(workers: 1))
        }
        #expect(memory.isUntouched)
    }

    @Test(arguments: MaskedSubject.all, ["predictions", "targets", "mask", "gradient"])
    func overlappingValues(_ subject: MaskedSubject, other: String) throws {
        let metric = subject.make(.mean, .error)
        let memory = TestMemory(floats: 64)
        let place = ["predictions": 7, "targets": 15, "mask": 24, "gradient": 39][other]!
        expectError(
            subject.hasGradient || other != "gradient" ? "output values shares memory with \(other)" : nil
        ) {
            () throws(LossError) in
            var values = memory.mutable(place, count: 1)
            var gradient = memory.mutable(32, count: 8)
            let (x, t) = (memory.floats(0, count: 8), memory.floats(8, count: 8))
            let m = memory.bools(24, count: 8)
            let shape = MatrixShape(rows: 1, columns: 8)
            if let loss = metric as? any MaskedLoss {
                try loss.valueAndGradientPerCell(
                    predictions: x, targets: t, mask: m, shape: shape, values: &values, gradient: &gradient,
                    workspace: Workspace(workers: 1))
            } else if other != "gradient" {
                try metric.valuePerCell(
                    predictions: x, targets: t, mask: m, shape: shape, values: &values,
                    workspace: Workspace(workers: 1))
            }
        }
        #expect(memory.isUntouched)
    }

    /// Neighbours are not overlapping: buffers may lie next to each other.
    @Test func adjacentBuffersAreFine() throws {
        let memory = TestMemory(floats: 64)
        var gradient = memory.mutable(8, count: 8)
        let value = try MaskedMSE().valueAndGradient(
            predictions: memory.floats(0, count: 8), targets: memory.floats(16, count: 8), mask: nil,
            gradient: &gradient, workspace: Workspace(workers: 1))
        #expect(value == LossValue(value: 0, selectedCount: 8))
    }

    private func expectUntouched(
        _ subject: MaskedSubject, _ inputs: MaskedInputs, _ aggregation: Aggregation, valueCount: Int? = nil,
        gradientCount: Int? = nil, throwing error: LossError, _ message: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        var values = [Float](repeating: 5, count: valueCount ?? max(0, inputs.shape.rows))
        var gradient = [Float](repeating: 6, count: gradientCount ?? inputs.targets.count)
        if gradientCount == nil, inputs.targets.count != inputs.count {
            gradient = inputs.predictions.map { _ in 6 }
        }
        let (valuesBefore, gradientBefore) = (values, gradient)
        expectError(message, error, sourceLocation: sourceLocation) { () throws(LossError) in
            _ = try subject.run(
                inputs, aggregation, whenEmpty: .error, values: &values, gradient: &gradient)
        }
        #expect(values == valuesBefore && gradient == gradientBefore, sourceLocation: sourceLocation)
    }
}

// MARK: - Losses of a user's own

/// A loss that names its function, and nothing else.
private struct SummedLogits: MaskedLoss {
    var reduction: LossReduction { .sum }
    var whenEmpty: EmptySelectionRule { .zero }
    var elementwiseLoss: ElementwiseLoss { .bernoulliNLL(.logits) }
}

/// A metric that names its function, and nothing else.
private struct SummedRelativeError: MaskedMetric {
    var reduction: LossReduction { .sum }
    var whenEmpty: EmptySelectionRule { .zero }
    var elementwiseMetric: ElementwiseMetric { .relativeError }
}

extension MaskedLossTests {
    @Test func aTypeOfTheUsersReducesTheFunctionThatItNames() throws {
        var random = RandomInputs(seed: 21)
        let (logits, targets) = (random.predictions(133), random.targets(133))
        let mask = random.mask(133)
        let own = try SummedLogits().valueAndGradient(predictions: logits, targets: targets, mask: mask)
        let given = try BernoulliNLL(from: .logits, reduction: .sum).valueAndGradient(
            predictions: logits, targets: targets, mask: mask)
        #expect(own.loss == given.loss)
        expectSameBits(own.gradient, given.gradient)
        #expect(
            try SummedRelativeError().value(predictions: logits, targets: targets, mask: mask)
                == MaskedRelativeError(reduction: .sum).value(
                    predictions: logits, targets: targets, mask: mask))
        let nothing = try SummedLogits().value(
            predictions: logits, targets: targets, mask: mask.map { _ in false })
        #expect(nothing == LossValue(value: 0, selectedCount: 0))
    }
}
