// Masked reductions against the oracle: any shape, the law that masks select, and every error.

import FastLoss
import FastLossReference
import Testing

@Suite struct MaskedReductionsTests {
    static let reductions: [LossReduction] = [.mean, .sum]

    /// Below, at and above the rows of one task (32), and odd sizes.
    static let problems: [Problem] = [
        Problem(rows: 1, columns: 1, masks: 1), Problem(rows: 1, columns: 1201, masks: 3),
        Problem(rows: 2, columns: 7, masks: 17), Problem(rows: 31, columns: 65, masks: 1),
        Problem(rows: 32, columns: 64, masks: 17), Problem(rows: 33, columns: 129, masks: 3),
        Problem(rows: 67, columns: 301, masks: 17),
    ]

    @Test(arguments: try Golden.cases(of: "MaskedReductions"), reductions)
    func matchesPyTorch(_ golden: Golden, reduction: LossReduction) throws {
        let problem = Problem(
            rows: try golden.int("rows"), columns: try golden.int("columns"),
            masks: try golden.int("maskCount"),
            values: try golden.floats("values"), selections: try golden.bools("masks"),
            outputGradient: try golden.floats("outputGradient"))
        // PyTorch's empty sum is 0, its empty mean NaN.
        let reductions = MaskedReductions(reduction: reduction, whenEmpty: reduction == .mean ? .nan : .zero)
        let (outputs, gradient) = reduction == .mean ? ("means", "meansGradient") : ("sums", "sumsGradient")
        expectAsAccurateAsNaive(
            fast: try problem.value(reductions), naive: try golden.single(outputs),
            truth: try golden.truth(outputs), outputs)
        expectAsAccurateAsNaive(
            fast: try problem.gradient(reductions), naive: try golden.single(gradient),
            truth: try golden.truth(gradient), gradient)
    }

    @Test(arguments: problems, reductions)
    func isAsAccurateAsTheNaiveLoop(_ problem: Problem, reduction: LossReduction) throws {
        let reductions = MaskedReductions(reduction: reduction, whenEmpty: .zero)
        problem.expectValue(try problem.value(reductions), reduction)
        problem.expectGradient(try problem.gradient(reductions), reduction)
    }

    @Test(arguments: problems)
    func sumsOfSmallIntegersAreExact(_ problem: Problem) throws {
        var problem = problem
        problem.values = problem.values.indices.map { Float($0 % 7) - 3 }
        problem.outputGradient = problem.outputGradient.indices.map { Float($0 % 5) - 2 }
        let sums = MaskedReductions(reduction: .sum, whenEmpty: .zero)
        #expect(try problem.value(sums) == problem.naiveOutputs(.sum))
        #expect(try problem.gradient(sums) == problem.naiveGradient(.sum))
    }

    @Test(arguments: problems, reductions)
    func gradientAccumulatesAndScales(_ problem: Problem, reduction: LossReduction) throws {
        let reductions = MaskedReductions(reduction: reduction, whenEmpty: .zero)
        var random = RandomInputs(seed: 3)
        let before = random.normals(problem.values.count)
        let scale: Float = -0.375
        var gradient = before
        try problem.gradient(reductions, into: &gradient, scale: scale, update: .accumulate)
        expectAsAccurateAsNaive(
            fast: gradient, naive: zip(before, problem.naiveGradient(reduction)).map { $0 + scale * $1 },
            truth: zip(before, problem.gradientOracle(reduction)).map { Double($0) + Double(scale) * $1 },
            scale: problem.gradientScale(reduction) + before.norm)
    }

    /// NaN and infinities strewn over the values: an output shows those that its own mask selects and no
    /// others.
    @Test(arguments: problems, reductions)
    func masksSelectValues(_ problem: Problem, reduction: LossReduction) throws {
        var problem = problem
        for (index, poison) in zip(stride(from: 0, to: problem.values.count, by: 11), poisons) {
            problem.values[index] = poison
        }
        problem.expectValue(
            try problem.value(MaskedReductions(reduction: reduction, whenEmpty: .zero)), reduction)
    }

