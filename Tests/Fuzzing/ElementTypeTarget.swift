// 16-bit outputs of a model: every loss, the objective and the heads must give the value, to the bit, and the error of the widened outputs, and
// their gradients rounded once. The other families judge the losses of `Float`.

import FastLoss

enum ElementTypeTarget {
    static func run(_ input: inout FuzzInput) throws {
        if input.bool() { try run(&input, of: BFloat16.self) } else { try run(&input, of: Float16.self) }
    }

    private static func run<Element: ModelOutputElement>(
        _ input: inout FuzzInput, of _: Element.Type
    ) throws {
        switch input.int(0...7) {
        case 0...1: try ObjectiveOfElements<Element>(&input).check()
        case 2: try HeadOfElements<Element>(&input).check()
        default: try Call<Element>(&input).check()
        }
    }

    private enum Loss: CaseIterable {
        case squaredError, probabilities, logits, relativeError
        case crossEntropy, adversarial, elastic, contrastive
    }

    /// One call, which can be made with any element type.
    private struct Call<Element: ModelOutputElement> {
        let loss: Loss
        let rows, columns: Int
        let first, second: [Element]
        let targets: [Float]
        let mask: [Bool]?
        let labels: [Int32]
        let reduction: LossReduction
        let rule: EmptySelectionRule
        let perCell: Bool
        let scale: Float
        let update: GradientUpdate
        let workers: Int
        /// What the gradients are written to or added to.
        let start: [Element]

        init(_ input: inout FuzzInput) {
            loss = input.choice(Loss.allCases)
            (rows, columns) = (input.int(0...9), input.int(0...37))
            let shape = MatrixShape(rows: rows, columns: columns)
            first = Self.elements(&input, loss, shape)
            second = Self.elements(&input, loss, shape)
            targets = input.numbers(input.count(rows * columns))
            mask = input.bool() ? input.mask(input.count(rows * columns)) : nil
            labels = input.labels(input.count(rows), classes: columns, ignored: -100)
            reduction = input.choice([.mean, .sum])
            rule = input.choice([.error, .zero, .nan])
            perCell = input.bool()
            scale = input.scale()
            update = input.choice([.overwrite, .accumulate])
            workers = 1 + input.int(0...1)
            start = input.numbers(rows * columns).map { Element($0) }
        }

        /// Outputs of every kind, some of them any bits of the type.
        private static func elements(
            _ input: inout FuzzInput, _ loss: Loss, _ shape: MatrixShape
        ) -> [Element] {
            let count = shape.rows * shape.columns
            switch input.int(0...3) {
            case 0: return (0..<count).map { _ in Element(input.number(.bits)) }
            case 1: return input.numbers(count).map { Element($0) }
            default:
                let floats =
                    loss == .probabilities
                    ? input.probabilities(count) : SimilarityTarget.embeddings(&input, shape)
                return floats.map { Element($0) }
            }
        }

        /// What a call gave.
        struct Outcome<T> {
            var error: String?
            var value: LossValue?
            var perCell: [Float]
            var gradients: [[T]]
        }

        /// The call with these outputs in place of its own.
        func made<T: ModelOutputElement>(
            _ first: [T], _ second: [T], start: [T], update: GradientUpdate
        ) -> Outcome<T> {
            var outcome = Outcome(
                value: nil, perCell: [Float](repeating: -1, count: rows), gradients: [start, start])
            do throws(LossError) {
                try run(first, second, update, &outcome)
            } catch { outcome.error = error.description }
            return outcome
        }

