// Masked losses of 16-bit predictions: the results of the widened predictions to the bit, and their gradients
// rounded once.

import CFastLossKernels
import FastLoss
import Testing

@Suite struct MixedPrecisionTests {
    // MARK: - Conversions

    @Test func everyElementIsWidenedExactly() {
        func check<Element: SixteenBits>(_: Element.Type, _ truth: (UInt16) -> Float) {
            let elements = (0...UInt16.max).map { Element(bitPattern: $0) }
            var widened = [Float](repeating: -1, count: elements.count)
            kernels.widen(elements, elements.count, &widened, Element.kernelElement)
            for (element, value) in zip(elements, widened) {
                let expected = truth(element.bitPattern)
                #expect(value.isNaN ? expected.isNaN : value.bitPattern == expected.bitPattern)
                #expect(value.isNaN ? element.float.isNaN : value.bitPattern == element.float.bitPattern)
            }
        }
        check(BFloat16.self) { Float(bitPattern: UInt32($0) << 16) }
        // 0, subnormal and normal numbers from their definition.
        check(Float16.self) {
            let (exponent, fraction) = (Int($0 >> 10 & 31), Float($0 & 1023))
            let sign: Float = $0 >> 15 == 0 ? 1 : -1
            if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
            return sign
                * Float(
                    sign: .plus, exponent: max(exponent, 1) - 25,
                    significand: fraction + (exponent > 0 ? 1024 : 0))
        }
    }

    /// Every element, the middle between neighbours, and the floats beside both.
    @Test func floatsAreRoundedToNearestEven() {
        func check<Element: SixteenBits>(_: Element.Type) {
            func written(_ value: Float) -> UInt16 {
                // More than a vector, so that both the loop and its tail write.
                var elements = [Element](repeating: Element(bitPattern: 0x1234), count: 37)
                kernels.fill(value, 37, &elements, FASTLOSS_OVERWRITE, Element.kernelElement)
                #expect(elements.allSatisfy { $0.bitPattern == elements[0].bitPattern })
                return elements[0].bitPattern
            }
            for bits in stride(from: UInt16(0), to: 0x7fff, by: 7) {
                let (low, high) = (Element(bitPattern: bits), Element(bitPattern: bits + 1))
                guard high.float.isFinite else { continue }
                let middle = Float((Double(low.float) + Double(high.float)) / 2)
                let even = bits & 1 == 0 ? bits : bits + 1
                #expect(written(low.float) == bits)
                #expect(written(middle) == even)
                #expect(written(-middle) == even | 0x8000)
                #expect(written(middle.nextDown) == bits)
                #expect(written(middle.nextUp) == bits + 1)
                #expect(Element(middle).bitPattern == even)
            }
            for value: Float in [.infinity, -.infinity, .greatestFiniteMagnitude, 0, -0.0] {
                #expect(written(value) == Element(value).bitPattern)
            }
            #expect(written(.greatestFiniteMagnitude) == Element(Float.infinity).bitPattern)
            for payload: UInt32 in [0x7fc0_0000, 0xffc1_2345, 0x7f80_0001, 0x7fff_ffff] {
                #expect(Element(bitPattern: written(Float(bitPattern: payload))).float.isNaN)
                #expect(Element(Float(bitPattern: payload)).float.isNaN)
            }
        }
        check(BFloat16.self)
        check(Float16.self)
    }

    // MARK: - Losses

