// The decoder of expression values from the cell embedding and the genes' queries (MVC, GEPC).

extension Reference {
    /// Predicts the expression value of each gene of a cell from the cell embedding.
    ///
    /// Each gene asks with a query q made from its token embedding g, and the cell embedding c answers:
    ///
    ///     q = σ(gene2query(g))
    ///     inner product    prediction = W(q) · c        P(not zero) = σ(W_zero_logit(q) · c)
    ///     concat query     prediction = fc2(PReLU(fc1([c; q])))
    ///     sum query        prediction = fc2(PReLU(fc1(c + q)))
    ///
    /// "inner product, detach" is the inner product without a gradient for g. The inner product alone takes
    /// an embedding e of the cell's batch label, in [c; e] for c, and alone has explicit zeros.
    ///
    /// D is the width of g and c, H the hidden width, 64 upstream.
    ///
    /// | array | state dict | inner product | concat query | sum query |
    /// |---|---|---|---|---|
    /// | `gene2query` | `gene2query.weight`, `.bias` | D × D | H × D | D × D |
    /// | `w` | `W.weight` | D × D or 2D × D | | |
    /// | `wZeroLogit` | `W_zero_logit.weight`, `.bias` | as `w` | | |
    /// | `fc1` | `fc1.weight`, `.bias` | | H × (D + H) | H × D |
    /// | `hiddenActivation` | `hidden_activation.weight` | | 1 | 1 |
    /// | `fc2` | `fc2.weight`, `.bias` | | 1 × H | 1 × H |
    ///
    /// Source: scGPT `MVCDecoder`.
    public enum MaskedValueDecoder {
        /// How the cell embedding answers a query; the raw values are upstream's `arch_style`.
        public enum Style: String, Sendable, CaseIterable {
            case innerProduct = "inner product"
            case innerProductDetached = "inner product, detach"
            case concatQuery = "concat query"
            case sumQuery = "sum query"

            /// Whether the answer is an inner product rather than a hidden layer.
            @inlinable
            public var isInnerProduct: Bool { self == .innerProduct || self == .innerProductDetached }
        }

        /// The layers of a style; those of the other styles are nil.
        public struct Parameters<T: ReferenceScalar>: HeadParameters {
            /// Which layers there are.
            public let style: Style
            /// From a gene's embedding to its query.
            public var gene2query: Linear<T>
            /// From the query to what the cell embedding is multiplied by; without bias.
            public var w: Linear<T>?
            /// The same for the logit of a value that is not zero, with bias; nil without explicit zeros.
            public var wZeroLogit: Linear<T>?
            /// From cell embedding and query to the hidden layer.
            public var fc1: Linear<T>?
            /// The hidden layer's activation.
            public var hiddenActivation: PReLU<T>?
            /// From the hidden layer to the prediction.
            public var fc2: Linear<T>?

            /// Parameters that are all zero, for embeddings of `width` elements.
            @inlinable
            public init(
                style: Style, width: Int, hiddenWidth: Int = 64, explicitZeros: Bool = false,
                batchLabels: Bool = false
            ) {
                self.style = style
                let queryWidth = style == .concatQuery ? hiddenWidth : width
                gene2query = Linear(inputWidth: width, outputWidth: queryWidth)
                if style.isInnerProduct {
                    let cellWidth = batchLabels ? 2 * width : width
                    w = Linear(inputWidth: width, outputWidth: cellWidth, hasBias: false)
                    wZeroLogit = explicitZeros ? Linear(inputWidth: width, outputWidth: cellWidth) : nil
                } else {
                    precondition(!explicitZeros && !batchLabels, "upstream has neither in \(style.rawValue)")
                    let inputWidth = style == .concatQuery ? width + hiddenWidth : width
                    fc1 = Linear(inputWidth: inputWidth, outputWidth: hiddenWidth)
                    hiddenActivation = PReLU()
                    fc2 = Linear(inputWidth: hiddenWidth, outputWidth: 1)
                }
            }

            @inlinable
            public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] {
                var all = arrays(named: "gene2query", of: \.gene2query)
                if w != nil { all += arrays(named: "W", of: \.w!) }
                if wZeroLogit != nil { all += arrays(named: "W_zero_logit", of: \.wZeroLogit!) }
                if fc1 != nil { all += arrays(named: "fc1", of: \.fc1!) }
                if hiddenActivation != nil {
                    all += arrays(named: "hidden_activation", of: \.hiddenActivation!)
                }
                if fc2 != nil { all += arrays(named: "fc2", of: \.fc2!) }
                return all
            }
        }

