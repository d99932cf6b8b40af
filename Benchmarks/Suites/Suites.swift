// The rows of the table, suite after suite. Harness/Benchmark.swift says how to write one.

/// All benchmarks.
package enum Suites {
    /// Every row, in the table's order.
    package static var all: [Benchmark] {
        maskedMSE + bernoulliNLL + maskedRelativeError + crossEntropy + gradientReversal
            + elasticCellSimilarity + cosineSimilarity + contrastiveCellEmbedding + maskedReductions
            + tokenPooling
            + totalObjective + layerProducts + expressionDecoder + maskedValueDecoder + integrationHeads
    }
}