    @Test(arguments: MaskedSubject.all, [(1, 1), (1, 15), (2, 31), (1, 129), (5, 513), (9, 1201)])
    func resultsAreThoseOfTheWidenedPredictions(_ subject: MaskedSubject, shape: (Int, Int)) throws {
        func check<Element: SixteenBits>(_: Element.Type) throws {
            for ratio in [0.4, nil] {
                var inputs = subject.inputs(rows: shape.0, columns: shape.1, selecting: ratio)
                for row in 0..<shape.0 { inputs.mask?[row * shape.1] = true }
                let predictions = inputs.predictions.map { Element($0) }
                inputs.predictions = predictions.map(\.float)
                // Large enough that the type's smallest normal number is no limit.
                let scale = Float(inputs.count)
                for aggregation in Aggregation.allCases {
                    let expected = try subject.run(inputs, aggregation, scale: scale)
                    subject.expectTruth(expected, of: inputs, aggregation, scale: scale)
                    let result = try subject.run(predictions, inputs, aggregation, scale: scale)
                    #expect(result.values == expected.values)
                    #expect(result.selectedCount == expected.selectedCount)
                    expectBits(result.gradient, expected.gradient)
                    #expect(try subject.value(predictions, inputs, aggregation) == expected.values)

                    let initial = inputs.targets.map { Element($0 - 1) }
                    let sum = try subject.run(
                        predictions, inputs, aggregation, scale: scale, addingTo: initial)
                    expectBits(sum.gradient, zip(initial, expected.gradient).map { $0.float + $1 })
                }
            }
        }
        try check(BFloat16.self)
        try check(Float16.self)
    }

    @Test(arguments: MaskedSubject.all, [Aggregation.mean, .sumPerCell])
    func workersChangeNothing(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        let inputs = subject.inputs(rows: 67, columns: 4_099)
        let predictions = inputs.predictions.map { BFloat16($0) }
        let one = try subject.run(predictions, inputs, aggregation, workspace: Workspace(workers: 1))
        for workers in [2, 3, 5] {
            let several = try subject.run(
                predictions, inputs, aggregation, workspace: Workspace(workers: workers))
            #expect(several.values == one.values)
            #expect(several.gradient.map(\.bitPattern) == one.gradient.map(\.bitPattern))
        }
    }

    @Test(arguments: MaskedSubject.losses)
    func nothingOutsideTheMaskHasAnEffect(_ subject: MaskedSubject) throws {
        let inputs = subject.inputs(rows: 3, columns: 147, selecting: 0.5)
        let predictions = inputs.predictions.map { Float16($0) }
        let expected = try subject.run(predictions, inputs, .mean)
        for strange: Float16 in [.nan, .infinity, -.infinity, -1] {
            let changed = predictions.indices.map { inputs.selects($0) ? predictions[$0] : strange }
            let result = try subject.run(changed, inputs, .mean)
            #expect(result.values == expected.values)
            #expect(result.gradient.map(\.bitPattern) == expected.gradient.map(\.bitPattern))
        }
    }

    @Test(arguments: MaskedSubject.losses, [Aggregation.mean, .meanPerCell])
    func emptySelections(_ subject: MaskedSubject, aggregation: Aggregation) throws {
        var inputs = subject.inputs(rows: 2, columns: 33)
        inputs.mask = [Bool](repeating: false, count: 66)
        let predictions = inputs.predictions.map { BFloat16($0) }
        let zero = try subject.run(predictions, inputs, aggregation, whenEmpty: .zero)
        #expect(zero.values.allSatisfy { $0 == 0 } && zero.gradient.allSatisfy { $0.bitPattern == 0 })
        let nan = try subject.run(predictions, inputs, aggregation, whenEmpty: .nan)
        #expect(nan.values.allSatisfy(\.isNaN) && nan.gradient.allSatisfy(\.float.isNaN))
        let kept = try subject.run(
            predictions, inputs, aggregation, whenEmpty: .zero, addingTo: predictions)
        #expect(kept.gradient.map(\.bitPattern) == predictions.map(\.bitPattern))
    }

    /// float16 ends at 65,504 and at 2⁻²⁴.
    @Test func gradientsLeaveTheRangeOfFloat16() throws {
        let inputs = MaskedInputs(
            predictions: [1, 1, 1], targets: [0, 0, 0], mask: nil, shape: MatrixShape(rows: 1, columns: 3))
        let predictions: [Float16] = [1, 1, 1]
        let large = try MaskedSubject.mse.run(predictions, inputs, .sum, scale: 40_000)
        #expect(large.gradient == [.infinity, .infinity, .infinity] && large.values == [3])
        let small = try MaskedSubject.mse.run(predictions, inputs, .sum, scale: 0x1p-27)
        #expect(small.gradient == [0, 0, 0])
        let subnormal = try MaskedSubject.mse.run(predictions, inputs, .sum, scale: 0x1p-25)
        #expect(subnormal.gradient == [0x1p-24, 0x1p-24, 0x1p-24])
    }