        /// The gradients of everything that the head reads.
        public struct Gradients<T: ReferenceScalar>: Sendable {
            /// With respect to the parameters.
            public var parameters: Parameters<T>
            /// With respect to the cell embeddings, B × D.
            public var cellEmbeddings: [T]
            /// With respect to the batch embeddings, B × D; nil without them.
            public var batchEmbeddings: [T]?
            /// With respect to the gene embeddings, B × L × D; zero where they are detached.
            public var geneEmbeddings: [T]

            @inlinable
            init(
                parameters: Parameters<T>, cellEmbeddings: [T], batchEmbeddings: [T]?, geneEmbeddings: [T]
            ) {
                self.parameters = parameters
                self.cellEmbeddings = cellEmbeddings
                self.batchEmbeddings = batchEmbeddings
                self.geneEmbeddings = geneEmbeddings
            }
        }

        /// The predictions from cell embeddings B × D and gene embeddings B × L × D, and with explicit zeros
        /// the probabilities.
        ///
        /// `batchEmbeddings` has one row per cell, B × D, exactly if the parameters are made for it.
        @inlinable
        public static func value<T: ReferenceScalar>(
            parameters: Parameters<T>, cellEmbeddings: [T], batchEmbeddings: [T]? = nil,
            geneEmbeddings: [T], cells: Int, tokens: Int
        ) -> DecoderOutputs<T> {
            let c = inputs(parameters, cellEmbeddings, batchEmbeddings, geneEmbeddings, cells, tokens)
            let q = Activation.sigmoid.value(input: parameters.gene2query.value(input: geneEmbeddings))
            if let w = parameters.w {
                return DecoderOutputs(
                    predictions: innerProducts(w, q, c, cells, tokens),
                    nonzeroProbabilities: parameters.wZeroLogit.map {
                        Activation.sigmoid.value(input: innerProducts($0, q, c, cells, tokens))
                    })
            }
            let (fc1, activation, fc2) = hiddenLayer(of: parameters)
            let x = hiddenInput(parameters, q, c, cells, tokens)
            let hidden = activation.value(input: fc1.value(input: x))
            return DecoderOutputs(predictions: fc2.value(input: hidden))
        }

        /// Carries the gradients of the outputs back to everything that the head read.
        @inlinable
        public static func gradients<T: ReferenceScalar>(
            outputGradients: DecoderOutputs<T>, parameters: Parameters<T>, cellEmbeddings: [T],
            batchEmbeddings: [T]? = nil, geneEmbeddings: [T], cells: Int, tokens: Int
        ) -> Gradients<T> {
            let c = inputs(parameters, cellEmbeddings, batchEmbeddings, geneEmbeddings, cells, tokens)
            let logits = parameters.gene2query.value(input: geneEmbeddings)
            let q = Activation.sigmoid.value(input: logits)
            var gradients = Gradients(
                parameters: parameters, cellEmbeddings: [], batchEmbeddings: nil, geneEmbeddings: [])

            var dq = [T](repeating: 0, count: q.count)
            var dc = [T](repeating: 0, count: c.count)
            if let w = parameters.w {
                gradients.parameters.w = addInnerProductGradients(
                    outputGradients.predictions, w, q, c, cells, tokens, &dq, &dc)
                if let wZeroLogit = parameters.wZeroLogit {
                    let zeroLogitGradient = Activation.sigmoid.gradient(
                        outputGradient: outputGradients.requiredProbabilities,
                        input: innerProducts(wZeroLogit, q, c, cells, tokens))
                    gradients.parameters.wZeroLogit = addInnerProductGradients(
                        zeroLogitGradient, wZeroLogit, q, c, cells, tokens, &dq, &dc)
                }
            } else {
                let (fc1, activation, fc2) = hiddenLayer(of: parameters)
                let x = hiddenInput(parameters, q, c, cells, tokens)
                let beforeActivation = fc1.value(input: x)
                let (fc2Parameters, dHidden) = fc2.gradients(
                    outputGradient: outputGradients.predictions,
                    input: activation.value(input: beforeActivation))
                let (slope, dBefore) = activation.gradients(outputGradient: dHidden, input: beforeActivation)
                let (fc1Parameters, dx) = fc1.gradients(outputGradient: dBefore, input: x)
                gradients.parameters.fc1 = fc1Parameters
                gradients.parameters.hiddenActivation = slope
                gradients.parameters.fc2 = fc2Parameters
                let width = parameters.gene2query.inputWidth
                let parts =
                    parameters.style == .concatQuery
                    ? split(dx, width: fc1.inputWidth, at: width) : (first: dx, second: dx)
                dc = summedOverTokens(parts.first, cells: cells, tokens: tokens, width: width)
                dq = parts.second
            }

            let (query, dg) = parameters.gene2query.gradients(
                outputGradient: Activation.sigmoid.gradient(outputGradient: dq, input: logits),
                input: geneEmbeddings)
            gradients.parameters.gene2query = query
            gradients.geneEmbeddings =
                parameters.style == .innerProductDetached ? [T](repeating: 0, count: dg.count) : dg
            guard batchEmbeddings != nil else {
                gradients.cellEmbeddings = dc
                return gradients
            }
            let width = parameters.gene2query.inputWidth
            let (cellPart, batchPart) = split(dc, width: 2 * width, at: width)
            gradients.cellEmbeddings = cellPart
            gradients.batchEmbeddings = batchPart
            return gradients
        }

