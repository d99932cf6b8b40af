// Losses of 16-bit outputs: the results of the widened outputs to the bit, and their gradients rounded once.

import FastLoss
import Testing

/// A loss of one or two outputs of a model, which may have any element type.
protocol ElementSubject: Sendable, CustomStringConvertible {
    /// The outputs in float32.
    func outputs() -> [[Float]]
    /// The value, and the gradient of each output on top of `gradients`, if that is given.
    func run<Element: ModelOutputElement>(
        _ outputs: [[Element]], addingTo gradients: [[Element]]?, workspace: Workspace
    ) throws(LossError) -> (loss: LossValue, gradients: [[Element]])
    /// The value alone.
    func value<Element: ModelOutputElement>(_ outputs: [[Element]]) throws(LossError) -> LossValue
}

struct ElasticSubject: ElementSubject {
    let rows: Int
    let columns: Int
    /// A cone, whose pairs are all certified.
    var isCone = false
    var description: String { "ECS of \(rows)×\(columns)\(isCone ? ", a cone" : "")" }
    private var shape: MatrixShape { MatrixShape(rows: rows, columns: columns) }

    func outputs() -> [[Float]] {
        var random = RandomInputs(seed: 71)
        let spread = isCone ? 0.1 : 1.0
        let centre = (0..<columns).map { _ in Float(random.normal()) }
        return [(0..<rows * columns).map { centre[$0 % columns] + Float(spread * random.normal()) }]
    }

    func run<Element: ModelOutputElement>(
        _ outputs: [[Element]], addingTo gradients: [[Element]]?, workspace: Workspace
    ) throws(LossError) -> (loss: LossValue, gradients: [[Element]]) {
        let first = outputs[0]
        var gradient = gradients?[0] ?? first
        var span = gradient.mutableSpan
        let loss = try ElasticCellSimilarity().valueAndGradient(
            embeddings: first.span, shape: shape, gradient: &span, gradientScale: 100,
            update: gradients == nil ? .overwrite : .accumulate, workspace: workspace)
        return (loss, [gradient])
    }

    func value<Element: ModelOutputElement>(_ outputs: [[Element]]) throws(LossError) -> LossValue {
        let first = outputs[0]
        return try ElasticCellSimilarity().value(
            embeddings: first.span, shape: shape, workspace: Workspace(workers: 2))
    }
}

struct ContrastiveSubject: ElementSubject {
    let rows: Int
    let columns: Int
    var description: String { "CCE of \(rows)×\(columns)" }
    private var shape: MatrixShape { MatrixShape(rows: rows, columns: columns) }

    func outputs() -> [[Float]] {
        var random = RandomInputs(seed: 72)
        return (0..<2).map { _ in (0..<rows * columns).map { _ in Float(random.normal()) } }
    }

    func run<Element: ModelOutputElement>(
        _ outputs: [[Element]], addingTo gradients: [[Element]]?, workspace: Workspace
    ) throws(LossError) -> (loss: LossValue, gradients: [[Element]]) {
        let (first, second) = (outputs[0], outputs[1])
        var ofFirst = gradients?[0] ?? first
        var ofSecond = gradients?[1] ?? second
        var firstSpan = ofFirst.mutableSpan
        var secondSpan = ofSecond.mutableSpan
        let loss = try ContrastiveCellEmbedding().valueAndGradient(
            first: first.span, second: second.span, shape: shape, firstGradient: &firstSpan,
            secondGradient: &secondSpan, gradientScale: 100,
            update: gradients == nil ? .overwrite : .accumulate, workspace: workspace)
        return (loss, [ofFirst, ofSecond])
    }

    func value<Element: ModelOutputElement>(_ outputs: [[Element]]) throws(LossError) -> LossValue {
        let (first, second) = (outputs[0], outputs[1])
        return try ContrastiveCellEmbedding().value(
            first: first.span, second: second.span, shape: shape, workspace: Workspace(workers: 2))
    }
}

struct CrossEntropySubject: ElementSubject {
    let rows: Int
    let columns: Int
    /// λ of a gradient reversal, whose second gradient is wanted, too.
    var lambda: Float?
    var description: String { "cross-entropy of \(rows)×\(columns)\(lambda.map { ", λ \($0)" } ?? "")" }
    private var loss: CrossEntropy { CrossEntropy(reduction: .sum) }
    /// Every seventh row is ignored.
    private var labels: [Int32] { (0..<rows).map { $0 % 7 == 3 ? -100 : Int32($0 * 5 % columns) } }

    func outputs() -> [[Float]] {
        var random = RandomInputs(seed: 73)
        return [(0..<rows * columns).map { _ in Float(3 * random.normal()) }]
    }

    func run<Element: ModelOutputElement>(
        _ outputs: [[Element]], addingTo gradients: [[Element]]?, workspace: Workspace
    ) throws(LossError) -> (loss: LossValue, gradients: [[Element]]) {
        let update: GradientUpdate = gradients == nil ? .overwrite : .accumulate
        let labels = labels
        let first = outputs[0]
        var gradient = gradients?[0] ?? first
        guard let lambda else {
            var span = gradient.mutableSpan
            let value = try loss.valueAndGradient(
                logits: first.span, labels: labels.span, classes: columns, gradient: &span,
                gradientScale: 100, update: update, workspace: workspace)
            return (value, [gradient])
        }
        var reversed = gradients?[1] ?? first
        let value = try gradient.withUnsafeMutableBufferPointer { (gradient) throws(LossError) in
            try reversed.withUnsafeMutableBufferPointer { (reversed) throws(LossError) in
                var layout = workspace.layout
                let plan = try CrossEntropy.Plan(
                    loss, logits: ModelElements(first.span), labels: labels.span, classes: columns,
                    into: GradientOutput(gradient, scale: 100 as Float, update: update),
                    reversed: GradientOutput(reversed, scale: -100 * lambda, update: update), in: &layout)
                return try workspace.run(plan, layout)
            }
        }
        return (value, [gradient, reversed])
    }