    /// An infinity stays one beside finite elements of the other sign that overflow in single precision,
    /// wherever it stands. PyTorch's float32 gives NaN for some orders.
    @Test(arguments: [3, 20, 300], reductions)
    func infinitiesOutlastAnOverflow(columns: Int, reduction: LossReduction) throws {
        for place in [0, columns / 2, columns - 1] {
            var problem = Problem(rows: 2, columns: columns, masks: 2)
            for index in problem.values.indices { problem.values[index] = .greatestFiniteMagnitude }
            problem.values[place] = -.infinity
            for index in columns..<2 * columns { problem.values[index] = -.greatestFiniteMagnitude }
            problem.values[columns + place] = .infinity
            problem.selections = problem.selections.map { _ in true }
            problem.selections[columns + place] = false
            let outputs = try problem.value(MaskedReductions(reduction: reduction))
            #expect(outputs[0] == -.infinity && outputs[2] == .infinity, "place \(place)")
            #expect(!outputs[1].isNaN && outputs[1] > 0, "place \(place): -inf is outside the mask")
            #expect(!outputs[3].isNaN && outputs[3] < 0, "place \(place): inf is outside the mask")
        }
    }

    /// The same for the outputs' gradients: they reach the positions that their mask selects and no others.
    @Test(arguments: problems, reductions)
    func masksSelectGradients(_ problem: Problem, reduction: LossReduction) throws {
        var problem = problem
        for (index, poison) in zip(stride(from: 0, to: problem.outputGradient.count, by: 3), poisons) {
            problem.outputGradient[index] = poison
        }
        let reductions = MaskedReductions(reduction: reduction, whenEmpty: .zero)
        problem.expectGradient(try problem.gradient(reductions), reduction)
        var accumulated = [Float](repeating: 0, count: problem.values.count)
        try problem.gradient(reductions, into: &accumulated, update: .accumulate)
        problem.expectGradient(accumulated, reduction)
    }

    /// The law itself: what stands where a mask is false cannot be told from the output.
    @Test(arguments: problems)
    func unselectedValuesHaveNoEffect(_ problem: Problem) throws {
        var poisoned = problem
        for column in 0..<problem.columns
        where !(0..<problem.masks).contains(where: { problem.selects($0, column) }) {
            for row in 0..<problem.rows {
                poisoned.values[row * problem.columns + column] = poisons[(row + column) % poisons.count]
            }
        }
        let reductions = MaskedReductions(whenEmpty: .zero)
        problem.expectValue(try poisoned.value(reductions), .mean)
    }

    @Test(arguments: reductions)
    func emptyMasks(reduction: LossReduction) throws {
        var problem = Problem(rows: 3, columns: 5, masks: 4)
        for column in 0..<5 { problem.selections[2 * 5 + column] = false }
        problem.outputGradient[2] = .nan

        #expect(throws: LossError.emptySelection(loss: "MaskedReductions.masks", row: 2)) {
            try problem.value(MaskedReductions(reduction: reduction))
        }
        #expect(throws: LossError.emptySelection(loss: "MaskedReductions.masks", row: 2)) {
            try problem.gradient(MaskedReductions(reduction: reduction))
        }
        for (rule, expected) in [(EmptySelectionRule.zero, Float(0)), (.nan, .nan)] {
            let reductions = MaskedReductions(reduction: reduction, whenEmpty: rule)
            let outputs = try problem.value(reductions)
            for row in 0..<3 {
                #expect(outputs[row * 4 + 2].isNaN == expected.isNaN)
                if !expected.isNaN { #expect(outputs[row * 4 + 2] == expected) }
            }
            #expect(
                try problem.gradient(reductions).allSatisfy(\.isFinite), "an empty mask passes nothing back")
        }
    }

    @Test func nothingToComputeIsNoError() throws {
        let reductions = MaskedReductions()
        let noMasks = Problem(rows: 3, columns: 5, masks: 0)
        #expect(try noMasks.value(reductions).isEmpty)
        #expect(try noMasks.gradient(reductions) == [Float](repeating: 0, count: 15))
        #expect(try Problem(rows: 0, columns: 5, masks: 3).value(reductions).isEmpty)
        #expect(try Problem(rows: 0, columns: 5, masks: 3).gradient(reductions).isEmpty)
        let noColumns = Problem(rows: 2, columns: 0, masks: 3)
        #expect(try noColumns.value(MaskedReductions(whenEmpty: .zero)) == [Float](repeating: 0, count: 6))
        #expect(try noColumns.gradient(MaskedReductions(whenEmpty: .zero)).isEmpty)
    }

    @Test(arguments: reductions)
    func workersDoNotChangeABit(reduction: LossReduction) throws {
        var problem = Problem(rows: 203, columns: 1201, masks: 17)
        problem.values[1_000] = .nan
        problem.outputGradient[100] = .infinity
        let reductions = MaskedReductions(reduction: reduction)
        let one = Workspace(workers: 1)
        let outputs = try problem.value(reductions, one)
        var gradient = [Float].untouched(problem.values.count)
        try problem.gradient(reductions, into: &gradient, one)
        for workers in [2, 3, 8] {
            let workspace = Workspace(workers: workers)
            expectSameBits(try problem.value(reductions, workspace), outputs, "\(workers) workers, outputs")
            var other = [Float].untouched(problem.values.count)
            try problem.gradient(reductions, into: &other, workspace)
            expectSameBits(other, gradient, "\(workers) workers, gradient")
        }
    }

    @Test func aSecondCallAllocatesNoScratch() throws {
        let problem = Problem(rows: 9, columns: 33, masks: 3)
        let workspace = Workspace(workers: 1)
        _ = try problem.value(MaskedReductions(), workspace)
        var gradient = [Float].untouched(problem.values.count)
        try problem.gradient(MaskedReductions(), into: &gradient, workspace)
        let bytes = workspace.byteCount
        _ = try problem.value(MaskedReductions(), workspace)
        try problem.gradient(MaskedReductions(), into: &gradient, workspace)
        #expect(workspace.byteCount == bytes)
    }
}

