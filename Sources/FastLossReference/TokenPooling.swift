// From token states to cell embeddings: the three pooling styles, and their gradients.

extension Reference {
    /// Pools the states h of L tokens per cell, B × L × D, into one embedding per cell.
    ///
    ///     cls       h_b0
    ///     average   Σ_l h_bl / L, over all L tokens, padding included as upstream
    ///     weighted  u_bk = Σ_l v_bkl h_bl for K weightings per cell, and u / max(‖u‖, floor) if normalised
    ///
    /// Weights multiply, they do not select: a NaN state under a weight of zero makes NaN.
    ///
    /// Source: scGPT `_get_cell_emb_from_layer`: `cls`, `avg-pool`, and `w-pool` (normalised, floor 1e-12).
    public enum TokenPooling {
        /// The first token's states: `cells` × `width` values.
        @inlinable
        public static func cls<T: ReferenceScalar>(
            states: [T], cells: Int, tokens: Int, width: Int
        ) -> [T] {
            precondition(states.count == cells * tokens * width && tokens > 0)
            var embeddings: [T] = []
            embeddings.reserveCapacity(cells * width)
            for cell in 0..<cells {
                let start = cell * tokens * width
                embeddings += states[start..<start + width]
            }
            return embeddings
        }

        /// Carries a gradient of `cls` (`cells` × `width`) back to the states.
        @inlinable
        public static func clsGradient<T: ReferenceScalar>(
            outputGradient: [T], cells: Int, tokens: Int, width: Int, gradient: inout [T]
        ) {
            precondition(outputGradient.count == cells * width && gradient.count == cells * tokens * width)
            for i in gradient.indices { gradient[i] = 0 }
            for cell in 0..<cells {
                for d in 0..<width {
                    gradient[cell * tokens * width + d] = outputGradient[cell * width + d]
                }
            }
        }

        /// The mean over all tokens: `cells` × `width` values.
        @inlinable
        public static func average<T: ReferenceScalar>(
            states: [T], cells: Int, tokens: Int, width: Int
        ) -> [T] {
            precondition(states.count == cells * tokens * width)
            var embeddings = [T](repeating: 0, count: cells * width)
            for cell in 0..<cells {
                for token in 0..<tokens {
                    for d in 0..<width {
                        embeddings[cell * width + d] += states[(cell * tokens + token) * width + d]
                    }
                }
            }
            return embeddings.map { $0 / T(tokens) }
        }

        /// Carries a gradient of `average` (`cells` × `width`) back to the states.
        @inlinable
        public static func averageGradient<T: ReferenceScalar>(
            outputGradient: [T], cells: Int, tokens: Int, width: Int, gradient: inout [T]
        ) {
            precondition(outputGradient.count == cells * width && gradient.count == cells * tokens * width)
            for cell in 0..<cells {
                for token in 0..<tokens {
                    for d in 0..<width {
                        gradient[(cell * tokens + token) * width + d] =
                            outputGradient[cell * width + d] / T(tokens)
                    }
                }
            }
        }

        /// K weighted sums per cell, of weights `cells` × `weightings` × `tokens`:
        /// `cells` × `weightings` × `width` values.
        @inlinable
        public static func weighted<T: ReferenceScalar>(
            states: [T], weights: [T], cells: Int, tokens: Int, width: Int, weightings: Int = 1,
            normalized: Bool, floor: T = 1e-12
        ) -> [T] {
            precondition(states.count == cells * tokens * width)
            precondition(weights.count == cells * weightings * tokens)
            var sums = [T](repeating: 0, count: cells * weightings * width)
            for cell in 0..<cells {
                for k in 0..<weightings {
                    let output = (cell * weightings + k) * width
                    for token in 0..<tokens {
                        let weight = weights[(cell * weightings + k) * tokens + token]
                        for d in 0..<width {
                            sums[output + d] += weight * states[(cell * tokens + token) * width + d]
                        }
                    }
                }
            }
            guard normalized else { return sums }
            return CosineSimilarity.normalizedRows(
                embeddings: sums, rows: cells * weightings, columns: width, floor: floor
            ).normalized
        }

        /// Carries a gradient of `weighted` (`cells` × `weightings` × `width`) back to states and weights.
        ///
        ///     dh_bl = Σ_k v_bkl du_bk        dv_bkl = h_bl · du_bk
        @inlinable
        public static func weightedGradient<T: ReferenceScalar>(
            outputGradient: [T], states: [T], weights: [T], cells: Int, tokens: Int, width: Int,
            weightings: Int = 1, normalized: Bool, floor: T = 1e-12,
            statesGradient: inout [T], weightsGradient: inout [T]
        ) {
            precondition(outputGradient.count == cells * weightings * width)
            precondition(statesGradient.count == states.count && weightsGradient.count == weights.count)
            var sumsGradient = outputGradient
            if normalized {
                let sums = weighted(
                    states: states, weights: weights, cells: cells, tokens: tokens, width: width,
                    weightings: weightings, normalized: false)
                let (directions, norms) = CosineSimilarity.normalizedRows(
                    embeddings: sums, rows: cells * weightings, columns: width, floor: floor)
                _ = CosineSimilarity.gradientThroughNormalization(
                    normalizedGradient: outputGradient, embeddings: sums, normalized: directions,
                    norms: norms, columns: width, floor: floor, belowFloor: .constantDenominator,
                    gradient: &sumsGradient)
            }
            for i in statesGradient.indices { statesGradient[i] = 0 }
            for cell in 0..<cells {
                for k in 0..<weightings {
                    let output = (cell * weightings + k) * width
                    for token in 0..<tokens {
                        let state = (cell * tokens + token) * width
                        let weight = (cell * weightings + k) * tokens + token
                        var dot: T = 0
                        for d in 0..<width {
                            statesGradient[state + d] += weights[weight] * sumsGradient[output + d]
                            dot += states[state + d] * sumsGradient[output + d]
                        }
                        weightsGradient[weight] = dot
                    }
                }
            }
        }
    }
}
