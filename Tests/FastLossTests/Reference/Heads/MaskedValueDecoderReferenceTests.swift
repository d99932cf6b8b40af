// The oracle of the masked value decoder against PyTorch, central differences and its restructurings.

import FastLossReference
import Testing

@Suite struct MaskedValueDecoderReferenceTests {
    typealias Style = Reference.MaskedValueDecoder.Style

    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder"))
    func oracleMatchesPyTorch(_ golden: Golden) throws {
        try golden.expectResults(try MaskedValueDecoderCase<Double>(golden).results)
    }

    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder"))
    func baselineMatchesPyTorch(_ golden: Golden) throws {
        try golden.expectResults(try MaskedValueDecoderCase<Float>(golden).results)
    }

    @Test func everyStyleHasGoldens() throws {
        let styles = try Golden.cases(of: "MaskedValueDecoder").map { try $0.style }
        #expect(Set(styles) == Set(Style.allCases))
    }

    /// A detached gene embedding has the gradient zero, whatever the predictions' slope.
    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder"))
    func gradientsMatchCentralDifferences(_ golden: Golden) throws {
        let head = try MaskedValueDecoderCase<Double>(golden)
        let gradients = head.gradients
        expectCentralDifferences(
            of: {
                var moved = head
                moved.parameters = $0
                return moved.objective
            }, at: head.parameters, gradient: gradients.parameters, golden.name)
        expectCentralDifferences(
            of: {
                var moved = head
                moved.cellEmbeddings = $0
                return moved.objective
            }, at: head.cellEmbeddings, gradient: gradients.cellEmbeddings,
            "\(golden.name): cell embeddings")
        if head.parameters.style == .innerProductDetached {
            #expect(gradients.geneEmbeddings.allSatisfy { $0 == 0 })
        } else {
            expectCentralDifferences(
                of: {
                    var moved = head
                    moved.geneTable.weight = $0
                    return moved.objective
                }, at: head.geneTable.weight, gradient: head.geneTableGradient(of: gradients).weight,
                "\(golden.name): gene table")
        }
        guard let embeddings = head.batchEmbeddings else { return }
        expectCentralDifferences(
            of: {
                var moved = head
                moved.batchEmbeddings = $0
                return moved.objective
            }, at: embeddings, gradient: try #require(gradients.batchEmbeddings),
            "\(golden.name): batch embeddings")
    }

    /// No cells give no output, and gradients of zero for the parameters.
    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder"))
    func noCells(_ golden: Golden) throws {
        var head = try MaskedValueDecoderCase<Double>(golden)
        head.cells = 0
        (head.cellEmbeddings, head.genes) = ([], [])
        head.batchEmbeddings = head.batchEmbeddings.map { _ in [] }
        head.outputGradients.predictions = []
        head.outputGradients.nonzeroProbabilities = head.outputGradients.nonzeroProbabilities.map { _ in [] }
        let results = head.results
        #expect(results["predictions"] == [])
        #expect(results.values.allSatisfy { $0.allSatisfy { $0 == 0 } })
    }

    /// Upstream's hidden layer has 64 elements, and so has the query that is concatenated.
    @Test func hiddenWidthIsUpstreams() {
        let concatenated = Reference.MaskedValueDecoder.Parameters<Double>(style: .concatQuery, width: 3)
        #expect(
            concatenated.stateDict.map(\.name) == [
                "gene2query.weight", "gene2query.bias", "fc1.weight", "fc1.bias", "hidden_activation.weight",
                "fc2.weight", "fc2.bias",
            ])
        #expect(
            concatenated.stateDict.map { concatenated[keyPath: $0.array].count } == [
                64 * 3, 64, 64 * (3 + 64), 64, 1, 64, 1,
            ])
        let summed = Reference.MaskedValueDecoder.Parameters<Double>(style: .sumQuery, width: 3)
        #expect(
            summed.stateDict.map { summed[keyPath: $0.array].count } == [9, 3, 64 * 3, 64, 1, 64, 1])
    }

    /// fc1([c; q]) = F_c c + F_q q + b and fc1(c + q) = F c + F q + b: one vector per cell and one per gene.
    @Test(arguments: try Golden.cases(of: "MaskedValueDecoder").filter { $0.hasInput("fc1.weight") })
    func hiddenLayerSplitsIntoCellsAndGenes(_ golden: Golden) throws {
        let head = try MaskedValueDecoderCase<Double>(golden)
        let (fc1, fc2) = (try #require(head.parameters.fc1), try #require(head.parameters.fc2))
        let (width, hidden) = (try golden.int("width"), fc1.outputWidth)
        var ofCells = Reference.Linear<Double>(inputWidth: width, outputWidth: hidden)
        ofCells.bias = fc1.bias
        var ofGenes = Reference.Linear<Double>(
            inputWidth: head.parameters.gene2query.outputWidth, outputWidth: hidden, hasBias: false)
        if head.parameters.style == .concatQuery {
            for row in 0..<hidden {
                let start = row * fc1.inputWidth
                for i in 0..<width { ofCells.weight[row * width + i] = fc1.weight[start + i] }
                for i in 0..<hidden { ofGenes.weight[row * hidden + i] = fc1.weight[start + width + i] }
            }
        } else {
            (ofCells.weight, ofGenes.weight) = (fc1.weight, fc1.weight)
        }
        let queries = Reference.Activation.sigmoid.value(
            input: head.parameters.gene2query.value(input: head.geneTable.weight))
        let (cells, genes) = (ofCells.value(input: head.cellEmbeddings), ofGenes.value(input: queries))
        let sums = head.genes.enumerated().flatMap { position, gene in
            (0..<hidden).map { cells[position / head.tokens * hidden + $0] + genes[Int(gene) * hidden + $0] }
        }
        let activated = try #require(head.parameters.hiddenActivation).value(input: sums)
        expectNormwise(
            actual: fc2.value(input: activated), oracle: head.outputs.predictions,
            tolerance: Tolerances.oracleNormwise)
    }

    /// The inner product with one query per distinct gene and one product with W per cell.
    @Test(
        arguments: try Golden.cases(of: "MaskedValueDecoder").filter { $0.name.hasPrefix("inner product") })
    func restructuredInnerProductIsTheSame(_ golden: Golden) throws {
        let head = try MaskedValueDecoderCase<Double>(golden)
        let restructured = try RestructuredInnerProduct(head)
        let outputs = head.outputs
        expectNormwise(
            actual: restructured.predictions, oracle: outputs.predictions,
            tolerance: Tolerances.oracleNormwise, "predictions")
        #expect((restructured.probabilities == nil) == (outputs.nonzeroProbabilities == nil))
        if let actual = restructured.probabilities, let oracle = outputs.nonzeroProbabilities {
            expectNormwise(
                actual: actual, oracle: oracle, tolerance: Tolerances.oracleNormwise, "probabilities")
        }

        let gradients = head.gradients
        let (parameters, cells, genes) = restructured.gradients(head)
        for (name, array) in head.parameters.stateDict {
            expectNormwise(
                actual: parameters[keyPath: array], oracle: gradients.parameters[keyPath: array],
                tolerance: Tolerances.oracleNormwise, name)
        }
        let width = try golden.int("width")
        let cellWidth = head.batchEmbeddings == nil ? width : 2 * width
        func columns(_ range: Range<Int>) -> [Double] {
            (0..<head.cells).flatMap {
                cells[$0 * cellWidth + range.lowerBound..<$0 * cellWidth + range.upperBound]
            }
        }
        expectNormwise(
            actual: columns(0..<width), oracle: gradients.cellEmbeddings,
            tolerance: Tolerances.oracleNormwise, "cell embeddings")
        if let oracle = gradients.batchEmbeddings {
            expectNormwise(
                actual: columns(width..<2 * width), oracle: oracle, tolerance: Tolerances.oracleNormwise,
                "batch embeddings")
        }
        expectNormwise(
            actual: genes, oracle: head.geneTableGradient(of: gradients).weight,
            tolerance: Tolerances.oracleNormwise, "gene table")
    }
}