        // MARK: - The inner product

        /// v_bl · c_b with v = layer(q).
        @inlinable
        static func innerProducts<T: ReferenceScalar>(
            _ layer: Linear<T>, _ q: [T], _ c: [T], _ cells: Int, _ tokens: Int
        ) -> [T] {
            let width = layer.outputWidth
            let v = layer.value(input: q)
            var products = [T](repeating: 0, count: cells * tokens)
            for row in products.indices {
                for i in 0..<width { products[row] += v[row * width + i] * c[row / tokens * width + i] }
            }
            return products
        }

        /// The gradient of `layer` in p_bl = v_bl · c_b; adds those of q and c to `dq` and `dc`.
        ///
        ///     dv_bl = dp_bl c_b        dc_b = Σ_l dp_bl v_bl
        @inlinable
        static func addInnerProductGradients<T: ReferenceScalar>(
            _ dp: [T], _ layer: Linear<T>, _ q: [T], _ c: [T], _ cells: Int, _ tokens: Int,
            _ dq: inout [T], _ dc: inout [T]
        ) -> Linear<T> {
            precondition(dp.count == cells * tokens)
            let width = layer.outputWidth
            let v = layer.value(input: q)
            var dv = v
            for row in dp.indices {
                let cell = row / tokens
                for i in 0..<width {
                    dv[row * width + i] = dp[row] * c[cell * width + i]
                    dc[cell * width + i] += dp[row] * v[row * width + i]
                }
            }
            let (parameters, input) = layer.gradients(outputGradient: dv, input: q)
            dq = sum(dq, input)
            return parameters
        }

        // MARK: - The hidden layer

        /// [c_b; q_bl] or c_b + q_bl, one row per token.
        @inlinable
        static func hiddenInput<T: ReferenceScalar>(
            _ parameters: Parameters<T>, _ q: [T], _ c: [T], _ cells: Int, _ tokens: Int
        ) -> [T] {
            let width = parameters.gene2query.inputWidth
            let c = repeated(c, tokens: tokens, width: width)
            guard parameters.style == .concatQuery else { return sum(c, q) }
            return concatenated(c, width: width, q, width: parameters.gene2query.outputWidth)
        }

        @inlinable
        static func hiddenLayer<T: ReferenceScalar>(
            of parameters: Parameters<T>
        ) -> (fc1: Linear<T>, activation: PReLU<T>, fc2: Linear<T>) {
            guard let fc1 = parameters.fc1, let activation = parameters.hiddenActivation,
                let fc2 = parameters.fc2
            else { preconditionFailure("\(parameters.style.rawValue) has a hidden layer") }
            return (fc1, activation, fc2)
        }

        // MARK: - Inputs

        /// c_b or [c_b; e_b], one row per cell.
        @inlinable
        static func inputs<T: ReferenceScalar>(
            _ parameters: Parameters<T>, _ cellEmbeddings: [T], _ batchEmbeddings: [T]?,
            _ geneEmbeddings: [T], _ cells: Int, _ tokens: Int
        ) -> [T] {
            let width = parameters.gene2query.inputWidth
            precondition(cellEmbeddings.count == cells * width)
            precondition(geneEmbeddings.count == cells * tokens * width)
            let cellWidth = batchEmbeddings == nil ? width : 2 * width
            precondition((parameters.w?.outputWidth ?? width) == cellWidth)
            guard let batchEmbeddings else { return cellEmbeddings }
            return concatenated(cellEmbeddings, width: width, batchEmbeddings, width: width)
        }
    }
}
