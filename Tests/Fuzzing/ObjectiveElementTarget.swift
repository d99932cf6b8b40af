// The total objective of 16-bit outputs: the value, to the bit, and the error of the widened outputs, and gradients
// that are those of the widened outputs and buffers, rounded once.

import FastLoss

struct ObjectiveOfElements<Element: ModelOutputElement> {
    /// A call whose outputs are numbers of the type.
    private var call: ObjectiveCall

    init(_ input: inout FuzzInput) {
        call = ObjectiveCall(&input)
        for member in ObjectiveCall.outputMembers {
            call.inputs[keyPath: member] = call.inputs[keyPath: member].map(Self.rounded)
        }
        if let logits = call.inputs.cellTypes?.logits { call.inputs.cellTypes?.logits = Self.rounded(logits) }
        if let logits = call.inputs.batches?.logits { call.inputs.batches?.logits = Self.rounded(logits) }
        for member in ObjectiveCall.gradientMembers {
            call.gradients[keyPath: member] = call.gradients[keyPath: member].map(Self.rounded)
        }
    }

    private static func rounded(_ floats: [Float]) -> [Float] { floats.map { Element($0).float } }

    func check() throws {
        let start = call.gradients
        var expected = start
        var (error, value) = (String?.none, ObjectiveValue?.none)
        do throws(LossError) {
            value = try call.objective.valueAndGradient(
                call.inputs, gradients: &expected, gradientScale: call.scale, update: call.update,
                workspace: Workspace(workers: call.workers))
        } catch let wrong { error = wrong.description }

        let memory = Memory(call)
        var (actualError, actual) = (String?.none, ObjectiveValue?.none)
        do throws(LossError) {
            actual = try memory.valueAndGradient(call)
        } catch let wrong { actualError = wrong.description }
        guard actualError == error else {
            throw Wrong("the error is '\(actualError ?? "none")', not '\(error ?? "none")'")
        }
        try checkSame(actual, value)
        // A probability out of range is found while gradients are written.
        if error?.contains("probability") ?? false { return }
        for (number, member) in ObjectiveCall.gradientMembers.enumerated() {
            guard let floats = expected[keyPath: member] else { continue }
            let elements = memory.gradients[number].map { Array($0) } ?? []
            for (index, (element, float)) in zip(elements, floats).enumerated() {
                let right = Element(float)
                guard element.float == right.float || element.float.isNaN && right.float.isNaN else {
                    throw Wrong(
                        "gradient \(number) of the objective of \(Element.self) is \(element.float) at "
                            + "\(index), but \(right.float) is expected")
                }
            }
        }
    }

    private func checkSame(_ actual: ObjectiveValue?, _ expected: ObjectiveValue?) throws {
        guard let actual, let expected else { return }
        func numbers(_ value: ObjectiveValue) -> [Double] {
            ObjectiveTerm.allCases.flatMap { [value.values[$0] ?? -1, value.weighted[$0] ?? -1] }
                + [value.total, value.relativeError ?? -1, Double(value.selectedCount)]
        }
        guard
            zip(numbers(actual), numbers(expected)).allSatisfy({
                $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN
            })
        else { throw Wrong("the objective of \(Element.self) is \(actual), widened \(expected)") }
    }

    /// The elements of a call's outputs and gradients.
    private final class Memory {
        private let inputs: ObjectiveArrays
        private var outputs: [UnsafeMutableBufferPointer<Element>?] = []
        private let cellTypes, batches: UnsafeMutableBufferPointer<Element>?
        let gradients: [UnsafeMutableBufferPointer<Element>?]

        init(_ call: ObjectiveCall) {
            func copy(_ floats: [Float]?) -> UnsafeMutableBufferPointer<Element>? {
                floats.map { floats in
                    let buffer = UnsafeMutableBufferPointer<Element>.allocate(capacity: floats.count)
                    _ = buffer.initialize(from: floats.map { Element($0) })
                    return buffer
                }
            }
            inputs = call.inputs
            outputs = ObjectiveCall.outputMembers.map { copy(call.inputs[keyPath: $0]) }
            cellTypes = copy(call.inputs.cellTypes?.logits)
            batches = copy(call.inputs.batches?.logits)
            gradients = ObjectiveCall.gradientMembers.map { copy(call.gradients[keyPath: $0]) }
        }

        deinit {
            for buffer in outputs + [cellTypes, batches] + gradients { buffer?.deallocate() }
        }

        func valueAndGradient(_ call: ObjectiveCall) throws(LossError) -> ObjectiveValue {
            let (targets, mask) = (inputs.targets ?? [], inputs.mask ?? [])
            let cellTypeLabels = inputs.cellTypes?.labels ?? []
            let batchLabels = inputs.batches?.labels ?? []
            var given = ObjectiveInputFields<Span<Element>, Span<Float>, Span<Bool>, Span<Int32>>(
                shape: inputs.shape, genePredictions: output(0), geneNonzero: output(1),
                cellPredictions: output(2), cellNonzero: output(3), generatedPredictions: output(4),
                width: inputs.width, cellEmbedding: output(5), secondCellEmbedding: output(6))
            if inputs.targets != nil { given.targets = targets.span }
            if inputs.mask != nil { given.mask = mask.span }
            if let logits = cellTypes {
                given.cellTypes = ClassificationFields(
                    logits: span(logits), labels: cellTypeLabels.span, classes: inputs.cellTypes?.classes ?? 0
                )
            }
            if let logits = batches {
                given.batches = ClassificationFields(
                    logits: span(logits), labels: batchLabels.span, classes: inputs.batches?.classes ?? 0)
            }
            var places = ObjectiveGradientFields<MutableSpan<Element>>(
                genePredictions: gradient(0), geneNonzero: gradient(1), cellPredictions: gradient(2),
                cellNonzero: gradient(3), generatedPredictions: gradient(4), cellEmbedding: gradient(5),
                secondCellEmbedding: gradient(6), cellTypeLogits: gradient(7), batchLogits: gradient(8),
                reversedBatchLogits: gradient(9))
            return try call.objective.valueAndGradient(
                given, gradients: &places, gradientScale: call.scale, update: call.update,
                workspace: Workspace(workers: call.workers))
        }

        @_lifetime(borrow self)
        private func span(_ buffer: UnsafeMutableBufferPointer<Element>) -> Span<Element> {
            _overrideLifetime(Span(_unsafeElements: UnsafeBufferPointer(buffer)), borrowing: self)
        }

        @_lifetime(borrow self)
        private func output(_ number: Int) -> Span<Element>? {
            guard let buffer = outputs[number] else { return nil }
            return span(buffer)
        }

        @_lifetime(borrow self)
        private func gradient(_ number: Int) -> MutableSpan<Element>? {
            guard let buffer = gradients[number] else { return nil }
            return _overrideLifetime(MutableSpan(_unsafeElements: buffer), borrowing: self)
        }
    }
}