/// A golden's head with everything that it reads.
struct MaskedValueDecoderCase<T: ReferenceScalar> {
    var parameters: Reference.MaskedValueDecoder.Parameters<T>
    var cellEmbeddings: [T]
    var batchEmbeddings: [T]?
    var geneTable: Reference.Embedding<T>
    var genes: [Int32]
    var outputGradients: Reference.DecoderOutputs<T>
    var cells: Int
    var tokens: Int

    init(_ golden: Golden) throws {
        let width = try golden.int("width")
        parameters = try golden.filled(
            .init(
                style: golden.style, width: width, hiddenWidth: golden.int("hiddenWidth"),
                explicitZeros: golden.flag("explicitZeros"), batchLabels: golden.flag("usesBatchLabels")))
        cellEmbeddings = try golden.values("cellEmbeddings")
        batchEmbeddings = try golden.optionalValues("batchEmbeddings")
        geneTable = .init(count: try golden.int("genes"), width: width)
        geneTable.weight = try golden.values("geneTable")
        genes = try golden.int32s("genes")
        outputGradients = try golden.decoderOutputGradients()
        (cells, tokens) = (try golden.int("cells"), try golden.int("tokens"))
    }

    var outputs: Reference.DecoderOutputs<T> {
        Reference.MaskedValueDecoder.value(
            parameters: parameters, cellEmbeddings: cellEmbeddings, batchEmbeddings: batchEmbeddings,
            geneEmbeddings: geneTable.value(indices: genes), cells: cells, tokens: tokens)
    }

    var objective: T { outputs.objective(outputGradients) }

    var gradients: Reference.MaskedValueDecoder.Gradients<T> {
        Reference.MaskedValueDecoder.gradients(
            outputGradients: outputGradients, parameters: parameters, cellEmbeddings: cellEmbeddings,
            batchEmbeddings: batchEmbeddings, geneEmbeddings: geneTable.value(indices: genes), cells: cells,
            tokens: tokens)
    }

    /// The gradient of the table that the gene embeddings are rows of.
    func geneTableGradient(
        of gradients: Reference.MaskedValueDecoder.Gradients<T>
    ) -> Reference.Embedding<T> {
        geneTable.gradient(outputGradient: gradients.geneEmbeddings, indices: genes)
    }

    /// Everything that the golden has a result for.
    var results: [String: [T]] {
        let gradients = gradients
        var results = outputs.results
        results.merge(gradients.parameters.gradientResults) { $1 }
        results["gradient.cellEmbeddings"] = gradients.cellEmbeddings
        results["gradient.batchEmbeddings"] = gradients.batchEmbeddings
        results["gradient.geneEmbeddings"] = gradients.geneEmbeddings
        results["gradient.geneTable"] = geneTableGradient(of: gradients).weight
        return results
    }
}

extension Golden {
    /// The style before the colon of the name.
    fileprivate var style: Reference.MaskedValueDecoder.Style {
        get throws {
            let name = String(name.prefix { $0 != ":" })
            return try #require(Reference.MaskedValueDecoder.Style(rawValue: name), "\(name)")
        }
    }
}
