// The total objective: which terms a task adds up, with which weights, and the gradient of every input.

extension Reference {
    /// The weighted sum of the terms that a task trains on.
    ///
    ///     total = Σ over the terms of weight · value
    ///
    /// All value terms share one mask and one target. The gradient of the cell embedding is the sum over the
    /// terms that read it directly (ECS and CCE); what comes back through a decoder, a classifier or the
    /// reversed discriminator is the caller's to add, because those are the model's parameters.
    ///
    /// Sources: scGPT `finetune_integration.py`, `pretrain.py`, `scgpt/trainer.py` and the tutorials'
    /// settings; scFormer `dev_integration_single_gpu.py`.
    public enum TotalObjective {
        /// The terms, in the order in which scGPT's trainer adds them; the raw values are upstream's names in
        /// its logs.
        public enum Term: String, Sendable, CaseIterable {
            /// Masked gene modelling: `MaskedMSE` of the decoder's output (MLM, MGM, GEP).
            case maskedGene = "mse"
            /// `BernoulliNLL` of the decoder's probability that the value is non-zero.
            case maskedGeneZero = "nzlp"
            /// Masked values predicted from the cell embedding: `MaskedMSE` (MVC, GEPC).
            case cellGene = "mvc"
            /// `BernoulliNLL` of the probability predicted from the cell embedding.
            case cellGeneZero = "mvc_nzlp"
            /// Values generated from the detached cell embedding in a second pass: `MaskedMSE`.
            case generation = "gen"
            /// Cell types: `CrossEntropy` (CLS).
            case cellType = "cls"
            /// `ContrastiveCellEmbedding` (CCE).
            case contrastive = "cce"
            /// `ElasticCellSimilarity` (ECS, ESC).
            case elastic = "ecs"
            /// Batch labels behind the gradient reversal: `CrossEntropy` (DAB, DAR).
            case batch = "dab"
        }

        /// Which terms are on, with which weight, and the terms' own parameters.
        public struct Configuration<T: ReferenceScalar>: Sendable {
            /// The weight of every term that is on; a term without a weight is off.
            public var weights: [Term: T]
            /// β of the elastic cell similarity.
            public var threshold: T
            /// τ of the contrastive cell embedding.
            public var temperature: T
            /// Whether the elastic cell similarity is computed block by block, which is faster.
            public var blocksElastic = false

            /// A configuration; the defaults are upstream's where upstream has one.
            @inlinable
            public init(weights: [Term: T], threshold: T = 0.8, temperature: T = 0.5) {
                self.weights = weights
                self.threshold = threshold
                self.temperature = temperature
            }

            /// scGPT `finetune_integration.py` with its defaults.
            @inlinable
            public static var integration: Self {
                Self(
                    weights: [
                        .maskedGene: 1, .maskedGeneZero: 1, .cellGene: 1, .cellGeneZero: 1, .elastic: 10,
                        .batch: 1,
                    ],
                    threshold: 0.8)
            }

            /// scGPT annotation: the cell type alone.
            @inlinable
            public static var annotation: Self { Self(weights: [.cellType: 1]) }

            /// scGPT perturbation: masked gene modelling alone, with a mask that selects everything.
            @inlinable
            public static var perturbation: Self { Self(weights: [.maskedGene: 1]) }

            /// scGPT multi-omics: both value predictions and the batch label.
            @inlinable
            public static var multiOmics: Self {
                Self(weights: [.maskedGene: 1, .cellGene: 1, .batch: 1])
            }

            /// scGPT generative pretraining. Upstream adds `generation` after 1000 iterations.
            @inlinable
            public static var generativePretraining: Self {
                Self(weights: [.maskedGene: 1, .cellGene: 1, .generation: 1])
            }

            /// scGPT pretraining on masked values, with cell types and contrastive embeddings.
            @inlinable
            public static var maskedPretraining: Self {
                Self(weights: [.maskedGene: 1, .cellType: 1, .contrastive: 10, .cellGene: 1])
            }

            /// scFormer integration with its defaults: β = 0.5, without cell types and CCE.
            @inlinable
            public static var scFormer: Self {
                var configuration = integration
                configuration.threshold = 0.5
                return configuration
            }
        }