// MARK: - Errors

extension MaskedReductionsTests {
    @Test(arguments: [
        (
            Problem(rows: 2, columns: 3, masks: 2, valueCount: 5),
            "values has 5 elements, but the other arguments ask for 6"
        ),
        (
            Problem(rows: 2, columns: 3, masks: 2, selectionCount: 7),
            "masks has 7 elements, but the other arguments ask for 6"
        ),
    ])
    func valueNamesWhatDoesNotFit(_ problem: Problem, message: String) {
        var outputs = [Float].untouched(4)
        let error = #expect(throws: LossError.self) { try problem.value(MaskedReductions(), into: &outputs) }
        #expect(error?.description == message)
        #expect(outputs == .untouched(4))
    }

    @Test func valueNamesAShortOutput() {
        var outputs = [Float].untouched(3)
        let problem = Problem(rows: 2, columns: 3, masks: 2)
        let error = #expect(throws: LossError.self) { try problem.value(MaskedReductions(), into: &outputs) }
        #expect(error?.description == "outputs has 3 elements, but the other arguments ask for 4")
    }

    @Test(arguments: [
        (
            Problem(rows: 2, columns: 3, masks: 2, outputGradientCount: 3), 6, Float(1),
            "outputGradient has 3 elements, but the other arguments ask for 4"
        ),
        (
            Problem(rows: 2, columns: 3, masks: 2, selectionCount: 5), 6, 1,
            "masks has 5 elements, but the other arguments ask for 6"
        ),
        (
            Problem(rows: 2, columns: 3, masks: 2), 7, 1,
            "gradient has 7 elements, but the other arguments ask for 6"
        ),
        (Problem(rows: 2, columns: 3, masks: 2), 6, .infinity, "gradientScale is inf, but it must be finite"),
    ])
    func gradientNamesWhatDoesNotFit(_ problem: Problem, gradientCount: Int, scale: Float, message: String) {
        var gradient = [Float].untouched(gradientCount)
        let error = #expect(throws: LossError.self) {
            try problem.gradient(MaskedReductions(), into: &gradient, scale: scale)
        }
        #expect(error?.description == message)
        #expect(gradient == .untouched(gradientCount))
    }

    @Test func impossibleShapes() {
        let negative = #expect(throws: LossError.self) {
            try MaskedReductions().value(
                values: [], masks: [], shape: MatrixShape(rows: 1, columns: 1), maskCount: -1)
        }
        #expect(
            negative?.description == "a shape of -1 rows and 1 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int")
        #expect(throws: LossError.invalidShape(rows: -2, columns: 3)) {
            try MaskedReductions().value(
                values: [], masks: [], shape: MatrixShape(rows: -2, columns: 3), maskCount: 1)
        }
        #expect(throws: LossError.invalidShape(rows: .max, columns: 2)) {
            try MaskedReductions().gradient(
                outputGradient: [], masks: [], shape: MatrixShape(rows: .max, columns: 2), maskCount: 1)
        }
    }

    @Test func emptyMaskMessage() {
        let error = LossError.emptySelection(loss: "MaskedReductions.masks", row: 2)
        #expect(
            error.description
                == "MaskedReductions.masks has nothing to average in row 2: no element is selected "
                + "(the EmptySelectionRule .zero or .nan gives a value instead)")
    }

    @Test func sizesBeyondBLAS() {
        let error = #expect(throws: LossError.self) {
            try MaskedReductions().value(
                values: [], masks: [], shape: MatrixShape(rows: 0, columns: 1 << 31), maskCount: 0)
        }
        #expect(error?.description == "shape.columns is 2147483648, but BLAS takes sizes up to 2147483647")
        #expect(throws: LossError.dimensionTooLarge(argument: "maskCount", value: 1 << 31)) {
            try MaskedReductions().value(
                values: [], masks: [], shape: MatrixShape(rows: 0, columns: 0), maskCount: 1 << 31)
        }
    }

    @Test func outputsMayNotOverlapInputs() {
        let shape = MatrixShape(rows: 2, columns: 2)
        let masks = [true, false, true, true]
        var memory = [Float](repeating: 0, count: 7)
        memory.withUnsafeMutableBufferPointer { memory in
            let input = Span(_unsafeElements: UnsafeBufferPointer(rebasing: memory[0..<4]))
            var output = MutableSpan(_unsafeElements: UnsafeMutableBufferPointer(rebasing: memory[3..<7]))
            #expect(throws: LossError.overlappingBuffers(output: "outputs", other: "values")) {
                try MaskedReductions().value(
                    values: input, masks: masks.span, shape: shape, maskCount: 2, outputs: &output,
                    workspace: Workspace())
            }
            #expect(throws: LossError.overlappingBuffers(output: "gradient", other: "outputGradient")) {
                try MaskedReductions().gradient(
                    outputGradient: input, masks: masks.span, shape: shape, maskCount: 2, gradient: &output,
                    workspace: Workspace())
            }
            memory.withMemoryRebound(to: Bool.self) { bytes in
                let masks = Span(
                    _unsafeElements: UnsafeBufferPointer(start: bytes.baseAddress! + 24, count: 4))
                #expect(throws: LossError.overlappingBuffers(output: "outputs", other: "masks")) {
                    try MaskedReductions().value(
                        values: [0, 0, 0, 0].span, masks: masks, shape: shape, maskCount: 2, outputs: &output,
                        workspace: Workspace())
                }
                let error = #expect(throws: LossError.self) {
                    try MaskedReductions().gradient(
                        outputGradient: [0, 0, 0, 0].span, masks: masks, shape: shape, maskCount: 2,
                        gradient: &output, workspace: Workspace())
                }
                #expect(error?.description == "output gradient shares memory with masks")
            }
        }
    }
}

