// A golden of a task head, read into the reference's parameters and compared with its results.

import FastLossReference
import Testing

extension Golden {
    /// An input in the oracle's type or in the baseline's.
    func values<T: ReferenceScalar>(_ input: String, as type: T.Type = T.self) throws -> [T] {
        try floats(input).map { T($0) }
    }

    /// An input that only some cases have.
    func optionalValues<T: ReferenceScalar>(_ input: String, as type: T.Type = T.self) throws -> [T]? {
        hasInput(input) ? try values(input) : nil
    }

    /// A parameter that is 0 or 1.
    func flag(_ parameter: String) throws -> Bool { try int(parameter) != 0 }

    /// Parameters of the golden's values, from parameters of the same shapes.
    func filled<P: Reference.HeadParameters>(_ parameters: P) throws -> P {
        var parameters = parameters
        for (name, array) in parameters.stateDict {
            let values: [P.Scalar] = try values(name)
            try #require(values.count == parameters[keyPath: array].count, "\(name) in \(self.name)")
            parameters[keyPath: array] = values
        }
        return parameters
    }

    /// The gradients of a decoder's two outputs.
    func decoderOutputGradients<T: ReferenceScalar>(
        as type: T.Type = T.self
    ) throws -> Reference.DecoderOutputs<T> {
        Reference.DecoderOutputs(
            predictions: try values("outputGradient.predictions"),
            nonzeroProbabilities: try optionalValues("outputGradient.nonzeroProbabilities"))
    }

    /// Expects that `results` are all of the golden's, each array within the tolerance of its type relative
    /// to its norm.
    func expectResults<T: ReferenceScalar>(
        _ results: [String: [T]], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(results.keys.sorted() == resultNames, "\(name)", sourceLocation: sourceLocation)
        let tolerance = T.self == Double.self ? Tolerances.oracleNormwise : Tolerances.naiveNormwise
        for (result, actual) in results {
            expectNormwise(
                actual: actual, oracle: try truth(result), tolerance: tolerance, "\(name): \(result)",
                sourceLocation: sourceLocation)
        }
    }
}

extension Reference.HeadParameters {
    /// Every array under the name that its gradient has in a golden.
    var gradientResults: [String: [Scalar]] {
        Dictionary(uniqueKeysWithValues: stateDict.map { ("gradient.\($0.name)", self[keyPath: $0.array]) })
    }
}

extension Reference.DecoderOutputs {
    /// The outputs under their names in a golden.
    var results: [String: [T]] {
        var results = ["predictions": predictions]
        results["nonzeroProbabilities"] = nonzeroProbabilities
        return results
    }

    /// Σ outputs · gradients: a scalar whose gradients with respect to the outputs are `gradients`.
    func objective(_ gradients: Self) -> T {
        dot(predictions, gradients.predictions)
            + dot(nonzeroProbabilities ?? [], gradients.nonzeroProbabilities ?? [])
    }
}

/// Σ a_i b_i.
func dot<T: ReferenceScalar>(_ a: [T], _ b: [T]) -> T {
    precondition(a.count == b.count)
    return zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
}

/// Expects every array of `gradient` to hold the central differences of `function` at `parameters`.
func expectCentralDifferences<P: Reference.HeadParameters<Double>>(
    of function: (P) -> Double, at parameters: P, gradient: P, _ label: String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    for (name, array) in parameters.stateDict {
        expectCentralDifferences(
            of: {
                var moved = parameters
                moved[keyPath: array] = $0
                return function(moved)
            }, at: parameters[keyPath: array], gradient: gradient[keyPath: array], "\(label): \(name)",
            sourceLocation: sourceLocation)
    }
}
