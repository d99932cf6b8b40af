// Integration's objective in one call, and its value terms alone, against the reference's term after term.

import FastLoss
import FastLossReference

extension Suites {
    static var totalObjective: [Benchmark] {
        // Two MSE, two NLL and the relative error in one pass over target and mask: integration,
        // pretraining's global batch, and 182 MB that only memory can hold.
        let values = [ProblemShape(64, 1201), ProblemShape(512, 1200), ProblemShape(4096, 1201)].flatMap {
            shape in
            Mode.allCases.map { valueTerms(shape, $0) }
        }
        // Integration with the pretrained model and from scratch; pretraining's global batch.
        let whole = [ProblemShape(64, 1201, 512), ProblemShape(64, 1201, 128), ProblemShape(512, 1200, 512)]
            .flatMap { shape in
                Mode.allCases.map { integration(shape, $0) }
            }
        return values + whole
    }

    private static func integration(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        let batches = { (context: BenchmarkContext) in IntegrationBatch(context, shape) }
        return objective(
            variant: "integration", shape, mode, isQuick: shape.rows == 64, batch: batches,
            objective: .integration(),
            // The naive loop's ECS is computed block by block; otherwise it would take most of the time.
            reference: .blockedIntegration,
            work: { $0.work(withGradient: mode == .valueAndGradient, pairs: true) },
            hasParts: mode == .valueAndGradient)
    }

    private static func valueTerms(_ shape: ProblemShape, _ mode: Mode) -> Benchmark {
        objective(
            variant: "value-terms", shape, mode, isQuick: shape.rows < 4096,
            batch: { IntegrationBatch($0, shape) }, objective: .integrationValueTerms, reference: .valueTerms,
            work: { $0.work(withGradient: mode == .valueAndGradient, pairs: false) }, hasParts: false)
    }

    private static func objective(
        variant: String, _ shape: ProblemShape, _ mode: Mode, isQuick: Bool,
        batch: @escaping (BenchmarkContext) -> IntegrationBatch, objective: TotalObjective,
        reference: ReferenceTerms, work: @escaping (IntegrationBatch) -> Work, hasParts: Bool
    ) -> Benchmark {
        Benchmark(
            kernel: "TotalObjective", variant: variant, mode: mode, shape: shape, tolerance: 5e-6,
            isQuick: isQuick
        ) { context in
            let batch = batch(context)
            let inputs = batch.referenceInputs(Float.self)
            let gradients = mode == .valueAndGradient ? IntegrationGradients(batch) : nil
            return Prepared(
                work: work(batch),
                maxRelativeError: { workspace in
                    let actual = try batch.evaluate(objective, into: gradients, workspace)
                    let truth = Reference.TotalObjective.evaluate(
                        inputs: batch.referenceInputs(Double.self), configuration: reference.configuration())
                    let error = actual.largestRelativeError(to: truth)
                    return gradients.map { max(error, $0.largestRelativeError(to: truth.gradients)) } ?? error
                },
                fastloss: { Float(try batch.evaluate(objective, into: gradients, $0).total) },
                // The reference always computes the gradients, so the row of the value alone includes them as
                // well.
                naive: {
                    Reference.TotalObjective.evaluate(
                        inputs: inputs, configuration: reference.configuration()
                    ).total
                },
                rival: gradients.flatMap { gradients in
                    hasParts ? Rival(.parts) { Float(try batch.evaluateParts(into: gradients, $0)) } : nil
                })
        }
    }
}

/// The reference's results, in either precision.
private enum ReferenceTerms {
    case blockedIntegration
    case valueTerms

    func configuration<T: ReferenceScalar>() -> Reference.TotalObjective.Configuration<T> {
        var configuration = Reference.TotalObjective.Configuration<T>.integration
        switch self {
        case .blockedIntegration:
            configuration.blocksElastic = true
        case .valueTerms:
            configuration.weights[.elastic] = nil
            configuration.weights[.batch] = nil
        }
        return configuration
    }
}

extension ObjectiveValue {
    /// The largest relative error of the total, of any term and of the metric.
    fileprivate func largestRelativeError(to truth: Reference.TotalObjective.Evaluation<Double>) -> Double {
        let terms = ObjectiveTerm.allCases.map { term in
            let expected = Reference.TotalObjective.Term(rawValue: term.rawValue).flatMap { truth.values[$0] }
            return Benchmarks.relativeError(of: values[term] ?? 0, to: expected ?? 0)
        }
        return max(
            Benchmarks.relativeError(of: total, to: truth.total),
            Benchmarks.relativeError(of: relativeError ?? 0, to: truth.relativeError ?? 0), terms.max() ?? 0)
    }
}