        /// What a model and its batch provide. An input is needed exactly if a term that reads it is on.
        public struct Inputs<T: ReferenceScalar>: Sendable {
            /// B, the number of cells.
            public var cells: Int
            /// L, the number of tokens per cell.
            public var tokens: Int
            /// D, the width of both cell embeddings.
            public var width: Int
            /// The true expression values, B × L; shared by all value terms.
            public var targets: [T] = []
            /// The positions to predict, B × L; shared by all value terms.
            public var mask: [Bool] = []
            /// The decoder's values (MLM), B × L.
            public var genePredictions: [T]?
            /// The decoder's probabilities that a value is non-zero, B × L.
            public var geneNonzeroProbabilities: [T]?
            /// Values predicted from the cell embedding (MVC), B × L.
            public var cellPredictions: [T]?
            /// Probabilities, predicted from the cell embedding, that a value is non-zero, B × L.
            public var cellNonzeroProbabilities: [T]?
            /// Values generated from the detached cell embedding, B × L.
            public var generatedPredictions: [T]?
            /// The cell embedding, B × D.
            public var cellEmbedding: [T]?
            /// A second encoding of the same cells, for the contrastive term, B × D.
            public var secondCellEmbedding: [T]?
            /// The classifier's logits, B × number of cell types.
            public var cellTypeLogits: [T]?
            /// One cell type per cell; −100 is ignored.
            public var cellTypeLabels: [Int32] = []
            /// The discriminator's logits, B × number of batches.
            public var batchLogits: [T]?
            /// One batch per cell; −100 is ignored.
            public var batchLabels: [Int32] = []

            /// Inputs of a shape, with everything else still to be set.
            @inlinable
            public init(cells: Int, tokens: Int, width: Int) {
                self.cells = cells
                self.tokens = tokens
                self.width = width
            }
        }

        /// The total's gradient with respect to every input that a term read; the others stay nil.
        public struct Gradients<T: ReferenceScalar>: Sendable {
            public var genePredictions: [T]?
            public var geneNonzeroProbabilities: [T]?
            public var cellPredictions: [T]?
            public var cellNonzeroProbabilities: [T]?
            public var generatedPredictions: [T]?
            public var cellEmbedding: [T]?
            public var secondCellEmbedding: [T]?
            public var cellTypeLogits: [T]?
            public var batchLogits: [T]?

            @inlinable
            init() {}
        }

        /// The total, its terms, the metric and the gradients.
        public struct Evaluation<T: ReferenceScalar>: Sendable {
            /// The sum of the weighted terms.
            public var total: T = 0
            /// Every term that is on, before its weight.
            public var values: [Term: T] = [:]
            /// Every term that is on, after its weight.
            public var weighted: [Term: T] = [:]
            /// `MaskedRelativeError` of the gene predictions; nil if `maskedGene` is off.
            public var relativeError: T?
            /// The total's gradients.
            public var gradients = Gradients<T>()

            @inlinable
            init() {}

            /// Every term as upstream logs it: after its weight, but the batch term before it.
            @inlinable
            public var logged: [Term: T] {
                weighted.merging(values.filter { $0.key == .batch }) { _, unweighted in unweighted }
            }
        }

        /// The total, every term, the relative error, and every gradient times `gradientScale`.
        @inlinable
        public static func evaluate<T: ReferenceScalar>(
            inputs: Inputs<T>, configuration: Configuration<T>, gradientScale: T = 1
        ) -> Evaluation<T> {
            var result = Evaluation<T>()
            for term in Term.allCases {
                guard let weight = configuration.weights[term] else { continue }
                let value = evaluate(
                    term, inputs: inputs, configuration: configuration, gradientScale: weight * gradientScale,
                    gradients: &result.gradients)
                result.values[term] = value
                result.weighted[term] = weight * value
                result.total += weight * value
            }
            if configuration.weights[.maskedGene] != nil, let predictions = inputs.genePredictions {
                result.relativeError = MaskedRelativeError.value(
                    predictions: predictions, targets: inputs.targets, mask: inputs.mask)
            }
            return result
        }

