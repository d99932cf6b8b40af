// The oracles of the decoder of cell types and of the adversarial discriminator, which share their layers.

import FastLossReference
import Testing

@Suite struct ClassifierReferenceTests {
    @Test(arguments: try ClassifierCase.cases())
    func oracleMatchesPyTorch(_ subject: ClassifierCase) throws {
        try subject.golden.expectResults(try subject.results(Double.self))
    }

    @Test(arguments: try ClassifierCase.cases())
    func baselineMatchesPyTorch(_ subject: ClassifierCase) throws {
        try subject.golden.expectResults(try subject.results(Float.self))
    }

    /// With the reversal, the embedding's gradient is −λ times the slope; the parameters' is the slope.
    @Test(arguments: try ClassifierCase.cases())
    func gradientsMatchCentralDifferences(_ subject: ClassifierCase) throws {
        let (parameters, embeddings) = (try subject.parameters(Double.self), try subject.embeddings)
        let logitsGradient = try subject.golden.doubles("outputGradient.logits")
        let gradients = try subject.gradients(Double.self)
        expectCentralDifferences(
            of: { dot(subject.logits($0, embeddings), logitsGradient) }, at: parameters,
            gradient: gradients.parameters, subject.testDescription)
        let reversal = try subject.strength.map { -$0 } ?? 1
        expectCentralDifferences(
            of: { reversal * dot(subject.logits(parameters, $0), logitsGradient) }, at: embeddings,
            gradient: gradients.cellEmbeddings, "\(subject.testDescription): cell embeddings")
    }

    /// Two heads differ in their activation and in the reversal alone.
    @Test func reversalTouchesTheEmbeddingAlone() throws {
        let golden = try #require(try Golden.cases(of: "AdversarialDiscriminator").first)
        let subject = ClassifierCase(head: .discriminator, golden: golden)
        let parameters = try subject.parameters(Double.self)
        let (embeddings, logits) = (try subject.embeddings, try golden.doubles("outputGradient.logits"))
        let plain = parameters.gradients(
            outputGradient: logits, input: embeddings, activation: .leakyReLU)
        let reversed = Reference.AdversarialDiscriminator.gradients(
            logitsGradient: logits, parameters: parameters, cellEmbeddings: embeddings, reversalStrength: 2)
        #expect(reversed.parameters == plain.parameters)
        #expect(reversed.cellEmbeddings == plain.input.map { -2 * $0 })
    }
}

/// A golden of one of the two classifiers.
struct ClassifierCase: CustomTestStringConvertible, Sendable {
    enum Head: String, CaseIterable {
        case cellTypes = "CellTypeDecoder"
        case discriminator = "AdversarialDiscriminator"
    }

    let head: Head
    let golden: Golden

    var testDescription: String { "\(head.rawValue), \(golden.name)" }

    static func cases() throws -> [ClassifierCase] {
        try Head.allCases.flatMap { head in
            try Golden.cases(of: head.rawValue).map { ClassifierCase(head: head, golden: $0) }
        }
    }

    /// λ, or nil without reversal.
    var strength: Double? {
        get throws { head == .discriminator ? try golden.double("strength") : nil }
    }

    var embeddings: [Double] {
        get throws { try golden.values("cellEmbeddings") }
    }

    func parameters<T: ReferenceScalar>(_ type: T.Type) throws -> Reference.NormalizedClassifier<T> {
        try golden.filled(
            .init(
                width: golden.int("width"), classes: golden.int("classes"), blocks: golden.int("blocks")))
    }

    func logits<T: ReferenceScalar>(
        _ parameters: Reference.NormalizedClassifier<T>, _ embeddings: [T]
    ) -> [T] {
        switch head {
        case .cellTypes:
            Reference.CellTypeDecoder.value(parameters: parameters, cellEmbeddings: embeddings)
        case .discriminator:
            Reference.AdversarialDiscriminator.value(parameters: parameters, cellEmbeddings: embeddings)
        }
    }

    func gradients<T: ReferenceScalar>(
        _ type: T.Type
    ) throws -> (parameters: Reference.NormalizedClassifier<T>, cellEmbeddings: [T]) {
        let parameters = try parameters(T.self)
        let embeddings: [T] = try golden.values("cellEmbeddings")
        let logitsGradient: [T] = try golden.values("outputGradient.logits")
        guard let strength = try strength else {
            return Reference.CellTypeDecoder.gradients(
                logitsGradient: logitsGradient, parameters: parameters, cellEmbeddings: embeddings)
        }
        return Reference.AdversarialDiscriminator.gradients(
            logitsGradient: logitsGradient, parameters: parameters, cellEmbeddings: embeddings,
            reversalStrength: T(strength))
    }

    /// Everything that the golden has a result for.
    func results<T: ReferenceScalar>(_ type: T.Type) throws -> [String: [T]] {
        let gradients = try gradients(T.self)
        var results = gradients.parameters.gradientResults
        results["logits"] = logits(try parameters(T.self), try golden.values("cellEmbeddings"))
        results["gradient.cellEmbeddings"] = gradients.cellEmbeddings
        return results
    }
}