        private func run<T: ModelOutputElement>(
            _ first: [T], _ second: [T], _ update: GradientUpdate, _ outcome: inout Outcome<T>
        ) throws(LossError) {
            let shape = MatrixShape(rows: rows, columns: columns)
            let workspace = Workspace(workers: workers)
            var gradients = outcome.gradients
            var perCellValues = outcome.perCell
            defer { (outcome.gradients, outcome.perCell) = (gradients, perCellValues) }
            let entropy = CrossEntropy(reduction: reduction, whenEmpty: rule)
            var ofFirst = gradients[0]
            var ofSecond = gradients[1]
            defer { gradients = [ofFirst, ofSecond] }
            var span = ofFirst.mutableSpan
            switch loss {
            case .squaredError, .probabilities, .logits:
                let masked: any MaskedLoss =
                    switch loss {
                    case .squaredError: MaskedMSE(reduction: reduction, whenEmpty: rule)
                    case .probabilities: BernoulliNLL(reduction: reduction, whenEmpty: rule)
                    default: BernoulliNLL(from: .logits, reduction: reduction, whenEmpty: rule)
                    }
                if perCell {
                    var values = perCellValues.mutableSpan
                    _ = try masked.valueAndGradientPerCell(
                        predictions: first.span, targets: targets.span, mask: mask?.span, shape: shape,
                        values: &values, gradient: &span, gradientScale: scale, update: update,
                        workspace: workspace)
                } else {
                    outcome.value = try masked.valueAndGradient(
                        predictions: first.span, targets: targets.span, mask: mask?.span, gradient: &span,
                        gradientScale: scale, update: update, workspace: workspace)
                }
            case .relativeError:
                outcome.value = try MaskedRelativeError(reduction: reduction, whenEmpty: rule).value(
                    predictions: first.span, targets: targets.span, mask: mask?.span, workspace: workspace)
            case .crossEntropy:
                outcome.value = try entropy.valueAndGradient(
                    logits: first.span, labels: labels.span, classes: columns, gradient: &span,
                    gradientScale: scale, update: update, workspace: workspace)
            case .adversarial:
                var reversed = ofSecond.mutableSpan
                outcome.value = try DomainAdversarialLoss(crossEntropy: entropy).valueAndGradient(
                    logits: first.span, labels: labels.span, classes: columns, discriminatorGradient: &span,
                    embeddingGradient: &reversed, gradientScale: scale, workspace: workspace)
            case .elastic:
                outcome.value = try ElasticCellSimilarity(threshold: 0.3, whenEmpty: rule).valueAndGradient(
                    embeddings: first.span, shape: shape, gradient: &span, gradientScale: scale,
                    update: update, workspace: workspace)
            case .contrastive:
                var other = ofSecond.mutableSpan
                outcome.value = try ContrastiveCellEmbedding(whenEmpty: rule).valueAndGradient(
                    first: first.span, second: second.span, shape: shape, firstGradient: &span,
                    secondGradient: &other, gradientScale: scale, update: update, workspace: workspace)
            }
        }

        /// Compares the call with that of the widened outputs.
        func check() throws {
            let actual = made(first, second, start: start, update: update)
            // Overwritten, so that the sum with the start is made here.
            let expected = made(
                first.map(\.float), second.map(\.float), start: start.map { _ in -12345 }, update: .overwrite)
            guard actual.error == expected.error else {
                throw Wrong("the error is '\(actual.error ?? "none")', not '\(expected.error ?? "none")'")
            }
            if let error = actual.error {
                let isUntouched = zip(actual.gradients.joined(), [start, start].joined()).allSatisfy(same)
                guard isUntouched || error.contains("probability") else {
                    throw Wrong("a gradient was touched by a call that threw")
                }
                return
            }
            guard same(actual.value?.value ?? 0, expected.value?.value ?? 0),
                actual.value?.selectedCount == expected.value?.selectedCount,
                zip(actual.perCell, expected.perCell).allSatisfy({ same(Double($0), Double($1)) })
            else {
                throw Wrong(
                    "\(loss) of \(Element.self) is \(actual.value?.value ?? 0) \(actual.perCell), widened "
                        + "\(expected.value?.value ?? 0) \(expected.perCell)")
            }
            for (number, gradient) in actual.gradients.enumerated() {
                for (index, element) in gradient.enumerated() {
                    let widened = expected.gradients[number][index]
                    // Elements that no loss writes keep what they held.
                    let right =
                        writes(number)
                        ? Element(isAdding ? start[index].float + widened : widened) : start[index]
                    guard same(element, right) else {
                        throw Wrong(
                            "\(loss), \(Element.self), gradient \(number) is \(element.float) at \(index), "
                                + "but \(right.float) is expected")
                    }
                }
            }
        }

        private var isAdding: Bool { update == .accumulate && loss != .adversarial }

        private func writes(_ gradient: Int) -> Bool {
            switch loss {
            case .relativeError: false
            case .adversarial, .contrastive: true
            default: gradient == 0
            }
        }

        /// Whether two elements are equal. Where nothing is added, −0 stays, and −0 + 0 is 0.
        private func same(_ a: Element, _ b: Element) -> Bool {
            a.float == b.float || (a.float.isNaN && b.float.isNaN)
        }

        private func same(_ a: Double, _ b: Double) -> Bool {
            a.bitPattern == b.bitPattern || (a.isNaN && b.isNaN)
        }
    }
}
