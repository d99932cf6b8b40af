// Heads of 16-bit states and embeddings: losses and parameters' gradients of the widened inputs, to the bit, and the
// gradients of the inputs rounded once.

import FastLoss
import FastLossHeads

/// One call of a decoder or a classifier, which can be made with any element type.
struct HeadOfElements<Element: ModelOutputElement> {
    private let isDecoder: Bool
    private let cells, tokens, width, classes: Int
    /// States of tokens, or embeddings of cells.
    private let inputs: [Element]
    /// The embeddings of the batches, if a decoder has them.
    private let batches: [Element]?
    private let targets, parameters: [Float]
    private let mask: [Bool]?
    private let labels: [Int32]
    private let scale: Float
    private let update: GradientUpdate
    private let workers: Int

    init(_ input: inout FuzzInput) throws {
        isDecoder = input.bool()
        (cells, tokens) = (input.int(0...3), isDecoder ? input.int(0...5) : 1)
        (width, classes) = (input.int(1...5), input.int(1...4))
        let hasBatches = isDecoder && input.bool()
        let isHostile = input.rarely(8)
        inputs = input.small(input.count(cells * tokens * width), hostile: isHostile).map { Element($0) }
        batches =
            hasBatches ? input.small(classes * width, hostile: isHostile).map { Element($0) } : nil
        targets = input.numbers(cells * tokens)
        mask = input.bool() ? input.mask(cells * tokens) : nil
        labels = input.indices(cells, below: classes)
        let count =
            isDecoder
            ? try ExpressionDecoder(width: width, explicitZeros: true, batchEmbeddings: hasBatches).layout
                .count
            : try CellTypeDecoder(width: width, classes: classes, blocks: 1).layout.count
        parameters = input.small(count, hostile: isHostile)
        scale = input.choice([1, 0.5, -3])
        update = input.choice([.overwrite, .accumulate])
        workers = 1 + input.int(0...1)
    }

    private struct Outcome<T> {
        var error: String?
        var losses: [Double] = []
        var parameters: [Float]
        var ofInputs, ofBatches: [T]
    }

    private func made<T: ModelOutputElement>(_ inputs: [T], _ batches: [T]?) throws -> Outcome<T> {
        var outcome = Outcome<T>(
            parameters: [Float](repeating: 0.75, count: parameters.count),
            ofInputs: [T](repeating: T(0.75), count: inputs.count),
            ofBatches: [T](repeating: T(0.75), count: classes * width))
        do throws(LossError) {
            try run(inputs, batches, &outcome)
        } catch { outcome.error = error.description }
        return outcome
    }

    private func run<T: ModelOutputElement>(
        _ inputs: [T], _ batches: [T]?, _ outcome: inout Outcome<T>
    ) throws(LossError) {
        let workspace = Workspace(workers: workers)
        var (ofParameters, ofInputs, ofBatches) = (outcome.parameters, outcome.ofInputs, outcome.ofBatches)
        defer {
            (outcome.parameters, outcome.ofInputs, outcome.ofBatches) = (ofParameters, ofInputs, ofBatches)
        }
        guard isDecoder else {
            let decoder = try CellTypeDecoder(width: width, classes: classes, blocks: 1)
            var gradients = ClassifierGradientFields<T>(
                parameters: ofParameters.mutableSpan, cellEmbeddings: ofInputs.mutableSpan)
            let loss = try decoder.valueAndGradient(
                cellEmbeddings: inputs.span, labels: labels.span, parameters: parameters.span,
                gradients: &gradients, gradientScale: scale, update: update, workspace: workspace)
            outcome.losses = [loss.value]
            return
        }
        let decoder = try ExpressionDecoder(
            width: width, explicitZeros: true, batchEmbeddings: batches != nil)
        let (embeddings, selections) = (batches ?? [], mask ?? [])
        var given = ExpressionDecoderInputFields<Span<T>, Span<Bool>, Span<Int32>>(
            shape: TokenShape(cells: cells, tokens: tokens, width: width), states: inputs.span)
        if mask != nil { given.mask = selections.span }
        var gradients = ExpressionDecoderGradientFields<MutableSpan<Float>, MutableSpan<T>>(
            parameters: ofParameters.mutableSpan, states: ofInputs.mutableSpan)
        if batches != nil {
            given.batches = BatchEmbeddingFields(embeddings: embeddings.span, labels: labels.span)
            gradients.batchEmbeddings = ofBatches.mutableSpan
        }
        let losses = try decoder.valueAndGradient(
            given, targets: targets.span, parameters: parameters.span, gradients: &gradients,
            gradientScale: scale, update: update, workspace: workspace)
        outcome.losses = [losses.squaredError, losses.nonzero ?? 0, losses.relativeError]
    }

    func check() throws {
        let actual = try made(inputs, batches)
        let expected = try made(inputs.map(\.float), batches.map { $0.map(\.float) })
        guard actual.error == expected.error else {
            throw Wrong("the error is '\(actual.error ?? "none")', not '\(expected.error ?? "none")'")
        }
        guard zip(actual.losses, expected.losses).allSatisfy({ same($0, $1) }) else {
            throw Wrong("the losses of \(Element.self) are \(actual.losses), widened \(expected.losses)")
        }
        for (one, other) in zip(actual.parameters, expected.parameters)
        where !same(Double(one), Double(other)) {
            throw Wrong("a parameter's gradient is \(one), widened \(other)")
        }
        let pairs = [(actual.ofInputs, expected.ofInputs), (actual.ofBatches, expected.ofBatches)]
        for (elements, floats) in pairs {
            for (index, (element, float)) in zip(elements, floats).enumerated() {
                let right = Element(float).float
                guard element.float == right || element.float.isNaN && right.isNaN else {
                    throw Wrong(
                        "a gradient of \(Element.self) is \(element.float) at \(index), but \(right) is expected"
                    )
                }
            }
        }
    }

    private func same(_ a: Double, _ b: Double) -> Bool {
        a.bitPattern == b.bitPattern || a.isNaN && b.isNaN
    }
}