// MARK: - Problems

private let poisons: [Float] = [.nan, .infinity, -.infinity, .signalingNaN, .infinity]

extension MaskedReductionsTests {
    /// Rows, masks, and a gradient of the outputs, with the calls and the oracle of both verbs.
    struct Problem: Sendable, CustomTestStringConvertible {
        var rows: Int
        var columns: Int
        var masks: Int
        var values: [Float]
        var selections: [Bool]
        var outputGradient: [Float]

        var testDescription: String { "\(rows)x\(columns), \(masks) masks" }
    }
}

extension MaskedReductionsTests.Problem {
    /// Random inputs, of other sizes than the shape asks for where the errors are tested.
    init(
        rows: Int, columns: Int, masks: Int, valueCount: Int? = nil, selectionCount: Int? = nil,
        outputGradientCount: Int? = nil
    ) {
        var random = RandomInputs(seed: UInt64(rows * 1_000_003 + columns * 1009 + masks))
        self.rows = rows
        self.columns = columns
        self.masks = masks
        values = random.normals(valueCount ?? rows * columns)
        // Few positions each, so that some columns are selected by no mask, but never none at all.
        selections = random.mask(selectionCount ?? masks * columns, ratio: 0.3)
        outputGradient = random.normals(outputGradientCount ?? rows * masks)
        guard columns > 0 else { return }
        for mask in stride(from: 0, to: selections.count, by: columns) { selections[mask] = true }
    }