    func value<Element: ModelOutputElement>(_ outputs: [[Element]]) throws(LossError) -> LossValue {
        let (first, labels) = (outputs[0], labels)
        return try loss.value(
            logits: first.span, labels: labels.span, classes: columns, workspace: Workspace(workers: 2))
    }
}

@Suite struct ElementTypesTests {
    /// Around strips, panels, slabs and tiles; the copies of each worker, the shared operands and the
    /// streamed matrix.
    static let subjects: [any ElementSubject] = {
        var subjects: [any ElementSubject] = [ElasticSubject(rows: 1_100, columns: 7, isCone: true)]
        let embeddings = [(1, 1), (1, 7), (2, 3), (17, 16), (33, 24), (129, 5), (260, 33), (1_030, 3)]
        for (rows, columns) in embeddings {
            subjects.append(ElasticSubject(rows: rows, columns: columns))
            subjects.append(ContrastiveSubject(rows: rows, columns: columns))
        }
        let logits = [(1, 1), (3, 10), (50, 64), (33, 65), (700, 10), (300, 101), (2, 5_000)]
        for (rows, columns) in logits {
            subjects.append(CrossEntropySubject(rows: rows, columns: columns))
            // A ratio of the gradients within the limit of one pass, and beyond.
            for lambda: Float in [0.5, 4_096] {
                subjects.append(CrossEntropySubject(rows: rows, columns: columns, lambda: lambda))
            }
        }
        return subjects
    }()

    @Test(arguments: subjects)
    func resultsAreThoseOfTheWidenedOutputs(_ subject: any ElementSubject) throws {
        func check<Element: SixteenBits>(_: Element.Type) throws {
            let outputs = subject.outputs().map { $0.map { Element($0) } }
            let widened = outputs.map { $0.map(\.float) }
            let workspace = Workspace(workers: 2)
            let expected = try subject.run(widened, addingTo: nil, workspace: workspace)
            #expect(expected.loss.value.isFinite)
            let found = try subject.run(outputs, addingTo: nil, workspace: workspace)
            #expect(found.loss == expected.loss)
            let value = try subject.value(outputs)
            #expect(value == expected.loss)
            for (gradient, exact) in zip(found.gradients, expected.gradients) {
                expectBits(gradient, exact, "\(Element.self)")
            }
            let initial = found.gradients.map { $0.map { Element($0.float - 1) } }
            let sum = try subject.run(outputs, addingTo: initial, workspace: workspace)
            for index in initial.indices {
                expectBits(
                    sum.gradients[index],
                    zip(initial[index], expected.gradients[index]).map { $0.float + $1 }, "\(Element.self)")
            }
        }
        try check(BFloat16.self)
        try check(Float16.self)
    }

    @Test(arguments: subjects)
    func workersChangeNothing(_ subject: any ElementSubject) throws {
        let outputs = subject.outputs().map { $0.map { BFloat16($0) } }
        let gradients = try subject.run(outputs, addingTo: nil, workspace: Workspace(workers: 1)).gradients
        for initial in [nil, gradients] {
            let one = try subject.run(outputs, addingTo: initial, workspace: Workspace(workers: 1))
            for workers in [2, 3, 5] {
                let several = try subject.run(
                    outputs, addingTo: initial, workspace: Workspace(workers: workers))
                #expect(several.loss == one.loss)
                #expect(
                    several.gradients.map { $0.map(\.bitPattern) }
                        == one.gradients.map { $0.map(\.bitPattern) })
            }
        }
    }

    @Test(
        arguments: [ElasticSubject(rows: 9, columns: 4), ContrastiveSubject(rows: 9, columns: 4)]
            as [any ElementSubject])
    func strangeRowsPropagate(_ subject: any ElementSubject) throws {
        for strange: Float16 in [.nan, .infinity] {
            var outputs = subject.outputs().map { $0.map { Float16($0) } }
            outputs[0][5] = strange
            let found = try subject.run(outputs, addingTo: nil, workspace: Workspace(workers: 2))
            #expect(found.loss.value.isNaN)
            // All of the row of the strange number.
            #expect(found.gradients[0][4..<8].allSatisfy { $0.isNaN })
        }
    }

    /// Halves of one memory are apart; a gradient that begins one element earlier is not.
    @Test func countsAndOverlapAreInElements() throws {
        let memory = UnsafeMutableBufferPointer<BFloat16>.allocate(capacity: 12)
        defer { memory.deallocate() }
        memory.initialize(repeating: BFloat16(1))
        func plan(gradientAt start: Int) throws {
            var layout = Workspace().layout
            let gradient = UnsafeMutableBufferPointer(rebasing: memory[start..<start + 6])
            _ = try ElasticCellSimilarity.Plan(
                ElasticCellSimilarity(),
                embeddings: ModelElements(memory.baseAddress, count: 6, type: .bfloat16),
                shape: MatrixShape(rows: 2, columns: 3),
                into: GradientOutput(gradient, scale: 1 as Float, update: .overwrite), in: &layout)
        }
        try plan(gradientAt: 6)
        #expect(throws: LossError.overlappingBuffers(output: "gradient", other: "embeddings")) {
            try plan(gradientAt: 5)
        }
        let short = [BFloat16](repeating: BFloat16(1), count: 5)
        #expect(throws: LossError.shapeMismatch(argument: "embeddings", expected: 6, actual: 5)) {
            try ElasticCellSimilarity().value(
                embeddings: short.span, shape: MatrixShape(rows: 2, columns: 3), workspace: Workspace())
        }
    }
}
