// The oracle of the encoder of batch labels against PyTorch and central differences.

import FastLossReference
import Testing

@Suite struct BatchLabelEncoderReferenceTests {
    typealias Encoder = Reference.BatchLabelEncoder

    @Test(arguments: try Golden.cases(of: "BatchLabelEncoder"))
    func oracleMatchesPyTorch(_ golden: Golden) throws {
        try golden.expectResults(try results(of: golden, Double.self))
    }

    @Test(arguments: try Golden.cases(of: "BatchLabelEncoder"))
    func baselineMatchesPyTorch(_ golden: Golden) throws {
        try golden.expectResults(try results(of: golden, Float.self))
    }

    @Test(arguments: try Golden.cases(of: "BatchLabelEncoder"))
    func gradientsMatchCentralDifferences(_ golden: Golden) throws {
        let parameters = try parameters(of: golden, Double.self)
        let labels = try golden.int32s("labels")
        let outputGradient = try golden.doubles("outputGradient.embeddings")
        expectCentralDifferences(
            of: { dot(Encoder.value(parameters: $0, labels: labels), outputGradient) }, at: parameters,
            gradient: Encoder.gradients(
                outputGradient: outputGradient, parameters: parameters, labels: labels), golden.name)
    }

    /// Rows of the table that no cell has do not move.
    @Test func batchesWithoutCellsHaveNoGradient() throws {
        let golden = try #require(try Golden.cases(of: "BatchLabelEncoder").first)
        let labels = try golden.int32s("labels")
        let (batches, width) = (try golden.int("batches"), try golden.int("width"))
        let gradient = Encoder.gradients(
            outputGradient: try golden.doubles("outputGradient.embeddings"),
            parameters: try parameters(of: golden, Double.self), labels: labels
        ).embedding.weight
        for batch in 0..<batches {
            let row = gradient[batch * width..<(batch + 1) * width]
            #expect(row.allSatisfy { $0 == 0 } == !labels.contains(Int32(batch)), "batch \(batch)")
        }
    }

    private func parameters<T: ReferenceScalar>(
        of golden: Golden, _ type: T.Type
    ) throws -> Encoder.Parameters<T> {
        try golden.filled(.init(batches: golden.int("batches"), width: golden.int("width")))
    }

    private func results<T: ReferenceScalar>(of golden: Golden, _ type: T.Type) throws -> [String: [T]] {
        let parameters = try parameters(of: golden, T.self)
        let labels = try golden.int32s("labels")
        var results = Encoder.gradients(
            outputGradient: try golden.values("outputGradient.embeddings"), parameters: parameters,
            labels: labels
        ).gradientResults
        results["embeddings"] = Encoder.value(parameters: parameters, labels: labels)
        return results
    }
}