    var shape: MatrixShape { MatrixShape(rows: rows, columns: columns) }

    func selects(_ mask: Int, _ column: Int) -> Bool { selections[mask * columns + column] }

    func value(_ reductions: MaskedReductions, _ workspace: Workspace = Workspace()) throws -> [Float] {
        var outputs = [Float].untouched(rows * masks)
        try value(reductions, into: &outputs, workspace)
        return outputs
    }

    func value(
        _ reductions: MaskedReductions, into outputs: inout [Float], _ workspace: Workspace = Workspace()
    ) throws {
        var span = outputs.mutableSpan
        try reductions.value(
            values: values.span, masks: selections.span, shape: shape, maskCount: masks, outputs: &span,
            workspace: workspace)
    }

    func gradient(_ reductions: MaskedReductions) throws -> [Float] {
        var gradient = [Float].untouched(values.count)
        try self.gradient(reductions, into: &gradient)
        return gradient
    }

    func gradient(
        _ reductions: MaskedReductions, into gradient: inout [Float], scale: Float = 1,
        update: GradientUpdate = .overwrite, _ workspace: Workspace = Workspace()
    ) throws {
        var span = gradient.mutableSpan
        try reductions.gradient(
            outputGradient: outputGradient.span, masks: selections.span, shape: shape, maskCount: masks,
            gradient: &span, gradientScale: scale, update: update, workspace: workspace)
    }

    // MARK: The oracle

    private func outputs<T: ReferenceScalar>(_ reduction: LossReduction, of values: [T]) -> [T] {
        reduction == .mean
            ? Reference.MaskedReductions.means(
                values: values, rows: rows, columns: columns, masks: selections, maskCount: masks)
            : Reference.MaskedReductions.sums(
                values: values, rows: rows, columns: columns, masks: selections, maskCount: masks)
    }

    private func gradient<T: ReferenceScalar>(_ reduction: LossReduction, of outputGradient: [T]) -> [T] {
        var gradient = [T](repeating: 0, count: rows * columns)
        if reduction == .mean {
            Reference.MaskedReductions.meansGradient(
                outputGradient: outputGradient, rows: rows, columns: columns, masks: selections,
                maskCount: masks, gradient: &gradient)
        } else {
            Reference.MaskedReductions.sumsGradient(
                outputGradient: outputGradient, rows: rows, columns: columns, masks: selections,
                maskCount: masks, gradient: &gradient)
        }
        return gradient
    }

    func naiveOutputs(_ reduction: LossReduction) -> [Float] { outputs(reduction, of: values) }
    func naiveGradient(_ reduction: LossReduction) -> [Float] { gradient(reduction, of: outputGradient) }
    func gradientOracle(_ reduction: LossReduction) -> [Double] {
        gradient(reduction, of: outputGradient.doubles)
    }

    /// The size of the gradient's sums before their terms cancel.
    func gradientScale(_ reduction: LossReduction) -> Double {
        gradient(reduction, of: outputGradient.doubles.map { abs($0) }).filter(\.isFinite).norm
    }

    /// The accuracy rule, relative to the outputs' size before their terms cancel.
    func expectValue(
        _ fast: [Float], _ reduction: LossReduction, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectAsAccurateAsNaive(
            fast: fast, naive: naiveOutputs(reduction), truth: outputs(reduction, of: values.doubles),
            scale: outputs(reduction, of: values.doubles.map { abs($0) }).filter(\.isFinite).norm,
            sourceLocation: sourceLocation)
    }

    /// The accuracy rule, relative to the gradient's size before its terms cancel.
    func expectGradient(
        _ fast: [Float], _ reduction: LossReduction, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectAsAccurateAsNaive(
            fast: fast, naive: naiveGradient(reduction), truth: gradientOracle(reduction),
            scale: gradientScale(reduction), sourceLocation: sourceLocation)
    }
}