        /// One term's value. Writes its scaled gradient to the slot of its input.
        @inlinable
        static func evaluate<T: ReferenceScalar>(
            _ term: Term, inputs: Inputs<T>, configuration: Configuration<T>, gradientScale: T,
            gradients: inout Gradients<T>
        ) -> T {
            switch term {
            case .maskedGene:
                return squaredError(
                    of: inputs.genePredictions, inputs, gradientScale, &gradients.genePredictions)
            case .cellGene:
                return squaredError(
                    of: inputs.cellPredictions, inputs, gradientScale, &gradients.cellPredictions)
            case .generation:
                return squaredError(
                    of: inputs.generatedPredictions, inputs, gradientScale, &gradients.generatedPredictions)
            case .maskedGeneZero:
                return negativeLogLikelihood(
                    of: inputs.geneNonzeroProbabilities, inputs, gradientScale,
                    &gradients.geneNonzeroProbabilities)
            case .cellGeneZero:
                return negativeLogLikelihood(
                    of: inputs.cellNonzeroProbabilities, inputs, gradientScale,
                    &gradients.cellNonzeroProbabilities)
            case .cellType:
                return crossEntropy(
                    of: inputs.cellTypeLogits, labels: inputs.cellTypeLabels, gradientScale,
                    &gradients.cellTypeLogits)
            case .batch:
                return crossEntropy(
                    of: inputs.batchLogits, labels: inputs.batchLabels, gradientScale,
                    &gradients.batchLogits)
            case .elastic:
                let embedding = required(inputs.cellEmbedding)
                var gradient = embedding
                let value =
                    configuration.blocksElastic
                    ? ElasticCellSimilarity.blockedValueAndGradient(
                        embeddings: embedding, rows: inputs.cells, columns: inputs.width,
                        threshold: configuration.threshold, gradientScale: gradientScale, gradient: &gradient)
                    : ElasticCellSimilarity.valueAndGradient(
                        embeddings: embedding, rows: inputs.cells, columns: inputs.width,
                        threshold: configuration.threshold, gradientScale: gradientScale, gradient: &gradient)
                add(gradient, to: &gradients.cellEmbedding)
                return value
            case .contrastive:
                let first = required(inputs.cellEmbedding)
                let second = required(inputs.secondCellEmbedding)
                var firstGradient = first
                var secondGradient = second
                let value = ContrastiveCellEmbedding.valueAndGradient(
                    first: first, second: second, rows: inputs.cells, columns: inputs.width,
                    temperature: configuration.temperature, gradientScale: gradientScale,
                    firstGradient: &firstGradient, secondGradient: &secondGradient)
                add(firstGradient, to: &gradients.cellEmbedding)
                gradients.secondCellEmbedding = secondGradient
                return value
            }
        }

        @inlinable
        static func squaredError<T: ReferenceScalar>(
            of predictions: [T]?, _ inputs: Inputs<T>, _ gradientScale: T, _ slot: inout [T]?
        ) -> T {
            let predictions = required(predictions)
            var gradient = predictions
            let value = MaskedMSE.valueAndGradient(
                predictions: predictions, targets: inputs.targets, mask: inputs.mask,
                gradientScale: gradientScale, gradient: &gradient)
            slot = gradient
            return value
        }

        @inlinable
        static func negativeLogLikelihood<T: ReferenceScalar>(
            of probabilities: [T]?, _ inputs: Inputs<T>, _ gradientScale: T, _ slot: inout [T]?
        ) -> T {
            let probabilities = required(probabilities)
            var gradient = probabilities
            let value = BernoulliNLL.valueAndGradient(
                probabilities: probabilities, targets: inputs.targets, mask: inputs.mask,
                gradientScale: gradientScale, gradient: &gradient)
            slot = gradient
            return value
        }

        @inlinable
        static func crossEntropy<T: ReferenceScalar>(
            of logits: [T]?, labels: [Int32], _ gradientScale: T, _ slot: inout [T]?
        ) -> T {
            let logits = required(logits)
            precondition(!labels.isEmpty && logits.count.isMultiple(of: labels.count))
            var gradient = logits
            let value = CrossEntropy.valueAndGradient(
                logits: logits, labels: labels, rows: labels.count, classes: logits.count / labels.count,
                gradientScale: gradientScale, gradient: &gradient)
            slot = gradient
            return value
        }

        @inlinable
        static func required<T>(_ input: [T]?) -> [T] {
            guard let input else { preconditionFailure("a term is on whose input is missing") }
            return input
        }

        @inlinable
        static func add<T: ReferenceScalar>(_ gradient: [T], to slot: inout [T]?) {
            slot = slot.map { zip($0, gradient).map(+) } ?? gradient
        }
    }
}