    // MARK: - Errors

    @Test func probabilityOutOfRangeIsNamed() throws {
        let inputs = MaskedSubject.probabilities.inputs(columns: 100, selecting: nil)
        for strange in [BFloat16(1.0078125), BFloat16(-0.5)] {
            var predictions = inputs.predictions.map { BFloat16($0) }
            predictions[61] = strange
            #expect(
                throws: LossError.probabilityOutOfRange(
                    argument: "predictions", probability: strange.float, index: 61)
            ) { try MaskedSubject.probabilities.run(predictions, inputs, .mean) }
        }
    }

    @Test func countsAndOverlapAreInElements() throws {
        let targets = [Float](repeating: 0, count: 4)
        let short = [BFloat16](repeating: BFloat16(1), count: 5)
        #expect(throws: LossError.shapeMismatch(argument: "targets", expected: 5, actual: 4)) {
            try MaskedMSE().value(
                predictions: short.span, targets: targets.span, mask: nil, workspace: Workspace())
        }
        // Eight elements: the predictions are the first four; a gradient from the fourth shares one.
        let memory = UnsafeMutableBufferPointer<BFloat16>.allocate(capacity: 8)
        defer { memory.deallocate() }
        memory.initialize(repeating: BFloat16(1))
        func plan(gradientAt start: Int) throws {
            var layout = Workspace().layout
            let gradient = UnsafeMutableBufferPointer(rebasing: memory[start..<start + 4])
            _ = try MaskedMSE().plan(
                predictions: ModelElements(memory.baseAddress, count: 4, type: .bfloat16),
                targets: targets.span, mask: nil,
                into: GradientOutput(gradient, scale: 1 as Float, update: .overwrite), in: &layout)
        }
        try plan(gradientAt: 4)
        #expect(throws: LossError.overlappingBuffers(output: "gradient", other: "predictions")) {
            try plan(gradientAt: 3)
        }
    }
}

// MARK: - Calls

/// What one call of 16-bit predictions gave.
private struct SixteenBitResult<Element> {
    var values: [Double]
    var selectedCount: Int
    /// Empty for a metric.
    var gradient: [Element]
}

extension MaskedSubject {
    /// As `run(_:_:)`, with these predictions in place of the inputs' own.
    fileprivate func run<Element: SixteenBits>(
        _ predictions: [Element], _ inputs: MaskedInputs, _ aggregation: Aggregation,
        whenEmpty: EmptySelectionRule = .error, scale: Float = 1, addingTo initial: [Element]? = nil,
        workspace: Workspace = Workspace(workers: 2)
    ) throws -> SixteenBitResult<Element> {
        let metric = make(aggregation.reduction, whenEmpty)
        var gradient = initial ?? predictions.map { _ in Element(bitPattern: 0x5a5a) }
        let update: GradientUpdate = initial == nil ? .overwrite : .accumulate
        var values = [Float](repeating: -12345, count: inputs.shape.rows)
        var span = values.mutableSpan
        var gradientSpan = gradient.mutableSpan
        let (x, t, m) = (predictions.span, inputs.targets.span, inputs.mask?.span)
        guard let loss = metric as? any MaskedLoss else {
            let results = try value(predictions, inputs, aggregation, workspace: workspace)
            let count = (0..<inputs.count).count(where: inputs.selects)
            return SixteenBitResult(values: results, selectedCount: count, gradient: [])
        }
        if aggregation.isPerCell {
            let count = try loss.valueAndGradientPerCell(
                predictions: x, targets: t, mask: m, shape: inputs.shape, values: &span,
                gradient: &gradientSpan, gradientScale: scale, update: update, workspace: workspace)
            return SixteenBitResult(
                values: values.map { Double($0) }, selectedCount: count, gradient: gradient)
        }
        let value = try loss.valueAndGradient(
            predictions: x, targets: t, mask: m, gradient: &gradientSpan, gradientScale: scale,
            update: update, workspace: workspace)
        return SixteenBitResult(
            values: [value.value], selectedCount: value.selectedCount, gradient: gradient)
    }
}
